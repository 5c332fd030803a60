"""Anthropic Messages: `messages`, `system` and `tools`."""

from __future__ import annotations

from typing import Any

from memctx._rules import Options, Report
from memctx._rules._anthropic_blocks import (
    RESULT_PARTS,
    TOOL_ID,
    TOOL_NAME,
    block_problem,
    count_marks,
    is_server_block,
    references,
)
from memctx._rules._choice import check_anthropic_choice, check_anthropic_deferral, named
from memctx._rules._tools import check_each, check_name
from memctx._rules._values import dict_of, each, flaw, list_of, parts_of, scan, shown, text_of

NAME = "anthropic"
TAKES_TEXT = False

MAX_MESSAGES = 100_000
MAX_MARKS = 4
ROLES = ("user", "assistant", "system")

Block = tuple[int, str, dict[str, Any]]


def check(items: list[Any], report: Report, options: Options) -> None:
    """Report every broken rule of a Messages request."""
    if len(items) > MAX_MESSAGES:
        report.add("too_many_messages", -1, f"{len(items):,} messages; the limit is {MAX_MESSAGES:,}")
    state = State(report, options, last=len(items) - 1)
    _system(options.system, report, state)
    check_each(options.tools, report, lambda tool, position, _: _tool(tool, report, state))
    check_anthropic_deferral(options, report)
    check_anthropic_choice(options, report)
    each(items, report, lambda raw, index: _message(raw, index, report, state))
    state.close()
    if items and "user" not in state.roles and not state.compactions:
        report.add("no_user", -1, "there is no user message")
    if state.marks > MAX_MARKS:
        report.add("too_many_cache_breakpoints", -1, f"{state.marks} cache_control marks; the limit is {MAX_MARKS}")


class State:
    """What one message has to know of those before it."""

    __slots__ = ("at", "compactions", "last", "marks", "offered", "open", "options", "report", "roles", "seen")

    def __init__(self, report: Report, options: Options, last: int) -> None:
        self.report = report
        self.options = options
        self.last = last
        self.offered = named(options.tools) if options.tools is not None else None
        self.open: set[str] = set()  # tool_use ids of the message before
        self.at = -1
        self.seen: set[str] = set()  # every tool_use id so far
        self.roles: set[str] = set()
        self.marks = 0
        self.compactions = 0

    def close(self) -> None:
        if self.open:
            ids = ", ".join(shown(call_id) for call_id in sorted(self.open)[:5])
            text = f"{len(self.open)} tool_use block(s) have no tool_result in the very next message: {ids}"
            self.report.add("unanswered_tool_call", self.at, text)
            self.open = set()


def _system(system: Any, report: Report, state: State) -> None:
    if system is None:
        return
    found = flaw(system)
    if found:
        report.add(found[0], -1, f"system{found[1]} cannot be sent as UTF-8 JSON")
    blocks = list_of(system)
    if blocks is None:
        if text_of(system) is None:
            report.add("bad_system", -1, f"system is {shown(system)}, not a string or a list of text blocks")
        return
    _text_blocks(blocks, -1, report, state)


def _text_blocks(blocks: list[Any], index: int, report: Report, state: State) -> None:
    """The blocks of a system text: text, and changes to the tools on offer."""
    for position, kind, block in parts_of(blocks, index, report):
        rule, text = block_problem(kind, block, "system")
        if rule:
            report.add(rule, index, f"content[{position}] of type {shown(kind)}: {text}")
        state.marks += count_marks(block)


def _tool(tool: dict[str, Any], report: Report, state: State) -> str | None:
    state.marks += count_marks(tool)
    kind = text_of(tool.get("type"))
    if kind is not None and kind != "custom" and "name" not in tool:  # a server toolset has no name of its own
        return None
    return check_name(tool.get("name"), -1, report, TOOL_NAME)


def _message(raw: Any, index: int, report: Report, state: State) -> None:
    message = dict_of(raw)
    role = None if message is None else text_of(message.get("role"))
    if message is None or role not in ROLES:
        state.close()
        if message is None:
            report.add("bad_role", index, f"a message is an object, not {type(raw).__name__}")
        else:
            scan(message, index, report)
            report.add("bad_role", index, f"role {shown(message.get('role'))} is not one of {', '.join(ROLES)}")
        return
    scan(message, index, report)
    state.roles.add(role)
    content = message.get("content")
    text = text_of(content)
    blocks = _blocks(content, index, report) if text is None else []
    if index == 0 and role != "user" and not _opens_with_compaction(blocks):
        report.add("first_not_user", 0, "the first message is not a user message")
    if role == "user":
        _user(text, blocks, index, report, state)
    else:
        state.close()
    if role == "assistant":
        _assistant(text, blocks, index, report, state)
    _all_blocks(content, text, blocks, role, index, report, state)


def _opens_with_compaction(blocks: list[Block]) -> bool:
    return bool(blocks) and blocks[0][0] == 0 and blocks[0][1] == "compaction"


def _blocks(content: Any, index: int, report: Report) -> list[Block]:
    items = list_of(content)
    if items is None:
        report.add("bad_content_type", index, f"content is {shown(content)}, not a string or a list of blocks")
        return []
    return list(parts_of(items, index, report))


def _all_blocks(
    content: Any, text: str | None, blocks: list[Block], role: str, index: int, report: Report, state: State
) -> None:
    """Rules that hold for each block by itself."""
    may_be_empty = role == "assistant" and index == state.last and state.options.prefill
    if text is not None and not text.strip() and not (may_be_empty and not text):
        report.add("blank_text", index, "content is a blank string")
    elif list_of(content) == [] and not may_be_empty:
        report.add("empty_content_list", index, "content is an empty list")
    for position, kind, block in blocks:
        rule, problem = block_problem(kind, block, role)
        if rule:
            report.add(rule, index, f"content[{position}] of type {shown(kind)}: {problem}")
        state.marks += count_marks(block)
        for reference in references(block):
            _reference(reference, index, report, state)
        if kind == "compaction" and block.get("content") is not None:
            _compaction(position, index, report, state)


def _compaction(position: int, index: int, report: Report, state: State) -> None:
    state.compactions += 1
    if state.compactions > 1:
        report.add("compaction_block_ambiguous", index, "an earlier compaction block with content is still in the list")
    elif index or position:
        report.add("compaction_block_misplaced", index, "the compaction block is not the first of the conversation")


def _user(text: str | None, blocks: list[Block], index: int, report: Report, state: State) -> None:
    answered: set[str] = set()
    others = False
    for position, kind, block in blocks:
        if kind != "tool_result":
            others = True
            continue
        call_id = text_of(block.get("tool_use_id"))
        if not call_id or not TOOL_ID.fullmatch(call_id):
            report.add("bad_tool_call_id", index, f"tool_use_id {shown(block.get('tool_use_id'))} is not a usable id")
        if not call_id:
            continue
        if call_id in state.open:
            state.open.discard(call_id)
            answered.add(call_id)
            if others:
                report.add("tool_result_not_first", index, f"content[{position}] stands after another kind of block")
        elif call_id in answered:
            report.add("duplicate_tool_result", index, f"tool_use {shown(call_id)} has a result already")
        else:
            text = f"no tool_use {shown(call_id)} stands in the message before"
            report.add("orphan_tool_result", index, text)
        _result_content(block, index, report, state)
    state.close()


def _result_content(block: dict[str, Any], index: int, report: Report, state: State) -> None:
    content = block.get("content")
    parts = list_of(content)
    if parts is None and content is not None and text_of(content) is None:
        report.add("bad_content_type", index, f"tool_result content is {shown(content)}")
    for position, kind, part in parts_of(parts or [], index, report):
        if kind not in RESULT_PARTS:
            report.add("bad_part", index, f"tool_result content[{position}] may not be of type {shown(kind)}")
            continue
        rule, problem = block_problem(kind, part, "result")
        if rule:
            report.add(rule, index, f"tool_result content[{position}] of type {shown(kind)}: {problem}")
        state.marks += count_marks(part)
        _reference(part, index, report, state)
    if block.get("is_error") is True and not (parts or text_of(content)):
        report.add("empty_error_result", index, "a tool_result with is_error has no content")


def _reference(part: dict[str, Any], index: int, report: Report, state: State) -> None:
    """A tool that a search has loaded must stand among the tools, as long as the reference is shown."""
    name = text_of(part.get("tool_name"))
    if part.get("type") == "tool_reference" and name and state.offered is not None and name not in state.offered:
        report.add("unknown_tool_reference", index, f"tool_reference names {shown(name)}, which is not offered")


def _assistant(text: str | None, blocks: list[Block], index: int, report: Report, state: State) -> None:
    ids: list[str] = []
    for _, kind, block in blocks:
        call_id = text_of(block.get("id")) if kind == "tool_use" else None
        if call_id is None:
            continue
        if call_id in state.seen:
            report.add("duplicate_tool_call_id", index, f"tool_use id {shown(call_id)} stands on an earlier call")
        state.seen.add(call_id)
        ids.append(call_id)
    state.open, state.at = set(ids), index
    _thinking_order(blocks, index, report)
    if index == state.last:
        _trailing(text, blocks, ids, index, report, state)


def _thinking_order(blocks: list[Block], index: int, report: Report) -> None:
    others = False
    for position, kind, _ in blocks:
        if kind in ("thinking", "redacted_thinking"):
            if others:
                report.add("thinking_not_first", index, f"content[{position}] stands after text or tool_use")
            return
        if is_server_block(kind):  # a server tool ends a stretch of output; thinking may start the next one
            others = False
        elif kind in ("text", "tool_use"):
            others = True


def _trailing(text: str | None, blocks: list[Block], ids: list[str], index: int, report: Report, state: State) -> None:
    """An assistant message that stands last is a prefill: the model goes on from its text."""
    if not state.options.prefill:
        report.add("prefill_not_supported", index, "the list ends with an assistant message")
    if blocks and not ids and blocks[-1][1] == "text":
        text = text_of(blocks[-1][2].get("text"))
    if text and text != text.rstrip() and text.strip():
        report.add("trailing_whitespace", index, "the last assistant text ends in white space")
