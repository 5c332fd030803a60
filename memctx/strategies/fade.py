"""Fade: what was shortened earlier becomes its bare mark, oldest first. Ours: the second stage behind `skim` or `offload`."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from memctx.component import Component
from memctx.edits import Clear, Edit, marker
from memctx.strategies import Context, Proposal, nothing


class Fade(Component):
    """Results already shortened, but for the newest `keep` of them, show only their mark; the handle stays the same."""

    keep: int = Field(default=3, ge=0)
    risk: float = Field(default=0.1, ge=0, le=1)

    def propose(self, ctx: Context) -> Proposal:
        """Clears that go deeper than those in force, oldest first."""
        yield from nothing()
        shortened = [edit for edit in ctx.plan.edits if isinstance(edit, Clear) and not edit.call]
        edits: list[Edit] = []
        for clear in shortened[: len(shortened) - self.keep]:
            bare = marker(clear.handle)
            step = ctx.transcript.position.get(clear.target)
            if len(bare) < len(clear.content) and step is not None and ctx.shown(step):
                edits.append(replace(clear, content=bare, risk=self.risk))
        return edits
