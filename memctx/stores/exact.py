"""Exact search in memory with numpy: the reference for every other index, and all that a small memory needs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence

import numpy as np

from memctx.errors import StoreError
from memctx.stores import Batch
from memctx.stores import _vectors as check
from memctx.stores._together import Together
from memctx.stores._vectors import Ids, Scores, Vectors


class _Part:
    """The rows of one scope in arrays that grow; `place` says where an id is. A removed row is filled by the last."""

    def __init__(self, dim: int) -> None:
        self.place: dict[int, int] = {}
        self.ids = np.empty(0, np.int64)
        self.vectors = np.empty((0, dim), np.float32)

    def put(self, ids: Ids, vectors: Vectors) -> None:
        new = [row for row in ids.tolist() if row not in self.place]
        self._reserve(len(self.place) + len(new))
        for row in new:
            self.place[row] = len(self.place)
        at = [self.place[row] for row in ids.tolist()]
        self.ids[at], self.vectors[at] = ids, vectors

    def take(self, row: int) -> bool:
        at = self.place.pop(row, None)
        if at is None:
            return False
        last = len(self.place)
        if at != last:
            self.ids[at], self.vectors[at] = self.ids[last], self.vectors[last]
            self.place[int(self.ids[at])] = at
        return True

    def live(self) -> tuple[Ids, Vectors]:
        return self.ids[: len(self.place)], self.vectors[: len(self.place)]

    def _reserve(self, count: int) -> None:
        if count <= len(self.ids):
            return
        size = count if not len(self.ids) else max(count, len(self.ids) * 3 // 2)
        ids, vectors = np.empty(size, np.int64), np.empty((size, self.vectors.shape[1]), np.float32)
        ids[: len(self.ids)], vectors[: len(self.ids)] = self.ids, self.vectors
        self.ids, self.vectors = ids, vectors


class ExactIndex:
    """Every row of the scope is compared. Equal scores come in the order of their ids. Nothing is written to disk."""

    def __init__(self, dim: int) -> None:
        self._dim = check.width(dim)
        self.applied = 0
        self._parts: dict[str, _Part] = {}
        self._lock = threading.RLock()
        self._together = Together(self._search, "memctx-exact-index")
        self._closed = False

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._dim

    def add(self, batch: Batch) -> None:
        """Add or replace rows. Raises `EmbeddingError`; then nothing was added."""
        ready = check.checked(batch, self._dim)
        with self._open():
            if len(ready.ids):
                self._parts.setdefault(ready.scope, _Part(self._dim)).put(ready.ids, ready.vectors)

    def remove(self, scope: str, ids: Sequence[int]) -> int:
        """Remove rows; returns how many were there."""
        gone = check.row_ids(ids, unique=False).tolist()
        with self._open():
            part = self._parts.get(check.inside(scope))
            count = sum(part.take(row) for row in gone) if part else 0
            if part and not part.place:
                del self._parts[scope]
            return count

    def drop(self, scope: str) -> int:
        """Remove a scope and all below it; returns how many rows went."""
        check.inside(scope)
        with self._open():
            return sum(len(self._parts.pop(name).place) for name in list(self._parts) if name.startswith(scope))

    def search(self, queries: Vectors, k: int, scope: str, only: Ids | None = None) -> tuple[Ids, Scores]:
        """The k nearest rows for queries (m, dim): ids and inner products, (m, k), best first, -1 and -inf for none."""
        ready = check.rows(queries, self._dim, "queries")
        return self._search(check.inside(scope), ready, check.limit(k), check.allowed(only))

    async def asearch(self, queries: Vectors, k: int, scope: str, only: Ids | None = None) -> tuple[Ids, Scores]:
        """As `search`, off the loop; requests that wait together are answered by one call."""
        ready = check.rows(queries, self._dim, "queries")
        ask = self._together.ask(check.inside(scope), ready, check.limit(k), check.allowed(only))
        return await asyncio.wrap_future(ask)

    def count(self, scope: str | None = None) -> int:
        """Rows in a scope, or in all."""
        with self._open():
            if scope is None:
                return sum(len(part.place) for part in self._parts.values())
            part = self._parts.get(check.inside(scope))
            return len(part.place) if part else 0

    def rebuild(self, batches: Iterable[Batch]) -> None:
        """Replace everything by these rows; on an error nothing changed."""
        parts: dict[str, _Part] = {}
        for batch in (check.checked(given, self._dim) for given in batches):
            parts.setdefault(batch.scope, _Part(self._dim)).put(batch.ids, batch.vectors)
        with self._open():
            self._parts = {scope: part for scope, part in parts.items() if part.place}

    def verify(self, batches: Iterable[Batch]) -> list[str]:
        """How the index differs from these rows."""
        with self._open():
            return check.differences(batches, self._dim, list(self._parts), self._held)

    def save(self) -> None:
        """Nothing: it lives in memory."""

    def close(self) -> None:
        """Free the rows; every later call raises `StoreError`."""
        self._together.close()
        with self._lock:
            self._closed = True
            self._parts = {}

    def _open(self) -> threading.RLock:
        if self._closed:
            raise StoreError("the index is closed", code="store_closed")
        return self._lock

    def _held(self, scope: str) -> tuple[Ids, Vectors]:
        return self._parts.get(scope, _Part(self._dim)).live()

    def _search(self, scope: str, queries: Vectors, k: int, only: Ids | None) -> tuple[Ids, Scores]:
        answer = check.blank(len(queries), k)
        with self._open():
            ids, vectors = self._held(scope)
            if only is not None:
                mask = np.isin(ids, only)
                ids, vectors = ids[mask], vectors[mask]
            if len(ids) and len(queries):
                for at, scores in enumerate(queries @ vectors.T):
                    best = _best(ids, scores, k)
                    answer[0][at, : len(best)], answer[1][at, : len(best)] = ids[best], scores[best]
        return answer


def _best(ids: Ids, scores: Scores, k: int) -> Ids:
    """Places of the k largest scores, best first, equal ones by id."""
    kept = np.arange(len(ids))
    if k < len(ids):
        kept = np.flatnonzero(scores >= np.partition(scores, len(ids) - k)[len(ids) - k])
    return kept[np.lexsort((ids[kept], -scores[kept]))][:k].astype(np.int64)
