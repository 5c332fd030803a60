"""Clear: old tool results become placeholders. The rule of Anthropic's `clear_tool_uses`, persisted and batched."""

from __future__ import annotations

import json
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from memctx.component import Component
from memctx.edits import Clear, Edit
from memctx.strategies import Context, Proposal, nothing
from memctx.strategies._choose import checked_policy, placeholder, ranked
from memctx.strategies._pending import Pending
from memctx.strategies._results import Found, Results, head_of, newest_results


class ClearResults(Component):
    """All results but the newest `keep`, and those of the tools in `exclude`, become `placeholder` and a handle.

    With `inputs` the arguments of their calls go as well. With `high` nothing happens below that many tokens; above it
    enough results go to come down to `low`, the least worth by `policy` first. With 0 all are offered at any size, and
    the pipeline decides when. With `below`, only results worth
    less than that go, and none of the newest step with results. `policy`: "rules", "default", or a folder that `memctx train
    keep` wrote. `shadow`: it is asked and recorded, the rules act.
    """

    keep: int = Field(default=3, ge=0)
    exclude: tuple[str, ...] = ()
    inputs: bool = False
    high: int = Field(default=0, ge=0)
    low: int = Field(default=0, ge=0)
    placeholder: str = "Old result removed."
    policy: Annotated[str | dict[str, Any], AfterValidator(checked_policy)] = "rules"
    below: float = Field(default=0, ge=0)
    shadow: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high and self.low > self.high:
            raise ValueError(f"low={self.low} is above high={self.high}")
        return self

    def propose(self, ctx: Context) -> Proposal:
        """Clears of results, and of call arguments where asked for."""
        yield from nothing()
        if self.high and ctx.tokens < self.high:
            return []
        pending, results = Pending.of(ctx), Results.of(ctx)
        last = results.total - self.keep
        before = newest_results(ctx) if self.below else len(ctx.transcript.steps)
        found = [item for item in results.editable(ctx, self.exclude) if item.rank < last and item.step < before]
        edits: list[Edit] = []
        left = ctx.tokens - self.low if self.high else None
        for item in ranked(ctx, found, self.policy, self.name, self.shadow):
            if (left is not None and left <= 0) or (self.below and item.worth >= self.below):
                break
            clear = placeholder(ctx, pending, item.found.message, self.placeholder, item.risk)
            if clear is None:
                continue
            inputs, saved = self._inputs(ctx, item.found, clear.risk) if self.inputs else ([], 0)
            edits += [clear, *inputs]
            if left is not None:
                left -= saved + results.size(ctx, item.found.message) - ctx.count(clear.content)
        return edits

    def _inputs(self, ctx: Context, item: Found, risk: float) -> tuple[list[Clear], int]:
        """The edit of the arguments of a result's call, where it makes them shorter, and the tokens it saves."""
        head = head_of(ctx.transcript.steps[item.step], item.message.call_id)
        if head is None or head.sealed or ctx.protected(head):
            return [], 0
        handle = ctx.handle()
        content = json.dumps({"cut": handle})
        whole = next(call.arguments for call in head.calls if call.id == item.message.call_id)
        saved = ctx.count(whole) - ctx.count(content)
        if saved <= 0:
            return [], 0
        return [Clear(head.id, content, handle, call=item.message.call_id, risk=risk)], saved
