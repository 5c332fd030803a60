"""The beginning of a text, by tokens."""

from __future__ import annotations

from collections.abc import Callable

Count = Callable[[str], int]
GUESS = 4  # characters of a token, before a text has been measured


def head(text: str, tokens: int, count: Count) -> str:
    """The beginning of a text in at most `tokens` tokens, at least one character; ends with a line or a word if it can."""
    room = GUESS * tokens
    if len(text) > room or count(text) > tokens:
        size = max(1, count(text[:room]))
        room = max(1, min(len(text), room * tokens // size))
        while room > 1 and (size := count(text[:room])) > tokens:
            room = min(room - 1, max(1, room * tokens // size))
        if room < len(text):
            end = max(text.rfind("\n", room // 2, room), text.rfind(" ", room * 9 // 10, room))
            room = end + 1 if end >= 0 else room
        return text[:room]
    return text
