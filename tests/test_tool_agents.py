"""Agents of LangChain with sixty tools, of which the model sees a few."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("langchain")

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.runtime import Runtime
from pydantic import Field

from memctx import Pipeline
from memctx.adapters.langchain import ContextMiddleware
from memctx.adapters.langgraph import PlanState, Sessions, prepare, search_tools
from memctx.errors import ConfigError
from memctx.offer import name_of
from memctx.search_tools import REMOVE, SEARCH
from memctx.strategies.tool_window import ToolWindow
from tests.servers import Call, Reply, strict_server
from tests.test_tool_delivery import FUNCTIONS

CAP = 6
Say = Callable[[list[BaseMessage]], AIMessage]


def tools() -> list[BaseTool]:
    def made(name: str, description: str) -> BaseTool:
        return StructuredTool.from_function(lambda: f"{name} done", name=name, description=description)

    return [made(function["name"], function["description"]) for function in FUNCTIONS]


def window(delivery: Any = "auto", mode: Any = "hybrid") -> Pipeline:
    return Pipeline([ToolWindow(mode=mode, cap=CAP, k=2, delivery=delivery)], budget=20_000)


class Asking(BaseChatModel):
    """Says what it is told to; keeps the tools it was shown."""

    say: Any
    seen: list[tuple[list[str], Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "asking"

    def bind_tools(self, tools: Any, *, tool_choice: Any = None, **kwargs: Any) -> Any:
        return self.bind(shown=[name_of(convert_to_openai_tool(tool)) for tool in tools], choice=tool_choice)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.seen.append((kwargs.get("shown", []), kwargs.get("choice")))
        return ChatResult(generations=[ChatGeneration(message=self.say(messages))])


def call(name: str, number: int, **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[tool_call(name=name, args=arguments, id=f"call_{number}")])


def seeking(messages: list[BaseMessage]) -> AIMessage:
    """Looks for a way to share photos, uses it, and then one that was never shown."""
    results = [message for message in messages if isinstance(message, ToolMessage)]
    if not results:
        return call(SEARCH, 1, query="share photos", k=2)
    if len(results) == 1:
        return call(json.loads(str(results[0].content))["tools"][0]["name"], 2)
    return call("delete_stocks", 3) if len(results) == 2 else AIMessage("done")


def on(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


ASK = {"messages": [HumanMessage("What is in my mail?")]}


@pytest.mark.parametrize("way", ["sync", "async", "stream"])
def test_the_model_sees_a_few_and_the_agent_runs_all(way: str) -> None:
    model = Asking(say=seeking)
    agent: Any = create_agent(model, tools(), middleware=[ContextMiddleware(window())], checkpointer=InMemorySaver())
    if way == "async":
        result = asyncio.run(agent.ainvoke(ASK, on("t")))
    elif way == "sync":
        result = agent.invoke(ASK, on("t"))
    else:
        *_, result = agent.stream(ASK, on("t"), stream_mode="values")
    results = [message for message in result["messages"] if isinstance(message, ToolMessage)]
    assert [str(message.content) for message in results[1:]] == ["share_photos done", "delete_stocks done"]
    assert all(len(shown) <= CAP and SEARCH in shown for shown, _ in model.seen)
    assert "share_photos" not in model.seen[0][0]
    assert "share_photos" in model.seen[1][0]
    assert json.loads(str(results[0].content))["cap"] == CAP


def test_both_tools_are_there_where_the_model_manages_its_list() -> None:
    def say(messages: list[BaseMessage]) -> AIMessage:
        results = [message for message in messages if isinstance(message, ToolMessage)]
        if not results:
            return call(SEARCH, 1, query="share photos", k=1)
        return call(REMOVE, 2, names=["share_photos"]) if len(results) == 1 else AIMessage("done")

    model = Asking(say=say)
    agent: Any = create_agent(model, tools(), middleware=[ContextMiddleware(window(mode="autonomous"))])
    result = agent.invoke(ASK)
    removed = json.loads(str(result["messages"][-2].content))
    assert removed["removed"] == ["share_photos"]
    assert {SEARCH, REMOVE} <= set(model.seen[0][0])


def test_a_workflow_has_no_search() -> None:
    model = Asking(say=lambda messages: AIMessage("done"))
    agent: Any = create_agent(model, tools(), middleware=[ContextMiddleware(window(mode="workflow"))])
    agent.invoke(ASK)
    (shown, _), *_ = model.seen
    assert not {SEARCH, REMOVE} & set(shown)
    assert "list_mail" in shown or "find_mail" in shown


def test_a_search_is_answered_after_a_restart() -> None:
    saver = InMemorySaver()

    def agent() -> Any:
        return create_agent(
            Asking(say=seeking),
            tools(),
            middleware=[ContextMiddleware(window())],
            checkpointer=saver,
            interrupt_before=["tools"],
        )

    agent().invoke(ASK, on("t"))
    result = agent().invoke(None, on("t"))  # another process: its middleware has seen no call
    said = json.loads(str(next(m for m in result["messages"] if isinstance(m, ToolMessage)).content))
    assert said["tools"][0]["name"] == "share_photos"
    assert (said["cap"], said["count"]) == (CAP, 2)


def test_a_pipeline_without_a_window_offers_all() -> None:
    model = Asking(say=lambda messages: AIMessage("done"))
    agent: Any = create_agent(model, tools(), middleware=[ContextMiddleware(Pipeline.safe(budget=20_000))])
    agent.invoke(ASK)
    assert model.seen == [([function["name"] for function in FUNCTIONS], None)]


def test_another_model_gets_the_allowed_tools_as_a_list() -> None:
    model = Asking(say=seeking)
    agent: Any = create_agent(model, tools(), middleware=[ContextMiddleware(window("allow"))])
    agent.invoke(ASK)
    assert all(len(shown) <= CAP and choice is None for shown, choice in model.seen)


def test_another_model_cannot_defer() -> None:
    agent: Any = create_agent(Asking(say=seeking), tools(), middleware=[ContextMiddleware(window("defer"))])
    with pytest.raises(ConfigError, match="Asking cannot load tools late"):
        agent.invoke(ASK)


# Real chat models, against the strict server -----------------------------------------------------------------------------


def served(body: dict[str, Any]) -> Reply:
    """The same search and use, as a provider's server speaks it."""
    text = json.dumps(body.get("messages") or body.get("input"))
    if f'"{SEARCH}"' not in text:
        return Reply("", (Call(SEARCH, '{"query": "share photos", "k": 2}', "call_1"),))
    return Reply("done") if "share_photos done" in text else Reply("", (Call("share_photos", "{}", "call_2"),))


@pytest.mark.parametrize("responses", [False, True])
def test_openai_gets_an_allow_list(responses: bool) -> None:
    module = pytest.importorskip("langchain_openai")
    with strict_server(served) as server:
        model = module.ChatOpenAI(
            model="m", api_key="k", base_url=f"{server.url}/v1", use_responses_api=responses, max_retries=0
        )
        agent: Any = create_agent(model, tools(), middleware=[ContextMiddleware(window("allow"))])
        assert agent.invoke(ASK)["messages"][-1].text == "done"
        assert server.refused == 0
    assert len(server.requests) == 3
    choices = [body["tool_choice"] for body in server.requests if isinstance(body.get("tool_choice"), dict)]
    assert all(choice["type"] == "allowed_tools" for choice in choices)
    for body in server.requests:
        names = [name_of(tool) for tool in body["tools"]]
        assert len(names) <= CAP


def test_openai_searches_itself_where_tools_are_deferred() -> None:
    module = pytest.importorskip("langchain_openai")
    with strict_server(lambda body: Reply("done")) as server:
        model = module.ChatOpenAI(
            model="m", api_key="k", base_url=f"{server.url}/v1", use_responses_api=True, max_retries=0
        )
        agent: Any = create_agent(model, tools(), middleware=[ContextMiddleware(window("defer"))])
        agent.invoke(ASK)
        assert server.refused == 0
    (body,) = server.requests
    *functions, search = body["tools"]
    assert search == {"type": "tool_search"}
    assert [tool["name"] for tool in functions if tool.get("defer_loading")] == [each["name"] for each in FUNCTIONS]


def test_claude_loads_what_our_search_refers_to() -> None:
    module = pytest.importorskip("langchain_anthropic")
    with strict_server(served) as server:
        model = module.ChatAnthropic(model="m", api_key="k", base_url=server.url, max_tokens=100, max_retries=0)
        agent: Any = create_agent(model, tools(), middleware=[ContextMiddleware(window("defer"))])
        assert agent.invoke(ASK)["messages"][-1].text == "done"
        assert server.refused == 0
    assert len(server.requests) == 3
    first, *_, last = server.requests
    assert first["tools"] == last["tools"]  # the block never changes
    assert next(tool["name"] for tool in first["tools"] if not tool.get("defer_loading")) == SEARCH
    blocks = [block for message in last["messages"] for block in message["content"] if isinstance(block, dict)]
    (found, _) = [block["content"] for block in blocks if block["type"] == "tool_result"]
    assert {"type": "tool_reference", "tool_name": "share_photos"} in found


def test_a_graph_of_ones_own() -> None:
    sessions = Sessions(window("list"))
    every: list[Any] = [*tools(), *search_tools(sessions)]
    model = Asking(say=seeking)

    class State(PlanState, MessagesState): ...

    def think(state: State, runtime: Runtime[Any]) -> dict[str, Any]:
        view, update = prepare(sessions, state, runtime, tools=every)
        return {"messages": [model.bind_tools(view.tools).invoke(view.messages)], **update}

    graph: Any = StateGraph(State).add_node(think).add_node("tools", ToolNode(every)).add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition).add_edge("tools", "think")
    result = graph.compile(checkpointer=InMemorySaver()).invoke(ASK, on("t"))
    results = [message for message in result["messages"] if isinstance(message, ToolMessage)]
    assert [str(message.content) for message in results[1:]] == ["share_photos done", "delete_stocks done"]
    assert all(len(shown) <= CAP and SEARCH in shown for shown, _ in model.seen)
    assert "share_photos" in model.seen[1][0]
