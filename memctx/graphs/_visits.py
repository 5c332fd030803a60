"""A finished run's calls, as a tool graph learns them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from memctx import formats
from memctx.graphs.tool_graph import Visit, summarise
from memctx.messages import Message


def visits(messages: Sequence[Any]) -> list[Visit]:
    """The assistant's calls in order, each with the state before its message. `messages`: a run in any host's form.

    A simulated user's calls, as `memctx.runs` marks them, are no calls of the agent. Raises `InvalidMessage`.
    """
    form = formats.load(formats.detect(messages) or "openai-chat")
    said = [message for index, raw in enumerate(messages) for message in form.parse(raw, index)]
    found: list[Visit] = []
    for place, message in enumerate(said):
        if message.calls and not _by_user(message):
            state = summarise(said[:place])
            found += [Visit(call.name, state) for call in message.calls]
    return found


def _by_user(message: Message) -> bool:
    return isinstance(message.raw, Mapping) and message.raw.get("name") == "user"
