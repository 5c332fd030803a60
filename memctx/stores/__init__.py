"""Stores: SQL is the only truth; an index is a cache that can always be rebuilt from it.

This file says what an index is; every other file here is a store or an index; a leading `_` marks a helper. `sql.py` is the
store, `_tables.py` its schema. Vectors are float32, rows of length one, so the inner product is the cosine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ids = NDArray[np.int64]
    Vectors = NDArray[np.float32]
    Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one scope: `ids` (n,), positive and unique, and `vectors` (n, dim)."""

    scope: str
    ids: Ids
    vectors: Vectors


class VectorIndex(Protocol):
    """Nearest vectors inside a scope. Safe to share between threads and event loops."""

    @property
    def applied(self) -> int:
        """The last change of the store, a line of its outbox, that the index holds; 0: it has to be filled.

        Whoever feeds the index sets it, and `save` writes it with the vectors, so only later changes are fed after a restart.
        """
        ...

    @applied.setter
    def applied(self, line: int) -> None: ...

    @property
    def dim(self) -> int: ...

    def add(self, batch: Batch) -> None:
        """Add rows; an id that is there is replaced. Raises `EmbeddingError`, and then nothing was added."""
        ...

    def remove(self, scope: str, ids: Sequence[int]) -> int:
        """Remove rows; returns how many were there. The others need no rebuild."""
        ...

    def drop(self, scope: str) -> int:
        """Remove a scope and every scope below it; returns how many rows went."""
        ...

    def search(self, queries: Vectors, k: int, scope: str, only: Ids | None = None) -> tuple[Ids, Scores]:
        """The k nearest rows of `scope` for queries (m, dim): ids and inner products, both (m, k), best first.

        `only`: ids that may be returned. Fewer than k rows: the rest is id -1, score -inf. The scope, and `only`, are applied
        inside the search, so k rows come back where k exist.
        """
        ...

    async def asearch(self, queries: Vectors, k: int, scope: str, only: Ids | None = None) -> tuple[Ids, Scores]:
        """As `search`; requests that wait together are answered by one call."""
        ...

    def count(self, scope: str | None = None) -> int:
        """Rows in a scope, or in all."""
        ...

    def rebuild(self, batches: Iterable[Batch]) -> None:
        """Replace everything by these rows."""
        ...

    def verify(self, batches: Iterable[Batch]) -> list[str]:
        """How the index differs from these rows, as sentences; empty if it does not."""
        ...

    def save(self) -> None:
        """Write the index where it lives, whole or not at all. Nothing to do for one that lives in memory or in SQL."""
        ...

    def close(self) -> None: ...
