"""Which tools are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memctx.edits import Offer


def name_of(tool: Any) -> str:
    """A tool's name in any host's form: a schema dict of OpenAI, Anthropic or Gemini, or an object with a name."""
    if isinstance(tool, Mapping):
        function = tool.get("function")
        return str((function if isinstance(function, Mapping) else tool).get("name", ""))
    return str(getattr(tool, "name", getattr(tool, "__name__", "")))


def names_of(tools: Sequence[Any] | None) -> tuple[str, ...]:
    return tuple(map(name_of, tools or ()))


def offered(tools: Sequence[Any] | None, offer: Offer | None) -> list[Any] | None:
    """The host's tools, less those an `Offer` leaves out; a tool without a name (a provider's own) always stays."""
    if tools is None:
        return None
    return [tool for tool in tools if offer is None or name_of(tool) in ("", *offer.tools)]
