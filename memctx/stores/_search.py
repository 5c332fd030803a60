"""A search in memory: candidates by meaning and by words, checked against the rows, ranked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from memctx.records import Hit
from memctx.stores import _visible as rows
from memctx.stores._feed import vectors_of
from memctx.stores._tables import record
from memctx.stores._visible import Place, Wanted
from memctx.stores.hybrid import Row

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from memctx.memory import Memory
    from memctx.stores import Ids, Scores

Found = tuple["Ids", "Scores"]
By = Literal["both", "meaning", "words"]
SLACK = 1.25  # candidates fetched for each one wanted: some are superseded or not to be seen


def search(
    memory: Memory, place: Place, wanted: Wanted, query: str, k: int, by: By, within: Sequence[int]
) -> list[Hit]:
    """The k best records that `wanted` lets through, among `within` if any are given, with the parts of their scores."""
    query = query.encode("utf-8", "replace").decode()  # a lone surrogate has no meaning to anybody
    if not query.strip():
        return []
    vector = memory.embedder.embed([query])

    def work(conn: Connection) -> list[Hit]:
        memory.feed.follow(conn, place.scope)
        seen = Seen(conn, place, wanted, memory.clock(), within)
        index, words = memory.feed.index, memory.feed.words

        def dense(n: int) -> Found:
            return seen.only(n, lambda m, ids: _first(index.search(vector, m, place.scope, ids)))

        def worded(n: int) -> Found:
            return seen.only(n, lambda m, ids: words.search(query, m, place.scope, ids))

        if by != "both":
            ids, scores = dense(k) if by == "meaning" else worded(k)
            best = [(i, score, {str(by): score}) for i, score in zip(ids.tolist(), scores.tolist(), strict=True)]
        else:
            ranked = memory.ranker.rank(
                query,
                k,
                dense=dense,
                words=worded,
                rows=seen.rows,
                neighbours=seen.neighbours,
                vector=vector[0],
                vectors=lambda ids: vectors_of(conn, memory.embedder.name, place.scope, ids),
                alike=lambda shares, ids: words.alike(shares, len(ids), place.scope, ids, but=query),
            )
            best = [(each.id, each.score, dict(each.parts)) for each in ranked]
        whole = rows.fetch(conn, place, wanted, seen.now, [each[0] for each in best])
        return [Hit(whole[i], score, parts) for i, score, parts in best]

    hits = memory.store.read(work)
    memory.save_soon()
    return hits


class Seen:
    """The candidates of one search that the rows say may be seen."""

    def __init__(self, conn: Connection, place: Place, wanted: Wanted, now: float, within: Sequence[int]) -> None:
        self.conn = conn
        self.place = place
        self.wanted = wanted
        self.now = now
        self._rows: dict[int, Row] = {}
        self._asked: set[int] = set()
        self._within = set(within)
        self._allowed: Ids | None = np.array(sorted(self._within), np.int64) if within else None
        self._exact = False  # `_allowed` are those that may be seen, and no others

    def only(self, n: int, find: Callable[[int, Ids | None], Found]) -> Found:
        """The n best that may be seen. Where too few of the first ones may, the search is made inside those that may."""
        asked = int(n * SLACK) + 8
        ids, scores = _cut(*find(asked, self._allowed))
        kept = np.isin(ids, list(self.rows(ids.tolist())))
        if kept.sum() < n and len(ids) >= asked and not self._exact:
            seen = rows.ids_of(self.conn, self.place, self.wanted, self.now)
            self._allowed = np.array([each for each in seen if not self._within or each in self._within], np.int64)
            self._exact = True
            return self.only(n, find)
        return ids[kept][:n], scores[kept][:n]

    def rows(self, ids: Sequence[int]) -> Mapping[int, Row]:
        """What a ranker may know of them."""
        new = [each for each in map(int, ids) if each not in self._asked and (not self._within or each in self._within)]
        self._asked.update(new)
        found = rows.some_of(self.conn, self.place, self.wanted, self.now, new, _COLUMNS)
        self._rows.update((row.id, _row(row)) for row in found)
        return {each: self._rows[each] for each in ids if each in self._rows}

    def neighbours(self, ids: Sequence[int]) -> Mapping[int, Sequence[int]]:
        """The records written directly before and after each in its thread, those that may be seen."""
        near = rows.neighbours(self.conn, self.place, [int(i) for i in ids])
        found = self.rows([each for some in near.values() for each in some])
        return {each: [other for other in some if other in found] for each, some in near.items()}


def _row(found: Any) -> Row:
    return Row(*found)


_COLUMNS = [record.c[field.name] for field in fields(Row)]


def _first(found: tuple[Any, Any]) -> Found:
    return found[0][0], found[1][0]


def _cut(ids: Ids, scores: Scores) -> Found:
    """Without the places that nothing filled."""
    there = ids >= 0
    return ids[there], scores[there]
