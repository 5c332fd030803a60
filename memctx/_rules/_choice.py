"""Which tools a request lets the model call: `tool_choice`, and tools that are loaded late.

Forms: the SDKs' types. What is refused: the providers' own words, quoted in pydantic/pydantic-ai (deferred tools),
justrach/codegraff#746 (a search with nothing to find), anthropics/claude-code#78485 (a reference to a tool that left) and
#86743 (a cache mark on a deferred tool).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memctx._rules import Options, Report
from memctx._rules._values import dict_of, list_of, shown, text_of

MODES = ("auto", "required")
WORDS = ("none", "auto", "required")
ANTHROPIC_TYPES = ("auto", "any", "tool", "none")


def named(tools: Any) -> set[str]:
    """The names of the tools on offer, in any provider's spelling."""
    return {name for tool in _each(tools) if (name := _name(tool))}


def deferred(tools: Any) -> list[str]:
    """Names of the tools that the provider is to load late."""
    return [_name(tool) or "" for tool in _each(tools) if tool.get("defer_loading") is True]


def check_choice(options: Options, report: Report, wrapped: bool) -> None:
    """OpenAI's `tool_choice`. `wrapped`: names and lists stand one level deeper (Chat Completions)."""
    choice = options.tool_choice
    if choice is None or text_of(choice) in WORDS:
        return
    item = dict_of(choice)
    kind = None if item is None else text_of(item.get("type"))
    if item is None or kind is None:
        report.add("bad_tool_choice", -1, f"tool_choice is {shown(choice)}")
    elif kind == "allowed_tools":
        _allowed(item.get(kind) if wrapped else item, options, report)
    elif kind in ("function", "custom"):
        _among(item, options, report)


def _allowed(body: Any, options: Options, report: Report) -> None:
    held = dict_of(body) or {}
    tools = list_of(held.get("tools"))
    if not tools or text_of(held.get("mode")) not in MODES:
        text = f"allowed_tools needs a mode of {' or '.join(MODES)} and a list of tools"
        report.add("bad_tool_choice", -1, text)
    for tool in _each(tools):
        _among(tool, options, report)


def _among(tool: dict[str, Any], options: Options, report: Report) -> None:
    name = _name(tool)
    if name is not None and name not in named(options.tools):
        report.add("bad_tool_choice", -1, f"tool_choice names {shown(name)}, which is not offered")


def check_anthropic_choice(options: Options, report: Report) -> None:
    """Anthropic's `tool_choice`: one tool may be forced; there is no list of allowed ones."""
    if options.tool_choice is None:
        return
    item = dict_of(options.tool_choice) or {}
    kind = text_of(item.get("type"))
    if kind not in ANTHROPIC_TYPES:
        text = f"tool_choice is of type {shown(item.get('type'))}, not one of {', '.join(ANTHROPIC_TYPES)}"
        report.add("bad_tool_choice", -1, text)
    elif kind == "tool":
        _among(item, options, report)


def check_chat_deferral(options: Options, report: Report) -> None:
    """Chat Completions loads every tool at once."""
    for tool in _each(options.tools):
        if "defer_loading" in tool or "defer_loading" in (dict_of(tool.get("function")) or {}):
            report.add("deferral_not_supported", -1, f"tool {shown(_name(tool))} has defer_loading")


def check_responses_deferral(options: Options, report: Report) -> None:
    """Deferred tools and the tool search of the Responses API need each other, unless the host searches itself."""
    late = deferred(options.tools) + [
        name for tool in _each(options.tools) if tool.get("type") == "namespace" for name in deferred(tool.get("tools"))
    ]
    searches = [tool for tool in _each(options.tools) if tool.get("type") == "tool_search"]
    if late and not searches:
        report.add("deferred_without_search", -1, f"{len(late)} deferred tool(s), and no tool of type tool_search")
    if not late and any(tool.get("execution") != "client" for tool in searches):
        report.add("search_without_deferred", -1, "tool_search stands among the tools, and none of them is deferred")


def check_anthropic_deferral(options: Options, report: Report) -> None:
    """Something must be there at once, and what is loaded late carries no cache mark."""
    tools = list(_each(options.tools))
    late = [tool for tool in tools if tool.get("defer_loading") is True]
    if late and len(late) == len(tools):
        report.add("all_tools_deferred", -1, f"all {len(tools)} tools have defer_loading")
    for tool in late:
        if tool.get("cache_control") is not None:
            text = f"tool {shown(_name(tool))} has defer_loading and cache_control"
            report.add("cache_control_not_allowed", -1, text)


def _each(tools: Any) -> Iterator[dict[str, Any]]:
    """The tools that can be read as an object."""
    for raw in list_of(tools) or ():
        tool = dict_of(raw) if issubclass(type(raw), dict) else None
        if tool is not None:
            yield tool


def _name(tool: dict[str, Any]) -> str | None:
    body = next((held for key in ("function", "custom") if (held := dict_of(tool.get(key)))), tool)
    return text_of(body.get("name"))
