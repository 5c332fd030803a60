"""LangGraph: `prepare` in a graph of one's own and the hook of the older agent, with the real packages."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytest.importorskip("langgraph")

from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, create_react_agent, tools_condition
from langgraph.prebuilt.chat_agent_executor import AgentState
from langgraph.runtime import Runtime

from memctx import Pipeline, check
from memctx.adapters.langgraph import PlanState, Sessions, aprepare, pre_model_hook, prepare
from memctx.errors import NotFound
from memctx.strategies.clear import ClearResults
from memctx.strategies.truncate import Truncate
from tests.scripted import Scripted, rest, size_of, texts, walk

STEPS = 45
BUDGET = 3_000
TOOLS = [walk, rest]
SYSTEM = SystemMessage("You are a walker. " * 20)


class State(PlanState, MessagesState):
    """The messages and the plan."""


def sessions(**settings: Any) -> Sessions:
    return Sessions(Pipeline.safe(**{"budget": BUDGET, "edit_when": "budget", **settings}))


def clearing() -> Sessions:
    """Edits that come out the same from a cold session and a warm one, to the number of the handle."""
    return Sessions(Pipeline([ClearResults(keep=3)], budget=BUDGET, edit_when="budget"))


def graph(model: Scripted, source: Any, saver: Any = None, *, told: str = "runtime") -> Any:
    """A model node, sync and async, and a tool node."""

    def by_runtime(state: State, runtime: Runtime[Any]) -> dict[str, Any]:
        view, update = prepare(source, state, runtime, tools=TOOLS, system=SYSTEM)
        return {"messages": [model.invoke([SYSTEM, *view.messages], tools=view.tools)], **update}

    def by_config(state: State, config: RunnableConfig) -> dict[str, Any]:
        view, update = prepare(source, state, config, tools=TOOLS, system=SYSTEM)
        return {"messages": [model.invoke([SYSTEM, *view.messages], tools=view.tools)], **update}

    def by_context(state: State) -> dict[str, Any]:
        view, update = prepare(source, state, tools=TOOLS, system=SYSTEM)
        return {"messages": [model.invoke([SYSTEM, *view.messages], tools=view.tools)], **update}

    async def awaited(state: State, runtime: Runtime[Any]) -> dict[str, Any]:
        view, update = await aprepare(source, state, runtime, tools=TOOLS, system=SYSTEM)
        return {"messages": [await model.ainvoke([SYSTEM, *view.messages], tools=view.tools)], **update}

    node: Any = {"runtime": by_runtime, "config": by_config, "context": by_context, "async": awaited}[told]
    built = StateGraph(State, output_schema=MessagesState).add_node("model", node).add_node("tools", ToolNode(TOOLS))
    built.add_edge(START, "model").add_conditional_edges("model", tools_condition).add_edge("tools", "model")
    return built.compile(checkpointer=saver)


def on(thread: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread}, "recursion_limit": 500}


def ask(steps: int = STEPS) -> dict[str, Any]:
    return {"messages": [HumanMessage(f"walk {steps}")]}


def faults(model: Scripted) -> list[str]:
    found = []
    for place, (messages, tools) in enumerate(model.seen):
        found += [f"{place}: {fault}" for fault in check(messages, "openai-chat")]
        if size_of(messages, tools) > BUDGET:
            found.append(f"{place}: {size_of(messages, tools)} tokens")
    return found


def whole(messages: list[Any], steps: int = STEPS) -> bool:
    kinds = ["human", *["ai", "tool"] * steps, "ai"]
    results = [m for m in messages if isinstance(m, ToolMessage)]
    return [m.type for m in messages] == kinds and all(len(str(m.content)) > 500 for m in results)


def run(app: Any, given: Any, thread: str, way: str) -> dict[str, Any]:
    if way != "async":
        return dict(app.invoke(given, on(thread)))
    return dict(asyncio.run(app.ainvoke(given, on(thread))))


@pytest.mark.parametrize("told", ["runtime", "config", "context", "async"])
def test_a_graph_of_ones_own(told: str) -> None:
    model, source = Scripted(), sessions()
    app = graph(model, source, InMemorySaver(), told=told)
    result = run(app, ask(), "t", told)
    assert len(model.seen) == STEPS + 1
    assert not faults(model)
    assert whole(result["messages"])
    assert "memctx_plan" not in result
    assert app.get_state(on("t")).values["memctx_plan"]["edits"]
    assert source.report("t")["calls"] == STEPS + 1


def test_a_pipeline_itself_keeps_its_sessions() -> None:
    model, pipeline = Scripted(), sessions().pipeline
    graph(model, pipeline, InMemorySaver()).invoke(ask(), on("t"))
    assert not faults(model)
    kept = Scripted()
    graph(kept, Sessions(pipeline), InMemorySaver()).invoke(ask(), on("t"))
    assert [texts(m) for m, _ in model.seen] == [texts(m) for m, _ in kept.seen]


def test_fresh_sessions_for_each_call_show_the_same_bytes() -> None:
    """The plan in the state is all that counts: the session is a cache."""
    saver, model, other = InMemorySaver(), Scripted(), Scripted()
    app = graph(model, clearing(), saver)
    app.invoke(ask(), on("t"))
    past = [state for state in app.get_state_history(on("t")) if state.next == ("model",)]
    assert len(past) == STEPS + 1
    for state in reversed(past):
        config: Any = {**state.config, "recursion_limit": 500}
        graph(other, clearing(), saver).invoke(None, config, interrupt_after=["model"])
    assert [texts(m) for m, _ in other.seen] == [texts(m) for m, _ in model.seen]


def test_time_travel_with_warm_sessions_shows_the_same_bytes() -> None:
    saver, model = InMemorySaver(), Scripted()
    app = graph(model, clearing(), saver)
    app.invoke(ask(), on("t"))
    first = [texts(m) for m, _ in model.seen]
    past = [state for state in app.get_state_history(on("t")) if state.next == ("model",)]
    model.seen.clear()
    app.invoke(None, {**past[30].config, "recursion_limit": 500})
    assert [texts(m) for m, _ in model.seen] == first[-31:]
    model.seen.clear()
    app.invoke(None, {**past[-1].config, "recursion_limit": 500})
    assert [texts(m) for m, _ in model.seen] == first


def test_threads_and_tasks_at_once() -> None:
    model, source = Scripted(), sessions()
    app = graph(model, source, InMemorySaver())
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda steps: app.invoke(ask(steps), on(f"t{steps}")), (20, 25, 30)))
    assert all(whole(r["messages"], steps) for r, steps in zip(results, (20, 25, 30), strict=True))
    app = graph(model, source, InMemorySaver(), told="async")

    async def together() -> list[Any]:
        return await asyncio.gather(*(app.ainvoke(ask(steps), on(f"u{steps}")) for steps in (20, 25, 30)))

    assert all(whole(r["messages"], s) for r, s in zip(asyncio.run(together()), (20, 25, 30), strict=True))
    assert not faults(model)


def test_usage_is_read_from_the_history() -> None:
    model, source = Scripted(usage=True), sessions()
    graph(model, source, InMemorySaver()).invoke(ask(20), on("t"))
    billed = sum(size_of(messages, tools) for messages, tools in model.seen[:-1])  # nobody asks after the last answer
    assert source.report("t")["reported"]["input"] == billed


def test_the_cache_is_bounded() -> None:
    source = Sessions(Pipeline.safe(budget=BUDGET), capacity=2)
    for thread in ("a", "b", "c"):
        prepare(source, ask(), on(thread))
    assert source.report("b")["calls"] == source.report("c")["calls"] == 1
    with pytest.raises(NotFound, match="'a'"):
        source.report("a")


def test_a_busy_session_is_not_shared() -> None:
    source = sessions()
    with source.lease(("t", "")) as one, source.lease(("t", "")) as two:
        assert one.session is not two.session
    with source.lease(("t", "")) as again:
        assert again.session is one.session


def test_prepare_outside_a_graph() -> None:
    state: Any = ask()
    view, update = prepare(sessions(), state)
    assert view.messages == state["messages"]
    assert update == {}


# The older agent ----------------------------------------------------------------------------------------------------


class OlderState(PlanState, AgentState):
    """The older agent's state and the plan."""


def older(model: Scripted, source: Any, saver: Any, **settings: Any) -> Any:
    hook = pre_model_hook(source, tools=TOOLS, system=SYSTEM)
    with pytest.warns(DeprecationWarning, match="create_react_agent"):
        return create_react_agent(model, TOOLS, pre_model_hook=hook, prompt=SYSTEM, checkpointer=saver, **settings)


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_hook(way: str, version: str) -> None:
    model = Scripted()
    app = older(model, sessions(), InMemorySaver(), state_schema=OlderState, version=version)
    result = run(app, ask(), "t", way)
    assert len(model.seen) == STEPS + 1
    assert not faults(model)
    assert whole(result["messages"])
    assert app.get_state(on("t")).values["memctx_plan"]["edits"]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_no_note_of_the_view_reaches_the_stream_of_the_hook(version: str) -> None:
    source = Sessions(Pipeline([Truncate()], budget=BUDGET, edit_when="budget"))
    model = Scripted()
    app = older(model, source, InMemorySaver(), state_schema=OlderState, version=version)
    nodes = {meta["langgraph_node"] for _, meta in app.stream(ask(20), on("t"), stream_mode="messages")}
    assert any("[cut r1]" in str(m.content) for m in model.seen[-1][0])
    assert nodes == {"agent", "tools"}


def test_the_hook_goes_on_after_a_restart() -> None:
    saver, first, second, whole_run = InMemorySaver(), Scripted(), Scripted(), Scripted()
    older(whole_run, clearing(), InMemorySaver(), state_schema=OlderState).invoke(ask(), on("t"))
    app = older(first, clearing(), saver, state_schema=OlderState)
    app.invoke(ask(), on("t"), interrupt_before=["tools"])
    for _ in range(24):
        app.invoke(None, on("t"), interrupt_before=["tools"])
    older(second, clearing(), saver, state_schema=OlderState).invoke(None, on("t"))
    assert [texts(m) for m, _ in first.seen + second.seen] == [texts(m) for m, _ in whole_run.seen]


def test_the_hook_without_a_place_for_the_plan_keeps_it_in_the_process() -> None:
    kept, declared = Scripted(), Scripted()
    older(kept, sessions(), InMemorySaver()).invoke(ask(), on("t"))
    older(declared, sessions(), InMemorySaver(), state_schema=OlderState).invoke(ask(), on("t"))
    assert [texts(m) for m, _ in kept.seen] == [texts(m) for m, _ in declared.seen]


def test_a_rewound_thread_without_a_plan_starts_over() -> None:
    source, thread = sessions(), on("t")
    state: Any = ask()
    model = Scripted()
    for _ in range(30):
        reply = model.invoke(prepare(source, state, thread)[0].messages)
        state["messages"] += [reply, walk.invoke(reply.tool_calls[0])]
    assert prepare(source, state, thread)[0].plan.edits
    rewound, update = prepare(source, {"messages": state["messages"][:3]}, thread)
    assert rewound.messages == state["messages"][:3]
    assert update == {}
