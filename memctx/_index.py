"""What a policy is told of each tool result: identifiers it holds, which of them stand alone, which were used since.

Reads each message once; a question about a result is then a look-up. Not a strategy's state: the transcript and the
plan rebuild it.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from memctx._skim import identifiers
from memctx._skim.words import ERROR
from memctx.messages import Message
from memctx.plan import Plan
from memctx.policies import Features
from memctx.strategies import Context
from memctx.strategies._pending import later_than
from memctx.strategies._results import said

MANY = 8  # a word in this many messages tells nothing of one of them; its holders are no longer followed
HEAD = 400  # characters of a result searched for an error


@dataclass(slots=True)
class _Held:
    """Counts of one result: its identifiers, those that stand nowhere else in sight, those used by a later call."""

    words: int
    error: bool
    unique: int = 0
    referred: int = 0


@dataclass(slots=True)
class Index:
    """Features of the tool results of a thread. One per strategy and thread, kept in `Context.memo`."""

    seen: int = 0
    plan: Plan | None = None
    steps: list[int] = field(default_factory=list)  # steps with results, in order
    results: dict[str, _Held] = field(default_factory=dict)
    holders: dict[str, dict[str, int]] = field(default_factory=dict)  # word -> id of a message showing it -> its step
    used: set[tuple[str, str]] = field(default_factory=set)  # (result id, word) counted in `referred`
    cut: dict[str, str] = field(default_factory=dict)  # result id -> what the plan shows of it
    words: dict[str, frozenset[str]] = field(default_factory=dict)  # message id -> its identifiers

    @classmethod
    def of(cls, ctx: Context) -> Index:
        """The index of this thread, brought up to date."""
        index: Index = ctx.memo.setdefault("index", cls())
        if later_than(index.plan, ctx.plan):
            index = ctx.memo["index"] = cls()
        index._read(ctx)
        return index

    def features(self, ctx: Context, message: Message) -> Features:
        """What is known of one result; sizes in tokens."""
        held = self.results[message.id]
        age = len(self.steps) - bisect_right(self.steps, ctx.transcript.position[message.id])
        cut = self.cut.get(message.id)
        tokens = message.tokens if cut is None else ctx.count(cut)
        return Features(age, tokens, held.words, held.unique, held.referred, held.error)

    def _read(self, ctx: Context) -> None:
        messages, position = ctx.transcript.messages, ctx.transcript.position
        for message in messages[self.seen :]:
            self._add(message, position[message.id])
        self.seen = len(messages)
        if ctx.plan is not self.plan:
            for message_id in self.results:
                clear = ctx.cleared(message_id)
                if clear is not None and self.cut.get(message_id) != clear.content:
                    self._hide(ctx, message_id, clear.content)
            self.plan = ctx.plan

    def _add(self, message: Message, step: int) -> None:
        found = self._words(message)
        if message.role == "tool":
            self.results[message.id] = _Held(len(found), ERROR.search(message.text[:HEAD]) is not None)
            place = bisect_right(self.steps, step)
            if not place or self.steps[place - 1] != step:
                insort(self.steps, step)
        elif message.role == "assistant":
            self._refer(found, step)
        for word in found:
            self._show(word, message.id, step)

    def _words(self, message: Message) -> frozenset[str]:
        if message.id not in self.words:
            self.words[message.id] = frozenset(word for text in said(message) for word in identifiers(text))
        return self.words[message.id]

    def _refer(self, found: Iterable[str], step: int) -> None:
        for word in found:
            for holder, place in self.holders.get(word, {}).items():
                if holder in self.results and place < step and (holder, word) not in self.used:
                    self.used.add((holder, word))
                    self.results[holder].referred += 1

    def _show(self, word: str, message_id: str, step: int) -> None:
        places = self.holders.setdefault(word, {})
        if len(places) >= MANY or message_id in places:
            return
        if len(places) == 1:
            self._alone(next(iter(places)), -1)
        places[message_id] = step
        if len(places) == 1:
            self._alone(message_id, 1)

    def _hide(self, ctx: Context, message_id: str, content: str) -> None:
        """A result is shown shortened: the words left out of it stand there no more."""
        message = ctx.transcript.find(message_id)
        left = set(identifiers(content))
        self.cut[message_id] = content
        for word in self._words(message) - left if message else ():
            places = self.holders[word]
            if len(places) >= MANY or places.pop(message_id, None) is None:
                continue
            if not places:
                self._alone(message_id, -1)
            elif len(places) == 1:
                self._alone(next(iter(places)), 1)

    def _alone(self, message_id: str, change: int) -> None:
        if message_id in self.results:
            self.results[message_id].unique += change
