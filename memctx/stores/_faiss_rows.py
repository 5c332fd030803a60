"""The rows of one scope, so that readers need no lock: rows are only appended, and a removed one is struck out in place.

A reader takes `view`, searches, and asks `version` whether a row was struck out meanwhile. A writer holds the index's lock.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from memctx.stores._vectors import Flags, Ids, Vectors

if TYPE_CHECKING:
    from memctx.stores._faiss_fast import Fast

_EPOCHS = itertools.count(1)
SPARE = 16  # removed rows that are always tolerated before the others close ranks


@dataclass(frozen=True, slots=True)
class View:
    """n places: `ids` (n,), `vectors` (n, dim), `live` (n,). A removed row is NaN, which no comparison prefers."""

    ids: Ids
    vectors: Vectors
    live: Flags
    ascending: bool  # ids only grow, so a place is found by bisection
    fast: Fast | None = None
    epoch: int = 0  # another number: the rows have other places

    def places(self, ids: Ids) -> Ids:
        """Places of those of the sorted `ids` that are there, in order of place."""
        if self.ascending:
            at = np.searchsorted(self.ids, ids)
            at = at[: np.searchsorted(at, len(self.ids))]
            at = at[self.ids[at] == ids[: len(at)]]
        else:
            at = np.flatnonzero(np.isin(self.ids, ids))
        return at[self.live[at]]


@dataclass(slots=True)
class Part:
    """A scope's rows and what a writer must know about them."""

    view: View
    dead: int = 0
    version: int = 0  # odd while rows are being struck out
    dirty: bool = True  # since the last save
    tried: int = 0  # rows when a faster search was last built, or given up
    why: str = ""
    _room: tuple[Ids, Vectors, Flags] = field(default=(np.empty(0, np.int64),) * 3, repr=False)  # type: ignore[assignment]

    @property
    def rows(self) -> int:
        """Rows that are there."""
        return len(self.view.ids) - self.dead

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Append rows, striking out those with the same id."""
        order = np.argsort(ids, kind="stable")
        ids, old = ids[order], self.view
        above = not len(old.ids) or bool(ids[0] > old.ids[-1])
        replaced = np.empty(0, np.int64) if old.ascending and above else old.places(ids)
        start, end = len(old.ids), len(old.ids) + len(ids)
        self._reserve(end)
        room = self._room
        room[0][start:end], room[1][start:end], room[2][start:end] = ids, vectors[order], True
        ascending = old.ascending and above
        new = replace(old, ids=room[0][:end], vectors=room[1][:end], live=room[2][:end], ascending=ascending)
        self._publish(new, replaced)
        self.dirty = True

    def remove(self, ids: Ids) -> int:
        """Strike rows out; returns how many were there."""
        gone = self.view.places(ids)
        if len(gone):
            self._publish(self.view, gone)
            self.dirty = True
        return len(gone)

    def crowded(self) -> bool:
        """Whether the struck out rows are worth a copy of the others."""
        return self.dead > SPARE + len(self.view.ids) // 4

    def compact(self) -> None:
        """Copy the rows that are there, sorted by id, into arrays of their size. What was built for speed is gone."""
        old = self.view
        order = np.argsort(old.ids[old.live], kind="stable")
        ids, vectors = old.ids[old.live][order], old.vectors[old.live][order]
        self._room = ids, vectors, np.ones(len(ids), np.bool_)
        self.view = View(*self._room, ascending=True, epoch=next(_EPOCHS))
        self.dead, self.tried, self.why = 0, 0, ""

    def speed(self, fast: Fast | None, why: str, rows: int) -> None:
        """Search with `fast`, which was built for so many rows, from now on."""
        self.view = replace(self.view, fast=fast)
        self.why, self.tried, self.dirty = why, rows, True

    def _publish(self, view: View, gone: Ids) -> None:
        if not len(gone):
            self.view = view
            return
        self.version += 1
        self.view = view
        view.live[gone] = False
        view.vectors[gone] = np.nan
        self.dead += len(gone)
        self.version += 1

    def _reserve(self, count: int) -> None:
        size = len(self._room[0])
        if count <= size:
            return
        size = count if not size else max(count, size * 3 // 2)
        old = self.view
        ids, vectors = np.empty(size, np.int64), np.empty((size, old.vectors.shape[1]), np.float32)
        live, used = np.zeros(size, np.bool_), len(old.ids)
        ids[:used], vectors[:used], live[:used] = old.ids, old.vectors, old.live
        self._room = ids, vectors, live


def part(dim: int) -> Part:
    """A scope without rows."""
    room = np.empty(0, np.int64), np.empty((0, dim), np.float32), np.empty(0, np.bool_)
    return Part(View(*room, ascending=True, epoch=next(_EPOCHS)), _room=room)


def loaded(ids: Ids, vectors: Vectors, live: Flags, *, ascending: bool, fast: Fast | None) -> Part:
    """A scope as it was saved; the arrays become its own."""
    view = View(ids, vectors, live, ascending=ascending, fast=fast, epoch=next(_EPOCHS))
    dead = len(ids) - int(np.count_nonzero(live))
    return Part(view, dead=dead, dirty=False, _room=(ids, vectors, live))
