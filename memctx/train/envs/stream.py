"""Stream: facts are told, changed and contradicted over many chunks; a reader answers from what was written. Mem-alpha's setting.

arXiv 2509.25911. The player sees its memory and one chunk, and writes with the paper's tools; memory is bounded. The reader is
code: BM25 and a slot. Run it behind a pipeline that drops what is older, such as `internal_state` with an empty tag; then the
chunks are read once, as in the paper.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from memctx.component import Component
from memctx.errors import ConfigError
from memctx.train.envs._feed import Feed, Statement, feed, score
from memctx.train.envs._json import calls
from memctx.train.envs._notes import Item, Notes, size

if TYPE_CHECKING:
    from memctx.train.acting import Actor
    from memctx.train.rollouts import Turn

CALLS = 32  # of one turn that are looked at
DATED = re.compile(r"\W*(?:on )?day \d", re.IGNORECASE)
HEARSAY = re.compile(r"\b(?:said|says?|heard|rumou?rs?)\b", re.IGNORECASE)
WORDS = range(3, 41)  # of an item that says one thing
MARKS = {"fact": "=", "change": ">", "event": "@", "rumour": "?", "chat": "~"}
INSERT = {"+": "semantic_memory", "@": "episodic_memory"}
UPDATE, SKIP = "!", "-"
CHOICE = {"fact": "+", "change": "+", "event": "@"}


class Stream(Component):
    """One player; `chunks` of `each` statements about `facts` facts and `events` events; memory holds `room` words.

    form "text" is for language models: calls are JSON. "symbols" is for models made from nothing: a statement is a mark and a
    letter for what it is about, and is answered by one mark: + or @: insert it as semantic or episodic, !: update, else skip.
    """

    chunks: int = Field(default=8, ge=1, le=4096)
    each: int = Field(default=3, ge=1, le=32)
    facts: int = Field(default=6, ge=1, le=20)
    events: int = Field(default=2, ge=0, le=6)
    room: int = Field(default=80, ge=1)
    form: Literal["text", "symbols"] = "text"
    players: ClassVar[int] = 1
    rules: ClassVar[str] = (
        "Chunks of a long stream come one by one, each is shown once. Keep in memory what is true now: at the end questions are "
        "answered from memory alone, one a fact or event. What somebody only says need not be true. Answer each chunk with calls, "
        'one JSON object each: {"name": "new_memory_insert", "arguments": {"memory_type": "semantic_memory", "content": "..."}}, '
        '{"name": "memory_update", "arguments": {"memory_type": "semantic_memory", "memory_id": "0000", "new_content": "..."}}, '
        '{"name": "memory_delete", "arguments": {"memory_type": "semantic_memory", "memory_id": "0000"}}. Types are '
        "semantic_memory for facts, episodic_memory for events, which begin with their day, and core_memory, one text that can "
        "only be updated or deleted."
    )

    def start(self, seed: int) -> Reading:
        """Raises `ConfigError` where the statements do not fit into the chunks."""
        if self.chunks * self.each < self.facts + self.events:
            raise ConfigError(
                f"chunks * each = {self.chunks * self.each} statements for {self.facts + self.events} facts and events: take more",
                field="chunks",
            )
        return Reading(self, seed, Notes(self.room))

    def told(self, seed: int) -> Feed:
        """The chunks and questions of a seed."""
        return feed(seed, self.chunks, self.each, self.facts, self.events)

    def raw(self, seed: int) -> list[str]:
        """The chunks as text, for baselines that keep them as they are."""
        return [" ".join(each.text for each in chunk) for chunk in self.told(seed).chunks]

    def fitting(self, seed: int, order: Iterable[int]) -> list[str]:
        """The chunks, oldest first, that the room holds where they are taken in this order: baselines of the memory's size."""
        raw, left, taken = self.raw(seed), self.room, list[int]()
        for number in order:
            left -= size(raw[number])
            if left < 0:
                break
            taken.append(number)
        return [raw[number] for number in sorted(taken)]

    def read(self, seed: int, texts: Sequence[str]) -> float:
        """The share of questions that the reader answers rightly from texts, oldest first."""
        return score(texts, self.told(seed).questions)

    def expert(self, seed: int) -> list[str]:
        """Answers that get the full reward."""
        state, answers = self.start(seed).after("ready"), ["ready"]
        while not state.rewards:
            answers.append(state.best())
            state = state.after(answers[-1])
        return answers


@dataclass(frozen=True, slots=True)
class Done:
    """A call of the last turn. `fits`: whether what it wrote is now in memory, well-formed, of the right type and only once.

    None where it wrote nothing.
    """

    name: str
    ok: bool
    fits: bool | None
    message: str


@dataclass(frozen=True, slots=True)
class Reading:
    """Before chunk number `chunk`, from 1; at 0 nothing was shown yet. `done`: the calls of the last turn."""

    of: Stream
    seed: int
    notes: Notes
    chunk: int = 0
    done: tuple[Done, ...] = ()
    player: int = 0
    actions: tuple[str, ...] = ()

    @property
    def statements(self) -> tuple[Statement, ...]:
        """The chunk that is shown."""
        return self.of.told(self.seed).chunks[self.chunk - 1] if 0 < self.chunk <= self.of.chunks else ()

    @property
    def observation(self) -> str:
        if not self.statements:
            return "" if self.chunk else f"{self.of.chunks} chunks will come. Say ready."
        if self.of.form == "symbols":
            return f"{self._held()}|{''.join(map(_symbols, self.statements))}"
        refused = "".join(f"{each.name} was refused: {each.message}\n" for each in self.done if not each.ok)
        room = f"Memory, {self.notes.words} of {self.notes.room} words:\n{self.notes.render()}"
        told = self.of.raw(self.seed)[self.chunk - 1]
        return f"{refused}{room}\n\nChunk {self.chunk} of {self.of.chunks}: {told}"

    @property
    def rewards(self) -> tuple[float, ...]:
        """The share of questions that the reader answers rightly from memory: r1 of the paper."""
        if self.chunk <= self.of.chunks:
            return ()
        return (self.of.read(self.seed, self.notes.texts),)

    def after(self, text: str) -> Reading:
        """All calls of the answer, in turn; one that is refused changes nothing."""
        notes, done = self.notes, []
        for call in self._calls(text) if self.chunk else ():
            after, answer = notes.call(call["name"], call.get("arguments"))
            ok, written = answer["status"] == "ok", _written(call.get("arguments"))
            fits = None if written is None else ok and well_formed(*written) and self._once(after, written[1])
            done.append(Done(call["name"], ok, fits, answer.get("message", "")))
            notes = after
        return replace(self, notes=notes, done=tuple(done), chunk=self.chunk + 1)

    def best(self) -> str:
        """What to answer to keep all that is true: a fact or event that is held already is updated."""
        marks, held = "", set(self._held())
        for each in self.statements:
            letter, mark = _letter(each), CHOICE.get(each.kind, SKIP)
            marks += UPDATE if mark != SKIP and letter in held else mark
            held |= {letter} if mark != SKIP else set()
        return marks if self.of.form == "symbols" else "\n".join(map(json.dumps, self._meant(marks)))

    def _calls(self, text: str) -> list[dict[str, Any]]:
        return self._meant(text) if self.of.form == "symbols" else list(islice(calls(text), CALLS))

    def _meant(self, marks: str) -> list[dict[str, Any]]:
        """The calls that marks stand for, one a statement."""
        notes, found = self.notes, []
        for mark, each in zip(marks, self.statements, strict=False):
            if mark in INSERT:
                arguments = {"memory_type": INSERT[mark], "content": each.text}
                found.append({"name": "new_memory_insert", "arguments": arguments})
            elif mark == UPDATE:
                old = self._item(notes, each.subject) or Item("none", "semantic", "")
                arguments = {"memory_type": f"{old.kind}_memory", "memory_id": old.id, "new_content": each.text}
                found.append({"name": "memory_update", "arguments": arguments})
            else:
                continue
            notes, _ = notes.call(**found[-1])
        return found

    def _item(self, notes: Notes, subject: int) -> Item | None:
        """The newest item about a fact or event."""
        if subject < 0:
            return None
        words = set(self.of.told(self.seed).questions[subject].words)
        return next((i for i in reversed(notes.items) if words <= _words(i.text)), None)

    def _once(self, notes: Notes, content: str) -> bool:
        """Whether a text says something that may be asked, and no other item says something of the same."""
        said, texts = _words(content), [_words(text) for text in notes.texts]
        topics = (set(each.words) for each in self.of.told(self.seed).questions)
        return any(topic <= said and sum(topic <= each for each in texts) == 1 for topic in topics)

    def _held(self) -> str:
        """A letter for each fact or event that memory says something of."""
        many = self.of.facts + self.of.events
        return "".join(ascii_uppercase[n] for n in range(many) if self._item(self.notes, n))


def measure(actor: Actor, turn: Turn) -> None:
    """A `Stage.probe`: what the other terms of the paper's reward are made of, for `CallValidity`, `Probed` and `Compression`.

    turn.calls has r2's `ok`; the rollout's meta the words of memory and of the stream, for r3; probe["content"] is the good items
    that were written, a statement of the chunk, for r4, and probe["noise"] the others. The paper's r4, the share of good ones,
    would pay for a chunk of nothing worth keeping the same whether it is kept or not.
    """
    state = actor.state
    if not isinstance(state, Reading):
        raise ConfigError("measure is for the environment stream", field="probe")
    turn.calls = [{"name": each.name, "ok": each.ok} for each in state.done]
    judged = [each.fits for each in state.done if each.fits is not None]
    turn.probe |= {"content": sum(judged) / state.of.each, "noise": judged.count(False) / state.of.each}
    words = sum(map(size, state.of.raw(state.seed)[: state.chunk]))
    actor.recorder.rollout.meta |= {"memory_tokens": state.notes.words, "input_tokens": words}


def well_formed(memory_type: str, content: str) -> bool:
    """One thing, not hearsay, and an event with its day exactly where events are kept: in place of the paper's judge."""
    if memory_type == "core_memory":
        return bool(content.strip())
    dated = DATED.match(content) is not None
    plain = size(content) in WORDS and HEARSAY.search(content) is None
    return plain and dated == (memory_type == "episodic_memory")


def _written(arguments: Any) -> tuple[str, str] | None:
    if not isinstance(arguments, dict):
        return None
    content = arguments.get("content", arguments.get("new_content"))
    return (str(arguments.get("memory_type")), content) if isinstance(content, str) else None


@lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def _symbols(statement: Statement) -> str:
    return MARKS[statement.kind] + _letter(statement)


def _letter(statement: Statement) -> str:
    return ascii_uppercase[statement.subject] if statement.subject >= 0 else "~"
