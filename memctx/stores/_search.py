"""A search in memory: candidates by meaning and by words, checked against the rows, ranked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from memctx.records import Hit, Record
from memctx.stores import _visible as rows
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
            found = zip(ids.tolist(), scores.tolist(), strict=True)
            return [Hit(seen.records[i], score, {by: score}) for i, score in found]
        ranked = memory.ranker.rank(
            query, k, dense=dense, words=worded, rows=seen.rows, neighbours=seen.neighbours, now=seen.now
        )
        return [Hit(seen.records[each.id], each.score, each.parts) for each in ranked]

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
        self.records: dict[int, Record] = {}
        self._known: set[int] = set()
        self._allowed: Ids | None = np.array(sorted(set(within)), np.int64) if within else None

    def only(self, n: int, find: Callable[[int, Ids | None], Found]) -> Found:
        """The n best that may be seen. Where too few of the first ones may, the search is made inside those that may."""
        asked = int(n * SLACK) + 8
        ids, scores = _cut(*find(asked, self._allowed))
        kept = np.isin(ids, list(self._look(ids.tolist())))
        if kept.sum() < n and len(ids) >= asked and self._allowed is None:
            self._allowed = np.array(rows.ids_of(self.conn, self.place, self.wanted, self.now), np.int64)
            return self.only(n, find)
        return ids[kept][:n], scores[kept][:n]

    def _look(self, ids: Sequence[int]) -> dict[int, Record]:
        new = [each for each in ids if each not in self._known]
        self._known.update(new)
        self.records |= rows.fetch(self.conn, self.place, self.wanted, self.now, new)
        return {each: self.records[each] for each in ids if each in self.records}

    def rows(self, ids: Sequence[int]) -> Mapping[int, Row]:
        """What a ranker may know of them."""
        return {each: _row(found) for each, found in self._look([int(i) for i in ids]).items()}

    def neighbours(self, ids: Sequence[int]) -> Mapping[int, Sequence[int]]:
        """The records written directly before and after each in its thread, those that may be seen."""
        near = rows.neighbours(self.conn, self.place, [int(i) for i in ids])
        found = self._look([each for some in near.values() for each in some])
        return {each: [other for other in some if other in found] for each, some in near.items()}


def _row(found: Record) -> Row:
    return Row(
        id=found.id,
        text=found.text,
        kind=found.kind,
        thread=found.thread,
        created=found.created,
        valid_from=found.valid_from,
        trust=found.trust,
        uses=found.uses,
        helped=found.helped,
        outcomes=found.outcomes,
    )


def _first(found: tuple[Any, Any]) -> Found:
    return found[0][0], found[1][0]


def _cut(ids: Ids, scores: Scores) -> Found:
    """Without the places that nothing filled."""
    there = ids >= 0
    return ids[there], scores[there]
