"""OpenAI Responses: `input` items and `tools`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memctx._rules import Options, Report
from memctx._rules._choice import check_choice, check_responses_deferral
from memctx._rules._tools import MAX_TOOLS, check_each, check_name, openai_tool
from memctx._rules._values import dict_of, each, list_of, parts_of, scan, shown, text_of

NAME = "openai-responses"
TAKES_TEXT = True

MAX_ID = 64
MAX_TEXT = 10_485_760
ROLES = ("user", "assistant", "system", "developer")

# A call the host runs, and the item that answers it by the same call_id.
OUTPUT_OF = {
    "function_call": "function_call_output",
    "custom_tool_call": "custom_tool_call_output",
    "computer_call": "computer_call_output",
    "shell_call": "shell_call_output",
    "apply_patch_call": "apply_patch_call_output",
}
ANSWERS = {**OUTPUT_OF, "tool_search_call": "tool_search_output"}  # a search is a call only where the host runs it
CALL_OF = {output: call for call, output in ANSWERS.items()}

# What the model itself wrote, so what a reasoning item may have been born with.
BORN_BY_MODEL = {
    *OUTPUT_OF, "reasoning", "compaction", "item_reference", "file_search_call", "web_search_call", "tool_search_call",
    "image_generation_call", "code_interpreter_call", "local_shell_call", "mcp_list_tools", "mcp_approval_request",
    "mcp_call", "program",
}  # fmt: skip
OTHER_ITEMS = {
    "local_shell_call_output", "tool_search_output", "additional_tools", "configuration_update",
    "mcp_approval_response", "compaction_trigger", "program_output",
}  # fmt: skip

TEXT_FIELD = {"input_text": "text", "output_text": "text", "refusal": "refusal"}
INPUT_PARTS = ("input_text", "input_image", "input_file", "input_audio")
PARTS: dict[str, tuple[str, ...]] = {
    "user": INPUT_PARTS,
    "system": ("input_text",),
    "developer": ("input_text",),
    "assistant": ("output_text", "refusal"),
    "output": INPUT_PARTS,
}


def from_text(text: str) -> dict[str, Any]:
    """The message that a bare string stands for."""
    return {"content": text}


def check(items: list[Any], report: Report, options: Options) -> None:
    """Report every broken rule of a Responses request."""
    state = State(report, options.server_history)
    each(items, report, lambda raw, index: _item(raw, index, report, state))
    state.close()
    check_each(options.tools, report, openai_tool, MAX_TOOLS)
    check_responses_deferral(options, report)
    check_choice(options, report, wrapped=False)


class State:
    """Calls by `(type, call_id)` with their place, and the reasoning item that waits for what it was born with."""

    __slots__ = ("answered", "calls", "elsewhere", "reasoning", "report")

    def __init__(self, report: Report, elsewhere: bool) -> None:
        self.report = report
        self.elsewhere = elsewhere  # calls may live on the server
        self.calls: dict[tuple[str, str], int] = {}
        self.answered: set[tuple[str, str]] = set()
        self.reasoning = -1

    def ask(self, kind: str, call_id: str, index: int) -> None:
        if (kind, call_id) in self.calls:
            self.report.add("duplicate_tool_call_id", index, f"call_id {shown(call_id)} stands on an earlier call")
            return
        self.calls[kind, call_id] = index

    def answer(self, kind: str, call_id: str, index: int) -> None:
        key = (CALL_OF[kind], call_id)
        if key in self.answered:
            self.report.add("duplicate_tool_result", index, f"call {shown(call_id)} has an output already")
        elif key not in self.calls and not self.elsewhere:
            text = f"no {key[0]} with call_id {shown(call_id)} stands before this output"
            self.report.add("orphan_tool_result", index, text)
        self.answered.add(key)

    def follow(self, by_model: bool) -> None:
        """The item after a reasoning item has come."""
        if self.reasoning >= 0 and not by_model:
            text = "the reasoning item is not followed by the message or call it was born with"
            self.report.add("reasoning_without_item", self.reasoning, text)
        self.reasoning = -1

    def close(self) -> None:
        self.follow(by_model=False)
        for key, index in self.calls.items():
            if key not in self.answered:
                text = f"no {ANSWERS[key[0]]} with call_id {shown(key[1])} follows this call"
                self.report.add("unanswered_tool_call", index, text)


def _item(raw: Any, index: int, report: Report, state: State) -> None:
    item = dict_of(raw)
    kind = None if item is None else _kind(item)
    role = None if item is None else text_of(item.get("role"))
    state.follow(kind in BORN_BY_MODEL or (kind == "message" and role == "assistant"))
    if item is None:
        report.add("bad_role", index, f"an item is an object, not {type(raw).__name__}")
        return
    scan(item, index, report)
    if kind is None:
        report.add("bad_role", index, "the item has neither a type nor a role")
    elif kind in HANDLERS:
        HANDLERS[kind](item, kind, index, report, state)
    elif kind not in BORN_BY_MODEL and kind not in OTHER_ITEMS:
        report.add("bad_item", index, f"unknown item type {shown(kind)}")


def _kind(item: dict[str, Any]) -> str | None:
    kind = item.get("type")
    if kind is not None:
        return text_of(kind) or "unknown"
    if "role" in item:
        return "message"
    return "item_reference" if "id" in item else None


def _message(item: dict[str, Any], kind: str, index: int, report: Report, state: State) -> None:
    role = text_of(item.get("role"))
    if role not in ROLES:
        report.add("bad_role", index, f"role {shown(item.get('role'))} is not one of {', '.join(ROLES)}")
        return
    _content(item.get("content"), PARTS[role], "content", index, report)


def _content(content: Any, allowed: tuple[str, ...], field: str, index: int, report: Report) -> None:
    text = text_of(content)
    if text is not None:
        _length(text, index, report)
        return
    items = list_of(content)
    if items is None:
        report.add("bad_content_type", index, f"{field} is {shown(content)}, not a string or a list of parts")
        return
    if not items:
        report.add("empty_content_list", index, f"{field} is an empty list")
    for position, kind, part in parts_of(items, index, report):
        problem = "" if kind in allowed else f"not one of {', '.join(allowed)}"
        problem = problem or _part_problem(kind, part, index, report)
        if problem:
            report.add("bad_part", index, f"{field}[{position}] of type {shown(kind)}: {problem}")


def _part_problem(kind: str, part: dict[str, Any], index: int, report: Report) -> str:
    if kind in TEXT_FIELD:
        text = text_of(part.get(TEXT_FIELD[kind]))
        if text is None:
            return f"{TEXT_FIELD[kind]} is missing or not a string"
        _length(text, index, report)
        return ""
    if kind == "input_image":
        return "" if text_of(part.get("image_url")) or text_of(part.get("file_id")) else "needs image_url or file_id"
    if kind == "input_audio":
        audio = dict_of(part.get("input_audio")) or {}
        good = text_of(audio.get("data")) and text_of(audio.get("format")) in ("wav", "mp3")
        return "" if good else "input_audio needs data, and a format of wav or mp3"
    fields = ("file_id", "file_data", "file_url")
    return "" if any(text_of(part.get(field)) for field in fields) else "needs file_id, file_data or file_url"


def _length(text: str, index: int, report: Report) -> None:
    if len(text) > MAX_TEXT:
        report.add("content_too_long", index, f"a string of {len(text):,} characters; the limit is {MAX_TEXT:,}")


def _call_id(item: dict[str, Any], index: int, report: Report) -> str | None:
    call_id = text_of(item.get("call_id"))
    if not call_id:
        report.add("bad_tool_call_id", index, f"call_id is {shown(item.get('call_id'))}")
        return None
    if len(call_id) > MAX_ID:
        report.add("tool_id_too_long", index, f"call_id of {len(call_id)} characters; the limit is {MAX_ID}")
    return call_id


def _call(item: dict[str, Any], kind: str, index: int, report: Report, state: State) -> None:
    call_id = _call_id(item, index, report)
    if call_id:
        state.ask(kind, call_id, index)
    field = {"function_call": "arguments", "custom_tool_call": "input"}.get(kind)
    if field is None:
        return
    check_name(item.get("name"), index, report)
    arguments = text_of(item.get(field))
    if arguments is None:
        report.add("bad_arguments", index, f"{field} is {shown(item.get(field))}, not a string")
    else:
        _length(arguments, index, report)


def _output(item: dict[str, Any], kind: str, index: int, report: Report, state: State) -> None:
    call_id = _call_id(item, index, report)
    if call_id:
        state.answer(kind, call_id, index)
    if kind in ("function_call_output", "custom_tool_call_output"):
        _content(item.get("output"), PARTS["output"], "output", index, report)


def _search(item: dict[str, Any], kind: str, index: int, report: Report, state: State) -> None:
    """A tool search that the host runs; the provider's own comes and goes as it is."""
    if item.get("execution") == "client":
        (_call if kind in ANSWERS else _output)(item, kind, index, report, state)
    if kind in CALL_OF and list_of(item.get("tools")) is None:
        report.add("bad_item", index, f"tool_search_output needs a list of tools, not {shown(item.get('tools'))}")


def _reasoning(item: dict[str, Any], kind: str, index: int, report: Report, state: State) -> None:
    state.reasoning = index
    if list_of(item.get("summary")) is None:
        report.add("missing_summary", index, "the reasoning item has no summary list")


def _reference(item: dict[str, Any], kind: str, index: int, report: Report, state: State) -> None:
    if not text_of(item.get("id")):
        report.add("bad_item", index, f"item_reference needs the id of a stored item, not {shown(item.get('id'))}")
    state.elsewhere = True  # the stored item may be a call


def _compaction(item: dict[str, Any], kind: str, index: int, report: Report, state: State) -> None:
    if not text_of(item.get("encrypted_content")):
        report.add("empty_compaction", index, "the compaction item has no encrypted_content")


HANDLERS: dict[str, Callable[[dict[str, Any], str, int, Report, State], None]] = {
    "message": _message,
    "reasoning": _reasoning,
    "item_reference": _reference,
    "compaction": _compaction,
    **dict.fromkeys(OUTPUT_OF, _call),
    **dict.fromkeys(CALL_OF, _output),
    **dict.fromkeys(("tool_search_call", "tool_search_output"), _search),
}
