"""Words: BM25 in memory, a partition per scope, kept up to date row by row.

Robertson & Zaragoza (2009); the weight of a term never falls below zero (Lucene's form). Nothing is written to disk: the texts
are in SQL, and a scope is read again when it is first searched.
"""

from __future__ import annotations

import math
import threading
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from numpy.typing import NDArray

from memctx.errors import StoreError
from memctx.stores import _vectors as check
from memctx.stores._terms import clear, terms
from memctx.stores._vectors import Ids, Scores

K1 = 1.2  # how soon repeats of a term stop counting
B = 0.75  # how far a long text is held against it
TELLING = 20  # terms that stand for the rows given to `alike`
DEAD = 0.5  # share of removed rows at which a partition is packed


class _Part:
    """One scope. A row is a place in the arrays; a removed row keeps its place, with no id, until the part is packed."""

    def __init__(self) -> None:
        self.place: dict[int, int] = {}
        self.ids = array("q")
        self.lengths = array("d")  # terms of each row
        self.total = 0.0
        self.rows: dict[str, array[int]] = {}  # term -> the rows that have it ...
        self.times: dict[str, array[int]] = {}  # ... and how often
        self.having: Counter[str] = Counter()  # term -> how many rows that are alive have it
        self.held: list[tuple[str, ...]] = []  # row -> its terms

    def put(self, row_id: int, words: Sequence[str]) -> None:
        self.take(row_id)
        counts = Counter(words)
        row = len(self.ids)
        self.place[row_id] = row
        self.ids.append(row_id)
        self.lengths.append(len(words))
        self.held.append(tuple(counts))
        self.total += len(words)
        for term, count in counts.items():
            if term not in self.rows:
                self.rows[term], self.times[term] = array("i"), array("i")
            self.rows[term].append(row)
            self.times[term].append(count)
        self.having.update(counts.keys())

    def take(self, row_id: int) -> bool:
        row = self.place.pop(row_id, None)
        if row is None:
            return False
        self.ids[row] = -1
        self.total -= self.lengths[row]
        for term in self.held[row]:
            self.having[term] -= 1
            if not self.having[term]:  # nothing is left of a text that was erased
                del self.having[term], self.rows[term], self.times[term]
        self.held[row] = ()
        return True

    def packed(self) -> _Part:
        """The same without removed rows."""
        fresh = _Part()
        fresh.place = {row_id: n for n, row_id in enumerate(i for i in self.ids if i >= 0)}
        fresh.ids = array("q", fresh.place)
        alive = [self.place[row_id] for row_id in fresh.place]
        fresh.lengths = array("d", (self.lengths[row] for row in alive))
        fresh.held = [self.held[row] for row in alive]
        fresh.total = self.total
        moved = dict(zip(alive, range(len(alive)), strict=True))
        for term, rows in self.rows.items():
            kept = [(moved[row], n) for row, n in zip(rows, self.times[term], strict=True) if row in moved]
            if kept:
                fresh.rows[term] = array("i", (row for row, _ in kept))
                fresh.times[term] = array("i", (n for _, n in kept))
        fresh.having = self.having
        return fresh

    def scores(self, words: Mapping[str, float]) -> NDArray[np.float64]:
        """BM25 of every row, removed ones too, for terms with their weights."""
        found = np.zeros(len(self.ids))
        count = len(self.place)
        if not count:
            return found
        lengths, mean = np.frombuffer(self.lengths), max(self.total / count, 1.0)
        for term, share in words.items():
            if term in self.having:
                rows = np.frombuffer(self.rows[term], np.int32)
                times = np.frombuffer(self.times[term], np.int32)
                weight = share * self.rarity(term) * (K1 + 1)
                found[rows] += weight * times / (times + K1 * (1 - B + B * lengths[rows] / mean))
        return found

    def rarity(self, term: str) -> float:
        """The fewer rows have it, the more a term says."""
        having = self.having[term]
        return math.log(1 + (len(self.place) - having + 0.5) / (having + 0.5))

    def telling(self, shares: Mapping[int, float], but: AbstractSet[str], most: int) -> dict[str, float]:
        """The terms that stand out in rows with these shares, with their weights; those of `but` left out."""
        found: dict[str, float] = defaultdict(float)
        mean = max(self.total / max(len(self.place), 1), 1.0)
        for row_id, share in shares.items():
            row = self.place[row_id]
            pivot = K1 * (1 - B + B * self.lengths[row] / mean)
            for term in self.held[row]:
                if term not in but:
                    times = self.times[term][bisect_left(self.rows[term], row)]
                    found[term] += share * self.rarity(term) * times / (times + pivot)
        return dict(sorted(found.items(), key=lambda each: (-each[1], each[0]))[:most])


class WordIndex:
    """As a `VectorIndex`, of texts. `applied`: the last change of the store that it holds; whoever feeds it sets it."""

    def __init__(self) -> None:
        self.applied = 0
        self._parts: dict[str, _Part] = {}
        self._lock = threading.RLock()
        self._closed = False

    def add(self, scope: str, ids: Iterable[int], texts: Iterable[str]) -> None:
        """Add rows; an id that is there is replaced."""
        ready = check.row_ids(list(ids)).tolist()
        split = [terms(text) for text in texts]
        with self._open():
            part = self._parts.setdefault(check.inside(scope), _Part()) if ready else None
            for row_id, words in zip(ready, split, strict=True):
                assert part is not None  # noqa: S101 - there are rows
                part.put(row_id, words)
            self._pack(scope)

    def remove(self, scope: str, ids: Sequence[int]) -> int:
        """Remove rows; returns how many were there."""
        gone = check.row_ids(ids, unique=False).tolist()
        with self._open():
            part = self._parts.get(check.inside(scope))
            count = sum(part.take(row_id) for row_id in gone) if part else 0
            self._pack(scope)
            return count

    def drop(self, scope: str) -> int:
        """Remove a scope and all below it; returns how many rows went."""
        check.inside(scope)
        with self._open():
            clear()
            return sum(len(self._parts.pop(name).place) for name in list(self._parts) if name.startswith(scope))

    def search(self, query: str, k: int, scope: str, only: Ids | None = None) -> tuple[Ids, Scores]:
        """The rows of `scope` that share a term with the query, the k best first, equal ones by id; `only`: ids allowed."""
        words, k, allowed = terms(query), check.limit(k), check.allowed(only)
        with self._open():
            part = self._parts.get(check.inside(scope), _Part())
            scores = part.scores(dict.fromkeys(words, 1.0))
            return _best(np.array(part.ids, np.int64), scores, k, allowed)

    def alike(
        self, shares: Mapping[int, float], k: int, scope: str, only: Ids | None = None, *, but: str = ""
    ) -> tuple[Ids, Scores]:
        """The rows that share what stands out in the given ones, which count with their shares; a given row is no better for it.

        The words of `but` do not count. This is relevance feedback without a judge (Rocchio; Abdul-Jaleel et al. 2004, RM3).
        """
        k, allowed = check.limit(k), check.allowed(only)
        with self._open():
            part = self._parts.get(check.inside(scope), _Part())
            known = {row_id: share for row_id, share in shares.items() if row_id in part.place}
            scores = part.scores(part.telling(known, set(terms(but)), TELLING))
            own = [part.place[row_id] for row_id in known]
            others = np.delete(scores, own)
            scores[own] = np.minimum(scores[own], others.max(initial=0.0))
            return _best(np.array(part.ids, np.int64), scores, k, allowed)

    def count(self, scope: str | None = None) -> int:
        """Rows in a scope, or in all."""
        with self._open():
            if scope is None:
                return sum(len(part.place) for part in self._parts.values())
            part = self._parts.get(check.inside(scope))
            return len(part.place) if part else 0

    def close(self) -> None:
        """Free the rows; every later call raises `StoreError`."""
        with self._lock:
            self._closed = True
            self._parts = {}

    def _open(self) -> threading.RLock:
        if self._closed:
            raise StoreError("the word index is closed", code="store_closed")
        return self._lock

    def _pack(self, scope: str) -> None:
        part = self._parts.get(scope)
        if part and not part.place:
            del self._parts[scope]
        elif part and len(part.place) < DEAD * len(part.ids):
            self._parts[scope] = part.packed()


def _best(ids: Ids, scores: NDArray[np.float64], k: int, allowed: Ids | None) -> tuple[Ids, Scores]:
    """The k best of the rows that are alive, allowed and above zero; equal ones by id."""
    fit = (scores > 0) & (ids > 0)
    if allowed is not None:
        fit &= np.isin(ids, allowed)
    ids, scores = ids[fit], scores[fit]
    if k < len(ids):
        best = scores >= np.partition(scores, len(ids) - k)[len(ids) - k]
        ids, scores = ids[best], scores[best]
    order = np.lexsort((ids, -scores))[:k]
    return ids[order], scores[order].astype(np.float32)
