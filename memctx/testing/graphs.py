"""What every graph over tools keeps to. Give the fixture `make` a function that makes an empty one, and subclass `GraphTests`."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from memctx import component
from memctx.graphs.tool_graph import START, Edge, Visit

Make = Callable[[], Any]
Run = list[Visit]


def run(*tools: str, about: str = "an order") -> Run:
    """A run of these tools, each called in a state of its own."""
    return [Visit(tool, f"The user asks about {about}; next is step {step}.") for step, tool in enumerate(tools)]


RUNS: list[Run] = [
    run("find_user", "get_order", "cancel_order"),
    run("find_user", "get_order", "get_order", "refund", about="a refund"),
    run("find_user", "get_order", "cancel_order", about="another order"),
    run("search", about="the weather"),
    run("find_user", "get_order", "cancel_order"),
]
PATHS: list[list[str]] = [
    [],
    ["find_user"],
    ["find_user", "get_order"],
    ["nobody's tool"],
    ["search"] * 50,
    [START, ""],
]
STATES = [
    "",
    "The user asks about an order; next is step 1.",
    "quite another matter",
    "\x00 \ud800 🙂",
    "word " * 5_000,
]


def taught(graph: Any, runs: Iterable[Run]) -> Any:
    """The graph after these runs, all at one time."""
    for each in runs:
        graph.learn(each, now=1_000.0)
    return graph


class GraphTests:
    """Promises of a graph over tools, whatever it makes of what it has learned."""

    @pytest.fixture
    def make(self) -> Make:
        raise NotImplementedError("give the fixture `make` a function: nothing -> an empty graph")

    @pytest.fixture
    def graph(self, make: Make) -> Any:
        return taught(make(), RUNS)

    def test_config_round_trip(self, make: Make) -> None:
        data = json.loads(json.dumps(make().dump()))
        assert component.load("graphs", data).dump() == data

    def test_an_empty_graph_suggests_nothing(self, make: Make) -> None:
        graph = make()
        assert list(graph.edges()) == graph.suggest([], "any state") == graph.suggest(["x"], available=["x"]) == []
        assert graph.learn([], reward=1.0) == graph.learn([Visit("")], reward=1.0) == []

    def test_what_always_followed_is_suggested_first(self, graph: Any) -> None:
        assert graph.suggest([])[0].tool == "find_user"
        assert graph.suggest(["find_user"], RUNS[0][1].state)[0].tool == "get_order"

    def test_a_run_that_failed_changes_nothing(self, graph: Any) -> None:
        before, version = list(graph.edges()), graph.version
        assert graph.learn(run("find_user", "drop_database"), reward=0.0) == []
        assert (list(graph.edges()), graph.version) == (before, version)

    def test_learning_tells_what_changed(self, make: Make) -> None:
        graph = make()
        for each in RUNS:
            before, version = set(graph.edges()), graph.version
            changed = graph.learn(each, now=1_000.0)
            assert set(changed) == set(graph.edges()) - before
            assert graph.version > version
            assert {edge.v for edge in changed} == {visit.tool for visit in each}

    def test_the_order_of_runs_does_not_matter(self, make: Make) -> None:
        edges = rounded(taught(make(), RUNS).edges())
        for seed in range(5):
            assert rounded(taught(make(), random.Random(seed).sample(RUNS, len(RUNS))).edges()) == edges

    def test_what_is_saved_comes_back(self, make: Make, graph: Any) -> None:
        again = make()
        again.put(json_round_trip(graph.edges()))
        assert list(again.edges()) == list(graph.edges())
        for path in PATHS:
            assert again.suggest(path, STATES[1], k=9) == graph.suggest(path, STATES[1], k=9)

    def test_a_run_needs_only_the_edges_it_touches(self, make: Make, graph: Any) -> None:
        """What lets a store learn a run without reading the whole graph."""
        new = run("find_user", "get_order", "refund", about="a refund")
        touched = {edge.key for edge in make().learn(new, now=1_000.0)}
        part = make()
        part.put(edge for edge in graph.edges() if edge.key in touched)
        assert part.learn(new, now=2_000.0) == graph.learn(new, now=2_000.0)

    @pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path)[:24])
    @pytest.mark.parametrize("state", STATES, ids=lambda text: ascii(text[:12]))
    def test_scores_are_probabilities(self, graph: Any, path: list[str], state: str) -> None:
        found = graph.suggest(path, state, k=99)
        scores = [each.score for each in found]
        assert scores == sorted(scores, reverse=True)
        assert all(0 <= score <= 1 for score in scores)
        assert sum(scores) <= 1 + 1e-6
        assert len({each.tool for each in found}) == len(found)
        assert graph.suggest(path, state, k=2) == found[:2]
        assert graph.suggest(path, state, k=99) == found

    def test_only_what_is_available(self, graph: Any) -> None:
        offered = ["refund", "search", "never_called"]
        assert {each.tool for each in graph.suggest(["find_user", "get_order"], available=offered, k=9)} <= set(offered)
        assert graph.suggest(["find_user"], available=[]) == graph.suggest(["find_user"], k=0) == []

    def test_an_explained_suggestion_is_the_same(self, graph: Any) -> None:
        plain, told = (graph.suggest(["find_user"], STATES[1], explain=explain) for explain in (False, True))
        assert [(each.tool, each.score) for each in told] == [(each.tool, each.score) for each in plain]
        assert all(each.parts for each in told)

    def test_the_drawing_is_a_copy(self, graph: Any) -> None:
        before = list(graph.edges())
        drawn = graph.graph
        assert drawn.number_of_edges() == len(before)
        drawn.clear()
        assert list(graph.edges()) == before

    def test_threads_may_share_it(self, make: Make) -> None:
        graph = make()

        def work(turn: int) -> None:
            graph.learn(RUNS[turn % len(RUNS)], now=1_000.0)
            graph.suggest(["find_user"], STATES[1])
            list(graph.edges())

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(40)))
        assert rounded(graph.edges()) == rounded(taught(make(), RUNS * 8).edges())


def rounded(edges: Iterable[Edge]) -> list[Edge]:
    """Edges without the last bits of their sums, which depend on the order of adding."""
    return [replace(edge, bonus=round(edge.bonus, 9)) for edge in edges]


def json_round_trip(edges: Iterable[Edge]) -> Sequence[Edge]:
    """Edges as a store would give them back."""
    from memctx.graphs._plain import edge_of, plain

    return [edge_of(data) for data in json.loads(json.dumps([plain(edge) for edge in edges]))]
