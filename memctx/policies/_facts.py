"""What is known of a tool result when it arrives and never changes: its size, kind, tool and likeness to the goal."""

from __future__ import annotations

import json
import re
from math import log1p, sqrt
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from memctx.messages import Message

STATIC = (
    "bias", "tokens", "lines", "words", "fresh", "fresh_share", "dense", "error", "object", "list", "wrapped", "prose",
    "short", "similar_goal", "similar_call", "arguments", "repeat",
)  # fmt: skip
TOOL_BUCKETS = 48
PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
NAMED = ("tool_name", "tool", "command", "cmd", "name")  # arguments of a tool that runs others which say which


class Given(NamedTuple):
    """Counts of identifiers (all; in no text that stays), and the plain words of the result, the goal and the call."""

    words: int
    fresh: int
    error: bool
    plain: frozenset[str]
    goal: set[str]
    call: set[str]
    arguments: str
    repeat: bool


def tool_parts(tool: str, arguments: str) -> tuple[str, ...]:
    """The words of a tool's name; of one that runs other tools or commands also the name of what it runs."""
    names = [tool, *_inner(arguments)]
    return tuple(dict.fromkeys(part.lower() for name in names for part in (name, *PARTS.findall(name))))


def _inner(arguments: str) -> list[str]:
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return []
    if not isinstance(value, dict):
        return []
    found = (value.get(key) for key in NAMED)
    return [text.split(None, 1)[0][:40] for text in found if isinstance(text, str) and text.strip()]


def static_row(message: Message, given: Given, parts: tuple[str, ...]) -> NDArray[np.float32]:
    """(len(STATIC) + TOOL_BUCKETS,)."""
    text = message.text
    head = text[:400].lstrip()
    begins = head[:1]
    wrapped = begins not in "{[" and ("{" in head or "TextContent" in head)
    row = [
        1.0,
        log1p(message.tokens) / 4,
        log1p(text.count("\n")) / 4,
        log1p(given.words) / 3,
        log1p(given.fresh) / 3,
        given.fresh / max(1, given.words),
        given.words / max(1, message.tokens),
        given.error,
        begins == "{",
        begins == "[",
        wrapped,
        begins not in "{[" and not wrapped,
        len(text) < 80,
        len(given.plain & given.goal) / sqrt(max(1, len(given.goal))),
        len(given.plain & given.call) / sqrt(max(1, len(given.call))),
        log1p(len(given.arguments)) / 4,
        given.repeat,
    ]
    out = np.zeros(len(STATIC) + TOOL_BUCKETS, np.float32)
    out[: len(STATIC)] = row
    for part in parts:
        out[len(STATIC) + crc32(part.encode()) % TOOL_BUCKETS] += 1
    return out
