"""Situations in memory: distinct texts with their vectors, found again by equality or by likeness.

Equal texts, case and white space aside, share a row. Rows that are alike share a cell, so that a search of 100,000 rows
compares some thousands of them. A cell that grows too large is split in two: nothing is ever built anew.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from memctx._experience_words import Words, shared, words_of

Vector = NDArray[np.float32]
Rows = NDArray[np.int32]
T = TypeVar("T", bound=np.generic)

SCAN = 1_000  # rows that a search compares
CELL = 128  # rows of a cell at most
NEAR = 64  # cells that mostly hold as many
ROUNDS = 4  # of moving two centres apart
NO_WORDS: Words = np.empty(0, np.int32)


@dataclass(frozen=True, slots=True)
class Text:
    """A text as it is compared."""

    key: bytes
    vector: Vector
    words: Words

    @classmethod
    def of(cls, text: str, vector: Vector) -> Text:
        return cls(key_of(text), vector, words_of(text))


def key_of(text: str) -> bytes:
    """Equal for texts that differ in case or white space; over the whole text."""
    return blake2b(" ".join(text.casefold().split()).encode("utf-8", "surrogatepass"), digest_size=16).digest()


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
        self._scratch = np.empty((0, dim), np.float32)

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

    def key(self, row: int) -> bytes | None:
        """The key of a row's text; None for no row."""
        return self._keys[row] if row >= 0 else None

    def nearest(self, vector: Vector, n: int, scan: int = SCAN) -> Rows:
        """The n rows nearest to a vector among `scan` or a few more, best first, equal ones by row."""
        rows = self._near(vector, scan)
        scores = self._vectors_of(rows) @ vector
        if n < len(rows):
            best = scores >= np.partition(scores, len(rows) - n)[len(rows) - n]
            rows, scores = rows[best], scores[best]
        return rows[np.lexsort((rows, -scores))[:n]]

    def held(self, rows: Rows, most: int) -> NDArray[np.int64]:
        """The items in these situations, of the first ones first, until there are `most`."""
        found = array("i")
        for row in rows.tolist():
            found.extend(self.holders[row])
            if len(found) >= most:
                break
        return np.array(found, np.int64)

    def meaning(self, text: Text, rows: Rows) -> NDArray[np.float64]:
        """The cosines of the vectors of those rows."""
        cosines: NDArray[np.float64] = (self._vectors_of(rows) @ text.vector).astype(np.float64)
        return cosines

    def words(self, text: Text, rows: Rows) -> NDArray[np.float64]:
        """The share of words that those rows have in common with it."""
        return shared(text.words, [self._words[row] for row in rows.tolist()])

    def _vectors_of(self, rows: Rows) -> Vector:
        """Their vectors, in memory that the next call uses again: fresh pages cost more than the numbers in them."""
        if len(self._scratch) < len(rows):
            self._scratch = np.empty((2 * len(rows), self.vectors.shape[1]), np.float32)
        return np.take(self.vectors, rows, axis=0, out=self._scratch[: len(rows)], mode="clip")

    def _near(self, vector: Vector, scan: int) -> Rows:
        """The rows of the cells whose centres are nearest."""
        far = -(self._centres[: len(self._cells)] @ vector)
        likely = np.argpartition(far, NEAR)[:NEAR] if len(far) > NEAR else np.arange(len(far))
        found = self._of(likely[np.argsort(far[likely])], scan)
        return found if len(found) >= scan else self._of(np.argsort(far), scan)

    def _of(self, cells: NDArray[np.int64], scan: int) -> Rows:
        """The rows of these cells, in order, until there are `scan`."""
        chosen = array("i")
        for cell in cells.tolist():
            chosen.extend(self._cells[cell])
            if len(chosen) >= scan:
                break
        return np.array(chosen, np.int32)

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
