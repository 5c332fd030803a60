"""The model's way back to what left the view: one tool, bounded a call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from memctx.errors import NotFound

DESCRIPTION = (
    "Read again what was shortened or left out of this conversation. A mark like [cut r12] stands where text was cut; "
    "pass its handle, here r12. With find, only the places around that text are shown. Long text comes in pages: pass the "
    "offset that the last page names."
)
AROUND = 300  # characters shown on either side of a place that was searched for


@dataclass(frozen=True, slots=True)
class ReopenTool:
    """Callable with a handle, a character offset and a text to find; gives at most `max_tokens` tokens.

    It never raises on a bad handle: the answer then says which handles there are.
    """

    reopen: Callable[[str], str]
    count: Callable[[str], int]
    max_tokens: int
    name: str = "reopen"

    @property
    def schema(self) -> dict[str, Any]:
        """The tool in OpenAI's function form."""
        properties = {
            "handle": {"type": "string", "description": "the handle in the mark, such as r12"},
            "offset": {"type": "integer", "description": "character to start from; 0 for the beginning"},
            "find": {"type": "string", "description": "show only the places where this stands, upper or lower case"},
        }
        parameters = {"type": "object", "properties": properties, "required": ["handle"]}
        return {
            "type": "function",
            "function": {"name": self.name, "description": DESCRIPTION, "parameters": parameters},
        }

    def __call__(self, handle: str, offset: int = 0, find: str = "") -> str:
        try:
            whole = self.reopen(handle.strip().strip("[]").removeprefix("cut").strip())
        except NotFound as cause:
            return f"Error: {cause}"
        if find:
            places = list(_around(whole, find))
            if not places:
                return f"{find!r:.80} does not stand in the {len(whole)} characters of {handle}: try a shorter text, or an offset"
            whole = "\n".join(places)
        text = whole[max(0, offset) :]
        while text and (size := self.count(text)) > self.max_tokens:
            text = text[: max(1, min(len(text) - 1, len(text) * self.max_tokens // size))]
        end = max(0, offset) + len(text)
        return text if end >= len(whole) else f"{text}\n[{len(whole) - end} more characters: offset {end}]"


def _around(whole: str, find: str) -> Iterator[str]:
    """The places where `find` stands, each with what is around it and where it starts; places that touch are one."""
    start = end = -1
    for match in re.finditer(re.escape(find), whole, re.IGNORECASE):
        if end < 0 or match.start() - AROUND > end:
            if end >= 0:
                yield f"[offset {start}] {whole[start:end]}"
            start = max(0, match.start() - AROUND)
        end = min(len(whole), match.end() + AROUND)
    if end >= 0:
        yield f"[offset {start}] {whole[start:end]}"


def as_data(raw: Any) -> Any:
    """A host message as JSON data."""
    if isinstance(raw, Mapping):
        return raw
    dump = getattr(raw, "model_dump", None)
    return dump(mode="json", exclude_none=True) if dump else str(raw)
