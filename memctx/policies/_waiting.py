"""Identifiers that stand in a tool result and nowhere else for good: what a later step can only copy from there.

An identifier waits in the newest result that holds it until a text that is never edited says it. Counted a result: how many
wait, under which keys of the data they stand, and how many were half said ("the blue one in rst.py" of src/io/rst.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from memctx._skim import data, identifiers, lines
from memctx._skim.parse import data_in, unescape

Whole = NDArray[np.int64]
HEAD = 16_000  # characters of a message that are read; a page more says nothing new of its kind
KEY_BUCKETS = 24
COMMON = 4  # a part that more identifiers of one result share tells none of them from the others
CROWD = 64
PART = re.compile(r"[a-z]{4,}|\d{3,}")


def parts(text: str) -> frozenset[str]:
    """Words of four letters and numbers of three digits and more, in lower case."""
    return frozenset(PART.findall(text.lower()))


def keyed(text: str) -> dict[str, str]:
    """Identifier -> the key or label it stands under, of the first `HEAD` characters of a result's values."""
    found: dict[str, str] = {}
    left = HEAD
    for key, value in _fields(text[: 8 * HEAD]):
        for word in identifiers(value[:left]):
            found.setdefault(word, key)
        left -= len(value)
        if left <= 0:
            break
    return found


def _fields(text: str) -> Iterator[tuple[str, str]]:
    plain = unescape(text)
    held = data_in(plain)
    if held is None:
        yield from lines.labelled(plain[:HEAD])
        return
    before, value, after = held
    yield from lines.labelled(before[:HEAD])
    yield from data.leaves(value)
    yield from lines.labelled(after[:HEAD])


@dataclass(slots=True)
class Waiting:
    """Arrays grow with the results: `count`, `half` (rows,), `keys` (rows, KEY_BUCKETS)."""

    count: Whole = field(default_factory=lambda: np.zeros(16, np.int64))
    half: Whole = field(default_factory=lambda: np.zeros(16, np.int64))
    keys: Whole = field(default_factory=lambda: np.zeros((16, KEY_BUCKETS), np.int64))
    settled: set[str] = field(default_factory=set)
    _held: dict[str, tuple[int, int]] = field(default_factory=dict)  # identifier -> (row, bucket of its key)
    _halved: set[str] = field(default_factory=set)
    _parts: dict[str, list[str]] = field(default_factory=dict)  # part -> identifiers that have it
    _said: set[str] = field(default_factory=set)  # parts of all text that stays

    def add(self, row: int, found: dict[str, str]) -> list[int]:
        """A new result with these identifiers; the rows of older results that it takes some over from, one each."""
        if row == len(self.count):
            self.count, self.half, self.keys = (np.concatenate([a, np.zeros_like(a)]) for a in self._arrays())
        fresh = {word: key for word, key in found.items() if word not in self.settled}
        taken = [older for older in map(self._drop, fresh) if older >= 0]
        shares: dict[str, list[str]] = {}
        for word, key in fresh.items():
            bucket = crc32(key.lower().encode()) % KEY_BUCKETS
            self._held[word] = (row, bucket)
            self.count[row] += 1
            self.keys[row, bucket] += 1
            for part in parts(word):
                shares.setdefault(part, []).append(word)
        for part, words in shares.items():
            if len(words) <= COMMON:
                self._share(part, words)
        return taken

    def say(self, words: Iterable[str], said: frozenset[str]) -> list[int]:
        """A text that stays says these identifiers and parts; the rows that they waited in, one each."""
        rows: list[int] = []
        for word in words:
            if word not in self.settled:
                self.settled.add(word)
                row = self._drop(word)
                if row >= 0:
                    rows.append(row)
        for part in said - self._said:
            for word in self._parts.get(part, ()):
                self._halve(word)
        self._said |= said
        return rows

    def _arrays(self) -> tuple[Whole, Whole, Whole]:
        return self.count, self.half, self.keys

    def _share(self, part: str, words: list[str]) -> None:
        holders = self._parts.setdefault(part, [])
        if len(holders) < CROWD:
            holders += words
        if part in self._said:
            for word in words:
                self._halve(word)

    def _halve(self, word: str) -> None:
        if word in self._held and word not in self._halved:
            self._halved.add(word)
            self.half[self._held[word][0]] += 1

    def _drop(self, word: str) -> int:
        """The row an identifier waited in, -1 for none; it waits no more."""
        row, bucket = self._held.pop(word, (-1, 0))
        if row >= 0:
            self.count[row] -= 1
            self.keys[row, bucket] -= 1
            if word in self._halved:
                self._halved.remove(word)
                self.half[row] -= 1
        return row
