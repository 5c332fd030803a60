"""One search in one view: exact, or over what was built for speed; what may not be returned is excluded inside it."""

from __future__ import annotations

from typing import Any

import numpy as np

from memctx.stores._faiss_fast import Fast
from memctx.stores._faiss_rows import View
from memctx.stores._vectors import Flags, Ids, Scores, Vectors, blank

Answer = tuple[Ids, Scores]
BLAS_QUERIES = 20  # from so many queries on, FAISS multiplies matrices, and copying the chosen rows pays
SCRATCH = 1 << 24  # floats gathered at a time for exact scores


def search(faiss: Any, view: View, queries: Vectors, k: int, only: Ids | None) -> Answer:
    """The k best live rows: ids and exact scores, (m, k), best first, -1 and -inf for none."""
    if not len(view.ids) or not len(queries):
        return blank(len(queries), k)
    chosen = None if only is None else view.places(only)
    if view.fast is None or few(chosen, view.fast.rows) or 8 * fetch(k) > view.fast.rows:
        return scan(faiss, view, queries, k, chosen)
    mask = masked(view, chosen)
    candidates = propose(faiss, view, view.fast, queries, k, mask)
    answer = decide(view, queries, k, candidates, mask)
    return complete(faiss, view, queries, k, chosen, answer)


def fetch(k: int) -> int:
    """Candidates for k rows: enough that rounding of the codes loses none."""
    return 2 * k + 32


def few(chosen: Ids | None, rows: int) -> bool:
    """Whether so few rows may be returned that comparing each is best."""
    return chosen is not None and 8 * len(chosen) <= rows


def masked(view: View, chosen: Ids | None) -> Flags | None:
    """(n,) what may be returned; None for everything."""
    if chosen is None:
        return None if view.live.all() else view.live.copy()
    mask = np.zeros(len(view.ids), np.bool_)
    mask[chosen] = True
    return mask


def scan(faiss: Any, view: View, queries: Vectors, k: int, chosen: Ids | None) -> Answer:
    """Compare every row that may be returned."""
    if chosen is None:
        return _named(view, None, k, *_knn(faiss, queries, view.vectors, k))
    if not len(chosen):
        return blank(len(queries), k)
    if len(queries) >= BLAS_QUERIES or few(chosen, len(view.ids)):
        return _named(view, chosen, k, *_knn(faiss, queries, view.vectors[chosen], k))
    most = min(k, len(chosen))
    scores, places = np.empty((len(queries), most), np.float32), np.empty((len(queries), most), np.int64)
    allowed = np.zeros(len(view.ids), np.bool_)
    allowed[chosen] = True
    selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    given, out = (queries, view.vectors), (scores, places)
    pointers = [faiss.swig_ptr(array) for array in (*given, *out)]
    shape = queries.shape[1], len(queries), len(view.ids), most
    faiss.knn_inner_product(*pointers[:2], *shape, *pointers[2:], selector)
    return _named(view, None, k, scores, places)


def propose(faiss: Any, view: View, fast: Fast, queries: Vectors, k: int, mask: Flags | None) -> Ids:
    """Places that may be among the best, -1 for none: from the index, and from the rows added since it was built."""
    most = fetch(k)
    params = fast.params(faiss, None if mask is None else mask[: fast.rows], most)
    found: Ids = fast.index.search(queries, most, params=params)[1]
    if fast.rows == len(view.ids):
        return found
    tail = np.arange(fast.rows, len(view.ids)) if mask is None else fast.rows + np.flatnonzero(mask[fast.rows :])
    if not len(tail):
        return found
    rows = view.vectors[fast.rows :] if mask is None else view.vectors[tail]
    late = _knn(faiss, queries, rows, k)[1]
    return np.concatenate([found, np.where(late < 0, -1, tail[late])], axis=1)


def decide(view: View, queries: Vectors, k: int, candidates: Ids, mask: Flags | None) -> Answer:
    """The best of the candidates by exact score."""
    scores = np.empty(candidates.shape, np.float32)
    step = max(1, SCRATCH // max(1, candidates.shape[1] * queries.shape[1]))
    for start in range(0, len(queries), step):
        some = slice(start, start + step)
        np.matmul(view.vectors[candidates[some]], queries[some, :, None], out=scores[some, :, None])
    ruled_out = (candidates < 0) | ~view.live[candidates]
    if mask is not None:
        ruled_out |= ~mask[candidates]
    scores[ruled_out] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, 1)
    places = np.where(np.isneginf(best), -1, np.take_along_axis(candidates, order, 1))
    return _named(view, None, k, best, places)


def complete(faiss: Any, view: View, queries: Vectors, k: int, chosen: Ids | None, answer: Answer) -> Answer:
    """The answer, with queries that got fewer rows than there are answered again by comparing every row."""
    there = int(np.count_nonzero(view.live)) if chosen is None else len(chosen)
    short = np.flatnonzero((answer[0] < 0).sum(axis=1) > max(0, k - there))
    if len(short):
        answer[0][short], answer[1][short] = scan(faiss, view, np.ascontiguousarray(queries[short]), k, chosen)
    return answer


def _knn(faiss: Any, queries: Vectors, rows: Vectors, k: int) -> tuple[Scores, Ids]:
    scores, places = faiss.knn(queries, rows, min(k, len(rows)), metric=faiss.METRIC_INNER_PRODUCT)
    return scores, places


def _named(view: View, chosen: Ids | None, k: int, scores: Scores, places: Ids) -> Answer:
    """Ids for places, blank where a row was struck out, filled up to k."""
    none = places < 0
    if chosen is not None:
        places = chosen[places]
    none |= ~view.live[places]
    ids = view.ids[places]
    if none.any():
        ids[none], scores[none] = -1, -np.inf
    if ids.shape[1] == k:
        return ids, scores
    answer = blank(len(ids), k)
    answer[0][:, : ids.shape[1]], answer[1][:, : ids.shape[1]] = ids, scores
    return answer
