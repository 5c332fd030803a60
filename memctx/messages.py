"""Messages, steps and the transcript: the history of one thread, read once.

A `Message` is immutable and keeps the host's own object. A `Step` is the atom of every edit: an assistant message with
all its tool results, or one user or system message, so a call and its result cannot part. A `Transcript` is append-only
and incremental: handing it n known and m new messages parses m. A rewound or edited list is re-read from the fork.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal, Protocol

from memctx._transcript import copied, digest, in_common, new_id, unaltered
from memctx.errors import LimitError

Role = Literal["system", "user", "assistant", "tool"]
MAX_MESSAGES = 1_000_000
MAX_CHARACTERS = 64_000_000
NEWEST = 32  # known messages compared by value on each call, to notice edits in place: the newest,
AUDIT = 16  # and so many of the others, in rotation


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call the model made. `arguments` is the JSON text as the model wrote it, parsed by nobody."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message, or one part of a host message that carries several results.

    `raw` is the host's object; `out` is what goes on the wire, the same object unless it had to be repaired. `id` is a
    digest of the content, unique in the thread and stable across processes. `sealed` marks content that a provider
    signed: it travels whole or leaves whole. `tokens` is its size in the view when nothing edits it.
    """

    role: Role
    text: str
    raw: Any
    out: Any
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""
    tool: str = ""
    sealed: bool = False
    host: int = 0
    part: int = 0
    parts: int = 1
    id: str = ""
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """`heads` are what one side said; `results` answer their calls. An orphan result is a step with no heads."""

    heads: tuple[Message, ...]
    results: tuple[Message, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        return self.heads + self.results

    @property
    def role(self) -> Role:
        return self.heads[0].role if self.heads else "tool"

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        return tuple(call for head in self.heads for call in head.calls)

    @property
    def pending(self) -> tuple[ToolCall, ...]:
        """Calls that no result has answered yet."""
        answered = {result.call_id for result in self.results}
        return tuple(call for call in self.calls if call.id not in answered)

    @property
    def tokens(self) -> int:
        return sum(message.tokens for message in self.messages)


class Reader(Protocol):
    """What a transcript needs of a wire format (see `memctx.formats`)."""

    groups_heads: bool

    def parse(self, raw: Any, index: int) -> list[Message]: ...
    def rename(self, message: Message) -> Any: ...
    def acceptable(self, call_id: str) -> bool: ...


class Transcript:
    """The history of one thread. `steps` and `messages` are for reading; `sync` is the only way to change them.

    `count(message)` gives a message's tokens and is called once in the message's life.
    """

    def __init__(self, reader: Reader, count: Callable[[Message], int]) -> None:
        self.reader = reader
        self.messages: list[Message] = []
        self.steps: list[Step] = []
        self.position: dict[str, int] = {}  # message id -> index of its step
        self.calls_made = 0  # assistant steps so far: how many model calls the run has had
        self.tokens = 0  # of all messages, unedited
        self.forks = 0  # how often the history was rewound or edited
        self._count = count
        self._hosts: list[Any] = []
        self._copies: list[Any] = []
        self._audited = 0
        self._forget()

    def _forget(self) -> None:
        self._parsed: list[Message] = []  # as read: `id` is the digest alone, call ids are the host's
        self.tokens = 0
        self.messages.clear()
        self.steps.clear()
        self.position.clear()
        self.calls_made = 0
        self._twins: dict[str, int] = {}  # digest -> how many messages have it
        self._open: dict[str, int] = {}  # call id -> its step
        self._calling = -1  # the newest step with calls
        self._written: dict[str, str] = {}  # call id -> as the host wrote it
        self._waiting: dict[str, list[str]] = {}  # call id as the host wrote it -> calls so written, not yet answered
        self._latest: dict[str, str] = {}  # call id as the host wrote it -> the newest call so written
        self._orphans: dict[str, tuple[int, int]] = {}  # call id -> (step, message) of a result that came first
        self._dirty = 0

    def sync(self, hosts: Sequence[Any]) -> int:
        """Take in the host's list; return the index of the first step that is new or changed.

        Raises `InvalidMessage` for what cannot be read, and then holds what it held before.
        """
        if not isinstance(hosts, list):
            hosts = list(hosts)
        if len(hosts) > MAX_MESSAGES:
            raise LimitError(
                f"{len(hosts)} messages; the bound is {MAX_MESSAGES}: start a new thread", given=len(hosts)
            )
        known = len(self._hosts)
        fork = self._altered(in_common(hosts, self._hosts))
        fresh = [message for index in range(fork, len(hosts)) for message in self._parse(hosts[index], index)]
        copies = [copied(raw) for raw in hosts[fork:]]
        if fork < known:
            self._rewind(fork)
        self._dirty = len(self.steps) if fork == known else 0
        for message in fresh:
            self._append(message)
        self._hosts += hosts[fork:]
        self._copies += copies
        return self._dirty

    def _parse(self, raw: Any, index: int) -> list[Message]:
        messages = self.reader.parse(raw, index)
        for message in messages:
            size = len(message.text) + sum(len(call.arguments) for call in message.calls)
            if size > MAX_CHARACTERS:
                text = f"message {index} has {size} characters; the bound is {MAX_CHARACTERS}: offload it first"
                raise LimitError(text, index=index)
        return [replace(message, tokens=self._count(message), id=digest(message)) for message in messages]

    def _altered(self, fork: int) -> int:
        """The first known message that was edited in place, among the newest and a rotating window of the others."""
        newest = max(0, fork - NEWEST)
        start = self._audited if self._audited < newest else 0
        self._audited = start + AUDIT
        for first, last in ((start, min(start + AUDIT, newest)), (newest, fork)):
            known = unaltered(self._hosts[first:last], self._copies[first:last])
            if known < last - first:
                return first + known
        return fork

    def _rewind(self, fork: int) -> None:
        kept = [message for message in self._parsed if message.host < fork]
        del self._hosts[fork:], self._copies[fork:]
        self._forget()
        self.forks += 1
        for message in kept:
            self._append(message)

    def _append(self, message: Message) -> None:
        self._parsed.append(message)
        self.tokens += message.tokens
        mark = message.id
        twins = self._twins.get(mark, 0)
        self._twins[mark] = twins + 1
        if twins:
            message = replace(message, id=f"{mark}-{twins}")
        written = [call.id for call in message.calls]
        message = self._with_usable_ids(message)
        self.messages.append(message)
        if message.role == "tool":
            self._bind(message)
        else:
            self._open_step(message, written)

    def _with_usable_ids(self, message: Message) -> Message:
        """Give a call a new id where its own was used before in the thread or the provider would refuse it."""
        ids: dict[int, str] = {}
        taken = {call.id for call in message.calls}
        seen: set[str] = set()
        for place, call in enumerate(message.calls):
            if call.id in self._open or call.id in seen or not self.reader.acceptable(call.id):
                ids[place] = new_id(call.id, len(self.steps), place, taken, self._open)
            seen.add(call.id)
        if not ids:
            return message
        calls = tuple(replace(call, id=ids.get(place, call.id)) for place, call in enumerate(message.calls))
        renamed = replace(message, calls=calls)
        return replace(renamed, out=self.reader.rename(renamed))

    def _open_step(self, message: Message, written: list[str]) -> None:
        last = len(self.steps) - 1
        joins = (
            self.reader.groups_heads
            and message.role == "assistant"
            and last >= 0
            and self.steps[last].role == "assistant"
            and not self.steps[last].results
        )
        if joins:
            self._set(last, replace(self.steps[last], heads=(*self.steps[last].heads, message)))
        else:
            last += 1
            self.steps.append(Step((message,)))
            self.calls_made += message.role == "assistant"
        self.position[message.id] = last
        for call, old in zip(message.calls, written, strict=True):
            self._open[call.id] = last
            self._written[call.id] = old
            self._latest[old] = call.id
            self._calling = last
            self._waiting.setdefault(old, []).append(call.id)
        for old in written:
            if old in self._orphans:
                step, place = self._orphans.pop(old)
                self._set(step, Step(()))
                self._join(place, self._answered_call(self.messages[place]))

    def _bind(self, message: Message) -> None:
        call_id = self._answered_call(message)
        if call_id in self._open:
            self._join(len(self.messages) - 1, call_id)
            return
        self._orphans[message.call_id] = (len(self.steps), len(self.messages) - 1)
        self.position[message.id] = len(self.steps)
        self.steps.append(Step((), (message,)))

    def _join(self, place: int, call_id: str) -> None:
        """Put the result `messages[place]` into the step of its call; of two results the later one stays."""
        index = self._open[call_id]
        step, message = self.steps[index], self.messages[place]
        tool = next(call.name for call in step.calls if call.id == call_id)
        renamed = call_id != message.call_id
        message = replace(message, call_id=call_id, tool=tool)
        if renamed:
            message = replace(message, out=self.reader.rename(message))
        self.messages[place] = message
        self.position[message.id] = index
        others = tuple(result for result in step.results if result.call_id != call_id)
        self._set(index, replace(step, results=(*others, message)))

    def _answered_call(self, message: Message) -> str:
        """The call a result speaks of: of those that wait under the id it names, the first of the newest step.

        A format that knows a result's tool lets it go by name where no call waits under the id (Gemini).
        """
        waiting = self._waiting.get(message.call_id)
        if waiting:
            newest = self._open[waiting[-1]]
            chosen = next(call_id for call_id in waiting if self._open[call_id] == newest)
            waiting.remove(chosen)
            return chosen
        if message.tool and self._calling >= 0:
            for call in self.steps[self._calling].pending:
                if call.name == message.tool:
                    self._waiting[self._written[call.id]].remove(call.id)
                    return call.id
        return self._latest.get(message.call_id, message.call_id)

    def _set(self, index: int, step: Step) -> None:
        self.steps[index] = step
        self._dirty = min(self._dirty, index)

    def find(self, message_id: str) -> Message | None:
        """The message with this id, or None."""
        step = self.position.get(message_id)
        if step is None:
            return None
        places = chain(self.steps[step].messages, self.messages)  # the latter for a result that a later twin replaced
        return next((message for message in places if message.id == message_id), None)

    def host_objects(self, messages: Iterable[Message]) -> list[Any]:
        """The host's own objects behind these messages, in order, each once."""
        return [self._hosts[index] for index in sorted({message.host for message in messages})]
