"""What was asked before: queries that tools answered, looked up by likeness (nearest neighbours, Cover & Hart 1967)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from memctx._tool_rank_words import QUERY, Floats, clauses, kinds

if TYPE_CHECKING:
    from memctx.embed import Embedder

NEAREST = 10  # examples that vote on a query, and on each of its clauses
SHARP = 15.0  # how much more the nearer ones count


class Used:
    """The example queries of one moment. Never changed."""

    def __init__(self, examples: Mapping[str, Iterable[str]], places: Mapping[str, int], embedder: Embedder) -> None:
        """`examples`: tool id -> queries. `places`: tool id -> its place in the catalogue."""
        pairs = [(kinds(query[:QUERY]), places[tool]) for tool, queries in examples.items() for query in queries]
        self._embedder = embedder
        self._count = len(places)
        self._of = np.array([place for _, place in pairs], np.int64)
        self._vectors = embedder.embed([query for query, _ in pairs])

    def votes(self, query: str) -> Floats:
        """For each tool 0 to 1: its share of the nearest examples, times how near they are; the best view counts."""
        asked = kinds(query[:QUERY])
        likeness = self._embedder.embed(_views(asked)) @ self._vectors.T
        best: Floats = np.stack([self._vote(near) for near in likeness]).max(axis=0)
        return best

    def _vote(self, near: Floats) -> Floats:
        best = np.argsort(-near, kind="stable")[:NEAREST]
        weights = np.exp(SHARP * (near[best] - near[best[0]]))
        shares = np.maximum(near[best], 0) * weights / weights.sum()
        votes: Floats = np.bincount(self._of[best], shares, minlength=self._count).astype(np.float32)
        return votes


def _views(query: str) -> Sequence[str]:
    return [query, *clauses(query)]
