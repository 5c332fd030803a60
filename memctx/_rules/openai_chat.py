"""OpenAI Chat Completions: `messages` and `tools`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from memctx._rules import Options, Report
from memctx._rules._choice import check_chat_deferral, check_choice
from memctx._rules._tools import MAX_TOOLS, check_each, check_name, openai_chat_tool
from memctx._rules._values import dict_of, each, list_of, parts_of, scan, shown, text_of

NAME = "openai-chat"
TAKES_TEXT = False

MAX_CALLS = 128
MAX_ID = 40
MAX_TEXT = 1_048_576
AUTHOR_NAME = re.compile(r"[^\s<|\\/>]{1,64}")


def check(items: list[Any], report: Report, options: Options) -> None:
    """Report every broken rule of a chat request."""
    pairs = Pairs(report)
    each(items, report, lambda raw, index: _message(raw, index, report, pairs))
    pairs.close()
    check_each(options.tools, report, openai_chat_tool, MAX_TOOLS)
    check_chat_deferral(options, report)
    check_choice(options, report, wrapped=True)


class Pairs:
    """The calls of the last assistant message that wait for their tool messages."""

    __slots__ = ("answered", "at", "open", "report")

    def __init__(self, report: Report) -> None:
        self.report = report
        self.open: set[str] = set()
        self.answered: set[str] = set()
        self.at = -1

    def close(self) -> None:
        """The run of tool messages has ended: what is still open was never answered."""
        if self.open:
            ids = ", ".join(shown(call_id) for call_id in sorted(self.open)[:5])
            text = f"{len(self.open)} tool call(s) have no tool message directly after them: {ids}"
            self.report.add("unanswered_tool_call", self.at, text)
            self.open = set()
        self.answered = set()

    def ask(self, index: int, ids: list[str]) -> None:
        self.at, self.open = index, set(ids)

    def answer(self, index: int, call_id: str) -> None:
        if call_id in self.open:
            self.open.discard(call_id)
            self.answered.add(call_id)
        elif call_id in self.answered:
            self.report.add("duplicate_tool_result", index, f"call {shown(call_id)} has a result already")
        else:
            text = f"no call {shown(call_id)} stands in the assistant message before this run of tool messages"
            self.report.add("orphan_tool_result", index, text)


def _message(raw: Any, index: int, report: Report, pairs: Pairs) -> None:
    message = dict_of(raw)
    role = None if message is None else text_of(message.get("role"))
    handler = ROLES.get(role) if role is not None else None
    if role != "tool" and (pairs.open or pairs.answered):
        pairs.close()
    if message is None:
        report.add("bad_role", index, f"a message is an object, not {type(raw).__name__}")
        return
    scan(message, index, report)
    if handler is None:
        report.add("bad_role", index, f"role {shown(message.get('role'))} is not one of {', '.join(ROLES)}")
        return
    handler(message, index, report, pairs)


def _said(message: dict[str, Any], index: int, report: Report, pairs: Pairs) -> None:
    """A user, system or developer message."""
    role = text_of(message["role"])
    content = message.get("content")
    if type(content) is str:
        if len(content) > MAX_TEXT:
            _too_long(content, index, report)
    else:
        _content(content, index, report, USER_PARTS if role == "user" else TEXT_PARTS)
    if "name" in message:
        _author(message["name"], index, report)


def _assistant(message: dict[str, Any], index: int, report: Report, pairs: Pairs) -> None:
    calls = message.get("tool_calls")
    content = message.get("content")
    if calls is not None:
        pairs.ask(index, _calls(calls, index, report))
    if content is not None:
        _content(content, index, report, ASSISTANT_PARTS)
    elif not (calls or message.get("function_call") or message.get("refusal") or message.get("audio")):
        report.add("missing_content", index, "the assistant message has neither content nor tool calls")
    if message.get("name") is not None:
        _author(message["name"], index, report)


def _tool(message: dict[str, Any], index: int, report: Report, pairs: Pairs) -> None:
    call_id = text_of(message.get("tool_call_id"))
    if not call_id:
        report.add("bad_tool_call_id", index, f"tool_call_id is {shown(message.get('tool_call_id'))}, not a call's id")
    else:
        pairs.answer(index, call_id)
    _content(message.get("content"), index, report, TEXT_PARTS)


def _function(message: dict[str, Any], index: int, report: Report, pairs: Pairs) -> None:
    """The deprecated form of a result, before calls had ids."""
    check_name(message.get("name"), index, report)
    if message.get("content") is not None:
        _content(message["content"], index, report, TEXT_PARTS)


ROLES: dict[str, Callable[[dict[str, Any], int, Report, Pairs], None]] = {
    "system": _said,
    "developer": _said,
    "user": _said,
    "assistant": _assistant,
    "tool": _tool,
    "function": _function,
}


def _author(name: Any, index: int, report: Report) -> None:
    text = text_of(name)
    if text is None or not AUTHOR_NAME.fullmatch(text):
        report.add("bad_name", index, f"name {shown(name)} does not match {AUTHOR_NAME.pattern}")


def _too_long(text: str, index: int, report: Report) -> None:
    report.add("content_too_long", index, f"a string of {len(text):,} characters; the limit is {MAX_TEXT:,}")


def _content(content: Any, index: int, report: Report, parts: dict[str, Callable[[dict[str, Any]], str]]) -> None:
    text = text_of(content)
    if text is not None:
        if len(text) > MAX_TEXT:
            _too_long(text, index, report)
        return
    items = list_of(content)
    if items is None:
        report.add("bad_content_type", index, f"content is {shown(content)}, not a string or a list of parts")
        return
    if not items:
        report.add("empty_content_list", index, "content is an empty list")
    kinds: list[str] = []
    for position, kind, part in parts_of(items, index, report):
        problem = parts[kind](part) if kind in parts else "not allowed in this role"
        kinds.append(kind)
        if problem == TOO_LONG:
            report.add("content_too_long", index, f"content[{position}] is over {MAX_TEXT:,} characters")
        elif problem:
            report.add("bad_part", index, f"content[{position}] of type {shown(kind)}: {problem}")
    if "refusal" in kinds and len(kinds) > 1:
        report.add("bad_part", index, "a refusal part must be the only part")


TOO_LONG = "too long"


def _text_part(part: dict[str, Any]) -> str:
    text = text_of(part.get("text"))
    if text is None:
        return "text is missing or not a string"
    return TOO_LONG if len(text) > MAX_TEXT else ""


def _refusal_part(part: dict[str, Any]) -> str:
    return "" if text_of(part.get("refusal")) is not None else "refusal is missing or not a string"


def _image_part(part: dict[str, Any]) -> str:
    image = dict_of(part.get("image_url"))
    return "" if image and text_of(image.get("url")) else "image_url must be an object with a url that is not empty"


def _audio_part(part: dict[str, Any]) -> str:
    audio = dict_of(part.get("input_audio"))
    good = audio and text_of(audio.get("data")) and text_of(audio.get("format")) in ("wav", "mp3")
    return "" if good else "input_audio needs data, and a format of wav or mp3"


def _file_part(part: dict[str, Any]) -> str:
    file = dict_of(part.get("file"))
    good = file and (text_of(file.get("file_id")) or text_of(file.get("file_data")))
    return "" if good else "file needs file_id or file_data"


TEXT_PARTS: dict[str, Callable[[dict[str, Any]], str]] = {"text": _text_part}
ASSISTANT_PARTS = {**TEXT_PARTS, "refusal": _refusal_part}
USER_PARTS = {**TEXT_PARTS, "image_url": _image_part, "input_audio": _audio_part, "file": _file_part}


def _calls(calls: Any, index: int, report: Report) -> list[str]:
    """The usable ids of an assistant message's calls; everything wrong with the calls is reported."""
    items = list_of(calls)
    if not items:
        report.add("empty_tool_calls", index, f"tool_calls is {shown(calls) if items is None else 'an empty list'}")
        return []
    if len(items) > MAX_CALLS:
        report.add("too_many_tool_calls", index, f"{len(items)} calls in one message; the limit is {MAX_CALLS}")
    ids: list[str] = []
    for position, raw in enumerate(items):
        call = dict_of(raw)
        if call is None:
            report.add("bad_tool_call", index, f"tool_calls[{position}] is {shown(raw)}, not an object")
            continue
        call_id = text_of(call.get("id"))
        if not call_id:
            report.add("bad_tool_call_id", index, f"tool_calls[{position}].id is {shown(call.get('id'))}")
        else:
            ids.append(call_id)
            if len(call_id) > MAX_ID:
                report.add("tool_id_too_long", index, f"call id of {len(call_id)} characters; the limit is {MAX_ID}")
        _call_body(call, position, index, report)
    if len(set(ids)) < len(ids):
        report.add("duplicate_tool_call_id", index, "two calls of one message share an id")
    return ids


def _call_body(call: dict[str, Any], position: int, index: int, report: Report) -> None:
    kind = text_of(call.get("type"))
    field = {"function": "arguments", "custom": "input"}.get(kind or "")
    body = dict_of(call.get(kind)) if kind and field else None
    if body is None or field is None:
        text = f"tool_calls[{position}] needs type 'function' or 'custom' and the object of that name"
        report.add("bad_tool_call", index, text)
        return
    check_name(body.get("name"), index, report)
    arguments = text_of(body.get(field))
    if arguments is None:
        text = f"tool_calls[{position}].{kind}.{field} is {shown(body.get(field))}, not a string"
        report.add("bad_arguments", index, text)
    elif len(arguments) > MAX_TEXT:
        _too_long(arguments, index, report)
