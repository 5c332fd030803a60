"""What Mem-alpha's model is shown: the schemas of its tools, and memory as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

CORE_TOKENS = 512
NOTICE = f" [cut: core memory holds {CORE_TOKENS} tokens]"
LONGEST = 65_536  # characters of a paragraph that are looked at: 512 tokens are never more
_TAGS = re.compile(r"<(/?(?:core|semantic|episodic)_memory)", re.IGNORECASE)

Schema = dict[str, Any]


def writer_schemas(lists: Sequence[str], types: Sequence[str]) -> list[Schema]:
    """Insert, update and delete, for the types that are switched on; a tool with none left is absent."""
    insert = _tool(
        "new_memory_insert",
        "Add an item to memory; it gets an id of its own. An item that is there already is skipped.",
        memory_type=_one_of("What it is: general knowledge, or an event with its time.", lists),
        content=_string("The text to remember."),
    )
    update = _tool(
        "memory_update",
        f"Replace a text by a new one. Core memory is one paragraph of at most {CORE_TOKENS} tokens, replaced whole.",
        memory_type=_one_of("Which memory to change.", types),
        new_content=_string("The whole new text, with what remains true of the old one."),
        memory_id=_string("Id of the item; needed except for core_memory."),
        optional=("memory_id",),
    )
    delete = _tool(
        "memory_delete",
        "Take an item out of memory, or clear the core paragraph.",
        memory_type=_one_of("Which memory to change.", types),
        memory_id=_string("Id of the item; needed except for core_memory."),
        optional=("memory_id",),
    )
    return [*([insert] if lists else []), *([update, delete] if types else [])]


def reader_schemas(lists: Sequence[str], methods: Iterable[str], top: int) -> list[Schema]:
    """Search, or nothing where both lists are switched off."""
    search = _tool(
        "search_memory",
        f"Find up to {top} items of memory. Core memory is always shown and need not be searched.",
        memory_type=_one_of("Which memory to search.", lists),
        query=_string("What to look for."),
        search_method=_one_of("bm25 finds words, text-embedding finds meaning; bm25 if not given.", methods),
        optional=("search_method",),
    )
    return [search] if lists else []


def fitted(content: str, count: Callable[[str], int]) -> str:
    """A paragraph within `CORE_TOKENS`: whole, or its longest beginning and a notice."""
    if len(content) <= LONGEST and count(content) <= CORE_TOKENS:
        return content
    low, high = 0, min(len(content), LONGEST)
    while low < high:
        middle = (low + high + 1) // 2
        fits = count(content[:middle] + NOTICE) <= CORE_TOKENS
        low, high = (middle, high) if fits else (low, middle - 1)
    head = content[:low]
    word = head.rfind(" ")
    return (head[:word] if word > low * 3 // 4 else head) + NOTICE


def block(name: str, note: str, lines: Iterable[str], nothing: str = "Empty.") -> str:
    """Lines between tags. No text inside can imitate a tag or the start of a line."""
    safe = [_TAGS.sub(r"< \1", line).replace("\n", "\n  ") for line in lines]
    return "\n".join([f"<{name}>{note}", *(safe or [nothing]), f"</{name}>"])


def _tool(name: str, description: str, optional: Sequence[str] = (), **properties: Schema) -> Schema:
    required = [each for each in properties if each not in optional]
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _string(description: str) -> Schema:
    return {"type": "string", "description": description}


def _one_of(description: str, names: Iterable[str]) -> Schema:
    return {**_string(description), "enum": list(names)}
