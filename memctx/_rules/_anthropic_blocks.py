"""Anthropic content blocks, each looked at by itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from memctx._rules._values import dict_of, list_of, shown, text_of

TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")

Problem = tuple[str, str]  # rule, what is wrong; ("", "") for none
NONE: Problem = ("", "")

RESULT_PARTS = {"text", "image", "document", "search_result", "tool_reference", "browser_state"}
EITHER = {"text", "image", "document", "search_result", "container_upload", "tool_addition", "tool_removal"}
SERVER_BLOCKS = {"server_tool_use", "mcp_tool_use", "mcp_tool_result", "mcp_tool_listing", "fallback"}
BY_ROLE = {
    "user": EITHER | {"tool_result", "compaction"},
    "assistant": (EITHER - {"image", "document", "search_result"})
    | SERVER_BLOCKS
    | {"thinking", "redacted_thinking", "tool_use", "compaction"},
    "system": {"text", "tool_addition", "tool_removal"},
    "result": RESULT_PARTS,
}


def is_server_block(kind: str) -> bool:
    """Whether the provider's own tools wrote the block; `x_tool_result` is the answer of the server tool `x`."""
    return kind in SERVER_BLOCKS or kind.endswith("_tool_result")


def count_marks(block: dict[str, Any]) -> int:
    """Cache marks on this block (1 or 0)."""
    return 0 if block.get("cache_control") is None else 1


def block_problem(kind: str, block: dict[str, Any], role: str) -> Problem:
    """The first thing wrong with a block that does not depend on its neighbours."""
    if kind not in BY_ROLE[role] and not (role == "assistant" and is_server_block(kind)):
        if kind == "compaction":
            return "compaction_block_misplaced", "a system message may not hold it"
        return "bad_part", f"not allowed in a {role} message"
    look = LOOK.get(kind)
    return NONE if look is None else look(block)


def references(block: dict[str, Any]) -> list[dict[str, Any]]:
    """The tools that the provider's own tool search has loaded with this block."""
    content = dict_of(block.get("content")) if block.get("type") == "tool_search_tool_result" else None
    found = list_of((content or {}).get("tool_references")) or []
    return [item for raw in found if (item := dict_of(raw)) is not None]


def _text(block: dict[str, Any]) -> Problem:
    text = text_of(block.get("text"))
    if text is None:
        return "bad_part", f"text is {shown(block.get('text'))}, not a string"
    return ("blank_text", "text is blank") if not text.strip() else NONE


def _source(block: dict[str, Any]) -> Problem:
    source = dict_of(block.get("source"))
    if source is None or not text_of(source.get("type")):
        return "bad_part", "source must be an object with a type"
    field = {"base64": "data", "url": "url", "file": "file_id", "text": "data"}.get(text_of(source["type"]) or "")
    if field and not text_of(source.get(field)):
        return "bad_part", f"source.{field} is empty or missing"
    return NONE


def _thinking(block: dict[str, Any]) -> Problem:
    if not text_of(block.get("signature")):
        return "missing_signature", "the block has no signature"
    if text_of(block.get("thinking")) is None:
        return "bad_part", "thinking is not a string"
    if count_marks(block):
        return "cache_control_not_allowed", "a thinking block carries a cache mark"
    return NONE


def _redacted(block: dict[str, Any]) -> Problem:
    return NONE if text_of(block.get("data")) else ("missing_signature", "the block has no data")


def _tool_use(block: dict[str, Any]) -> Problem:
    call_id, name = text_of(block.get("id")), text_of(block.get("name"))
    if not call_id or not TOOL_ID.fullmatch(call_id):
        return "bad_tool_call_id", f"id {shown(block.get('id'))} does not match {TOOL_ID.pattern}"
    if not name or not TOOL_NAME.fullmatch(name):
        return "bad_tool_name", f"name {shown(block.get('name'))} does not match {TOOL_NAME.pattern}"
    if dict_of(block.get("input")) is None:
        return "bad_arguments", f"input is {shown(block.get('input'))}, not an object"
    return NONE


def _compaction(block: dict[str, Any]) -> Problem:
    content = block.get("content")
    if content is None or text_of(content):
        return NONE
    return "empty_compaction", f"content is {shown(content)}; only text or null may stand there"


def _search_result(block: dict[str, Any]) -> Problem:
    good = list_of(block.get("content")) is not None and text_of(block.get("source")) and text_of(block.get("title"))
    return NONE if good else ("bad_part", "needs source, title and a list of text blocks")


def _tool_reference(block: dict[str, Any]) -> Problem:
    name = block.get("tool_name")
    return NONE if text_of(name) else ("bad_part", f"tool_name is {shown(name)}")


LOOK: dict[str, Callable[[dict[str, Any]], Problem]] = {
    "text": _text,
    "image": _source,
    "document": _source,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_use": _tool_use,
    "tool_reference": _tool_reference,
    "compaction": _compaction,
    "search_result": _search_result,
}
