"""Finding the structure of a tool result: JSON, JSON inside a wrapper, escaped text, or plain lines."""

from __future__ import annotations

import json
import re
from typing import Any

DECODER = json.JSONDecoder()
OPENING = re.compile(r'[{\[](?=\s*["{\[\]}\d-])')
ESCAPE = re.compile(r"\\([nrt\"'\\/])")
ESCAPED = {"n": "\n", "r": "", "t": "\t"}
TRIES = 3  # how many openings are tried before a text is taken for no JSON


def data_in(text: str) -> tuple[str, Any, str] | None:
    """(text before, the JSON value, text after), or None. Only a container that is most of the text counts."""
    for number, opening in enumerate(OPENING.finditer(text)):
        if number == TRIES:
            break
        start = opening.start()
        if start > len(text) // 2:
            break
        try:
            value, end = DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if end - start > len(text) // 2:
            return text[:start], value, text[end:]
    return None


def unescape(text: str) -> str:
    """A text that was printed as a literal (`\\n`, `\\"`) as the lines it stands for; any other text as it is."""
    escapes = text.count("\\n") + text.count('\\"')
    if escapes < 2 or escapes < text.count("\n"):
        return text
    return ESCAPE.sub(lambda found: ESCAPED.get(found[1], found[1]), text)
