"""What makes a large scope fast: an inverted file or a graph over 8-bit codes. It proposes rows; exact scores decide.

How far it searches is measured when it is built: the least effort whose recall@10 against exact search is `RECALL`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memctx.stores._faiss_builder import Stopped
from memctx.stores._vectors import Flags, Vectors

RECALL = 0.995
FLAT_MOST = 100_000  # rows; exact search of as many, 384 wide, takes 6 ms on one core
HNSW_MOST = 1_000_000  # rows; a graph answers fastest, and beyond this it takes too long to build
SMALL = 1_000  # below this many rows nothing is faster than exact search
TRAIN_EACH = 64  # rows a list is trained on at most
STEP = 4_096  # rows added at a time
PROBES = 128  # rows that the effort is measured with
SEED = 7


@dataclass(frozen=True, slots=True)
class Fast:
    """An index over the first `rows` places of a view. It is replaced, never changed, so readers need no lock."""

    kind: str  # ivf, hnsw
    index: Any
    rows: int
    effort: int  # lists looked into, or candidates kept
    recall: float
    trained: int  # rows when it was built anew

    def params(self, faiss: Any, mask: Flags | None, fetch: int) -> Any:
        """Search parameters; `mask` (rows,) says what may be returned."""
        chosen = {} if mask is None else {"sel": faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))}
        if self.kind == "ivf":
            return faiss.SearchParametersIVF(nprobe=self.effort, **chosen)
        width = self.effort if mask is None else self.effort * min(8, len(mask) // max(1, int(mask.sum())) + 1)
        return faiss.SearchParametersHNSW(efSearch=max(width, fetch), **chosen)


def wanted(kind: str, rows: int) -> str:
    """flat, ivf or hnsw for a scope of so many rows."""
    if kind == "auto":
        return "flat" if rows <= FLAT_MOST else "hnsw" if rows <= HNSW_MOST else "ivf"
    return kind if rows >= SMALL else "flat"


def reason(kind: str, rows: int) -> str:
    """Why a scope is searched exactly."""
    if kind == "flat":
        return "exact search was asked for"
    most = FLAT_MOST if kind == "auto" else SMALL - 1
    return f"{rows:,} rows; up to {most:,} are searched exactly"


def due(fast: Fast | None, tried: int, rows: int) -> bool:
    """Whether so many rows in a scope that wants it are worth building or extending now."""
    if fast is None:
        return rows >= 2 * tried
    return rows - fast.rows > max(SMALL, fast.rows // 10)


def build(
    faiss: Any, kind: str, vectors: Vectors, *, forced: bool, stopped: Callable[[], bool]
) -> tuple[Fast | None, str]:
    """An index over all rows, and why it is this one; none if it cannot reach the recall and was not asked for.

    Rows may be struck out meanwhile. Raises `Stopped` soon after `stopped()`.
    """
    rows, dim = vectors.shape
    lists = max(1, min(int(4 * math.sqrt(rows)), rows // 39))
    index = faiss.index_factory(dim, f"IVF{lists},SQ8" if kind == "ivf" else "HNSW32,SQ8", faiss.METRIC_INNER_PRODUCT)
    if kind == "ivf":
        index.cp.max_points_per_centroid = TRAIN_EACH
        index.cp.min_points_per_centroid = 1
    index.train(_sample(vectors, lists * TRAIN_EACH))
    _add(index, kind, vectors, 0, stopped)
    fast = _measured(faiss, Fast(kind, index, rows, 0, 0.0, rows), vectors, _efforts(kind, lists, forced=forced))
    found = f"recall@10 {fast.recall:.3f} against exact search with {_words(fast, lists)}"
    if fast.recall < RECALL and not forced:
        return None, f"{rows:,} rows; {kind} only reached {found}, so all are compared"
    return fast, f"{rows:,} rows; {kind} over 8-bit codes, candidates scored exactly: {found}"


def extended(faiss: Any, fast: Fast, vectors: Vectors, *, stopped: Callable[[], bool]) -> Fast:
    """The same index over more rows. Readers keep the old one until the new one is whole."""
    index = faiss.clone_index(fast.index)
    _add(index, fast.kind, vectors, fast.rows, stopped)
    return replace(fast, index=index, rows=len(vectors))


def forgotten(faiss: Any, fast: Fast, live: Flags) -> Fast:
    """Without the codes of removed rows where the index can do that; a graph needs them to find its way."""
    gone = np.flatnonzero(~live[: fast.rows])
    if fast.kind != "ivf" or not len(gone):
        return fast
    index = faiss.clone_index(fast.index)
    index.remove_ids(faiss.IDSelectorBatch(gone))
    return replace(fast, index=index)


def _add(index: Any, kind: str, vectors: Vectors, start: int, stopped: Callable[[], bool]) -> None:
    """Add the rows from `start` on under their places. An inverted file may have forgotten some, so it is told them."""
    for first in range(start, len(vectors), STEP):
        if stopped():
            raise Stopped
        some = _whole(vectors[first : first + STEP])
        if kind == "ivf":
            index.add_with_ids(some, np.arange(first, first + len(some)))
        else:
            index.add(some)


def _whole(rows: Vectors) -> Vectors:
    """A copy, with zeros for rows that were struck out."""
    return np.nan_to_num(rows, nan=0.0)


def _sample(vectors: Vectors, most: int) -> Vectors:
    if len(vectors) <= most:
        return _whole(vectors)
    return _whole(vectors[np.sort(np.random.default_rng(SEED).choice(len(vectors), most, replace=False))])


def _efforts(kind: str, lists: int, *, forced: bool) -> Iterator[int]:
    """1, 2, 4, … lists or 64, 128, … candidates; a quarter of the lists at most, unless there is no choice."""
    effort, most = (1, lists if forced else max(1, lists // 4)) if kind == "ivf" else (64, 1024)
    while effort < most:
        yield effort
        effort *= 2
    yield most


def _measured(faiss: Any, fast: Fast, vectors: Vectors, efforts: Iterator[int]) -> Fast:
    """With the least effort that reaches the recall, or the last one. Queries lie between rows: a row finds itself too easily."""
    k = min(10, len(vectors))
    rows = _sample(vectors, PROBES)
    queries = rows + np.roll(rows, 1, axis=0) / 2
    truth = faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)[1]
    for effort in efforts:
        fast = replace(fast, effort=effort)
        got = fast.index.search(queries, 2 * k + 32, params=fast.params(faiss, None, 2 * k + 32))[1]
        hits = sum(len(np.intersect1d(true, found)) for true, found in zip(truth, got, strict=True))
        fast = replace(fast, recall=hits / truth.size)
        if fast.recall >= RECALL:
            break
    return fast


def _words(fast: Fast, lists: int) -> str:
    return f"{fast.effort} of {lists} lists" if fast.kind == "ivf" else f"{fast.effort} candidates"
