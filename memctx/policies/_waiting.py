"""Identifiers that stand in a tool result and nowhere else for good: what a later step can only copy from there.

An identifier waits in the newest result that holds it until a text that is never edited says it. Counted a result: how many
wait, and how many were half said ("the blue one in rst.py" of src/io/rst.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memctx._skim import data, identifiers, lines
from memctx._skim.parse import data_in, unescape

Whole = NDArray[np.int64]
HEAD = 16_000  # characters of a message that are read; a page more says nothing new of its kind
COMMON = 4  # a part that more identifiers of one result share tells none of them from the others
CROWD = 64
PART = re.compile(r"[a-z]{4,}|\d{3,}")


def parts(text: str) -> frozenset[str]:
    """Words of four letters and numbers of three digits and more, in lower case."""
    return frozenset(PART.findall(text.lower()))


def held(text: str) -> frozenset[str]:
    """Identifiers in the values of a result, of their first `HEAD` characters; keys of data tell nothing of this one."""
    found: set[str] = set()
    left = HEAD
    for value in _values(text[: 8 * HEAD]):
        found.update(identifiers(value[:left]))
        left -= len(value)
        if left <= 0:
            break
    return frozenset(found)


def _values(text: str) -> Iterator[str]:
    plain = unescape(text)
    found = data_in(plain)
    if found is None:
        yield from _labelled(plain)
        return
    before, value, after = found
    yield from _labelled(before)
    yield from (leaf for _, leaf in data.leaves(value))
    yield from _labelled(after)


def _labelled(text: str) -> Iterator[str]:
    return (value for _, value in lines.labelled(text[:HEAD]))


@dataclass(slots=True)
class Waiting:
    """Arrays grow with the results: `count`, `half` (rows,)."""

    count: Whole = field(default_factory=lambda: np.zeros(16, np.int64))
    half: Whole = field(default_factory=lambda: np.zeros(16, np.int64))
    settled: set[str] = field(default_factory=set)
    _held: dict[str, int] = field(default_factory=dict)  # identifier -> row
    _halved: set[str] = field(default_factory=set)
    _parts: dict[str, list[str]] = field(default_factory=dict)  # part -> identifiers that have it
    _said: set[str] = field(default_factory=set)  # parts of all text that stays

    def add(self, row: int, found: Iterable[str]) -> list[int]:
        """A new result with these identifiers; the rows of older results that it takes some over from, one each."""
        if row == len(self.count):
            self.count, self.half = (np.concatenate([each, np.zeros_like(each)]) for each in (self.count, self.half))
        fresh = [word for word in found if word not in self.settled]
        taken = [older for older in map(self._drop, fresh) if older >= 0]
        shares: dict[str, list[str]] = {}
        for word in fresh:
            self._held[word] = row
            for part in parts(word):
                shares.setdefault(part, []).append(word)
        self.count[row] += len(fresh)
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
            self.half[self._held[word]] += 1

    def _drop(self, word: str) -> int:
        """The row an identifier waited in, -1 for none; it waits no more."""
        row = self._held.pop(word, -1)
        if row >= 0:
            self.count[row] -= 1
            if word in self._halved:
                self._halved.remove(word)
                self.half[row] -= 1
        return row
