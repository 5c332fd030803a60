"""Tool graphs in the store: what is learned is there, for every process, and gone with its scope. On SQLite and PostgreSQL."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from memctx.errors import ConfigError
from memctx.graphs import _saved
from memctx.graphs._rows import EDGE, GRAPH
from memctx.graphs.tool_graph import Edge, State, ToolGraph, Visit
from memctx.memory import Memory

CANCEL = [
    Visit("find_user", "cancel my order"),
    Visit("get_order", "user U-1 found"),
    Visit("cancel_order", "order O-1"),
]
REFUND = [
    Visit("find_user", "refund, please"),
    Visit("get_order", "user U-2 found"),
    Visit("refund", "order O-2 is paid"),
]
LEARNER = """
import sys
from memctx.graphs import _saved
from memctx.graphs.tool_graph import Visit
from memctx.memory import Memory

url, who, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Memory(url) as memory:
    for turn in range(count):
        _saved.learn(memory.at("acme"), "agent", [Visit("find_user", f"{who} asks"), Visit(f"tool_{turn}", "found")])
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store may be made."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return str(tmp_path / "agent.db")


@pytest.fixture
def memory(url: str) -> Iterator[Memory]:
    with Memory(url, clock=lambda: 1_000.0) as opened:
        yield opened


def learned(*runs: list[Visit], **settings: Any) -> ToolGraph:
    graph = ToolGraph(**settings)
    for run in runs:
        graph.learn(run, now=1_000.0)
    return graph


def rows(memory: Memory, *scope: str) -> list[dict[str, Any]]:
    return [row for row in memory.at(*scope).export() if row["table"] == "document"]


class Counting:
    """An embedder that counts the texts it is asked for."""

    name, dim = "counting", 4

    def __init__(self) -> None:
        self.asked = list[str]()

    def embed(self, texts: Any) -> Any:
        self.asked += texts
        return [[len(text), text.count("o"), text.count("e"), 1.0] for text in texts]


def test_learning_one_by_one_is_learning_at_once(memory: Memory) -> None:
    ana = memory.at("acme", "ana")
    for run in (CANCEL, REFUND, CANCEL):
        _saved.learn(ana, "agent", run)
    loaded, whole = _saved.load(ana, "agent"), learned(CANCEL, REFUND, CANCEL)
    assert list(loaded.edges()) == list(whole.edges())
    assert loaded.suggest(["find_user", "get_order"], "cancel order O-9") == whole.suggest(
        ["find_user", "get_order"], "cancel order O-9"
    )


async def test_async_twins(memory: Memory) -> None:
    ana = memory.at("acme", "ana")
    changed = await _saved.alearn(ana, "agent", CANCEL)
    assert {edge.v for edge in changed} == {"find_user", "get_order", "cancel_order"}
    assert list((await _saved.aload(ana, "agent")).edges()) == list(_saved.load(ana, "agent").edges())
    assert await _saved.asave(learned(REFUND), ana, "agent") == 4
    assert await _saved.ashared(ana, "agent") is _saved.shared(ana, "agent")
    assert list(_saved.load(ana, "agent").edges()) == list(learned(REFUND).edges())


def test_only_what_a_run_touches_is_written(memory: Memory) -> None:
    ana = memory.at("acme", "ana")
    _saved.learn(ana, "agent", CANCEL)
    before = {row["name"]: row["version"] for row in rows(memory, "acme", "ana")}
    _saved.learn(ana, "agent", REFUND)
    after = {row["name"]: row["version"] for row in rows(memory, "acme", "ana")}
    assert sorted(after.values()) == [
        1,
        1,
        2,
        2,
        2,
    ]  # two new or untouched edges; two edges and the settings were written again
    assert [row["kind"] for row in rows(memory, "acme", "ana")].count(EDGE) == 4
    assert _saved.save(_saved.load(ana, "agent"), ana, "agent") == 0
    assert before.keys() < after.keys()


def test_a_run_that_failed_leaves_no_row(memory: Memory) -> None:
    ana = memory.at("acme", "ana")
    assert _saved.learn(ana, "agent", CANCEL, reward=0.0) == []
    assert _saved.learn(ana, "agent", []) == []
    assert rows(memory, "acme", "ana") == []
    assert list(_saved.load(ana, "agent").edges()) == []


def test_settings_are_kept_and_in_force(memory: Memory) -> None:
    ana = memory.at("acme", "ana")
    _saved.save(ToolGraph(states=1, success=0.9, half_life=60.0), ana, "strict")
    assert _saved.learn(ana, "strict", CANCEL, reward=0.8) == []
    _saved.learn(ana, "strict", CANCEL)
    _saved.learn(ana, "strict", REFUND)
    loaded = _saved.load(ana, "strict")
    assert (loaded.states, loaded.success, loaded.half_life) == (1, 0.9, 60.0)
    assert {len(edge.states) for edge in loaded.edges()} == {1}


def test_saving_takes_the_place_of_what_was_there(memory: Memory) -> None:
    ana = memory.at("acme", "ana")
    _saved.save(learned(CANCEL, REFUND), ana, "agent")
    _saved.save(learned(REFUND), ana, "agent")
    assert list(_saved.load(ana, "agent").edges()) == list(learned(REFUND).edges())
    _saved.save(ToolGraph(), ana, "agent")
    assert [row["kind"] for row in rows(memory, "acme", "ana")] == [GRAPH]


def test_graphs_and_scopes_are_apart(memory: Memory) -> None:
    ana, bo = memory.at("acme", "ana"), memory.at("acme", "bo")
    for place, name, run in ((ana, "a", CANCEL), (ana, "A", REFUND), (ana, "a_", REFUND), (bo, "a", REFUND)):
        _saved.learn(place, name, run)
    assert list(_saved.load(ana, "a").edges()) == list(learned(CANCEL).edges())
    assert list(_saved.load(bo, "a").edges()) == list(learned(REFUND).edges())
    asked = CANCEL[-1].state
    assert "cancel_order" in {each.tool for each in _saved.shared(ana, "a").served(asked)}
    assert "cancel_order" not in {each.tool for each in _saved.shared(bo, "a").served(asked)}
    assert ana.erase().complete
    assert _saved.shared(ana, "a").served(asked) == []
    assert list(_saved.load(ana, "a").edges()) == list(_saved.shared(ana, "a").edges()) == []
    assert _saved.load(bo, "a").suggest(["find_user"])[0].tool == "get_order"


def test_any_text_is_a_tool_or_a_state(memory: Memory) -> None:
    ana = memory.at("acme", "ana")
    strange = [Visit("a/b%'\"\\\x00\x01", "\x00 ends \ud800"), Visit("Ж" * 5_000, "🙂"), Visit("A"), Visit("a")]
    _saved.learn(ana, "agent", strange)
    assert list(_saved.load(ana, "agent").edges()) == list(learned(strange).edges())


def test_loading_embeds_nothing_again(url: str) -> None:
    with Memory(url, embedder=Counting()) as memory:
        _saved.learn(memory.at("acme"), "agent", CANCEL)
    again = Counting()
    with Memory(url, embedder=again) as memory:
        loaded = _saved.load(memory.at("acme"), "agent")
        assert loaded.suggest(["find_user"], "cancel, please")
    assert {"cancel, please"} <= set(again.asked) <= {"cancel, please", "nothing"}


def test_another_embedder_makes_its_own_vectors(url: str) -> None:
    other = Counting()
    other.name = "other " * 40
    with Memory(url, embedder=Counting()) as memory:
        _saved.learn(memory.at("acme"), "agent", CANCEL)
    with Memory(url, embedder=other) as memory:
        ana = memory.at("acme")
        assert _saved.load(ana, "agent").suggest(["find_user"], "cancel order")
        assert {*(visit.state for visit in CANCEL), "cancel order"} <= set(other.asked)
        _saved.learn(ana, "agent", CANCEL)
        assert list(_saved.load(ana, "agent").edges()) == list(_saved.shared(ana, "agent").edges())


def test_a_shared_graph_reads_only_what_is_new(memory: Memory) -> None:
    ana = memory.at("acme", "ana")
    assert list(_saved.shared(ana, "agent").edges()) == []
    _saved.learn(ana, "agent", CANCEL)
    first = _saved.shared(ana, "agent")
    place = _saved._place(ana, "agent")
    assert memory.store.read(partial(_saved._news, place, first.embedder)).edges == []
    _saved.learn(ana, "agent", REFUND)
    news = memory.store.read(partial(_saved._news, place, first.embedder))
    assert [edge.v for edge in news.edges] == ["find_user", "get_order", "refund"]
    assert set(news.vectors) == {visit.state for visit in (*CANCEL[:2], *REFUND)}
    assert _saved.shared(memory.at("acme", "ana"), "agent") is first
    assert list(first.edges()) == list(_saved.load(ana, "agent").edges())


@pytest.mark.parametrize("again", [[CANCEL], [REFUND], []], ids=["the same run", "another run", "nothing"])
def test_a_shared_graph_forgets_what_was_erased(memory: Memory, again: list[list[Visit]]) -> None:
    ana = memory.at("acme", "ana")
    _saved.learn(ana, "agent", CANCEL)
    before = _saved.shared(ana, "agent")
    ana.erase()
    for run in again:
        _saved.learn(ana, "agent", run)
    after = _saved.shared(ana, "agent")
    assert after is not before
    assert list(after.edges()) == list(learned(*again).edges())
    _saved.save(ToolGraph(), ana, "agent")
    assert list(_saved.shared(ana, "agent").edges()) == []


def test_a_shared_graph_nobody_has_is_let_go(memory: Memory) -> None:
    ana = memory.at("acme", "ana")
    _saved.learn(ana, "agent", CANCEL)
    held = weakref.ref(_saved.shared(ana, "agent"))
    gc.collect()
    assert held() is None


def test_late_news_changes_nothing(memory: Memory) -> None:
    ana, place = memory.at("acme", "ana"), _saved._place(memory.at("acme", "ana"), "agent")
    _saved.learn(ana, "agent", CANCEL)
    graph = _saved.shared(ana, "agent")
    _saved.learn(ana, "agent", CANCEL)
    late = memory.store.read(partial(_saved._news, place, graph.embedder))
    _saved.learn(ana, "agent", CANCEL)
    newest = list(_saved.shared(ana, "agent").edges())
    assert list(_saved._caught_up(ana, place, graph, late).edges()) == newest
    assert newest[0].count == 3


def test_no_more_edges_are_kept_than_a_graph_has_room_for(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_saved, "TRIMMED", 4)
    ana = memory.at("acme", "ana")
    _saved.save(ToolGraph(capacity=10), ana, "agent")
    for turn in range(24):
        _saved.learn(ana, "agent", [Visit("find_user", "x"), Visit(f"tool_{turn}", "y")])
        assert len(rows(memory, "acme", "ana")) <= 16
    edges = list(_saved.load(ana, "agent").edges())
    assert len(edges) <= 10
    assert edges[0].v == "find_user"
    assert edges[0].count == 24
    assert list(_saved.shared(ana, "agent").edges()) == edges


def test_a_shared_graph_follows_the_memory_to_another_embedder(memory: Memory) -> None:
    ana, other = memory.at("acme", "ana"), Counting()
    _saved.learn(ana, "agent", CANCEL)
    before = _saved.shared(ana, "agent")
    memory.reembed(other)
    _saved.learn(ana, "agent", REFUND)
    after = _saved.shared(ana, "agent")
    assert after is not before
    assert after.suggest(["find_user"], "a refund", k=9)
    assert before.suggest(["find_user"], "a refund", k=9)


def test_a_hosts_items_are_searched_as_if_there_were_no_graph(memory: Memory) -> None:
    langgraph = pytest.importorskip("memctx.adapters.langgraph")
    store = langgraph.MemctxStore(memory, index={"fields": ["text"]})
    store.put(("acme", "ana"), "one", {"text": "cancel my order"})
    _saved.learn(memory.at("acme", "ana"), "agent", CANCEL)
    assert [item.key for item in store.search(("acme",), query="cancel my order")] == ["one"]
    assert [item.key for item in store.search(("acme",))] == ["one"]


def test_two_processes_that_learn_at_once_lose_nothing(url: str, root: Path) -> None:
    with Memory(url):  # the schema is there before both start
        pass
    command = [sys.executable, "-W", "error", "-c", LEARNER, url]
    learners = [subprocess.Popen([*command, who, "12"], cwd=root, stderr=subprocess.PIPE) for who in ("ana", "bo")]
    for learner in learners:
        _, said = learner.communicate(timeout=120)
        assert learner.returncode == 0, said.decode()
    with Memory(url) as memory:
        edges = {(edge.u, edge.v): edge for edge in _saved.load(memory.at("acme"), "agent").edges()}
    first = edges["", "find_user"]
    assert (first.count, first.bonus) == (24, 12)
    assert {state.text: state.count for state in first.states} == {"ana asks": 12, "bo asks": 12}
    assert [edges["find_user", f"tool_{turn}"].count for turn in range(12)] == [2] * 12


@pytest.mark.parametrize("name", ["", " a", "a\n", "a/b", "x" * 121, None])
def test_what_is_no_name(name: Any) -> None:
    with Memory() as memory, pytest.raises(ConfigError, match="graph = "):
        _saved.learn(memory.at("acme"), name, CANCEL)


def test_an_edge_comes_back_as_it_was(memory: Memory) -> None:
    edge = Edge("a", "b", 1 / 3, 0.1, (State("x", 0.7, 5.5),), 9.25, ("s", ""))
    graph = ToolGraph()
    graph.put([edge])
    _saved.save(graph, memory.at("acme"), "agent")
    assert list(_saved.load(memory.at("acme"), "agent").edges()) == [edge]
