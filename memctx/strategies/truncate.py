"""Truncate: the oldest turns leave as one growing span."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from memctx.component import Component
from memctx.edits import Drop, Replace
from memctx.messages import Step
from memctx.strategies import Context, Proposal, nothing


class Truncate(Component):
    """Above `high` of the limit the oldest steps are dropped until the view is at `low` of it; the newest `keep` stay.

    There is one span with one handle; it grows by whole steps, so a call and its result go together. Protected steps
    inside it stay in the view. What it drops is taken to be needed again with chance `risk`.
    """

    high: float = Field(default=0.9, gt=0.0, le=1.0)
    low: float = Field(default=0.6, gt=0.0, le=1.0)
    keep: int = Field(default=4, ge=1)
    risk: float = Field(default=0.5, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}")
        return self

    def propose(self, ctx: Context) -> Proposal:
        """One Drop that starts where the last one did, or nothing while the view is small enough."""
        yield from nothing()
        if ctx.tokens <= self.high * ctx.limit:
            return []
        grown, start = _grown(ctx)
        left = ctx.tokens - self.low * ctx.limit
        first = last = ""
        steps = ctx.transcript.steps
        for index in range(start, len(steps) - self.keep):
            if left <= 0:
                break
            if not _droppable(ctx, index):
                continue
            left -= _size(ctx, steps[index])
            first, last = first or steps[index].messages[0].id, steps[index].messages[-1].id
        if not last:
            return []
        return [Drop(grown.first if grown else first, last, ctx.handle(), risk=self.risk)]


def _grown(ctx: Context) -> tuple[Drop | None, int]:
    """The span that is to grow, and the first step after all spans: a summary that stands after it is not dropped."""
    position = ctx.transcript.position
    spans = [e for e in ctx.plan.edits if isinstance(e, Drop | Replace) and e.first in position and e.last in position]
    if not spans:
        return None, 0
    latest = max(spans, key=lambda span: position[span.last])
    return latest if isinstance(latest, Drop) else None, position[latest.last] + 1


def _droppable(ctx: Context, index: int) -> bool:
    step = ctx.transcript.steps[index]
    return bool(step.messages) and ctx.shown(index) and not any(ctx.protected(message) for message in step.messages)


def _size(ctx: Context, step: Step) -> int:
    """Tokens of a step as the plan shows it."""
    size = step.tokens
    for message in step.results:
        clear = ctx.cleared(message.id)
        if clear is not None:
            size -= ctx.count(message.text) - ctx.count(clear.content)
    return size
