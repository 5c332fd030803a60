"""What a rule set is: a module with `check(items, report, options)`, one for each provider.

A rule set reads wire-form messages and calls `report.add(rule, index, message)`. It also states `NAME`, and
`TAKES_TEXT` with `from_text` where the provider takes a bare string for the whole conversation.
Rules and their words: the providers' API references and SDK types (openai 3.54, anthropic 2.12, Gemini v1beta).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Options:
    """What is sent beside the messages, and what the model allows."""

    system: Any = None
    tools: Any = None
    server_history: bool = False
    prefill: bool = True
    tool_choice: Any = None

    def filled_from(self, view: Any) -> Options:
        """The same, with tools and system text taken from a view where none were given."""
        tools = getattr(view, "tools", None) if self.tools is None else self.tools
        system = getattr(view, "system", None) if self.system is None else self.system
        return replace(self, tools=tools, system=system)


class Report:
    """Collects `(index, rule, message)`; `places` maps a converted message back to the caller's index."""

    __slots__ = ("found", "places")

    def __init__(self) -> None:
        self.found: list[tuple[int, str, str]] = []
        self.places: list[int] | None = None

    def add(self, rule: str, index: int, message: str) -> None:
        if self.places is not None and index >= 0:
            index = self.places[index]
        self.found.append((index, rule, message))


REMEDIES: dict[str, str] = {
    # the list
    "empty_messages": "send a list with at least one message",
    "too_many_messages": "drop or summarise old messages",
    "first_not_user": "start the list with a user message",
    "no_user": "add a user message; system text alone is no request",
    "prefill_not_supported": "end the list with a user message, or use a model that continues an assistant message",
    "trailing_whitespace": "strip the end of the last assistant text",
    # one message
    "bad_role": "give each message a role the provider knows",
    "bad_name": "use 1 to 64 characters without spaces or < | \\ / >",
    "bad_item": "use an item type the Responses API knows",
    "bad_content_type": "make content a string or a list of parts",
    "empty_content_list": "give the message at least one part, or a string",
    "missing_content": "give the message content, or drop it",
    "blank_text": "drop the blank text, or put a short placeholder there",
    "bad_part": "use the part types this role allows, with their required fields",
    "content_too_long": "cut the text, or move it out of the message",
    "unencodable_text": "replace lone surrogates, for example by U+FFFD",
    "not_json": "use only JSON values: text keys, finite numbers, no cycles, no foreign objects",
    # calls and results
    "empty_tool_calls": "remove the key when there are no calls",
    "too_many_tool_calls": "split the calls over several messages of at most 128",
    "bad_tool_call": "give the call a type and the fields of that type",
    "bad_tool_call_id": "give the call, and its result, an id of the form the provider accepts",
    "tool_id_too_long": "map the id to a shorter one in the call and in its result",
    "duplicate_tool_call_id": "give every call its own id",
    "bad_tool_name": "use letters, digits, _ and - only, within the provider's length",
    "bad_arguments": "send arguments as JSON text (OpenAI) or as an object (Anthropic, Gemini)",
    "unanswered_tool_call": "put a result for every call directly after it, or drop the call",
    "orphan_tool_result": "move the result directly after its call, or drop it",
    "duplicate_tool_result": "keep one result for each call",
    "tool_result_not_first": "put tool_result blocks before all other blocks of the user message",
    "tool_result_not_alone": "put other parts into a user turn of their own",
    "call_turn_misplaced": "let a function call turn follow a user turn or a function response turn",
    "empty_error_result": "say in the content what went wrong",
    # reasoning
    "missing_signature": "send thinking blocks back exactly as they came, or drop the block",
    "thinking_not_first": "put thinking blocks before text and tool_use, as they came",
    "missing_summary": "send summary, [] when there is none",
    "reasoning_without_item": "keep the item that follows the reasoning, or drop both",
    # compaction and caching
    "compaction_block_ambiguous": "keep only the newest compaction block",
    "compaction_block_misplaced": "make the compaction block the first block of the conversation",
    "empty_compaction": "send the compaction block as it came; null marks a failed one",
    "too_many_cache_breakpoints": "keep at most 4 cache_control marks over tools, system and messages",
    "cache_control_not_allowed": "move the mark to a block or tool that may carry one: not thinking, not a deferred tool",
    # tools and system
    "bad_system": "make system a string or a list of text blocks",
    "bad_tool": "send each tool as an object with a name",
    "too_many_tools": "offer at most 128 tools",
    "duplicate_tool_name": "give every tool its own name",
    "bad_tool_choice": "name only tools on offer, in the form the provider knows",
    "deferral_not_supported": "offer the tool at once, or use the Responses API",
    "deferred_without_search": "add a tool of type tool_search, or defer no tool",
    "search_without_deferred": "leave tool_search out where no tool is deferred",
    "all_tools_deferred": "leave at least one tool, such as the search, undeferred",
    "unknown_tool_reference": "keep the tool among the tools of the request, or drop the step that refers to it",
    "tool_description_too_long": "cut the description to 1,024 characters",
}
