"""What is known of a tool result when it arrives and never changes: its size, kind and likeness to the goal."""

from __future__ import annotations

from math import log1p, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memctx.messages import Message

STATIC = (
    "bias", "tokens", "lines", "words", "fresh", "fresh_share", "dense", "error", "object", "list", "wrapped", "prose",
    "short", "similar_goal", "similar_call", "arguments", "repeat",
)  # fmt: skip


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


def static_row(message: Message, given: Given) -> NDArray[np.float32]:
    """(len(STATIC),)."""
    text = message.text
    head = text[:400].lstrip()
    begins = head[:1]
    wrapped = begins not in "{[" and ("{" in head or "TextContent" in head)
    row = (
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
    )
    return np.array(row, np.float32)
