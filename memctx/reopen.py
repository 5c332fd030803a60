"""The model's way back to what left the view: one tool, bounded a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from memctx.errors import NotFound

DESCRIPTION = (
    "Read again what was shortened or left out of this conversation. A mark like [cut r12] stands where text was cut; "
    "pass its handle, here r12. Long text comes in pages: pass the offset that the last page names."
)


@dataclass(frozen=True, slots=True)
class ReopenTool:
    """Callable with a handle and a character offset; returns at most `max_tokens` tokens of text, never raises on a bad handle."""

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
        }
        parameters = {"type": "object", "properties": properties, "required": ["handle"]}
        return {
            "type": "function",
            "function": {"name": self.name, "description": DESCRIPTION, "parameters": parameters},
        }

    def __call__(self, handle: str, offset: int = 0) -> str:
        try:
            whole = self.reopen(handle.strip().strip("[]").removeprefix("cut").strip())
        except NotFound as cause:
            return f"Error: {cause}"
        text = whole[max(0, offset) :]
        while text and (size := self.count(text)) > self.max_tokens:
            text = text[: max(1, min(len(text) - 1, len(text) * self.max_tokens // size))]
        end = max(0, offset) + len(text)
        return text if end >= len(whole) else f"{text}\n[{len(whole) - end} more characters: offset {end}]"


def as_data(raw: Any) -> Any:
    """A host message as JSON data."""
    if isinstance(raw, Mapping):
        return raw
    dump = getattr(raw, "model_dump", None)
    return dump(mode="json", exclude_none=True) if dump else str(raw)
