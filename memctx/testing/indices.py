"""What every vector index keeps to. Give the fixture `make` a function that opens an empty one, and subclass `IndexTests`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from memctx.errors import EmbeddingError, FilterError, LimitError, ScopeError, StoreError
from memctx.stores import Batch, VectorIndex
from memctx.stores.exact import ExactIndex
from memctx.testing._vectors import ANA, DIM, NEIGHBOURS, Crowd, Machine, Make, agree, batch, unit


class IndexTests:
    """Promises of an index, each held against exact search."""

    least: ClassVar[float] = 1.0  # recall; below one for an index that is not exact
    steps: ClassVar[int] = 25  # of the state machine; it runs `examples` times
    examples: ClassVar[int] = 20
    turns: ClassVar[int] = 15  # of each writer in the test of concurrency

    @pytest.fixture
    def make(self) -> Make:
        raise NotImplementedError("give the fixture `make` a function: dim -> an empty index")

    @pytest.fixture
    def index(self, make: Make) -> Iterator[VectorIndex]:
        made = make(DIM)
        yield made
        made.close()

    def test_answers_as_exact_search(self, index: VectorIndex) -> None:
        rows, exact = batch(ANA, range(1, 301)), ExactIndex(DIM)
        for each in (index, exact):
            each.add(rows)
        for k in (1, 10, 300, 500):
            agree(index.search(unit(7, seed=1), k, ANA), exact.search(unit(7, seed=1), k, ANA), self.least)
        assert index.search(rows.vectors[4:5], 1, ANA)[0].tolist() == [[5]]

    def test_only_some_ids(self, index: VectorIndex) -> None:
        rows, exact = batch(ANA, range(1, 201)), ExactIndex(DIM)
        for each in (index, exact):
            each.add(rows)
        for only in ([3], range(1, 201, 2), range(150, 400), [999], []):
            ids = np.asarray(list(only), np.int64)
            for count in (1, 30):
                queries = unit(count, seed=2)
                agree(index.search(queries, 5, ANA, only=ids), exact.search(queries, 5, ANA, only=ids), self.least)

    def test_a_row_is_replaced_and_removed(self, index: VectorIndex) -> None:
        index.add(batch(ANA, [7, 3, 5]))
        index.add(batch(ANA, [3, 9], seed=4))
        assert index.count(ANA) == 4
        assert index.search(unit(1, seed=4), 1, ANA)[0][0, 0] == 3
        assert index.remove(ANA, [3, 4, 3]) == 1
        assert index.remove(ANA, []) == 0
        assert set(index.search(unit(1), 9, ANA)[0][0].tolist()) == {5, 7, 9, -1}
        index.add(batch(ANA, [3], seed=4))
        assert index.search(unit(1, seed=4), 1, ANA)[0][0, 0] == 3
        assert index.count() == 4

    def test_tenants_see_their_own_rows_only(self, index: VectorIndex) -> None:
        for place, name in enumerate(NEIGHBOURS):
            index.add(batch(name, range(1 + 10 * place, 6 + 10 * place), seed=1))  # the very same vectors
        for place, name in enumerate(NEIGHBOURS):
            ids = index.search(unit(3, seed=1), 50, name)[0]
            assert set(ids[ids > 0].tolist()) == set(range(1 + 10 * place, 6 + 10 * place))
            others = np.arange(1, 200)
            among = index.search(unit(3, seed=1), 50, name, only=others)[0]
            assert set(among[among > 0].tolist()) == set(range(1 + 10 * place, 6 + 10 * place))
        assert index.remove(ANA, list(range(1, 200))) == 5
        assert index.count() == 5 * (len(NEIGHBOURS) - 1)

    def test_tenants_are_dropped_with_all_below(self, index: VectorIndex) -> None:
        for place, name in enumerate(NEIGHBOURS):
            index.add(batch(name, [place + 1]))
        below = [name for name in NEIGHBOURS if name.startswith(ANA)]
        assert index.drop(ANA) == len(below) == 2
        assert [index.count(name) for name in NEIGHBOURS] == [int(name not in below) for name in NEIGHBOURS]
        assert index.drop(NEIGHBOURS[0]) == 4
        assert index.drop("nobody/") == 0

    def test_nothing_there(self, index: VectorIndex) -> None:
        ids, scores = index.search(unit(2), 3, ANA)
        assert ids.tolist() == [[-1] * 3] * 2
        assert np.isneginf(scores).all()
        assert index.search(unit(0), 3, ANA)[0].shape == (0, 3)
        index.add(Batch(ANA, np.empty(0, np.int64), unit(0)))
        assert index.count() == index.count(ANA) == index.remove(ANA, [1]) == 0

    def test_numbers_are_converted(self, index: VectorIndex) -> None:
        rows = unit(6)
        forms: list[Any] = [rows.astype(np.float64), rows.astype(np.float16), rows.astype(">f4"), rows.tolist()]
        forms += [np.asfortranarray(rows), np.repeat(rows, 2, axis=0)[::2], (rows * 100).astype(np.int32)]
        for place, form in enumerate(forms):
            index.add(Batch(f"{place}/", [1, 2, 3, 4, 5, 6], form))  # type: ignore[arg-type]
            ids, _ = index.search(form, 1, f"{place}/")
            if np.asarray(form).dtype.kind == "f":
                assert ids[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
        mine = rows.copy()
        index.add(Batch(ANA, np.arange(1, 7), mine))
        mine[:] = -1
        assert index.search(rows[:1], 1, ANA)[1][0, 0] == pytest.approx(1)

    @pytest.mark.parametrize(
        "vectors",
        [
            unit(2, DIM + 1), unit(2).ravel(), unit(2)[None], [[1.0] * DIM, [1.0]], [["a"] * DIM] * 2,
            np.full((2, DIM), np.nan), np.full((2, DIM), np.inf), np.zeros((2, DIM)), np.full((2, DIM), 1e300),
            unit(2) * 1j, np.ones((2, DIM), bool), unit(1), unit(3), None, object(),
        ],
        ids=lambda value: f"{type(value).__name__}{getattr(value, 'shape', '')}{getattr(value, 'dtype', '')}",
    )  # fmt: skip
    def test_bad_vectors_change_nothing(self, index: VectorIndex, vectors: Any) -> None:
        index.add(batch(ANA, [1, 2]))
        with pytest.raises(EmbeddingError):
            index.add(Batch(ANA, np.array([2, 3]), vectors))
        with pytest.raises(EmbeddingError):
            index.rebuild([batch(ANA, [8]), Batch(ANA, np.array([2, 3]), vectors)])
        assert index.verify([batch(ANA, [1, 2])]) == []
        if getattr(vectors, "shape", ()) not in {(1, DIM), (3, DIM)}:
            with pytest.raises(EmbeddingError):
                index.search(vectors, 1, ANA)

    @pytest.mark.parametrize(
        "ids", [[0, 1], [-1, 2], [4, 4], [1, 2**63], [1.0, 2.0], ["1", "2"], [[1, 2]], [True, False]]
    )
    def test_bad_ids_change_nothing(self, index: VectorIndex, ids: Any) -> None:
        with pytest.raises(EmbeddingError):
            index.add(Batch(ANA, ids, unit(2)))
        with pytest.raises(EmbeddingError):
            index.add(Batch(ANA, np.asarray(ids), unit(2)))
        assert index.count() == 0
        top = 2**63 - 1
        index.add(Batch(ANA, np.array([1, top]), unit(2)))
        assert index.search(unit(2)[1:], 1, ANA)[0].tolist() == [[top]]

    def test_bad_questions(self, index: VectorIndex) -> None:
        index.add(batch(ANA, [1]))
        for k in (0, -1, 1.5, "3", None):
            with pytest.raises(FilterError):
                index.search(unit(1), k, ANA)  # type: ignore[arg-type]
        with pytest.raises(LimitError):
            index.search(unit(1), 10**9, ANA)
        for name in ("", "acme", None, "/"):
            with pytest.raises(ScopeError):
                index.search(unit(1), 1, name)  # type: ignore[arg-type]
            with pytest.raises(ScopeError):
                index.drop(name)  # type: ignore[arg-type]

    def test_rebuild_and_verify(self, index: VectorIndex) -> None:
        index.add(batch("old/", [1, 2]))
        index.applied = 12
        new = [batch(ANA, range(1, 40)), batch(ANA, range(40, 60), seed=1), batch("b/", [1])]
        index.rebuild(iter(new))
        assert index.applied == 12
        assert index.count() == 60
        assert index.verify(iter(new)) == []
        agree(index.search(unit(3), 5, ANA), self._exact(new).search(unit(3), 5, ANA), self.least)
        index.remove(ANA, [7])
        index.add(batch("b/", [1, 5], seed=9))
        found = index.verify(new)
        assert len(found) == 3, found
        assert all("scope" in sentence for sentence in found)

    async def test_async_answers_the_same(self, index: VectorIndex) -> None:
        index.add(batch(ANA, range(1, 101)))
        asked = [(unit(1 + place % 3, seed=place), 3 + place % 2) for place in range(40)]
        answers = await asyncio.gather(*(index.asearch(queries, k, ANA) for queries, k in asked))
        for (queries, k), answer in zip(asked, answers, strict=True):
            agree(answer, index.search(queries, k, ANA), self.least)
        with pytest.raises(EmbeddingError):
            await index.asearch(unit(1, DIM + 1), 1, ANA)

    def test_concurrency_of_threads_and_loops(self, index: VectorIndex) -> None:
        crowd = Crowd(index, self.turns)
        with ThreadPoolExecutor(8) as pool:
            readers = [pool.submit(crowd.read, place) for place in (0, 50)]
            readers += [pool.submit(asyncio.run, crowd.ask(place)) for place in (9, 99)]
            for writer in [pool.submit(crowd.write, seed) for seed in (1, 2, 3)]:
                writer.result(60)
            crowd.stop.set()
            for reader in readers:
                reader.result(60)
        assert not crowd.wrong, crowd.wrong[:3]
        assert index.verify([crowd.kept]) == []

    def test_a_closed_index_says_so(self, make: Make) -> None:
        index = make(DIM)
        index.close()
        index.close()
        with pytest.raises(StoreError) as caught:
            index.search(unit(1), 1, ANA)
        assert caught.value.code == "store_closed"
        with pytest.raises(StoreError):
            index.add(batch(ANA, [1]))

    def test_any_sequence_of_calls(self, make: Make) -> None:
        def machine() -> Any:
            return Machine(make(DIM), self.least)

        few = settings(
            max_examples=self.examples, stateful_step_count=self.steps, deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )  # fmt: skip
        start: Any = machine  # hypothesis takes any function that makes one
        run_state_machine_as_test(start, settings=few)

    def _exact(self, batches: list[Batch]) -> ExactIndex:
        exact = ExactIndex(DIM)
        exact.rebuild(batches)
        return exact
