"""Proposals made once and offered again until they are accepted, each with the handle it first had."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from memctx.edits import Clear, marker
from memctx.plan import Plan
from memctx.strategies import Context


@dataclass(slots=True)
class Pending:
    """Clears offered and not yet accepted, by target, oldest first. Costs nothing while the plan stands still."""

    clears: dict[str, Clear] = field(default_factory=dict)
    plan: Plan | None = None
    accepted: str = ""  # the last target seen accepted: gone from the plan, the plan is another one

    def add(self, clear: Clear) -> None:
        self.clears[clear.target] = clear

    def rewound(self, ctx: Context) -> bool:
        """Whether the plan is not a later one of the plan last seen: what was offered under that must be made anew."""
        if self.plan is None or self.plan is ctx.plan:
            return False
        if ctx.plan.version < self.plan.version:
            return True
        return bool(self.accepted) and ctx.cleared(self.accepted) is None and self._in_sight(ctx, self.accepted)

    def _in_sight(self, ctx: Context, target: str) -> bool:
        step = ctx.transcript.position.get(target)
        return step is not None and ctx.shown(step)

    def refresh(self, ctx: Context) -> None:
        """Let go of what was accepted or is out of sight, and keep handles unique. Call before a handle is taken."""
        if self.plan is not ctx.plan:
            self._settle(ctx)
        taken = range(ctx.plan.serial + 1, ctx.serial + 1)  # given out in this call by strategies before this one
        if taken:
            for target, clear in list(self._newest(ctx.plan.serial)):
                if _number(clear.handle) in taken:
                    self.clears[target] = _renamed(clear, ctx.handle())
        if self.clears:
            ctx.serial = max(ctx.serial, _number(next(reversed(self.clears.values())).handle))

    def _settle(self, ctx: Context) -> None:
        for target in list(self.clears):
            if ctx.cleared(target) is not None:
                self.accepted = target
                del self.clears[target]
            elif not self._in_sight(ctx, target):
                del self.clears[target]
        self.plan = ctx.plan

    def _newest(self, above: int) -> Iterator[tuple[str, Clear]]:
        for target, clear in reversed(self.clears.items()):
            if _number(clear.handle) <= above:
                return
            yield target, clear


def _number(handle: str) -> int:
    return int(handle[1:])


def _renamed(clear: Clear, handle: str) -> Clear:
    return replace(clear, handle=handle, content=clear.content.removesuffix(marker(clear.handle)) + marker(handle))
