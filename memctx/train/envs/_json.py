"""Tool calls as models write them into a text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def calls(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects of a text that have a `name`; what stands around them does not matter."""
    decoder, place = json.JSONDecoder(), text.find("{")
    while place >= 0:
        try:
            found, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            if isinstance(found.get("name"), str):
                yield found
        place = text.find("{", end)
