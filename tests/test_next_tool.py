"""The strategy `next_tool`: when a line comes, what it says, and that it never changes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from memctx.edits import Insert
from memctx.effects import Handlers, drive
from memctx.errors import ConfigError, EffectError
from memctx.graphs import _graphml
from memctx.graphs._visits import visits
from memctx.graphs.tool_graph import ToolGraph, Visit
from memctx.memory import Memory
from memctx.pipeline import Pipeline
from memctx.strategies._recalled import own_words
from memctx.strategies.next_tool import CLOSE, OPEN, NextTool, alearn_run, learn_run
from memctx.testing._contexts import make_context

NAMES = ("find_user", "get_order", "cancel_order", "refund")
TOOLS = [{"type": "function", "function": {"name": name}} for name in NAMES]


def call(number: int, name: str) -> dict[str, Any]:
    made = {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": "{}"}}
    return {"role": "assistant", "content": None, "tool_calls": [made]}


def dialogue(*tools: str, asked: str = "Please cancel my order O-17.") -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": asked}]
    for number, name in enumerate(tools):
        messages += [
            call(number, name),
            {"role": "tool", "tool_call_id": f"call_{number}", "content": f"{name}: found O-{number}"},
        ]
    return messages


CANCEL = [*dialogue("find_user", "get_order", "cancel_order"), {"role": "assistant", "content": "Done."}]


@pytest.fixture
def memory() -> Iterator[Memory]:
    with Memory() as opened:
        for _ in range(4):
            learn_run(opened.at("acme"), "agent", CANCEL)
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> str:
    graph = ToolGraph()
    for _ in range(4):
        graph.learn(visits(CANCEL))
    _graphml.write(graph, tmp_path / "agent.graphml")
    return str(tmp_path / "agent.graphml")


def lines(messages: list[Any]) -> list[str]:
    return [m["content"] for m in messages if m["role"] == "user" and m["content"].startswith(OPEN)]


def first(messages: list[Any]) -> str:
    """The tool named first in the newest line."""
    return lines(messages)[-1].partition("called ")[2].partition(" (")[0]


def steps(messages: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The history before each model call."""
    yield from (messages[: n + 1] for n, m in enumerate(messages) if m["role"] != "assistant")


def proposed(strategy: NextTool, messages: list[Any], tools: Sequence[str] = NAMES) -> list[Any]:
    ctx = make_context(messages)
    ctx.tools = tuple(tools)
    edits: list[Any] = drive(strategy.propose(ctx), Handlers({}))
    return edits


def test_each_step_gets_its_line_and_keeps_it(memory: Memory) -> None:
    session = Pipeline([NextTool(graph="agent")]).session("t", memory=memory.at("acme"))
    seen: list[Any] = []
    for history in steps(dialogue("find_user", "get_order", "cancel_order")):
        view = session.view(history, TOOLS)
        assert view.messages[: len(seen)] == seen, "what was shown stays, byte for byte"
        assert session.view(history, TOOLS).messages == view.messages
        seen = list(view.messages)
    assert len(lines(seen)) >= 3
    assert [m["role"] for m in seen[:2]] == ["user", "user"]
    assert "find_user (" in lines(seen)[0]
    assert all(text.startswith(OPEN) and text.endswith(CLOSE) and "\n" not in text for text in lines(seen))


async def test_async(memory: Memory) -> None:
    await alearn_run(memory.at("acme"), "agent", CANCEL)
    session = Pipeline([NextTool(graph="agent")]).session("t", memory=memory.at("acme"))
    assert first((await session.aview(dialogue("find_user"), TOOLS)).messages) == "get_order"


def test_a_new_process_says_the_same(memory: Memory) -> None:
    place = memory.at("acme")
    before = Pipeline([NextTool(graph="agent")]).session("t", memory=place).view(dialogue("find_user"), TOOLS)
    learn_run(place, "agent", dialogue("find_user", "refund"))
    after = Pipeline([NextTool(graph="agent")]).session("t", memory=place).view(dialogue("find_user"), TOOLS)
    assert before.messages == after.messages


@pytest.mark.parametrize("strategy", [NextTool(), NextTool(graph="agent"), NextTool(graph="nobody")])
def test_nothing_without_a_graph_or_a_memory(strategy: NextTool, memory: Memory) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not lines(Pipeline([strategy]).session().view(dialogue("find_user"), TOOLS).messages)
        elsewhere = Pipeline([strategy]).session("t", memory=memory.at("else"))
        assert not lines(elsewhere.view(dialogue("find_user"), TOOLS).messages)


def test_only_what_is_on_offer(file: str) -> None:
    strategy, messages = NextTool(graph=file, confidence=0), dialogue("find_user", "get_order")
    assert "cancel_order" in proposed(strategy, messages)[0].content
    assert "cancel_order" not in proposed(strategy, messages, ["find_user", "refund"])[0].content
    assert proposed(strategy, messages, ["refund", ""]) == [], "nobody ever called it"
    assert proposed(strategy, messages, []) == []


def test_only_when_it_is_confident(file: str) -> None:
    messages = dialogue("find_user")
    [line] = proposed(NextTool(graph=file, confidence=0.5, k=1), messages)
    score = int(line.content.partition("(")[2].partition("%")[0]) / 100
    assert 0.5 <= score <= 1
    assert proposed(NextTool(graph=file, confidence=min(1.0, score + 0.02)), messages) == []


def test_not_while_calls_wait_nor_after_plain_text(file: str) -> None:
    strategy = NextTool(graph=file, confidence=0)
    assert proposed(strategy, dialogue("find_user")[:-1]) == []
    assert proposed(strategy, [*dialogue(), {"role": "assistant", "content": "Which order?"}]) == []
    assert proposed(strategy, [{"role": "system", "content": "Be brief."}]) == []


def test_so_many_lines_and_no_more(file: str) -> None:
    session = Pipeline([NextTool(graph=file, confidence=0, lines=2)]).session()
    views = [
        session.view(history, TOOLS) for history in steps(dialogue("find_user", "get_order", "find_user", "get_order"))
    ]
    assert [len(lines(view.messages)) for view in views] == [1, 2, 2, 2, 2]


def test_no_line_over_the_budget(file: str) -> None:
    ctx = make_context(dialogue("find_user"))
    ctx.tools, ctx.limit = ("get_order",), ctx.tokens + 10
    assert drive(NextTool(graph=file, confidence=0).propose(ctx), Handlers({})) == []


def test_a_model_may_tell_the_state(memory: Memory) -> None:
    asked: list[Any] = []

    def model(effect: Any) -> str:
        asked.append(effect)
        return "Please cancel my order O-17.\nfind_user: found O-0"

    strategy = NextTool(graph="agent", summarise=True, confidence=0)
    session = Pipeline([strategy]).session("t", memory=memory.at("acme"), generate=model)
    assert first(session.view(dialogue("find_user"), TOOLS).messages) == "get_order"
    assert [(effect.module, len(effect.messages)) for effect in asked] == [("next_tool", 1)]
    assert "find_user: found O-0" in asked[0].messages[0]["content"]


def test_a_model_that_fails_is_not_missed(memory: Memory) -> None:
    def model(_: Any) -> str:
        raise EffectError("down", code="down")

    place = memory.at("acme")
    views = [
        Pipeline([NextTool(graph="agent", summarise=told)])
        .session(f"t{told}", memory=place, generate=model)
        .view(dialogue("find_user"), TOOLS)
        for told in (True, False)
    ]
    assert views[0].messages == views[1].messages


def test_a_run_that_failed_teaches_nothing(memory: Memory) -> None:
    assert learn_run(memory.at("acme"), "other", CANCEL, reward=0.0) == 0
    assert learn_run(memory.at("acme"), "other", CANCEL, reward=1.0) == 3
    assert learn_run(memory.at("acme"), "other", [Visit("find_user", "x")]) == 1
    assert learn_run(memory.at("acme"), "other", []) == 0


def test_runs_in_other_forms_teach_the_same() -> None:
    use = {"type": "tool_use", "id": "c1", "name": "find_user", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": "found"}
    claude = [
        {"role": "user", "content": "Cancel O-17"},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [result]},
    ]
    chat = [claude[0], call(1, "find_user"), {"role": "tool", "tool_call_id": "call_1", "content": "found"}]
    with Memory(clock=lambda: 7.0) as memory:
        for name, run in (("a", claude), ("b", chat)):
            learn_run(memory.at("acme"), name, run)
        rows = [row for row in memory.at("acme").export() if row["kind"] == "tool_edge"]
    assert len(rows) == 2
    assert rows[0]["data"] == rows[1]["data"]


def test_a_simulated_users_calls_are_not_the_agents() -> None:
    run = [call(1, "toggle_data") | {"name": "user"}, {"role": "tool", "tool_call_id": "call_1", "content": "on"}]
    with Memory() as memory:
        assert learn_run(memory.at("acme"), "agent", run) == 0


def test_what_stands_in_our_lines_is_never_remembered(file: str) -> None:
    [edit] = proposed(NextTool(graph=file, confidence=0), dialogue("find_user"))
    assert isinstance(edit, Insert)
    assert own_words(f"mine {edit.content} too") == "mine  too"


@pytest.mark.parametrize(
    "text", [None, "", "<graphml/>", "{}", '<graphml xmlns="http://graphml.graphdrawing.org/xmlns"/>']
)
def test_a_file_that_is_no_graph(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "x.graphml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"x\.graphml"):
        _graphml.read(path)
    with pytest.warns(UserWarning, match="next_tool"):
        Pipeline([NextTool(graph=str(path))]).session().view(dialogue(), TOOLS)


def test_a_file_gives_back_what_was_learned(tmp_path: Path) -> None:
    graph = ToolGraph(states=3, half_life=60.0)
    graph.learn([Visit("a\x00<b>", "\x1b[0m & so"), Visit("Ж🙂", "x"), Visit("a\x00<b>")], now=5.0)
    _graphml.write(graph, tmp_path / "x.graphml")
    again = _graphml.read(tmp_path / "x.graphml")
    assert again.dump() == graph.dump()
    assert json.dumps([str(edge) for edge in again.edges()]) == json.dumps([str(edge) for edge in graph.edges()])


def test_no_graph_learns_from_a_reward_that_is_no_number() -> None:
    memory = Memory().at("acme")
    with pytest.raises(ConfigError, match="reward"):
        learn_run(memory, "g", dialogue("find_user"), float("nan"))
    assert learn_run(memory, "g", dialogue("find_user")) == 1
