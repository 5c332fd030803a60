"""The LangChain middleware under the real `create_agent`, with a scripted model and the real savers."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain")

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.messages.tool import tool_call
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

from memctx import Offer, Pipeline, check
from memctx.adapters.langchain import ContextMiddleware, generate_with, provider_of
from memctx.errors import BudgetError, NotFound
from memctx.memory import Memory
from memctx.strategies import Strategy
from memctx.strategies.clear import ClearResults
from memctx.strategies.recall import RecallMemory
from memctx.strategies.remember import RememberSteps
from tests.scripted import Scripted, rest, size_of, step_of, texts, walk
from tests.servers import Call, Reply, strict_server

STEPS = 45
BUDGET = 3_000  # a step is about 250 tokens, so 45 of them are far over it
SYSTEM = "You are a walker. " * 20


def pipeline(**settings: Any) -> Pipeline:
    return Pipeline.safe(**{"budget": BUDGET, "edit_when": "budget", **settings})


def clearing() -> Pipeline:
    """Edits that come out the same from a cold session and a warm one, to the number of the handle."""
    return Pipeline([ClearResults(keep=3)], budget=BUDGET, edit_when="budget")


def agent(model: Any, middleware: list[Any], saver: Any = None, **settings: Any) -> Any:
    return create_agent(
        model, [walk, rest], system_prompt=SYSTEM, middleware=middleware, checkpointer=saver, **settings
    )


def on(thread: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread}, "recursion_limit": 500}


def ask(steps: int = STEPS) -> dict[str, Any]:
    return {"messages": [HumanMessage(f"walk {steps}")]}


def faults(model: Scripted, budget: int = BUDGET) -> list[str]:
    """What is wrong with the requests a model saw."""
    found = []
    for place, (messages, tools) in enumerate(model.seen):
        found += [f"{place}: {fault}" for fault in check(messages, "openai-chat")]
        if size_of(messages, tools) > budget:
            found.append(f"{place}: {size_of(messages, tools)} tokens")
    return found


def whole(messages: list[Any], steps: int = STEPS) -> bool:
    """Whether a state has the question, every call with its result, and the answer, all in full."""
    kinds = ["human", *["ai", "tool"] * steps, "ai"]
    results = [m for m in messages if isinstance(m, ToolMessage)]
    return [m.type for m in messages] == kinds and all(len(str(m.content)) > 500 for m in results)


def plan_of(app: Any, thread: str) -> dict[str, Any]:
    plan: dict[str, Any] = app.get_state(on(thread)).values.get("memctx_plan") or {}
    return plan


def run(app: Any, given: Any, thread: str, way: str) -> dict[str, Any]:
    if way == "sync":
        return dict(app.invoke(given, on(thread)))
    return dict(asyncio.run(app.ainvoke(given, on(thread))))


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("when", ["budget", "pays", "always"])
def test_a_long_run_stays_valid_and_in_budget_and_the_state_stays_whole(way: str, when: str) -> None:
    model, middleware = Scripted(), ContextMiddleware(pipeline(edit_when=when))
    app = agent(model, [middleware], InMemorySaver())
    result = run(app, ask(), "t", way)
    assert len(model.seen) == STEPS + 1
    assert not faults(model)
    assert whole(result["messages"])
    assert "memctx_plan" not in result
    assert plan_of(app, "t")["edits"]
    assert middleware.report("t")
    assert result["messages"][-1].content == "all done now"


def test_without_the_middleware_the_budget_would_not_hold() -> None:
    model = Scripted()
    agent(model, []).invoke(ask(), on("t"))
    assert faults(model)


def test_between_edits_each_request_starts_with_the_one_before() -> None:
    model, app = Scripted(), None
    agent(model, [ContextMiddleware(pipeline())], app).invoke(ask(), on("t"))
    requests = [texts(messages) for messages, _ in model.seen]
    kept = sum(b[: len(a)] == a for a, b in pairwise(requests))
    assert kept >= 0.7 * len(requests)


def test_without_a_checkpointer_two_conversations_do_not_meet() -> None:
    model = Scripted()
    app = agent(model, [ContextMiddleware(pipeline())])
    for steps in (20, 30):
        assert whole(app.invoke(ask(steps), {"recursion_limit": 200})["messages"], steps)
    assert not faults(model)


def test_budget_too_small_is_said() -> None:
    app = agent(Scripted(), [ContextMiddleware(pipeline(budget=60))])
    with pytest.raises(BudgetError):
        app.invoke(ask(), on("t"))


def test_report_of_an_unknown_thread() -> None:
    with pytest.raises(NotFound):
        ContextMiddleware(pipeline()).report("nobody")


# Resume, fork, time travel ------------------------------------------------------------------------------------------


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SqliteSaver]:
    connection = sqlite3.connect(tmp_path / "runs.db", check_same_thread=False)
    yield SqliteSaver(connection)
    connection.close()


def test_a_resumed_thread_is_shown_the_same_bytes(sqlite: SqliteSaver) -> None:
    whole_run, first, second = Scripted(), Scripted(), Scripted()
    agent(whole_run, [ContextMiddleware(clearing())], InMemorySaver()).invoke(ask(), on("t"))
    before = agent(first, [ContextMiddleware(clearing())], sqlite)
    for count, _ in enumerate(before.stream(ask(), on("t"), stream_mode="updates")):
        if count == 60:
            break
    after = agent(second, [ContextMiddleware(clearing())], sqlite)
    result = after.invoke(None, on("t"))
    assert whole(result["messages"])
    assert plan_of(after, "t")["edits"]
    shown = [texts(messages) for messages, _ in first.seen + second.seen]
    expected = [texts(messages) for messages, _ in whole_run.seen]
    unique = [request for place, request in enumerate(shown) if request not in shown[:place]]
    assert unique == expected


CONTINUE = """
import json, sqlite3, sys
from langgraph.checkpoint.sqlite import SqliteSaver
from tests.scripted import Scripted, texts
from tests.test_langchain import ContextMiddleware, agent, clearing, on
model = Scripted()
saver = SqliteSaver(sqlite3.connect(sys.argv[1], check_same_thread=False))
agent(model, [ContextMiddleware(clearing())], saver).invoke(None, on("t"))
print(json.dumps([texts(messages) for messages, _ in model.seen]))
"""


def test_another_process_is_shown_the_same_bytes(sqlite: SqliteSaver, tmp_path: Path, root: Path) -> None:
    uncut, first = Scripted(), Scripted()
    agent(uncut, [ContextMiddleware(clearing())]).invoke(ask(), on("t"))
    app = agent(first, [ContextMiddleware(clearing())], sqlite)
    app.invoke(ask(), on("t"), interrupt_before=["tools"])
    for _ in range(29):
        app.invoke(None, on("t"), interrupt_before=["tools"])
    command = [sys.executable, "-c", CONTINUE, str(tmp_path / "runs.db")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = [texts(messages) for messages, _ in first.seen] + [[tuple(m) for m in r] for r in json.loads(done.stdout)]
    assert shown == [texts(messages) for messages, _ in uncut.seen]


def test_a_checkpoint_called_again_shows_the_same_bytes(sqlite: SqliteSaver) -> None:
    model = Scripted()
    app = agent(model, [ContextMiddleware(clearing())], sqlite)
    app.invoke(ask(), on("t"))
    requests = {len(texts(messages)): texts(messages) for messages, _ in model.seen}
    past = [state for state in app.get_state_history(on("t")) if state.next == ("model",)]
    assert len(past) == STEPS + 1
    for state in (past[5], past[-1], past[20]):
        model.seen.clear()
        app.invoke(None, {**state.config, "recursion_limit": 500}, interrupt_after=["model"])
        assert texts(model.seen[0][0]) in requests.values()
        other = Scripted()
        again = agent(other, [ContextMiddleware(clearing())], sqlite)
        again.invoke(None, {**state.config, "recursion_limit": 500}, interrupt_after=["model"])
        assert texts(other.seen[0][0]) == texts(model.seen[0][0])


def test_a_fork_goes_on_with_its_own_history_and_plan() -> None:
    model = Scripted()
    app = agent(model, [ContextMiddleware(pipeline())], InMemorySaver())
    app.invoke(ask(), on("t"))
    trunk = plan_of(app, "t")
    past = [state for state in app.get_state_history(on("t")) if state.next == ("model",)]
    fork = app.update_state(past[15].config, {"messages": [HumanMessage("walk 52 instead")]}, as_node="tools")
    model.seen.clear()
    result = app.invoke(None, {**fork, "recursion_limit": 500})
    assert not faults(model)
    assert any("walk 52 instead" in str(m.content) for m in model.seen[0][0])
    assert sum(isinstance(m, ToolMessage) for m in result["messages"]) == STEPS - 15 + 52
    assert plan_of(app, "t") != trunk


def test_a_failed_call_leaves_the_thread_as_it_was() -> None:
    model = Scripted(fail_at=30)
    app = agent(model, [ContextMiddleware(pipeline())], InMemorySaver())
    with pytest.raises(RuntimeError, match="down"):
        app.invoke(ask(), on("t"))
    result = app.invoke(None, on("t"))
    assert whole(result["messages"])
    assert not faults(model)
    assert texts(model.seen[29][0]) == texts(model.seen[30][0])


# Many at once -------------------------------------------------------------------------------------------------------


def test_threads_at_once() -> None:
    model = Scripted()
    app = agent(model, [ContextMiddleware(pipeline(), capacity=2)], InMemorySaver())
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda steps: app.invoke(ask(steps), on(f"t{steps}")), (20, 25, 30, 35)))
    assert all(whole(r["messages"], steps) for r, steps in zip(results, (20, 25, 30, 35), strict=True))
    assert not faults(model)


async def test_tasks_at_once() -> None:
    model = Scripted()
    app = agent(model, [ContextMiddleware(pipeline())], InMemorySaver())
    results = await asyncio.gather(*(app.ainvoke(ask(steps), on(f"t{steps}")) for steps in (20, 25, 30)))
    assert all(whole(r["messages"], steps) for r, steps in zip(results, (20, 25, 30), strict=True))
    assert not faults(model)


async def test_two_calls_on_one_thread_at_once_show_each_its_own_history() -> None:
    model, middleware = Scripted(), ContextMiddleware(pipeline())
    app = agent(model, [middleware])
    results = await asyncio.gather(*(app.ainvoke(ask(steps), on("same")) for steps in (20, 30)))
    assert all(whole(r["messages"], steps) for r, steps in zip(results, (20, 30), strict=True))
    assert not faults(model)
    for messages, _ in model.seen:
        assert len({str(m.content) for m in messages if isinstance(m, HumanMessage) and "walk" in str(m.content)}) == 1


def test_sync_and_async_mixed_in_one_thread() -> None:
    model = Scripted()
    app = agent(model, [ContextMiddleware(pipeline())], InMemorySaver())
    for turn in range(4):
        run(app, ask(12), "t", "sync" if turn % 2 else "async")
    assert len(app.get_state(on("t")).values["messages"]) == 4 * 26
    assert not faults(model)


# People in the loop -------------------------------------------------------------------------------------------------


def test_approval_of_each_call() -> None:
    model = Scripted()
    gate = HumanInTheLoopMiddleware(interrupt_on={"walk": True})
    app = agent(model, [gate, ContextMiddleware(pipeline())], InMemorySaver())
    given: Any = ask(25)
    for step in range(1, 26):
        state = app.invoke(given, on("t"))
        assert state["__interrupt__"], step
        refused = {"type": "reject", "message": f"step {step} of 25: refused, go on"}
        given = Command(resume={"decisions": [refused if step % 5 == 0 else {"type": "approve"}]})
    result = app.invoke(given, on("t"))
    assert result["messages"][-1].content == "all done now"
    assert sum(isinstance(m, ToolMessage) for m in result["messages"]) == 25
    assert not faults(model)


def test_a_question_while_a_call_is_pending() -> None:
    model = Scripted()
    app = agent(model, [ContextMiddleware(pipeline())], InMemorySaver(), interrupt_before=["tools"])
    app.invoke(ask(), on("t"))
    app.update_state(on("t"), {"messages": [HumanMessage("walk 7 is enough")]}, as_node="tools")
    app.invoke(None, on("t"))
    assert len(model.seen) == 2
    assert not faults(model)
    assert "walk 7 is enough" in str(model.seen[1][0][-1].content)


# Streams ------------------------------------------------------------------------------------------------------------


def chunks(app: Any, thread: str) -> list[str]:
    return [str(chunk.content) for chunk, _ in app.stream(ask(8), on(thread), stream_mode="messages")]


def test_streams_pass_untouched() -> None:
    bare, managed = agent(Scripted(), []), agent(Scripted(), [ContextMiddleware(pipeline(budget=1_500))])
    assert chunks(managed, "t") == chunks(bare, "t")
    assert "all " in chunks(managed, "t2")


async def test_no_internal_token_reaches_the_stream() -> None:
    asked: list[Any] = []

    class Summariser(Scripted):
        def _answer(self, messages: list[Any], tools: list[Any]) -> AIMessage:
            asked.append(messages)
            return AIMessage("SECRET summary of the walk so far: every code is noted.")

    from memctx.strategies.summarize import Summarize

    middleware = ContextMiddleware(Pipeline([Summarize()], budget=BUDGET, edit_when="budget"), generate=Summariser())
    app = agent(Scripted(), [middleware], InMemorySaver())
    seen = [str(c.content) async for c, _ in app.astream(ask(30), on("t"), stream_mode="messages")]
    seen += [str(c.content) for c, _ in app.stream(ask(30), on("u"), stream_mode="messages")]
    assert asked
    assert "all " in seen
    assert not any("SECRET" in text or "summary" in text for text in seen)


def test_generate_with_asks_the_model() -> None:
    from memctx.effects import Generate

    model = Scripted()
    text = generate_with(model)(Generate(({"role": "user", "content": "hello"},), 100, "test"))
    assert text == "nothing to do"
    assert model.seen[0][0][0].content == "hello"


# Tools --------------------------------------------------------------------------------------------------------------


def test_an_offer_changes_the_tools_the_model_is_given() -> None:
    class OnlyWalk:
        name = "only_walk"

        def propose(self, ctx: Any) -> Any:
            return [Offer(("walk",))] if ctx.transcript.calls_made == 2 else []
            yield

    model = Scripted()
    app = agent(model, [ContextMiddleware(Pipeline([OnlyWalk()], budget=BUDGET, edit_when="always"))], InMemorySaver())
    app.invoke(ask(4), on("t"))
    names = [[tool["function"]["name"] for tool in tools] for _, tools in model.seen]
    assert names == [["walk", "rest"]] * 2 + [["walk"]] * 3


class Reopening(Scripted):
    """Walks, and after the last step asks for what was cut first."""

    def _answer(self, messages: list[Any], tools: list[Any]) -> AIMessage:
        reply = super()._answer(messages, tools)
        last = messages[-1]
        if isinstance(last, ToolMessage) and last.name == "reopen":
            return AIMessage(f"it said: {last.content}")
        if not reply.tool_calls:
            call = tool_call(name="reopen", args={"handle": "r1"}, id="call_reopen")
            return AIMessage("let me look again", tool_calls=[call])
        return reply


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("way", ["sync", "async"])
def test_the_model_can_reopen_what_was_cut(restart: bool, way: str) -> None:
    saver, model = InMemorySaver(), Reopening()
    app = agent(model, [ContextMiddleware(pipeline(), reopen=True)], saver)
    app.invoke(ask(), on("t"), interrupt_before=["tools"])
    while app.get_state(on("t")).values["messages"][-1].tool_calls[0]["name"] != "reopen":
        app.invoke(None, on("t"), interrupt_before=["tools"])
    if restart:
        app = agent(model, [ContextMiddleware(pipeline(), reopen=True)], saver)
    before = plan_of(app, "t")
    result = run(app, None, "t", way)
    answer = next(m for m in result["messages"] if isinstance(m, ToolMessage) and m.name == "reopen")
    assert str(answer.content) in {str(m.content) for m in result["messages"] if m is not answer}
    assert "code K" in result["messages"][-1].content
    assert before["edits"][0]["handle"] == "r1"
    assert not faults(model, BUDGET)


def test_an_unknown_handle_is_answered_in_words() -> None:
    middleware = ContextMiddleware(pipeline(), reopen=True)

    class Wrong(Reopening):
        def _answer(self, messages: list[Any], tools: list[Any]) -> AIMessage:
            reply = super()._answer(messages, tools)
            for call in reply.tool_calls:
                call["args"] = {"handle": "nonsense"} if call["name"] == "reopen" else call["args"]
            return reply

    result = agent(Wrong(), [middleware], InMemorySaver()).invoke(ask(3), on("t"))
    answer = next(m for m in result["messages"] if isinstance(m, ToolMessage) and m.name == "reopen")
    assert "nonsense" in str(answer.content)


# What else there is -------------------------------------------------------------------------------------------------


def test_usage_reaches_the_report() -> None:
    model, middleware = Scripted(usage=True), ContextMiddleware(pipeline())
    agent(model, [middleware], InMemorySaver()).invoke(ask(20), on("t"))
    bare = ContextMiddleware(pipeline())
    agent(Scripted(), [bare], InMemorySaver()).invoke(ask(20), on("t"))
    assert middleware.report("t") != bare.report("t")


def test_a_broken_history_is_mended_in_the_view_only() -> None:
    model = Scripted()
    history = [
        HumanMessage("walk 9"),
        step_of(1, 9),
        AIMessage("", tool_calls=[tool_call(name="rest", args={"minutes": 1}, id="lost")]),
        ToolMessage("step 1 of 9: late", tool_call_id="call_9_1"),
        ToolMessage("nobody asked", tool_call_id="ghost"),
    ]
    result = agent(model, [ContextMiddleware(pipeline())]).invoke({"messages": history}, on("t"))
    assert [m.content for m in result["messages"][:5]] == [m.content for m in history]
    assert not faults(model)


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("langchain_openai:ChatOpenAI", "openai-chat"),
        ("langchain_openai:AzureChatOpenAI", "openai-chat"),
        ("langchain_anthropic:ChatAnthropic", "anthropic"),
        ("tests.scripted:Scripted", None),
    ],
)
def test_the_model_class_tells_the_provider(model: str, provider: str | None) -> None:
    module, _, name = model.partition(":")
    kind = getattr(pytest.importorskip(module), name)
    assert provider_of(kind.model_construct()) == provider


def served(body: dict[str, Any]) -> Reply:
    """The walk as a provider's server speaks it."""
    found = re.findall(r"step (\d+) of (\d+)|walk (\d+)", json.dumps(body["messages"]))
    step, steps = (int(found[-1][0]), int(found[-1][1])) if found[-1][0] else (0, int(found[-1][2]))
    arguments = json.dumps({"step": step + 1, "steps": steps})
    return Reply("all done now") if step >= steps else Reply("", (Call("walk", arguments, f"call_{step + 1}"),))


@pytest.mark.parametrize(("kind", "price"), [("openai", "openai"), ("anthropic", "anthropic-1h")])
def test_a_strict_provider_refuses_nothing(kind: str, price: str) -> None:
    module = pytest.importorskip(f"langchain_{kind}")
    with strict_server(served) as server:
        settings: dict[str, Any] = {"model": "m", "api_key": "k", "max_retries": 0}
        if kind == "openai":
            model = module.ChatOpenAI(base_url=f"{server.url}/v1", **settings)
        else:
            model = module.ChatAnthropic(base_url=server.url, max_tokens=100, **settings)
        middleware = ContextMiddleware(pipeline(price=price, budget=4_000))
        result = agent(model, [middleware], InMemorySaver()).invoke(ask(), on("t"))
        assert server.refused == 0
    assert whole(result["messages"])
    report = middleware.report("t")
    assert report["edits"] > 0
    assert report["reported"]["input"] > 0
    marked = [json.dumps(body["messages"]).count("cache_control") for body in server.requests]
    assert max(marked) <= 4
    assert (min(marked) >= 1) is (kind == "anthropic")
    assert ('"1h"' in json.dumps(server.requests[-1])) is (kind == "anthropic")


def test_what_one_thread_remembers_another_recalls_and_the_plan_stays_in_the_state() -> None:
    with Memory() as memory:
        acme = memory.at("acme")
        stack: list[Strategy] = [RememberSteps(), RecallMemory(), ClearResults(keep=3)]
        middleware = ContextMiddleware(Pipeline(stack, budget=BUDGET, edit_when="budget"), memory=acme)
        model = Scripted()
        app = agent(model, [middleware], InMemorySaver())
        app.invoke(ask(), on("t"))
        with middleware.sessions.lease(("t", "")) as slot:
            slot.session.close()
        app.invoke({"messages": [HumanMessage("walk 1, but what was the code of step 7?")]}, on("u"))
        first = next(messages for messages, _ in model.seen if "but what" in str(messages[1].content))
        assert "Now step" in str(first[-1].content)
        assert plan_of(app, "t")["edits"]
        assert memory.store.plan(acme.scope, "t") is None
        assert not faults(model)


class AnthropicScripted(Scripted):
    """Stands for a model of Anthropic's: its requests must start with the user."""


def test_an_anthropic_model_gets_what_anthropic_takes() -> None:
    model, other = AnthropicScripted(), Scripted()
    history = [AIMessage("Hello, I am the walker."), *ask()["messages"]]
    for chosen in (model, other):
        agent(chosen, [ContextMiddleware(pipeline())], InMemorySaver()).invoke({"messages": history}, on("t"))
    assert not [fault for messages, _ in model.seen for fault in check(messages, "anthropic")]
    assert model.seen[0][0][1].type == "human"
    assert other.seen[0][0][1].type == "ai"


def test_an_agent_inside_an_agent_has_its_own_session_and_plan() -> None:
    middleware, inner = ContextMiddleware(pipeline()), Scripted()
    below: Any = agent(inner, [middleware])

    @tool
    def delegate(steps: int) -> str:
        """Let another walk."""
        return str(below.invoke(ask(steps), {"recursion_limit": 200})["messages"][-1].content)

    class Delegating(Scripted):
        def _answer(self, messages: list[Any], tools: list[Any]) -> AIMessage:
            self.seen.append((list(messages), list(tools)))
            if isinstance(messages[-1], ToolMessage):
                return AIMessage("delegated")
            call = tool_call(name="delegate", args={"steps": 30}, id="d1")
            return AIMessage("", tool_calls=[call])

    outer = Delegating()
    app: Any = create_agent(outer, [delegate], middleware=[middleware], checkpointer=InMemorySaver())
    result = app.invoke(ask(), on("t"))
    assert result["messages"][-2].content == "all done now"
    assert not faults(inner)
    assert not plan_of(app, "t")
    assert middleware.report("t")["calls"] == 2
    assert middleware.report("t", "tools")["calls"] == 31
