"""Exact search on a GPU. Everything here runs on one thread, the owner; ids and scores are those of a search on the CPU."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from memctx.stores._faiss_rows import View
from memctx.stores._faiss_search import Answer, decide, fetch, few, masked, scan
from memctx.stores._vectors import Ids, Vectors, blank

LEAST = 5_000  # rows; fewer are faster where they are
MOST_FETCHED = 2_048  # rows that FAISS selects on a GPU at most
CHUNK = 1 << 18  # rows copied at a time


def present(faiss: Any) -> bool:
    """Whether this FAISS can use a GPU and there is one; each of the wheels fails this in its own way."""
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


@dataclass(frozen=True, slots=True)
class _Copy:
    """The live rows of a view on the GPU. Row i there is at `places[i]` here; `upto`: places looked at."""

    epoch: int
    index: Any
    places: Ids
    upto: int


class Gpu:
    """Copies of large scopes on device 0, made when first searched and extended as rows come."""

    def __init__(self, faiss: Any, dim: int, *, float16: bool) -> None:
        self._faiss, self._dim = faiss, dim
        self._float16 = float16
        self._resources: Any = None  # made by the owner
        self._copies: dict[str, _Copy] = {}

    def search(self, scope: str, view: View, queries: Vectors, k: int, only: Ids | None) -> Answer:
        """As `_faiss_search.search`. Raises RuntimeError when the device fails."""
        chosen = None if only is None else view.places(only)
        if not len(queries) or few(chosen, len(view.ids)):
            return scan(self._faiss, view, queries, k, chosen) if len(queries) else blank(0, k)
        copy = self._current(scope, view)
        mask = masked(view, chosen)
        there = int(np.count_nonzero(view.live if mask is None else mask))
        most = min(fetch(k), len(copy.places))
        while 0 < most <= MOST_FETCHED:
            found = copy.index.search(queries, most)[1]
            candidates = np.where(found < 0, -1, copy.places[found])
            answer = decide(view, queries, k, candidates, mask)
            if ((answer[0] >= 0).sum(axis=1) >= min(k, there)).all():
                return answer
            most = len(copy.places) if most < len(copy.places) < 4 * most else 4 * most
        return scan(self._faiss, view, queries, k, chosen)

    def forget(self, known: Container[str]) -> None:
        """Free the copies of scopes that are gone."""
        for scope in [scope for scope in self._copies if scope not in known]:
            del self._copies[scope]

    def _current(self, scope: str, view: View) -> _Copy:
        """The copy with every row of the view. Rows struck out since stay in it and are left out of answers."""
        copy = self._copies.get(scope)
        stale = copy is None or copy.epoch != view.epoch or np.count_nonzero(view.live) < len(copy.places) // 2
        if copy is None or stale:
            copy = _Copy(view.epoch, self._empty(), np.empty(0, np.int64), 0)
        if copy.upto < len(view.ids):
            new = copy.upto + np.flatnonzero(view.live[copy.upto :])
            for start in range(0, len(new), CHUNK):
                copy.index.add(view.vectors[new[start : start + CHUNK]])
            copy = replace(copy, places=np.concatenate([copy.places, new]), upto=len(view.ids))
        self._copies[scope] = copy
        return copy

    def _empty(self) -> Any:
        """A flat index on the device."""
        if self._resources is None:
            self._resources = self._faiss.StandardGpuResources()
        options = self._faiss.GpuClonerOptions()
        options.useFloat16 = self._float16
        return self._faiss.index_cpu_to_gpu(self._resources, 0, self._faiss.IndexFlatIP(self._dim), options)
