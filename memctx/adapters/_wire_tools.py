"""How the tools of a view reach a provider: as a list, as a list of allowed ones, or loaded late.

Wire forms: the SDKs' types (openai 3.x, anthropic 2.x). What each service can do:

    chat        allow-list; nothing can be loaded late
    responses   allow-list; `defer_loading` with the provider's `tool_search`, or with the host's own, run by the client
    messages    no allow-list, so the others are left out; `defer_loading` with a search tool or the host's own
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from memctx.errors import ConfigError
from memctx.offer import name_of
from memctx.search_tools import SEARCH
from memctx.validity import offerable
from memctx.view import View

Json = dict[str, Any]
PROVIDER = {"chat": "openai-chat", "responses": "openai-responses", "messages": "anthropic"}
HOSTED: dict[str, Json] = {
    "responses": {"type": "tool_search"},
    "messages": {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"},
}
MODE_OF = {None: "auto", "auto": "auto", "required": "required"}


def delivered(service: str, body: Json, view: View) -> Json:
    """The fields `tools` and `tool_choice` of a request, where the view changes them. Empty tools are None.

    A `tool_choice` of the host's stays: a tool it forces is sent whether the view offers it or not. Raises `ConfigError`
    for tools that this service would refuse, and for late loading where it has none.
    """
    given, choice = body.get("tools"), body.get("tool_choice")
    if view.tools is None or not isinstance(given, list):
        return {}
    tools = list(view.tools)
    if view.deferred:
        tools = late(service, tools, view.deferred, chosen(choice))
    changes: Json = {}
    if view.allowed is not None:
        listed = allow_list(service, tools, view.allowed, choice)
        if listed:
            changes["tool_choice"] = listed
        elif service == "messages":
            tools = only(tools, view.allowed)
    if tools != given:
        offerable(tools, PROVIDER[service])
        names = {name_of(tool) for tool in tools}
        tools += [tool for tool in given if name_of(tool) in chosen(choice) - names]
        changes["tools"] = tools or None
    return changes


def only(tools: Sequence[Any], names: Collection[str]) -> list[Any]:
    """The tools named, in order; a tool without a name (a provider's own) stays."""
    return [tool for tool in tools if name_of(tool) in ("", *names)]


def allow_list(service: str, tools: Sequence[Any], allowed: Collection[str], choice: Any) -> Any:
    """OpenAI's `tool_choice` that lets the model call no others; None where the service has none or none is needed."""
    words = choice is None or isinstance(choice, str)
    if service == "messages" or not words or choice not in MODE_OF:
        return None
    usable = only(tools, allowed)
    if len(usable) == len(tools):
        return None
    if not usable:
        return "none"
    entries = [_entry(service, tool) for tool in usable]
    listed = {"mode": MODE_OF[choice], "tools": entries}
    return {"type": "allowed_tools", **({"allowed_tools": listed} if service == "chat" else listed)}


def _entry(service: str, tool: Any) -> Json:
    """How an allow-list names a tool: by type, and by what tells it from others of that type."""
    kind = _kind(tool)
    if name := _named(tool):
        return {"type": kind, kind: {"name": name}} if service == "chat" else {"type": kind, "name": name}
    return {"type": kind, **{key: tool[key] for key in ("server_label",) if key in tool}}


def late(service: str, tools: Sequence[Any], deferred: Collection[str], forced: Collection[str]) -> list[Any]:
    """The tools with those `deferred` marked to be loaded late, and a search to find them by.

    Where the host has registered its own search, that one serves: the model's answer comes to the host. OpenAI then
    needs no definition beforehand, since the search's output brings it. Otherwise the provider's own search is added.
    """
    if service == "chat":
        text = "Chat Completions cannot load tools late: use delivery='list' or 'allow', or the Responses API"
        raise ConfigError(text, field="delivery")
    waits = set(deferred).intersection(map(name_of, tools)) - set(forced)
    if not waits:
        return list(tools)
    if service == "responses" and any(name_of(tool) == SEARCH for tool in tools):
        return [
            _client_search(tool) if name_of(tool) == SEARCH else tool for tool in tools if name_of(tool) not in waits
        ]
    out = [_marked(tool) if name_of(tool) in waits else tool for tool in tools]
    if not any(_searches(tool) for tool in tools):
        out.append(HOSTED[service])
    return _with_moved_mark(tools, out, waits)


def _searches(tool: Any) -> bool:
    return name_of(tool) == SEARCH or _kind(tool).startswith("tool_search")


def _kind(tool: Any) -> str:
    return str(tool.get("type", "")) if isinstance(tool, Mapping) else ""


def _marked(tool: Any) -> Json:
    return {**{key: value for key, value in tool.items() if key != "cache_control"}, "defer_loading": True}


def _client_search(tool: Any) -> Json:
    described = {key: tool[key] for key in ("description", "parameters") if key in tool}
    return {"type": "tool_search", "execution": "client", **described}


def _with_moved_mark(tools: Sequence[Any], out: list[Any], waits: Collection[str]) -> list[Any]:
    """A cache mark of the host's on a deferred tool, which no provider takes, goes to the last tool that may have it."""
    marks = [tool["cache_control"] for tool in tools if name_of(tool) in waits and tool.get("cache_control")]
    place = next((i for i in range(len(out) - 1, -1, -1) if _carries(out[i])), None)
    if marks and place is not None and "cache_control" not in out[place]:
        out[place] = {**out[place], "cache_control": marks[-1]}
    return out


def _carries(tool: Any) -> bool:
    return isinstance(tool, dict) and not tool.get("defer_loading")


def chosen(choice: Any) -> set[str]:
    """The tools that the host's `tool_choice` names."""
    if not isinstance(choice, Mapping):
        return set()
    held = choice.get("allowed_tools", choice)
    listed = held.get("tools") if isinstance(held, Mapping) else None
    items = listed if isinstance(listed, list) else [choice]
    return {name for item in items if isinstance(item, Mapping) and (name := _named(item))}


def _named(item: Mapping[str, Any]) -> str:
    inner = next((held for key in ("function", "custom") if isinstance(held := item.get(key), Mapping)), item)
    return str(inner.get("name") or "")
