"""Offload: a large tool result leaves the view for a preview and a handle; the whole can be had back."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from memctx._skim import skim
from memctx.component import Component
from memctx.edits import Edit
from memctx.effects import Asks, Remember
from memctx.errors import EffectError
from memctx.messages import Message
from memctx.strategies import Context, Proposal
from memctx.strategies._choose import checked_policy, ranked, shortened
from memctx.strategies._pending import Pending
from memctx.strategies._results import Results


class Offload(Component):
    """A result of more than `over` tokens becomes an outline of at most `preview` characters and a handle.

    The preview keeps the first and last lines, and says how large the whole is. With `store` the full text is handed to
    memory first; if that fails nothing is proposed. Without it the history that the host keeps holds the whole.
    `shadow`: `policy` is asked and recorded, the rules act.
    """

    over: int = Field(default=2_000, ge=1)
    preview: int = Field(default=1_600, ge=0)
    exclude: tuple[str, ...] = ()
    store: bool = False
    policy: Annotated[str | dict[str, Any], AfterValidator(checked_policy)] = "rules"
    shadow: bool = False

    def propose(self, ctx: Context) -> Proposal:
        """Clears of large results, the least worth first. Yields one `Remember` a result with `store`."""
        pending, results = Pending.of(ctx), Results.of(ctx, over=self.over)
        fresh = [f for f in results.editable(ctx, self.exclude) if f.message.id not in pending.clears]
        found = [item for item in fresh if results.size(ctx, item.message) > self.over]
        for item in ranked(ctx, found, self.policy, self.name, self.shadow):
            message = item.found.message
            clear = shortened(ctx, message, self._preview(ctx, message), item.risk)
            if clear is not None:
                pending.add(clear)
        if self.store:
            yield from _stored(ctx, pending)
        return list[Edit](pending.clears.values())

    def _preview(self, ctx: Context, message: Message) -> str:
        size = f"Preview of {ctx.count(message.text)} tokens:"
        return f"{size}\n{skim(message.text, level=1, limit=self.preview)}" if self.preview else size


def _stored(ctx: Context, pending: Pending) -> Asks:
    """Hand the results to memory, each under its handle; one that was not taken is not offered."""
    done: set[tuple[str, str]] = ctx.memo.setdefault("stored", set())
    for clear in list(pending.clears.values()):
        message = ctx.transcript.find(clear.target)
        if message is None or (clear.handle, message.id) in done:
            continue
        record = {"id": message.id, "kind": "result", "tool": message.tool, "text": message.text}
        try:
            yield Remember(({**record, "handle": clear.handle},))
        except EffectError:
            del pending.clears[clear.target]
        else:
            done.add((clear.handle, message.id))
