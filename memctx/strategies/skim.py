"""Skim: each tool result is shortened once to what later steps draw on, and stays so. Ours; no model, no look ahead."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from memctx._skim import shown_words, skim, words
from memctx._skim.rule import skim_step
from memctx.component import Component
from memctx.edits import Edit
from memctx.messages import Message
from memctx.strategies import Context, Proposal, nothing
from memctx.strategies._choose import actions, checked_learned, new_rows, shortened
from memctx.strategies._pending import Pending
from memctx.strategies._results import said

RISK = 0.012  # on recorded runs 6 of 496 skims lost something that a later call copied


class Skim(Component):
    """The newest `keep` steps with results stand whole; when a newer one comes, the oldest of them is skimmed.

    `level` 2 leaves an index of identifiers that stand nowhere else, 1 a readable outline. Results of the tools in
    `exclude` stay whole. A skim that would be no shorter in tokens is not made. See `memctx._skim.rule`.

    With a learned `policy` ("default", or a folder) each result is left whole, skimmed or cleared instead, whichever costs
    least: its tokens, and `loss` tokens times the chance that a later step needs what is gone. `shadow`: that is recorded, and
    all are skimmed.
    """

    keep: int = Field(default=1, ge=1)
    exclude: tuple[str, ...] = ()
    level: int = Field(default=2, ge=1, le=2)
    policy: Annotated[str, AfterValidator(checked_learned)] = ""
    loss: float = Field(default=20_000, gt=0)
    shadow: bool = False

    def propose(self, ctx: Context) -> Proposal:
        """Clears of results not yet skimmed in the plan, oldest first."""
        yield from nothing()
        pending = Pending.of(ctx)
        state: State = ctx.memo.setdefault("skim", State(pending))
        self._read(ctx, state)
        return list[Edit](state.pending.clears.values())

    def _read(self, ctx: Context, state: State) -> None:
        """Take in new messages in the order of the history, so that a restart comes to the same skims."""
        messages = ctx.transcript.messages
        for message in messages[state.seen :]:
            if message.role == "tool":
                state.add(ctx.transcript.position[message.id], message)
                self._note(state, message)
                continue
            self._age(ctx, state)
            self._note(state, message)
            for text in said(message):
                state.settled.update(words(text))
        state.seen = len(messages)
        self._age(ctx, state)

    def _note(self, state: State, message: Message) -> None:
        """A learned policy reads each message in its turn, so that a restart decides as the first time."""
        if self.policy:
            state.rows = state.rows or new_rows()
            state.rows.add(message)

    def _age(self, ctx: Context, state: State) -> None:
        while len(state.order) > self.keep:
            oldest = state.order.pop(0)
            newer = [message.text for step in state.order for message in state.open[step]]
            self._skim(ctx, state, state.open.pop(oldest), newer)

    def _skim(self, ctx: Context, state: State, results: Sequence[Message], newer: list[str]) -> None:
        editable: list[Message] = []
        for message in results:
            step = ctx.transcript.position[message.id]
            if not ctx.shown(step) or all(result.id != message.id for result in ctx.transcript.steps[step].results):
                continue  # out of sight, or a second result of its call took its place
            clear = ctx.cleared(message.id)
            if clear is None and ctx.transcript.steps[step].heads and self._may_edit(ctx, message):
                editable.append(message)
            else:
                state.settled |= shown_words(message.text, message.text if clear is None else clear.content)
        texts = [message.text for message in editable]
        if self.level == 1:
            shorts = [skim(text, level=1, known=state.settled.__contains__) for text in texts]
        else:
            shorts = skim_step(texts, state.settled.__contains__, newer)
        for message, short, risk in self._chosen(ctx, state, editable, shorts):
            clear = None if risk is None else shortened(ctx, message, short, risk)
            if clear is not None:
                state.pending.add(clear)
            state.settled |= shown_words(message.text, message.text if clear is None else short)

    def _chosen(
        self, ctx: Context, state: State, results: Sequence[Message], shorts: Sequence[str]
    ) -> Iterator[tuple[Message, str, float | None]]:
        """(result, what to show of it, the risk); no risk where it stays whole."""
        plain = ((message, short, RISK) for message, short in zip(results, shorts, strict=True))
        if not self.policy or not results:
            yield from plain
            return
        chosen = actions(ctx, state.rows, results, shorts, self.policy, self.loss)
        facts = {"strategy": self.name, "targets": [message.id for message in results], "shadow": self.shadow}
        ctx.record({**facts, "actions": [name for name, _ in chosen]})
        if self.shadow:
            yield from plain
            return
        for message, short, (name, risk) in zip(results, shorts, chosen, strict=True):
            yield message, short if name == "skim" else "", None if name == "keep" else risk

    def _may_edit(self, ctx: Context, message: Message) -> bool:
        return message.tool not in self.exclude and not ctx.protected(message)


@dataclass(slots=True)
class State:
    """What skimming knows of a thread: a cache that the transcript and the plan can rebuild."""

    pending: Pending
    seen: int = 0
    settled: set[str] = field(default_factory=set)
    open: dict[int, list[Message]] = field(default_factory=dict)  # step -> its results that stand whole
    order: list[int] = field(default_factory=list)  # the same steps, oldest first
    rows: Any = None  # `Rows` of a learned policy

    def add(self, step: int, message: Message) -> None:
        if step not in self.open:
            self.open[step] = []
            insort(self.order, step)
        self.open[step].append(message)
