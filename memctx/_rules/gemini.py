"""Gemini: `contents`, in the REST form (camelCase) or the Python form (snake_case)."""

from __future__ import annotations

import re
from typing import Any

from memctx._rules import Options, Report
from memctx._rules._tools import check_each, check_name
from memctx._rules._values import dict_of, each, list_of, scan, shown, text_of

NAME = "gemini"
TAKES_TEXT = True

ROLES = ("user", "model", "function")
TOOL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}")
SNAKE = {
    "inline_data": "inlineData",
    "file_data": "fileData",
    "function_call": "functionCall",
    "function_response": "functionResponse",
    "executable_code": "executableCode",
    "code_execution_result": "codeExecutionResult",
    "thought_signature": "thoughtSignature",
    "tool_call": "toolCall",
    "tool_response": "toolResponse",
}
DECLARATIONS = ("functionDeclarations", "function_declarations")
DATA = {"text", *SNAKE.values()} - {"thoughtSignature"}

Call = tuple[str | None, str | None]  # name, id


def from_text(text: str) -> dict[str, Any]:
    """The content that a bare string stands for."""
    return {"parts": [{"text": text}]}


def check(items: list[Any], report: Report, options: Options) -> None:
    """Report every broken rule of a generateContent request."""
    state = State(report)
    each(items, report, lambda raw, index: _content(raw, index, report, state))
    state.close()
    if items and state.role == "model" and not options.prefill:
        report.add("prefill_not_supported", len(items) - 1, "the last turn is a model turn")
    check_each(_declared(options.tools), report, lambda tool, position, _: _declaration(tool, report))


def _declared(tools: Any) -> Any:
    """The functions in Gemini's lists of declarations, and any other tool as it is."""
    found: list[Any] = []
    for raw in list_of(tools) or ():
        tool = dict_of(raw) if issubclass(type(raw), dict) else None
        many = [list_of(tool.get(key)) for key in DECLARATIONS] if tool is not None else []
        found += next((items for items in many if items is not None), [raw])
    return found if list_of(tools) is not None else tools


def _declaration(tool: dict[str, Any], report: Report) -> str | None:
    return check_name(tool["name"], -1, report, TOOL_NAME) if "name" in tool else None


class State:
    """The function calls of the turn before, and its role."""

    __slots__ = ("answered", "at", "calls", "report", "role")

    def __init__(self, report: Report) -> None:
        self.report = report
        self.calls: list[Call] = []
        self.answered: set[str] = set()
        self.at = -1
        self.role: str | None = None

    def close(self) -> None:
        if self.calls:
            names = ", ".join(shown(name) for name, _ in self.calls[:5])
            text = f"{len(self.calls)} functionCall part(s) have no functionResponse in the next turn: {names}"
            self.report.add("unanswered_tool_call", self.at, text)
        self.calls = []
        self.answered = set()

    def answer(self, name: str | None, call_id: str | None, index: int) -> None:
        for position, (known, known_id) in enumerate(self.calls):
            if name == known and (call_id is None or known_id is None or call_id == known_id):
                del self.calls[position]
                if call_id:
                    self.answered.add(call_id)
                return
        if call_id and call_id in self.answered:
            self.report.add("duplicate_tool_result", index, f"call {shown(call_id)} has a response already")
            return
        text = f"no functionCall of the turn before asks for a response named {shown(name)}"
        self.report.add("orphan_tool_result", index, text)


def _content(raw: Any, index: int, report: Report, state: State) -> None:
    content = dict_of(raw)
    role = None if content is None else text_of(content.get("role"))
    parts = None if content is None else list_of(content.get("parts"))
    before, state.role = state.role, role
    if content is None:
        state.close()
        report.add("bad_role", index, f"a content is an object, not {type(raw).__name__}")
        return
    scan(content, index, report)
    if role not in ROLES:
        report.add("bad_role", index, f"role {shown(content.get('role'))} is not one of {', '.join(ROLES)}")
    elif index == 0 and role != "user":
        report.add("first_not_user", index, "the first turn is not a user turn")
    if not parts:
        rule = "empty_content_list" if parts is not None or content.get("parts") is None else "bad_content_type"
        report.add(rule, index, f"parts is {'an empty list' if parts is not None else shown(content.get('parts'))}")
    found = [_part(part, position, index, report) for position, part in enumerate(parts or [])]
    if role == "model":
        state.close()
        _model_turn(found, before, index, report, state)
    else:
        _user_turn(found, index, report, state)
        state.close()


def _part(raw: Any, position: int, index: int, report: Report) -> tuple[str, Any]:
    """`(data field, value)` of a part; `("", None)` where it is not usable, which is reported."""
    part = dict_of(raw)
    names = [] if part is None else [SNAKE.get(key, key) for key in part if part[key] is not None]
    fields = [name for name in names if name in DATA]
    if part is None or len(fields) != 1:
        text = f"parts[{position}] must be an object with exactly one data field, and has {len(fields)}"
        report.add("bad_part", index, text)
        return "", None
    field = fields[0]
    value = next(part[key] for key in part if SNAKE.get(key, key) == field and part[key] is not None)
    if field == "text":
        text_value = text_of(value)
        if text_value is None:
            report.add("bad_part", index, f"parts[{position}].text is {shown(value)}, not a string")
        elif not text_value and "thoughtSignature" not in names:  # a signature may travel on an empty text
            report.add("blank_text", index, f"parts[{position}].text is empty")
        return field, text_value
    value = dict_of(value)
    if value is None:
        report.add("bad_part", index, f"parts[{position}].{field} is not an object")
    return field, value


def _call_of(value: dict[str, Any], field: str, index: int, report: Report) -> Call:
    name = check_name(value.get("name"), index, report, TOOL_NAME)
    body = value.get(field)
    if dict_of(body) is None and (body is not None or field == "response"):
        report.add("bad_arguments", index, f"{field} is {shown(body)}, not an object")
    call_id = value.get("id")
    if call_id is not None and not text_of(call_id):
        report.add("bad_tool_call_id", index, f"id is {shown(call_id)}")
    return name, text_of(call_id) or None


def _model_turn(found: list[tuple[str, Any]], before: str | None, index: int, report: Report, state: State) -> None:
    calls: list[Call] = []
    for field, value in found:
        if field == "functionResponse":
            report.add("orphan_tool_result", index, "a functionResponse stands in a model turn")
        elif field == "functionCall" and value is not None:
            calls.append(_call_of(value, "args", index, report))
    ids = [call_id for _, call_id in calls if call_id]
    if len(set(ids)) < len(ids):
        report.add("duplicate_tool_call_id", index, "two calls of one turn share an id")
    if calls and before == "model":
        report.add("call_turn_misplaced", index, "a function call turn follows a model turn")
    state.calls, state.at = calls, index


def _user_turn(found: list[tuple[str, Any]], index: int, report: Report, state: State) -> None:
    fields = [field for field, _ in found]
    for field, value in found:
        if field == "functionCall":
            report.add("bad_part", index, "a functionCall stands outside a model turn")
        elif field == "functionResponse" and value is not None:
            state.answer(*_call_of(value, "response", index, report), index)
    if "functionResponse" in fields and "text" in fields:
        report.add("tool_result_not_alone", index, "text stands beside functionResponse parts in one turn")
