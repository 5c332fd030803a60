"""Constant memory: the prompt, the agent's last written state, and what came after it.

Follows MEM1 (arXiv 2506.15841): the agent is told to write all it needs to know between state tags each turn, and
everything older leaves the view. Other than there, what leaves stays re-openable, and without a written state nothing
leaves.
"""

from __future__ import annotations

from itertools import groupby

from pydantic import Field

from memctx.component import Component
from memctx.edits import Drop
from memctx.strategies import Context, Proposal, nothing

RISK = 0.2  # a state that the agent wrote for itself may still miss a fact


class InternalState(Component):
    """Drop all before the newest assistant step that wrote `<tag>...</tag>`; protected steps stay.

    The view then holds the prompt, that step with its observations, and the steps after it. The dropped steps are one
    growing span for each run of steps between protected ones, with one handle for its life. An empty `tag` takes every
    assistant text as the state. The prompt must ask the agent for the state: `memctx` does not.
    """

    tag: str = Field(default="state", pattern=r"\A[\w.:-]*\Z")

    def propose(self, ctx: Context) -> Proposal:
        """The spans that grew since the call before."""
        yield from nothing()
        newest = self._state(ctx)
        return [drop for drop in _spans(ctx, newest) if drop not in ctx.plan.edits] if newest else []

    def _state(self, ctx: Context) -> int:
        """Index of the newest step that carries the state, 0 if none does. Each step is looked at once."""
        steps = ctx.transcript.steps
        seen, found = ctx.memo.get("state", (0, 0))
        for index in range(len(steps) - 1, seen - 1, -1):
            if steps[index].role == "assistant" and self._carries("\n".join(m.text for m in steps[index].heads)):
                found = index
                break
        ctx.memo["state"] = (max(len(steps) - 1, 0), found)  # the last step may still grow
        return int(found)

    def _carries(self, text: str) -> bool:
        if not self.tag:
            return bool(text.strip())
        start = text.find(f"<{self.tag}>")
        return start >= 0 and bool(text[start + len(self.tag) + 2 :].partition(f"</{self.tag}>")[0].strip())


def _spans(ctx: Context, end: int) -> list[Drop]:
    """One Drop for each run of unprotected steps before `end`, taking over the handle of the span it grew from."""
    steps = ctx.transcript.steps
    handles = {edit.first: edit.handle for edit in ctx.plan.edits if isinstance(edit, Drop)}
    held = [i for i in range(end) if steps[i].messages]
    drops = []
    for free, run in groupby(held, key=lambda i: not any(map(ctx.protected, steps[i].messages))):
        if free:
            indices = list(run)
            first, last = steps[indices[0]].messages[0].id, steps[indices[-1]].messages[-1].id
            drops.append(Drop(first, last, handles.get(first) or ctx.handle(), RISK))
    return drops
