"""Constant memory: the prompt, the agent's last written state, and what came after it.

Follows MEM1 (arXiv 2506.15841): the agent is told to write all it needs to know between state tags each turn, and
everything older leaves the view. Other than there, what leaves stays re-openable, and without a written state nothing
leaves.
"""

from __future__ import annotations

from pydantic import Field

from memctx.component import Component
from memctx.edits import Drop
from memctx.messages import Step
from memctx.strategies import Context, Proposal, nothing

RISK = 0.2  # a state that the agent wrote for itself may still miss a fact


class InternalState(Component):
    """Drop all before the newest assistant step that wrote `<tag>...</tag>`; protected steps stay.

    The view then holds the prompt, that step with its observations, and the steps after it. The dropped steps are one
    growing span with one handle for its life. An empty `tag` takes every assistant text as the state. The prompt must
    ask the agent for the state: memctx does not. Every turn is an edit, so use it with `edit_when="always"`.
    """

    tag: str = Field(default="state", pattern=r"^[\w.:-]*$")

    def propose(self, ctx: Context) -> Proposal:
        """The span where it grew, or nothing."""
        yield from nothing()
        steps = ctx.transcript.steps
        free = (i for i in range(self._state(ctx)) if _free(ctx, steps[i]))
        first = next(free, None)
        if first is None:
            return []
        last = next(i for i in range(self._state(ctx) - 1, first - 1, -1) if _free(ctx, steps[i]))
        start, end = steps[first].messages[0].id, steps[last].messages[-1].id
        held = next((e for e in ctx.plan.edits if isinstance(e, Drop) and e.first == start), None)
        if held and held.last == end:
            return []
        return [Drop(start, end, held.handle if held else ctx.handle(), RISK)]

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


def _free(ctx: Context, step: Step) -> bool:
    return bool(step.messages) and not any(map(ctx.protected, step.messages))
