"""Discard: all tool results at once at a threshold ("discard all" of the DeepSeek-V3.2 and GLM-5 reports)."""

from __future__ import annotations

from pydantic import Field

from memctx.component import Component
from memctx.strategies import Context, Proposal, nothing
from memctx.strategies._choose import all_to_placeholders
from memctx.strategies._pending import Pending
from memctx.strategies._results import Results, newest_results


class DiscardAll(Component):
    """At `at` of the limit all results but those of the newest step with results become `placeholder` and a handle."""

    at: float = Field(default=0.8, ge=0.0, le=1.0)
    placeholder: str = "Old result removed."

    def propose(self, ctx: Context) -> Proposal:
        """Clears of results, oldest first; nothing below the threshold."""
        yield from nothing()
        if ctx.tokens < self.at * ctx.limit:
            return []
        pending, newest = Pending.of(ctx), newest_results(ctx)
        found = (item for item in Results.of(ctx).editable(ctx) if item.step != newest)
        return all_to_placeholders(ctx, pending, found, self.placeholder, self.name)
