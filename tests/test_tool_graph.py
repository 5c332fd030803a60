"""The tool graph: what it learns, and what it suggests."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from memctx.errors import ConfigError
from memctx.graphs import _rank, _served
from memctx.graphs.tool_graph import START, Edge, State, ToolGraph, Visit, summarise

RUNS = [
    [Visit("find_user", "who is it"), Visit("get_order", "order 1"), Visit("cancel_order", "please cancel it")],
    [Visit("find_user", "hello"), Visit("get_order", "order 2"), Visit("return_order", "I want to send it back")],
    [Visit("find_user", "hello"), Visit("get_order", "order 3"), Visit("cancel_order", "cancel the order")],
]


def learned(*runs: list[Visit], **settings: Any) -> ToolGraph:
    graph = ToolGraph(**settings)
    for run in runs:
        graph.learn(run, now=0.0)
    return graph


def random_runs(count: int) -> list[list[Visit]]:
    chance = random.Random(7)
    tools = [f"tool_{number}" for number in range(6)]
    return [
        [Visit(chance.choice(tools), f"state {chance.randrange(40)}") for _ in range(chance.randrange(7))]
        for _ in range(count)
    ]


def test_what_usually_follows_is_suggested() -> None:
    graph = learned(*RUNS)
    assert graph.suggest([])[0].tool == "find_user"
    assert graph.suggest(["find_user"])[0].tool == "get_order"
    assert graph.suggest(["find_user", "get_order"])[0].tool == "cancel_order"


def test_the_state_decides_between_tools_that_may_follow() -> None:
    graph = learned(*RUNS)
    assert graph.suggest(["find_user", "get_order"], "I want to send the lamp back")[0].tool == "return_order"


def test_scores_are_probabilities_over_what_is_available() -> None:
    graph = learned(*RUNS)
    for available in (None, ["return_order", "get_order"]):
        found = graph.suggest(["find_user"], "hello", available=available, k=99)
        assert sum(each.score for each in found) == pytest.approx(1)
        assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


def test_the_parts_of_a_suggestion_add_up_to_its_odds() -> None:
    first, second = learned(*RUNS).suggest(["find_user", "get_order"], "cancel it", k=2, explain=True)
    assert set(first.parts) == set(_rank.FACTS)
    odds = sum(first.parts.values()) - sum(second.parts.values())
    assert first.score / second.score == pytest.approx(2.718281828**odds, rel=0.01)
    assert learned(*RUNS).suggest([])[0].parts == {}


def test_the_order_of_runs_changes_nothing() -> None:
    runs = random_runs(60)
    for states in (2, 16):
        graph, other = learned(*runs, states=states), learned(*reversed(runs), states=states)
        assert [(e.key, e.count, e.states) for e in graph.edges()] == [
            (e.key, e.count, e.states) for e in other.edges()
        ]
        assert [e.bonus for e in graph.edges()] == pytest.approx([e.bonus for e in other.edges()])


def test_the_same_run_twice_counts_twice_and_keeps_one_state() -> None:
    (edge,) = learned([Visit("a", "here")], [Visit("a", "here")]).edges()
    assert edge == Edge(START, "a", 2.0, 2.0, (State("here", 2.0, 0.0),), 0.0, ())


def test_learning_gives_the_edges_it_changed() -> None:
    graph = ToolGraph()
    changed = [edge for run in RUNS for edge in graph.learn(run, now=0.0)]
    assert {edge.key: edge for edge in changed} == {edge.key: edge for edge in graph.edges()}


def test_a_tool_that_is_called_again_and_again_is_a_loop() -> None:
    graph = learned([Visit("poll") for _ in range(5)])
    assert graph.graph.has_edge("poll", "poll")
    assert graph.suggest(["poll", "poll"], k=1)[0].tool == "poll"


def test_a_graph_is_its_edges() -> None:
    graph, other = learned(*RUNS), ToolGraph()
    other.put(graph.edges())
    assert list(other.edges()) == list(graph.edges())
    assert other.suggest(["find_user"], "hello") == graph.suggest(["find_user"], "hello")


def test_only_what_is_available_is_suggested() -> None:
    found = learned(*RUNS).suggest(["find_user", "get_order"], available=["return_order", "never_seen"], k=9)
    assert [each.tool for each in found] == ["return_order"]
    assert learned(*RUNS).suggest(["find_user"], "hello", available=[]) == []


def test_a_described_tool_is_suggested_where_its_words_are_asked_for() -> None:
    graph = learned(*RUNS)
    graph.describe({"weather_forecast": "Get the weather forecast of a city", "": "nothing"})
    found = graph.suggest([], "What is the weather forecast for Oslo tomorrow, and the weather today?", k=9)
    assert [each.tool for each in found].index("weather_forecast") < 2
    assert "" not in [each.tool for each in found]


def test_a_run_that_failed_teaches_nothing() -> None:
    graph = ToolGraph()
    version = graph.version
    assert graph.learn(RUNS[0], reward=0.0) == []
    assert (list(graph.edges()), graph.version, graph.suggest([], "anything")) == ([], version, [])


def test_an_empty_run_and_a_nameless_tool_change_nothing() -> None:
    assert learned([], [Visit("", "no tool")]).tools == []
    assert learned([Visit("a"), Visit(""), Visit("b")]).graph.has_edge("a", "b")


def test_a_tool_called_like_the_start_is_a_tool() -> None:
    graph = learned([Visit("START"), Visit("end")])
    assert graph.tools == ["START", "end"]
    assert graph.suggest([])[0].tool == "START"
    assert graph.suggest(["START"])[0].tool == "end"


def test_an_unknown_past_falls_back_on_what_is_usual() -> None:
    assert learned(*RUNS).suggest(["never_seen"], k=9)[0].score > 0
    assert len(learned(*RUNS).suggest(["never_seen"], "hello", k=9)) == 4


def test_a_huge_state_is_cut() -> None:
    huge = "word " * 20_000 + "\ud800"
    graph = learned([Visit("a", huge)], [Visit("b", "other")])
    assert all(len(state.text) <= 1_500 for edge in graph.edges() for state in edge.states)
    assert graph.suggest([], huge)[0].tool == "a"


def test_states_on_an_edge_are_bounded() -> None:
    graph = learned(*([Visit("a", f"state {number}")] for number in range(50)), states=4)
    (edge,) = graph.edges()
    assert (edge.count, len(edge.states)) == (50, 4)
    assert next(learned([Visit("a", "here")], states=0).edges()).states == ()


def test_edges_are_bounded_and_the_rarest_go() -> None:
    usual = [[Visit("a"), Visit("b")]] * 5
    graph = learned(*usual, *([Visit(f"once_{number}")] for number in range(40)), capacity=20)
    assert len(list(graph.edges())) <= 20
    assert graph.suggest(["a"], k=1)[0].tool == "b"


def test_counts_fade_with_time() -> None:
    graph = ToolGraph(half_life=10)
    for _ in range(3):
        graph.learn([Visit("old", "here")], now=0.0)
    (edge,) = graph.learn([Visit("old", "here")], now=20.0)
    assert edge.count == pytest.approx(3 / 4 + 1)
    assert edge.states[0].count == pytest.approx(3 / 4 + 1)
    assert edge.updated == 20.0


def test_what_is_new_wins_over_what_has_faded() -> None:
    graph = ToolGraph(half_life=10)
    for _ in range(3):
        graph.learn([Visit("old")], now=0.0)
    graph.learn([Visit("new")], now=100.0)
    assert graph.suggest([])[0].tool == "new"
    forever = learned([Visit("old")], [Visit("old")], [Visit("new")])
    assert forever.suggest([])[0].tool == "old"


def test_the_gate_leaves_the_embedder_alone_where_transitions_decide() -> None:
    asked: list[str] = []

    def embed(texts: list[str]) -> list[list[float]]:
        asked.extend(texts)
        return [[1.0, 0.0] for _ in texts]

    graph = ToolGraph(embedder=embed)
    for _ in range(20):
        graph.learn([Visit("a", "here"), Visit("b", "there")], now=0.0)
    graph.suggest(["a"], "there")
    assert asked == []
    open_gate = ToolGraph(embedder=embed, gate=1)
    open_gate.put(graph.edges())
    open_gate.suggest(["a"], "there")
    assert asked


def test_a_wrong_setting_is_an_error() -> None:
    with pytest.raises(ConfigError, match="half_life"):
        ToolGraph(half_life=0)


def test_threads_share_a_graph() -> None:
    graph = ToolGraph()
    runs = random_runs(40)

    def work(part: list[list[Visit]]) -> None:
        for run in part:
            graph.learn(run, now=0.0)
            graph.suggest([visit.tool for visit in run], "state 3")

    threads = [threading.Thread(target=work, args=(runs[at::4],)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(e.key, e.count) for e in graph.edges()] == [(e.key, e.count) for e in learned(*runs).edges()]


def test_the_drawing_is_a_copy_with_a_start() -> None:
    graph = learned(*RUNS)
    drawn = graph.graph
    assert drawn.has_edge(START, "find_user")
    drawn.clear()
    assert graph.graph.number_of_nodes() == 5


def test_a_summary_holds_what_is_asked_and_the_newest_result() -> None:
    said = [{"role": "user", "content": "Cancel my order\n\nplease"}]
    assert summarise(said) == "Cancel my order\nplease"
    answered = [*said, {"role": "assistant", "content": "", "tool_calls": []}]
    answered += [{"role": "tool", "content": '{"status": "pending"}'}]
    assert summarise(answered) == "Cancel my order\nplease\n\nstatus pending"
    assert summarise([*answered, {"role": "user", "content": [{"type": "text", "text": "thanks"}]}]) == "thanks"
    assert summarise([]) == ""
    assert (
        len(summarise([{"role": "user", "content": "x" * 100_000}, {"role": "tool", "content": "y" * 100_000}])) < 1_500
    )


TRIP = [Visit(tool, "plan a trip to Rome by train") for tool in ("get_date", "find_station", "book_train")]
REPORT = [Visit(tool, "write a report on sales in the spreadsheet") for tool in ("read_sheet", "write_file")]


def test_a_request_gets_the_tools_of_all_steps_of_requests_like_it() -> None:
    graph = learned(TRIP, REPORT)
    found = graph.served("a trip to Paris by train, please")
    assert {each.tool for each in found[:3]} == {"get_date", "find_station", "book_train"}
    assert all(0.5 < each.score <= 1 for each in found[:3])
    assert all(each.score < 0.5 for each in found[3:])
    assert [each.tool for each in graph.served("a trip to Paris", available=["write_file", "book_train"], k=1)] == [
        "book_train"
    ]


def test_what_one_request_needed_again_and_again_served_it_once() -> None:
    loop = [Visit("click", f"buy a lamp\n\npage {page}") for page in range(9)]
    assert [each.score for each in learned([*loop, Visit("pay", "buy a lamp\n\npage 9")]).served("buy a lamp")] == [
        1.0,
        1.0,
    ]


def test_of_equal_requests_the_share_that_needed_a_tool_is_its_score() -> None:
    graph = learned(
        *[[Visit("find_user", "who is Bo")]] * 3, [Visit("find_user", "who is Bo"), Visit("call", "who is Bo")]
    )
    assert {each.tool: each.score for each in graph.served("who is Bo")} == {"find_user": 1.0, "call": 0.25}


def test_nothing_served_where_nothing_was_learned_or_asked() -> None:
    assert (
        ToolGraph().served("a trip") == learned(TRIP).served("") == learned([Visit("a"), Visit("b")]).served("a") == []
    )


def test_what_served_long_ago_fades() -> None:
    graph = ToolGraph(half_life=10.0)
    graph.learn([Visit("fax", "send the letter")], now=0.0)
    graph.learn([Visit("mail", "send the letter")], now=30.0)
    assert [(each.tool, round(each.score, 3)) for each in graph.served("send the letter")] == [
        ("mail", 1.0),
        ("fax", 0.125),
    ]


def test_requests_that_are_looked_at_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_served, "MOST", 5)
    graph = learned(*([Visit(f"tool_{number}", f"request number {number}")] for number in range(20)))
    assert len(graph.served("request number 3", k=99)) == 5
