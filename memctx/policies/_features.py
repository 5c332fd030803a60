"""What a learned policy reads of each tool result: a row of numbers, kept up to date at the cost of what is new.

Made of the transcript alone, so that a row does not depend on which policy acted: what a policy is trained on is what it will
see. No column names a tool or a key of its data: what is learned of names misleads where the names are others. A message is
read once; a question about n results is then a few operations on arrays of n numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memctx._skim import identifiers
from memctx._skim.words import ERROR
from memctx.messages import Message
from memctx.policies._facts import STATIC, Given, static_row
from memctx.policies._waiting import HEAD, Waiting, held, parts
from memctx.policies.rules import FADE
from memctx.strategies._results import said

Array = NDArray[np.float32]
Whole = NDArray[np.int64]
ERROR_HEAD = 400
CROWD = 64  # a word in so many results tells nothing of one of them
COUNTS = ("step", "words", "referred", "last", "taken", "tool", "before", "error", "uses", "turn")
DYNAMIC = (
    "age", "newest", "next", "rank", "behind", "waiting", "waiting_share", "half", "half_share", "referred",
    "referred_share", "idle", "never", "taken_share", "tool_newer", "same_call", "tool_used", "tool_seen", "similar_newest",
    "similar_user", "similar_goal_now",
    "tokens_behind", "uses", "turns", "steps", "rule",
)  # fmt: skip
COLUMNS = (*STATIC, *DYNAMIC)


@dataclass(slots=True)
class Rows:
    """The tool results of a thread so far. `read` the history as it grows, or `add` each message; then `matrix`."""

    ids: dict[str, int] = field(default_factory=dict)  # message id -> row
    fixed: Array = field(default_factory=lambda: np.zeros((16, len(STATIC)), np.float32))
    counts: Whole = field(default_factory=lambda: np.zeros((len(COUNTS), 16), np.int64))
    waiting: Waiting = field(default_factory=Waiting)
    tools: dict[str, int] = field(default_factory=dict)
    seen: list[int] = field(default_factory=list)  # by tool: results so far,
    used: list[int] = field(default_factory=list)  # and those of them that were referred to
    latest: dict[tuple[str, str], int] = field(default_factory=dict)  # (tool, arguments) -> newest result
    again: set[int] = field(default_factory=set)  # results of a call that was made again
    postings: dict[str, list[int]] = field(default_factory=dict)  # plain word -> results that hold it
    goal: set[str] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)  # of the newest user message
    newest: set[str] = field(default_factory=set)  # plain words of the newest message that is no result
    calls: dict[str, tuple[str, str]] = field(default_factory=dict)  # call id -> (tool, arguments)
    heard: int = 0  # messages
    steps: int = 0
    turns: int = 0
    tokens: int = 0
    open: bool = False  # a step with results is still being read

    def read(self, messages: Sequence[Message]) -> None:
        """Take in what a growing history has more than it had."""
        for message in messages[self.heard :]:
            self.add(message)

    def add(self, message: Message) -> None:
        """Take in the next message of the history."""
        if message.role == "tool":
            self._result(message)
        else:
            self._said(message)
        self.tokens += message.tokens
        self.heard += 1

    def __len__(self) -> int:
        return len(self.ids)

    def matrix(self, rows: Sequence[int] | Whole) -> Array:
        """(n, len(COLUMNS)) of float32 for these rows, as things stand after the newest message."""
        index = np.asarray(rows, np.int64)
        out = np.empty((len(index), len(COLUMNS)), np.float32)
        out[:, : len(STATIC)] = self.fixed[index]
        self._dynamic(index, out[:, len(STATIC) :])
        return out

    def _said(self, message: Message) -> None:
        self.open = False
        texts = [text[:HEAD] for text in said(message)]
        words = [word for text in texts for word in identifiers(text)]
        plain = parts(message.text[:HEAD])
        called = parts(" ".join(f"{call.name} {call.arguments}" for call in message.calls)[:2_000])
        rows = self.waiting.say(words, plain | called)
        if message.role == "assistant":
            self._refer(rows)
        if message.role == "user":
            self.goal |= plain
            self.asked = set(plain)
            self.turns += 1
        if plain or called:
            self.newest = {*plain, *called}
        for call in message.calls:
            self.calls[call.id] = (call.name, call.arguments)

    def _refer(self, rows: Sequence[int]) -> None:
        """The model said what stood in these results alone, one entry an identifier."""
        for row in rows:
            self.counts[2, row] += 1
            self.counts[3, row] = self.steps
        for row in set(rows):
            self.used[self.counts[5, row]] += not self.counts[8, row]
            self.counts[8, row] += 1

    def _result(self, message: Message) -> None:
        row = self.ids[message.id] = len(self.ids)
        if row == self.counts.shape[1]:
            self.fixed = np.concatenate([self.fixed, np.zeros_like(self.fixed)])
            self.counts = np.concatenate([self.counts, np.zeros_like(self.counts)], axis=1)
        self.steps += not self.open
        self.open = True
        tool, arguments = self.calls.get(message.call_id, (message.tool, ""))
        number = self.tools.setdefault(tool, len(self.tools))
        if number == len(self.seen):
            self.seen.append(0)
            self.used.append(0)
        self.seen[number] += 1
        found = held(message.text)
        error = ERROR.search(message.text[:ERROR_HEAD]) is not None
        self.counts[:, row] = (self.steps, len(found), 0, self.steps, 0, number, self.tokens, error, 0, self.turns)
        for older in self.waiting.add(row, found):
            self.counts[4, older] += 1
        earlier = self.latest.get((tool, arguments))
        if earlier is not None:
            self.again.add(earlier)
        self.latest[(tool, arguments)] = row
        plain = parts(message.text[:HEAD])
        fresh = int(self.waiting.count[row])
        given = Given(len(found), fresh, error, plain, self.goal, self.newest, arguments, earlier is not None)
        self.fixed[row] = static_row(message, given)
        for word in plain:
            self.postings.setdefault(word, []).append(row)

    def _dynamic(self, index: Whole, out: Array) -> None:
        step, words, referred, last, taken, tool, before, error, uses, turn = self.counts[:, index]
        waiting, half = self.waiting.count[index], self.waiting.half[index]
        age = self.steps - step
        seen, used = np.asarray(self.seen or [0]), np.asarray(self.used or [0])
        many = np.maximum(words, 1)
        columns: tuple[Any, ...] = (
            np.log1p(age), age == 0, age == 1, np.log1p(index), np.log1p(len(self.ids) - 1 - index),
            np.log1p(waiting), waiting / many, np.log1p(half), half / np.maximum(waiting, 1), np.log1p(referred),
            referred / many, np.log1p(self.steps - last), uses == 0, taken / many, np.log1p(seen[tool] - 1),
            self._repeated(index), (used[tool] + 0.5) / (seen[tool] + 1.0), np.log1p(seen[tool]), self._similar(self.newest)[index],
            self._similar(self.asked)[index], self._similar(self.goal)[index],
            np.log1p(self.tokens - before) / 4, np.log1p(uses), np.log1p(self.turns - turn), np.log1p(self.steps),
            _rule(age, waiting, referred, error),
        )  # fmt: skip
        for place, column in enumerate(columns):
            out[:, place] = column

    def _repeated(self, index: Whole) -> Array:
        flags = np.zeros(max(1, len(self.ids)), np.float32)
        if self.again:
            flags[list(self.again)] = 1
        return flags[index]

    def _similar(self, text: set[str]) -> Array:
        """(rows,): words shared with a text over the root of its words."""
        found = [rows for word in text if (rows := self.postings.get(word)) and len(rows) <= CROWD]
        shared = np.zeros(max(1, len(self.ids)), np.float32)
        if found:
            shared += np.bincount(np.fromiter((row for rows in found for row in rows), np.int64), minlength=len(shared))
        return shared / np.float32(max(1, len(text)) ** 0.5)


def _rule(age: Whole, waiting: Whole, referred: Whole, error: Whole) -> NDArray[np.float64]:
    """(n,): log odds of the hand-written worth, so that a learned policy starts from it."""
    worth = 0.5 * waiting / (waiting + 5) + 0.3 * referred / (referred + 2) + 0.2
    worth = worth * (0.25 + 0.75 * FADE**age) * np.where(error > 0, 0.5, 1.0)
    return np.log(worth / (1 - worth))
