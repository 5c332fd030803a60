"""Tool names and tool definitions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from memctx._rules import Report
from memctx._rules._values import dict_of, flaw, list_of, shown, text_of

TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MAX_TOOLS = 128
MAX_DESCRIPTION = 1_024
HOST_VALUES = (str, bytes, int, float, list, tuple, set, type(None))  # what is never a host's own tool object

Definition = Callable[[dict[str, Any], int, Report], str | None]


def check_name(name: Any, index: int, report: Report, pattern: re.Pattern[str] = TOOL_NAME) -> str | None:
    """The tool name as text; reported unless all of it matches, so a trailing newline does not slip through."""
    text = text_of(name)
    if text is None or not pattern.fullmatch(text):
        report.add("bad_tool_name", index, f"tool name {shown(name)} does not match {pattern.pattern}")
    return text


def check_each(tools: Any, report: Report, definition: Definition, limit: int | None = None) -> None:
    """Run `definition` over the tools; it checks one and gives its name. A host's own tool object passes unread,
    since turning it into wire form is the adapter's work.
    """
    items = [] if tools is None else list_of(tools)
    if items is None:
        report.add("bad_tool", -1, f"tools is {shown(tools)}, not a list")
        return
    if limit is not None and len(items) > limit:
        report.add("too_many_tools", -1, f"{len(items)} tools; the limit is {limit}")
    names: set[str] = set()
    for position, raw in enumerate(items):
        try:
            name = _one(raw, position, report, definition)
        except Exception as cause:
            report.add("bad_tool", -1, f"reading tools[{position}] raised {type(cause).__name__}")
            continue
        if name in names:
            report.add("duplicate_tool_name", -1, f"two tools are called {shown(name)}")
        if name:
            names.add(name)


def _one(raw: Any, position: int, report: Report, definition: Definition) -> str | None:
    tool = dict_of(raw) if issubclass(type(raw), dict) else None
    if tool is None:
        if issubclass(type(raw), HOST_VALUES):
            report.add("bad_tool", -1, f"tools[{position}] is {shown(raw)}, not an object")
        return None
    found = flaw(tool)
    if found:
        report.add(found[0], -1, f"tools[{position}].{found[1]} cannot be sent as UTF-8 JSON")
    return definition(tool, position, report)


def openai_tool(tool: dict[str, Any], position: int, report: Report) -> str | None:
    """A tool of the Responses API: the name stands in the tool itself; built-in types have none."""
    kind = text_of(tool.get("type"))
    if not kind:
        report.add("bad_tool", -1, f"tools[{position}] has no type")
    return check_name(tool.get("name"), -1, report) if kind in ("function", "custom") else None


def openai_chat_tool(tool: dict[str, Any], position: int, report: Report) -> str | None:
    """A tool of Chat Completions: name and description stand in an object named after its type."""
    kind = text_of(tool.get("type"))
    body = dict_of(tool.get(kind)) if kind in ("function", "custom") else None
    if body is None:
        report.add("bad_tool", -1, f"tools[{position}] needs type 'function' or 'custom' and the object of that name")
        return None
    description = text_of(body.get("description")) or ""
    if len(description) > MAX_DESCRIPTION:
        report.add("tool_description_too_long", -1, f"tools[{position}] has a description of {len(description):,}")
    return check_name(body.get("name"), -1, report)
