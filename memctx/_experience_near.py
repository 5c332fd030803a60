"""Situations in memory: distinct texts with their vectors, found again by equality or by likeness.

Equal texts, case and white space aside, share a row. Rows that are alike share a cell, so that a search of 100,000 rows
compares some thousands of them. A cell that grows too large is split in two: nothing is ever built anew.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Rows = NDArray[np.int32]
T = TypeVar("T", bound=np.generic)

SCAN = 3_000  # rows that a search compares
CELL = 256  # rows of a cell at most
ROUNDS = 4  # of moving two centres apart


WORDS = 1 << 16  # numbers that a word can have
MOST_WORDS = 300  # different words of a text that are compared
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text as numbers, each once, with their counts brought to length one."""

    numbers: NDArray[np.uint16]
    weights: NDArray[np.float32]

    @classmethod
    def of(cls, text: str) -> Words:
        counts = Counter(map(_number, _WORD.findall(text.casefold()))).most_common(MOST_WORDS)
        numbers = np.fromiter((number for number, _ in counts), np.uint16, len(counts))
        weights = np.fromiter((count for _, count in counts), np.float32, len(counts))
        return cls(numbers, weights / max(float(np.linalg.norm(weights)), 1e-9))

    def cosines(self, others: Sequence[Words]) -> NDArray[np.float32]:
        """With each of the others."""
        table = np.zeros(WORDS, np.float32)
        table[self.numbers] = self.weights
        sizes = np.fromiter((len(other.numbers) for other in others), np.int64, len(others))
        if not sizes.any():
            return np.zeros(len(others), np.float32)
        shared = table[np.concatenate([other.numbers for other in others])]
        shared *= np.concatenate([other.weights for other in others])
        sums = np.concatenate([[0], np.cumsum(shared, dtype=np.float64)])
        ends = np.cumsum(sizes)
        cosines: NDArray[np.float32] = (sums[ends] - sums[ends - sizes]).astype(np.float32)
        return cosines


@lru_cache(maxsize=100_000)
def _number(word: str) -> int:
    return crc32(word.encode("utf-8", "surrogatepass")) % WORDS


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it is compared."""

    key: bytes
    vector: Vector
    words: Words


def key_of(text: str) -> bytes:
    """Equal for texts that differ in case or white space; over the whole text."""
    return blake2b(" ".join(text.casefold().split()).encode("utf-8", "surrogatepass"), digest_size=16).digest()


NO_WORDS = Words(np.empty(0, np.uint16), np.empty(0, np.float32))


class Nearby:
    """`holders[row]`: the items in the situation of that row. A row that nobody holds is used again."""

    def __init__(self, dim: int) -> None:
        self.rows: dict[bytes, int] = {}
        self.holders: list[array[int]] = []
        self.vectors = np.zeros((64, dim), np.float32)
        self._keys: list[bytes] = []
        self._words: list[Words] = []
        self._free: list[int] = []
        self._cell = np.full(64, -1, np.int32)
        self._cells: list[array[int]] = [array("i")]
        self._centres = np.zeros((16, dim), np.float32)

    def put(self, texts: Sequence[Text], items: Sequence[int]) -> list[int]:
        """Note that each item is in the situation of its text; returns the rows."""
        fresh: list[int] = []
        found: list[int] = []
        for text, item in zip(texts, items, strict=True):
            row = self.rows.get(text.key)
            if row is None:
                row = self._new(text)
                fresh.append(row)
            self.holders[row].append(item)
            found.append(row)
        if fresh:
            self._join(np.array(fresh, np.int32))
        return found

    def take(self, row: int, item: int) -> None:
        """The item is in no situation any more. What nobody holds is forgotten, its vector too."""
        holders = self.holders[row]
        holders.remove(item)
        if not holders:
            del self.rows[self._keys[row]]
            self._cells[self._cell[row]].remove(row)
            self._cell[row] = -1
            self.vectors[row] = 0
            self._keys[row] = b""
            self._words[row] = NO_WORDS
            self._free.append(row)

    def nearest(self, vector: Vector, n: int) -> tuple[Rows, NDArray[np.float32]]:
        """The n rows nearest to a vector and their cosines, best first, equal ones by row."""
        rows = self._near(vector)
        scores = self.vectors[rows] @ vector
        if n < len(rows):
            best = scores >= np.partition(scores, len(rows) - n)[len(rows) - n]
            rows, scores = rows[best], scores[best]
        order = np.lexsort((rows, -scores))[:n]
        return rows[order], scores[order]

    def cosines(self, text: Text, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of the vectors, and of the words, of those rows."""
        meant = self.vectors[rows] @ text.vector
        return meant.astype(float), text.words.cosines([self._words[row] for row in rows]).astype(float)

    def _near(self, vector: Vector) -> Rows:
        """The rows of the cells whose centres are nearest, `SCAN` or a few more."""
        chosen: list[array[int]] = []
        count = 0
        for cell in np.argsort(-(self._centres[: len(self._cells)] @ vector), kind="stable"):
            chosen.append(self._cells[cell])
            count += len(chosen[-1])
            if count >= SCAN:
                break
        return np.concatenate([np.frombuffer(cell, np.int32) for cell in chosen if cell] or [np.empty(0, np.int32)])

    def _new(self, text: Text) -> int:
        if self._free:
            row = self._free.pop()
            self._keys[row], self._words[row] = text.key, text.words
        else:
            row = len(self._keys)
            self._keys.append(text.key)
            self._words.append(text.words)
            self.holders.append(array("i"))
            if row >= len(self.vectors):
                self.vectors = _longer(self.vectors)
                self._cell = _longer(self._cell)
        self.rows[text.key] = row
        self.vectors[row] = text.vector
        return row

    def _join(self, rows: Rows) -> None:
        """Put rows into the cells with the nearest centres, and split those that are too large."""
        for start in range(0, len(rows), 4_096):
            some = rows[start : start + 4_096]
            cells = np.argmax(self.vectors[some] @ self._centres[: len(self._cells)].T, axis=1)
            self._cell[some] = cells
            for cell in np.unique(cells).tolist():
                self._cells[cell].extend(some[cells == cell].tolist())
                self._split(cell)

    def _split(self, cell: int) -> None:
        waiting = [cell]
        while waiting:
            at = waiting.pop()
            if len(self._cells[at]) > CELL:
                other = len(self._cells)
                if other >= len(self._centres):
                    self._centres = _longer(self._centres)
                rows = np.array(self._cells[at], np.int32)
                right, self._centres[at], self._centres[other] = _halves(self.vectors[rows])
                self._cells[at] = array("i", rows[~right].tolist())
                self._cells.append(array("i", rows[right].tolist()))
                self._cell[rows[right]] = other
                waiting += [at, other]


def _halves(vectors: Vector) -> tuple[NDArray[np.bool_], Vector, Vector]:
    """Which vectors are nearer to the second of two centres, and both centres; neither half is empty."""
    left = vectors[0]
    other = vectors[np.argmin(vectors @ left)]
    right = np.zeros(len(vectors), bool)
    for _ in range(ROUNDS):
        right = vectors @ (other - left) > 0
        if right.all() or not right.any():
            break
        left, other = _centre(vectors[~right]), _centre(vectors[right])
    if right.all() or not right.any():  # they are all but one
        right = np.arange(len(vectors)) >= len(vectors) // 2
    return right, _centre(vectors[~right]), _centre(vectors[right])


def _centre(vectors: Vector) -> Vector:
    mean: Vector = vectors.mean(axis=0)
    return mean / max(float(np.linalg.norm(mean)), 1e-9)


def _longer(old: NDArray[T]) -> NDArray[T]:
    fresh = np.zeros((2 * len(old), *old.shape[1:]), old.dtype)
    fresh[: len(old)] = old
    return fresh
