"""What the suite of vector indices is made of: rows, a comparison, a crowd of callers, and a machine for any sequence of calls."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from memctx.scope import scope
from memctx.stores import Batch, VectorIndex
from memctx.stores.exact import ExactIndex

DIM = 8
NEIGHBOURS = [  # scopes that a careless filter takes for one another
    scope(*parts)
    for parts in (("acme",), ("acme", "ana"), ("acme", "Ana"), ("acme", "an"), ("acme", "ana", "1"), ("acme_", "ana"))
] + [scope(*parts) for parts in (("acm%", "ana"), ("acme/ana",), ("acme.ana",), ("acme", "*"), ("аcme", "ana"))]
ANA = NEIGHBOURS[1]

Make = Callable[[int], VectorIndex]


def unit(count: int, dim: int = DIM, seed: int = 0) -> Any:
    """Random rows of length one, float32."""
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def batch(name: str, ids: Any, seed: int = 0, dim: int = DIM) -> Batch:
    """Random rows under these ids."""
    numbers = np.asarray(list(ids), np.int64)
    return Batch(name, numbers, unit(len(numbers), dim, seed))


def agree(got: tuple[Any, Any], exact: tuple[Any, Any], least: float = 1.0) -> None:
    """The same rows by score: equal ones may be in another order. `least`: recall that is enough."""
    assert got[0].shape == exact[0].shape
    assert ((got[0] < 0) == (exact[0] < 0)).all(), "as many rows as there are"
    assert (np.isneginf(got[1]) == (got[0] < 0)).all()
    finite = np.where(np.isfinite(got[1]), got[1], -9)
    assert (np.diff(finite, axis=1) <= 1e-6).all(), "best first"
    for ids in got[0]:
        assert len(set(ids[ids > 0].tolist())) == (ids > 0).sum(), "no row twice"
    reached = finite >= np.where(np.isfinite(exact[1]), exact[1], -9) - 1e-5
    assert reached.mean() >= least, f"recall {reached.mean():.3f}"


class Crowd:
    """Writers that come and go in a scope, and readers that must always find the rows that stay."""

    def __init__(self, index: VectorIndex, turns: int) -> None:
        self.index, self.turns, self.kept = index, turns, batch(ANA, range(1, 101))
        self.stop, self.wrong = threading.Event(), list[Any]()
        index.add(self.kept)

    def write(self, seed: int) -> None:
        ids = range(1000 * seed, 1000 * seed + 20)
        for turn in range(self.turns):
            self.index.add(batch(ANA, ids, seed=seed))
            self.index.add(batch(ANA, ids, seed=seed + 9))
            self.index.add(batch(f"t{seed}/", ids, seed=turn))
            self.index.remove(ANA, list(ids))
            self.index.drop(f"t{seed}/")

    def read(self, place: int) -> None:
        while not self.stop.is_set():
            self._look(self.index.search(self.kept.vectors[place : place + 1], 9, ANA), place)

    async def ask(self, place: int) -> None:
        while not self.stop.is_set():
            self._look(await self.index.asearch(self.kept.vectors[place : place + 1], 9, ANA), place)

    def _look(self, answer: tuple[Any, Any], place: int) -> None:
        ids, scores = answer
        if ids[0, 0] != place + 1 or abs(scores[0, 0] - 1) > 1e-5 or len(set(ids[0].tolist()) - {-1}) != 9:
            self.wrong.append((place, answer))


class Machine(RuleBasedStateMachine):
    """An index beside exact search and a dictionary, through the same calls in any order."""

    def __init__(self, index: VectorIndex, least: float) -> None:
        super().__init__()
        self.index, self.exact, self.least = index, ExactIndex(DIM), least
        self.model: dict[str, set[int]] = {}

    @initialize()
    def empty(self) -> None:
        self.index.rebuild([])

    @rule(
        name=st.sampled_from(NEIGHBOURS[:6]),
        first=st.integers(1, 80),
        count=st.integers(0, 60),
        seed=st.integers(0, 99),
    )
    def add(self, name: str, first: int, count: int, seed: int) -> None:
        rows = batch(name, np.random.default_rng(seed).permutation(count) + first, seed)
        self.index.add(rows)
        self.exact.add(rows)
        self.model.setdefault(name, set()).update(rows.ids.tolist())

    @rule(name=st.sampled_from(NEIGHBOURS[:6]), ids=st.lists(st.integers(1, 150), max_size=60))
    def remove(self, name: str, ids: list[int]) -> None:
        there = self.model.get(name, set())
        assert self.index.remove(name, ids) == self.exact.remove(name, ids) == len(there & set(ids))
        there -= set(ids)

    @rule(name=st.sampled_from(NEIGHBOURS[:6]))
    def drop(self, name: str) -> None:
        gone = [each for each in self.model if each.startswith(name)]
        count = sum(len(self.model.pop(each)) for each in gone)
        assert self.index.drop(name) == self.exact.drop(name) == count

    @rule(
        name=st.sampled_from(NEIGHBOURS[:6]), k=st.integers(1, 200), count=st.sampled_from([1, 3, 25]),
        only=st.none() | st.sets(st.integers(1, 150)), seed=st.integers(0, 99),
    )  # fmt: skip
    def search(self, name: str, k: int, count: int, only: set[int] | None, seed: int) -> None:
        queries, ids = unit(count, seed=seed), None if only is None else np.asarray(sorted(only), np.int64)
        got = self.index.search(queries, k, name, only=ids)
        agree(got, self.exact.search(queries, k, name, only=ids), self.least)
        mine = self.model.get(name, set()) if only is None else self.model.get(name, set()) & only
        assert set(got[0][got[0] > 0].tolist()) <= mine

    @rule()
    def save(self) -> None:
        self.index.save()

    @invariant()
    def counts(self) -> None:
        assert self.index.count() == sum(map(len, self.model.values()))

    def teardown(self) -> None:
        rows = [Batch(name, *self.exact._held(name)) for name in self.model if self.model[name]]
        assert self.index.verify(rows) == []
        assert {name: self.index.count(name) for name in self.model} == {
            name: len(ids) for name, ids in self.model.items()
        }
        self.index.close()
