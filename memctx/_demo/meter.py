"""The provider's side of the demo: it counts each request, prices it, refuses what is too long, checks the rules."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage

from memctx.pricing import Ledger
from memctx.tokens import Counter
from memctx.validity import check


class Overflow(Exception):
    """The request is longer than the window."""


@dataclass(slots=True)
class Meter:
    """`sizes` holds the tokens of each request taken; `window` in tokens, None for one without end."""

    ledger: Ledger
    tokens: Counter
    window: int | None
    sizes: list[int] = field(default_factory=list)
    refused: int = 0
    invalid: int = 0
    _known: dict[Hashable, int] = field(default_factory=dict)

    def weigh(self, messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]]) -> tuple[int, int]:
        """(tokens, of them from the cache) of a request. Raises `Overflow` beyond the window."""
        block = json.dumps(tools)
        keys: list[Hashable] = [block, *map(_key, messages)]
        if block not in self._known:
            self._known[block] = self.tokens.tools(tools)
        counts = [self._known[block], *map(self._size, messages)]
        total = sum(counts) + self.tokens.priming
        if self.window is not None and total > self.window:
            self.refused = total
            raise Overflow(f"the request has {total} tokens, the window {self.window}")
        self.invalid += bool(check(list(messages), "openai-chat", tools=tools))
        before = self.ledger.cached
        self.ledger.charge(counts, keys)
        self.sizes.append(total)
        return total, self.ledger.cached - before

    def _size(self, message: BaseMessage) -> int:
        key = _key(message)
        if key not in self._known:
            self._known[key] = self.tokens.message(message)
        return self._known[key]


def _key(message: BaseMessage) -> Hashable:
    """Equal for messages that are the same bytes on the wire. Message ids are not sent."""
    content = message.content if isinstance(message.content, str) else json.dumps(message.content)
    calls = json.dumps(message.tool_calls) if isinstance(message, AIMessage) and message.tool_calls else ""
    return message.type, content, calls, getattr(message, "tool_call_id", "")
