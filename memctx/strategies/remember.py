"""Remember: after each call the new messages go to memory, word for word, and facts that a writer model takes from them.

All of it happens off the path of the call. How far memory has acknowledged is a `Note` in the plan; what comes after it is
handed in again when a process died in between, under keys that make a second time harmless.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from inspect import GEN_RUNNING, GEN_SUSPENDED, getgeneratorstate
from itertools import pairwise
from typing import Any, ClassVar

from pydantic import Field

from memctx._skim import skim
from memctx.component import Component
from memctx.edits import Edit, Note
from memctx.effects import Asks, Generate, Later, Recall, Remember
from memctx.errors import ConflictError, EffectError
from memctx.messages import Message, Step, Transcript
from memctx.records import Record
from memctx.strategies import Context, Proposal, nothing
from memctx.strategies._recalled import own_words, visible
from memctx.strategies._writer import Reading, Said, question, readings, records

KEY = "remember"
NOTED = 8  # messages that memory may be ahead of the note: a plan that changes at each call is saved at each call
BATCH = 64  # messages handed over at once
PIECE = 8_000  # characters of one record; a longer message becomes several
PATIENCE = 3  # answers of the writer that may be refused before its messages are passed over
MAX_WAIT = 32  # calls
Mark = tuple[int, str]  # how many messages, and the id of the last of them


@dataclass(slots=True)
class Progress:
    """How far memory has acknowledged this thread, by words and by facts; what is under way, and what holds it up."""

    words: Mark
    facts: Mark
    work: Asks | None = None
    reply: Message | None = None
    failures: int = 0
    refused: int = 0
    wait: int = 0

    @property
    def busy(self) -> bool:
        return self.work is not None and getgeneratorstate(self.work) in (GEN_RUNNING, GEN_SUSPENDED)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one piece of work is about: messages with their steps, and where each stands in the history (0: not yet)."""

    words: list[tuple[int, Message, Step | None]] = field(default_factory=list)
    facts: list[tuple[int, Message, Step | None]] = field(default_factory=list)


class RememberSteps(Component):
    """Every user message, assistant text and tool result becomes an episodic record; of a result, an outline.

    `outline`: characters of that. `exclude`: tools whose results are not remembered. With `writer` the session's `generate`
    is asked (module "writer") for facts at the end of each turn: `related` known facts are shown to it, at most
    `max_source_tokens` of messages at once, and its answer may have `max_tokens`. Without a memory nothing happens.
    """

    every_call: ClassVar[bool] = True

    outline: int = Field(default=1_200, ge=100)
    exclude: tuple[str, ...] = ("memory", "search_memory", "reopen")
    writer: bool = False
    related: int = Field(default=10, ge=0, le=100)
    max_tokens: int = Field(default=1_000, ge=64)
    max_source_tokens: int = Field(default=6_000, ge=256)

    def propose(self, ctx: Context) -> Proposal:
        """A Note of how far memory has come, once that is worth saving."""
        yield from nothing()
        progress = _progress(ctx)
        noted = ctx.plan.notes.get(KEY, {})
        words, facts = _newest(noted.get("words")), _newest(noted.get("facts"))
        if progress.words[0] < words[0] + NOTED and progress.facts == facts:
            return []
        value = {"words": _thinned(noted.get("words", []), progress.words)}
        return list[Edit]([Note(KEY, {**value, "facts": _thinned(noted.get("facts", []), progress.facts)})])

    def observe(self, ctx: Context, reply: Message | None) -> Asks:
        """Hand over what is new. `reply` ends a turn: the answer that stands in the history from the next call on."""
        progress = _progress(ctx)
        progress.reply = reply or progress.reply
        progress.wait -= progress.wait > 0
        if not progress.busy and not progress.wait:
            yield from self._hand_over(ctx, progress, reply is not None)

    def close(self, ctx: Context) -> Asks:
        """Hand over all that is left."""
        yield from self._hand_over(ctx, _progress(ctx), True)

    def _hand_over(self, ctx: Context, progress: Progress, ended: bool) -> Asks:
        transcript = ctx.transcript
        turn = len(transcript.messages) if ended else _turn(transcript)
        late = [progress.reply] if progress.reply and progress.reply.id not in transcript.position else []
        batch = Batch(list(_placed(transcript, progress.words[0], len(transcript.messages))))
        batch.words.extend((0, reply, None) for reply in late)
        if self.writer:
            batch.facts.extend(_placed(transcript, progress.facts[0], turn))
            batch.facts.extend((0, reply, None) for reply in late if ended)
        if not batch.words and not batch.facts:
            return
        progress.work = self._keep(progress, batch, ctx)
        try:
            yield Later(progress.work)
        except EffectError as cause:
            if cause.code != "no_handler":
                raise
            progress.work = None
            yield from self._keep(progress, batch, ctx)

    def _keep(self, progress: Progress, batch: Batch, ctx: Context) -> Asks:
        """Words, then facts; progress moves past what was acknowledged. A failure is tried again some calls later."""
        try:
            for start in range(0, len(batch.words), BATCH):
                some = batch.words[start : start + BATCH]
                items = tuple(item for _, message, step in some for item in self._items(message, step))
                if items:
                    yield Remember(items)
                progress.words = _past(some) or progress.words
            for part in self._parts(batch.facts, ctx):
                yield from self._facts(progress, [self._said(message, step) for _, message, step in part])
                progress.facts = _past(part) or progress.facts
        except Exception:
            progress.failures += 1
            progress.wait = min(2**progress.failures, MAX_WAIT)
            raise
        progress.failures = 0

    def _items(self, message: Message, step: Step | None) -> Iterator[dict[str, Any]]:
        said = self._said(message, step)
        pieces = list(_pieces(said.text))
        for place, piece in enumerate(pieces):
            meta = {"role": said.role, **({"tool": message.tool} if message.tool else {})}
            key = said.id if len(pieces) == 1 else f"{said.id} {place}"
            item = {"text": piece, "kind": "episodic", "source": said.role, "meta": meta, "key": key}
            yield {**item, "sources": (said.id,)}

    def _said(self, message: Message, step: Step | None) -> Said:
        """What a message says for memory; "" where that is nothing."""
        text = visible(own_words(message.text))
        if message.role == "system" or message.tool in self.exclude:
            return Said(message.id, "tool", "")
        if message.role == "tool" and text:
            calls = step.calls if step else ()
            asked = next((f"{c.name}({c.arguments[:300]})" for c in calls if c.id == message.call_id), "a tool")
            text = f"{visible(asked)} gave:\n{skim(text, level=1, limit=self.outline)}"
        return Said(message.id, message.role, text.strip())

    def _parts(self, facts: Sequence[tuple[int, Message, Step | None]], ctx: Context) -> Iterator[list[Any]]:
        """The messages in runs that the writer may read at once."""
        held: list[Any] = []
        size = 0
        for each in facts:
            tokens = min(ctx.count(self._said(each[1], each[2]).text), self.max_source_tokens)
            if held and size + tokens > self.max_source_tokens:
                yield held
                held, size = [], 0
            held.append(each)
            size += tokens
        if held:
            yield held

    def _facts(self, progress: Progress, said: list[Said]) -> Asks:
        """Ask the writer about these messages, and write what it says. What was written before under these keys stays."""
        for reading in readings([each for each in said if each.text]):
            try:
                items = yield from self._written(reading)
                if items:
                    yield Remember(tuple(items))
            except EffectError as cause:
                if cause.code == "writer_refused":
                    progress.refused += 1
                    if progress.refused < PATIENCE:
                        raise
                elif not _done_before(cause):
                    raise
            progress.refused = 0

    def _written(self, reading: Reading) -> Asks:
        known: list[Record] = []
        if self.related:
            hits = yield Recall(reading.query, ("semantic",), self.related, reading.trust)
            known = [hit.record for hit in hits]
        bounded = Reading(
            tuple(Said(s.id, s.role, s.text[: 4 * self.max_source_tokens]) for s in reading.said), reading.trust
        )
        answer = yield Generate(question(bounded, known), max_tokens=self.max_tokens, module="writer")
        return records(answer, reading, known)


def _progress(ctx: Context) -> Progress:
    """Where this thread stands: what is known here, or what the plan says of a history that begins like this one."""
    progress = ctx.memo.get(KEY)
    if not isinstance(progress, Progress):
        noted = ctx.plan.notes.get(KEY, {})
        words, facts = (_resumed(ctx.transcript, noted.get(name, [])) for name in ("words", "facts"))
        progress = ctx.memo[KEY] = Progress(words, facts)
    return progress


def _resumed(transcript: Transcript, marks: Sequence[Sequence[Any]]) -> Mark:
    """The newest mark that this history passes through."""
    messages = transcript.messages
    for count, message_id in marks:
        if 0 < count <= len(messages) and messages[count - 1].id == message_id:
            return count, message_id
    return 0, ""


def _thinned(marks: Sequence[Sequence[Any]], newest: Mark) -> list[list[Any]]:
    """The newest mark and older ones ever farther apart: a history cut at any place resumes about as far back again."""
    if not newest[0]:
        return []
    older = [list(mark) for mark in marks if mark[0] < newest[0]]
    kept: list[list[Any]] = [list(newest)]
    for mark, (beyond, _) in pairwise([*older, [0, ""]]):
        if newest[0] - int(beyond) > 2 * (newest[0] - kept[-1][0]):
            kept.append(mark)
    return kept


def _newest(marks: Sequence[Sequence[Any]] | None) -> Mark:
    return (marks[0][0], marks[0][1]) if marks else (0, "")


def _placed(transcript: Transcript, start: int, end: int) -> Iterator[tuple[int, Message, Step | None]]:
    for place, message in enumerate(transcript.messages[start:end], start + 1):
        step = transcript.position.get(message.id)
        yield place, message, None if step is None else transcript.steps[step]


def _past(some: Sequence[tuple[int, Message, Step | None]]) -> Mark | None:
    """The mark behind these messages; None where they are not in the history yet."""
    return next(((place, message.id) for place, message, _ in reversed(some) if place), None)


def _turn(transcript: Transcript) -> int:
    """How many messages came before the turn under way."""
    messages = transcript.messages
    return next((i for i in range(len(messages) - 1, -1, -1) if messages[i].role == "user"), 0)


def _pieces(text: str) -> Iterator[str]:
    """A text in parts of at most `PIECE` characters, ended at a line's or a word's end where there is one."""
    while len(text) > PIECE:
        cut = max(text.rfind("\n", PIECE // 2, PIECE), text.rfind(" ", PIECE * 3 // 4, PIECE)) + 1 or PIECE
        yield text[:cut]
        text = text[cut:]
    if text.strip():
        yield text


def _done_before(cause: EffectError) -> bool:
    """Whether the writer was asked about these messages before, and what it said then was written."""
    return isinstance(cause.__cause__, ConflictError) and cause.__cause__.code == "idempotency_conflict"
