"""The tool graph: what it learns, and what it suggests."""

from __future__ import annotations

from memctx.graphs.tool_graph import START, ToolGraph, Visit

RUNS = [
    [Visit("find_user", "who is it"), Visit("get_order", "order 1"), Visit("cancel_order", "please cancel it")],
    [Visit("find_user", "hello"), Visit("get_order", "order 2"), Visit("return_order", "I want to send it back")],
    [Visit("find_user", "hello"), Visit("get_order", "order 3"), Visit("cancel_order", "cancel the order")],
]


def learned(*runs: list[Visit]) -> ToolGraph:
    graph = ToolGraph()
    for run in runs:
        graph.learn(run, now=0.0)
    return graph


def test_what_usually_follows_is_suggested() -> None:
    graph = learned(*RUNS)
    assert graph.suggest([])[0].tool == "find_user"
    assert graph.suggest(["find_user"])[0].tool == "get_order"
    assert graph.suggest(["find_user", "get_order"])[0].tool == "cancel_order"


def test_the_state_decides_between_tools_that_may_follow() -> None:
    graph = learned(*RUNS)
    assert graph.suggest(["find_user", "get_order"], "I want to send the lamp back")[0].tool == "return_order"


def test_the_order_of_runs_changes_nothing() -> None:
    assert list(learned(*RUNS).edges()) == list(learned(*reversed(RUNS)).edges())


def test_a_graph_is_its_edges() -> None:
    graph, other = learned(*RUNS), ToolGraph()
    other.put(graph.edges())
    assert list(other.edges()) == list(graph.edges())
    assert other.suggest(["find_user"], "hello") == graph.suggest(["find_user"], "hello")


def test_only_what_is_available_is_suggested() -> None:
    found = learned(*RUNS).suggest(["find_user", "get_order"], available=["return_order", "never_seen"], k=9)
    assert [each.tool for each in found] == ["return_order"]


def test_a_run_that_failed_teaches_nothing() -> None:
    graph = ToolGraph()
    assert graph.learn(RUNS[0], reward=0.0) == []
    assert list(graph.edges()) == []
    assert graph.suggest([]) == []


def test_the_drawing_has_a_start() -> None:
    assert learned(*RUNS).graph.has_edge(START, "find_user")
