"""Window: a sliding window over tool responses, as in DeepMiner (arXiv 2510.08276)."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from memctx.component import Component
from memctx.strategies import Context, Proposal, nothing
from memctx.strategies._choose import all_to_placeholders
from memctx.strategies._pending import Pending
from memctx.strategies._results import Results


class SlidingWindow(Component):
    """When `W` responses stand in full, the oldest `S` of them become placeholders and `W - S` stay.

    With T responses so far there were k = max(0, (T - W) // S + 1) slides, and the first k * S are placeholders. All
    that the assistant said stays verbatim.
    """

    W: int = Field(default=5, ge=1)
    S: int = Field(default=3, ge=1)
    placeholder: str = "Output left out; run the tool again if it is needed."

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.S > self.W:
            raise ValueError(f"S={self.S} is above W={self.W}")
        return self

    def slid(self, responses: int) -> int:
        """How many of the first responses are placeholders once there are `responses`."""
        return max(0, (responses - self.W) // self.S + 1) * self.S

    def propose(self, ctx: Context) -> Proposal:
        """Clears of the responses that left the window, oldest first."""
        yield from nothing()
        pending, results = Pending.of(ctx), Results.of(ctx)
        last = self.slid(results.total)
        found = (item for item in results.editable(ctx) if item.rank < last)
        return all_to_placeholders(ctx, pending, found, self.placeholder, self.name)
