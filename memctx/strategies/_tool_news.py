"""What a transcript says of tools: which were used and how that went, what was found, removed, and asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from memctx.messages import Message, Transcript
from memctx.strategies import Context

SEARCH, REMOVE = "search_tools", "remove_tools"
MAX_QUERY = 4_000  # characters
MEANT = 4  # words, from which on a request is taken to say by itself what it wants
LOOK_BACK = 8  # steps in which a call may still be waiting for its result

_FAILED = re.compile(r'\s*(\{\s*"error"|error\b|traceback\b|exception\b|failed\b)', re.IGNORECASE)
_WORD = re.compile(r"\w{2,}")


@dataclass(frozen=True, slots=True)
class News:
    """One thing that happened: a user's request, tools found or removed by the model, or one used."""

    kind: Literal["request", "found", "removed", "used"]
    message: Message
    tools: tuple[str, ...] = ()


def news(transcript: Transcript, after: str) -> Iterator[News]:
    """What came after the message `after`; all there is where that is not in the history."""
    start = transcript.position.get(after, 0)
    waiting = after in transcript.position
    for step in transcript.steps[start:]:
        for message in step.messages:
            if waiting:
                waiting = message.id != after
            elif found := _news(message):
                yield found


def _news(message: Message) -> News | None:
    if message.role == "user":
        return News("request", message)
    if message.role != "tool" or not message.tool:
        return None
    if message.tool == SEARCH:
        return News("found", message, _listed(message.text, "tools"))
    if message.tool == REMOVE:
        return News("removed", message, _listed(message.text, "removed"))
    return News("used", message, (message.tool,))


def _listed(text: str, key: str) -> tuple[str, ...]:
    """The names in a result of one of our own tools; none where it was shortened or is of another tool of that name."""
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    listed: Any = answer.get(key) if isinstance(answer, dict) else None
    items = listed if isinstance(listed, list) else []
    names = (item.get("name") if isinstance(item, dict) else item for item in items)
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))


@dataclass(slots=True)
class Uses:
    """How often each tool was used in a thread, how often that failed, and when last. Each message is looked at once."""

    seen: int
    count: dict[str, int]
    failed: dict[str, int]
    last: dict[str, int]

    @classmethod
    def of(cls, ctx: Context) -> Uses:
        """Of the thread so far."""
        uses: Uses = ctx.memo.setdefault("uses", cls(0, {}, {}, {}))
        messages = ctx.transcript.messages
        for place in range(uses.seen, len(messages)):
            message = messages[place]
            if message.role == "tool" and message.tool:
                uses.count[message.tool] = uses.count.get(message.tool, 0) + 1
                uses.failed[message.tool] = uses.failed.get(message.tool, 0) + bool(_FAILED.match(message.text))
                uses.last[message.tool] = place
        uses.seen = len(messages)
        return uses


def waiting(transcript: Transcript) -> set[str]:
    """Tools whose result is still to come."""
    return {call.name for step in transcript.steps[-LOOK_BACK:] for call in step.pending}


def question(transcript: Transcript, request: Message) -> str:
    """What a request asks for; with what was said before it where it says little by itself ("yes, do that")."""
    parts = [request.text]
    for step in reversed(transcript.steps[: transcript.position[request.id]][-LOOK_BACK:]):
        if len(_WORD.findall(" ".join(parts))) >= MEANT:
            break
        parts += [message.text for message in step.heads if message.role in ("user", "assistant") and message.text]
    return "\n".join(reversed(parts))[-MAX_QUERY:]
