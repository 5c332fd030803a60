"""Tools in LangChain agents: how a view's offer reaches the model, and memctx's own tools as LangChain's.

LangChain lets a middleware narrow `request.tools` to tools that the agent was made with; its tool node runs every one of
those, offered or not. So the host gives all its tools, and the model sees those of the view.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.prebuilt import ToolRuntime
from langgraph.types import Command

from memctx.adapters._wire_tools import HOSTED, allow_list, chosen, only
from memctx.adapters.langgraph import KEY, Sessions, Slot, place_of
from memctx.budget import Budget
from memctx.errors import ConfigError
from memctx.plan import Plan
from memctx.search_tools import NAMES, REMOVE, SEARCH, SearchTools, Shelf
from memctx.validity import offerable

if TYPE_CHECKING:
    from langchain.agents.middleware import ModelRequest

    from memctx.pipeline import Pipeline
    from memctx.session import Session
    from memctx.view import View

OPENAI = ("ChatOpenAI", "AzureChatOpenAI")  # others that share its code do not share its API


def forced(request: ModelRequest[Any]) -> tuple[str, ...]:
    """The tools that a request's tool choice names."""
    choice = request.tool_choice
    names = {choice} if isinstance(choice, str) else chosen(choice)
    return tuple(tool.name for tool in request.tools if isinstance(tool, BaseTool) and tool.name in names)


def searches(pipeline: Pipeline) -> bool:
    """Whether a strategy of the pipeline chooses tools and lets the model search for more."""
    choosers = (strategy for strategy in pipeline.strategies if getattr(strategy, "offers", False))
    return any(getattr(strategy, "mode", "workflow") != "workflow" for strategy in choosers)


def overrides(slot: Slot, request: ModelRequest[Any], view: View) -> dict[str, Any]:
    """What of a model request the view's offer changes: `tools` and `tool_choice`, or nothing.

    An allow-list is for OpenAI's own models and where nothing else sets the tool choice; elsewhere the tools that are not
    allowed are left out. Raises `ConfigError` for a name that the provider refuses.
    """
    tools = slot.offered(view)
    if tools is None and view.allowed is None and not view.deferred:
        return {}
    tools = list(request.tools) if tools is None else tools
    changes: dict[str, Any] = {}
    if view.deferred:
        tools = _late(request.model, tools, view.deferred)
    elif view.allowed is not None:
        free = request.tool_choice is None and request.response_format is None
        service = _service(request.model, tools) if free else ""
        listed = allow_list(service, [_named(tool) for tool in tools], view.allowed, None) if service else None
        tools = tools if listed else only(tools, view.allowed)
        changes = {"tool_choice": listed} if listed else {}
    offerable(tools, slot.provider)
    return {"tools": tools, **changes}


def _named(tool: Any) -> Any:
    """As a schema, as far as an allow-list needs one."""
    return {"type": "function", "name": tool.name} if isinstance(tool, BaseTool) else tool


def _service(model: Any, tools: Sequence[Any]) -> str:
    """Which of OpenAI's services a model calls; "" for any other model."""
    if type(model).__name__ not in OPENAI:
        return ""
    decides = getattr(model, "_use_responses_api", None)  # LangChain has no public way to ask
    built_in = [tool for tool in tools if isinstance(tool, dict)]
    return "responses" if decides and decides({"tools": built_in} if built_in else {}) else "chat"


def _late(model: Any, tools: Sequence[Any], deferred: Sequence[str]) -> list[Any]:
    """The tools with those `deferred` marked, and a search: our own with Anthropic, with OpenAI the provider's.

    LangChain hands no search of OpenAI's client kind to the host, so there our own tools leave the request.
    """
    service = {"ChatAnthropic": "messages", **dict.fromkeys(OPENAI, "responses")}.get(type(model).__name__)
    if service is None:
        text = f"{type(model).__name__} cannot load tools late: use delivery='list'"
        raise ConfigError(text, field="delivery")
    own = service == "messages" and any(getattr(tool, "name", "") == SEARCH for tool in tools)
    out = [tool for tool in tools if own or getattr(tool, "name", "") not in NAMES]
    waits = {name for tool in out if (name := getattr(tool, "name", "")) in deferred}
    out = [_marked(tool) if getattr(tool, "name", "") in waits else tool for tool in out]
    return out if own or not waits else [*out, dict(HOSTED[service])]


def _marked(tool: BaseTool) -> BaseTool:
    return tool.model_copy(update={"extras": {**(tool.extras or {}), "defer_loading": True}})


# Our own tools -------------------------------------------------------------------------------------------------------


def reopen_tool(sessions: Sessions) -> BaseTool:
    """The session's tool as LangChain's. It reads messages and plan from the state, so it works after a restart."""
    function = sessions.pipeline.session().reopen_tool().schema["function"]

    def reopen(handle: str, runtime: ToolRuntime[Any, Any], offset: int = 0, find: str = "") -> str:
        plan = _plan(runtime)
        with sessions.lease(place_of(runtime, runtime.state["messages"])) as slot:
            session = slot.session if slot.session.plan == plan else _reader(sessions.pipeline, runtime.state, plan)
            return session.reopen_tool()(handle, offset, find)

    return StructuredTool.from_function(reopen, name=function["name"], description=function["description"])


def _plan(runtime: ToolRuntime[Any, Any]) -> Plan:
    return Plan.from_dict(runtime.state.get(KEY) or Plan().to_dict())


def _reader(pipeline: Pipeline, state: Any, plan: Plan, tools: Any = None) -> Session:
    """A session for reading only: it decides nothing and asks nobody."""
    session = replace(pipeline, strategies=(), budget=Budget(tokens=sys.maxsize)).session()
    session.view(state["messages"], tools, plan=plan)
    return session


def search_tools(sessions: Sessions) -> list[BaseTool]:
    """`search_tools` and `remove_tools` as LangChain's, over all the tools of the tool node that runs them.

    `ContextMiddleware` registers them itself. A graph of one's own puts them among its tools, which `prepare` gets too.
    """

    def search(query: str, runtime: ToolRuntime[Any, Any], k: int | None = None) -> Command[Any]:
        return _answered(sessions, runtime, SEARCH, {"query": query, "k": k})

    def remove(names: list[str], runtime: ToolRuntime[Any, Any]) -> Command[Any]:
        return _answered(sessions, runtime, REMOVE, {"names": names})

    described = {schema["function"]["name"]: schema["function"]["description"] for schema in SearchTools(Shelf).schemas}
    return [
        StructuredTool.from_function(function, name=name, description=described[name])
        for name, function in ((SEARCH, search), (REMOVE, remove))
    ]


def _answered(sessions: Sessions, runtime: ToolRuntime[Any, Any], name: str, arguments: dict[str, Any]) -> Command[Any]:
    """The answer as an update: of a plain result, LangChain would write references that load tools as text."""
    plan = _plan(runtime)
    with sessions.lease(place_of(runtime, runtime.state["messages"])) as slot:
        tools = slot.session.search_tools()
        if not slot.given or slot.session.plan != plan:  # another process made the call
            schemas = [convert_to_openai_tool(tool) for tool in runtime.tools]
            read = _reader(sessions.pipeline, runtime.state, plan, schemas).search_tools().shelf()
            known = replace(read, cap=tools.shelf().cap)
            tools = replace(tools, shelf=lambda: known)
        answer = tools.answer({"type": "tool_use", "name": name, "input": arguments})
    content = answer["content"] if answer else ""
    message = ToolMessage(content, tool_call_id=runtime.tool_call_id or "", name=name)
    return Command(update={"messages": [message]})
