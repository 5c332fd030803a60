"""Proposals made once and offered again until they are accepted, each with the handle it first had."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from memctx.edits import Clear, marker
from memctx.plan import Plan
from memctx.strategies import Context


@dataclass(slots=True)
class Pending:
    """Clears offered and not yet accepted, by target, oldest first. Costs nothing while the plan stands still.

    Numbers of handles up to `owned` were in the plan's count when it last stood still here: nobody else gets them. Those
    above are ours only once one of our Clears is accepted, for others count on from the plan too.
    """

    clears: dict[str, Clear] = field(default_factory=dict)
    plan: Plan | None = None
    accepted: str = ""  # the last target seen accepted: where it is cleared no more, the plan is another one
    owned: int = 0
    top: int = 0
    refused: set[str] = field(default_factory=set)  # results that no placeholder would make shorter

    @classmethod
    def of(cls, ctx: Context) -> Pending:
        """What waits in this thread, brought up to date. Empties the memo where the plan is another one."""
        pending: Pending = ctx.memo.setdefault("pending", cls())
        if pending.rewound(ctx):
            ctx.memo.clear()
            pending = ctx.memo["pending"] = cls()
        pending.refresh(ctx)
        return pending

    def add(self, clear: Clear) -> None:
        self.clears[clear.target] = clear
        self.top = max(self.top, _number(clear.handle))

    def rewound(self, ctx: Context) -> bool:
        """Whether the plan is not a later one of the plan last seen: what was offered under that must be made anew."""
        if self.plan is None or self.plan is ctx.plan:
            return False
        if later_than(self.plan, ctx.plan):
            return True
        return bool(self.accepted) and ctx.cleared(self.accepted) is None and _in_sight(ctx, self.accepted)

    def refresh(self, ctx: Context) -> None:
        """Let go of what was accepted or is out of sight, and keep handles unique. Call before a handle is taken."""
        ctx.serial = max(ctx.serial, self.top)
        if self.plan is ctx.plan:
            return
        ours = self._settle(ctx)
        for clear in list(self.clears.values()) if not ours else ():
            if self.owned < _number(clear.handle) <= ctx.plan.serial:
                self.add(_renamed(clear, ctx.handle()))
        self.plan, self.owned = ctx.plan, ctx.plan.serial

    def _settle(self, ctx: Context) -> bool:
        """Whether the plan took one of ours."""
        ours = False
        for target, clear in list(self.clears.items()):
            now = ctx.cleared(target)
            ours = ours or now == clear
            if now is not None:
                self.accepted = target
            if now is not None or not _in_sight(ctx, target):
                del self.clears[target]
        return ours


def later_than(known: Plan | None, plan: Plan) -> bool:
    """Whether the plan known so far is a later one than `plan`, or another one of the same version."""
    if known is None or known is plan:
        return False
    return plan.version < known.version or (plan.version == known.version and plan != known)


def _in_sight(ctx: Context, target: str) -> bool:
    step = ctx.transcript.position.get(target)
    return step is not None and ctx.shown(step)


def _number(handle: str) -> int:
    return int(handle[1:])


def _renamed(clear: Clear, handle: str) -> Clear:
    return replace(clear, handle=handle, content=clear.content.removesuffix(marker(clear.handle)) + marker(handle))
