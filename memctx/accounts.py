"""A thread's accounts: what the provider's cache holds, what was paid, and what each decision earned."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from memctx.decide import Decision
from memctx.pricing import Price

RECORDS = 10_000  # policy decisions kept for a trainer to read


class Accounts:
    """Money is in units of one uncached input token; sizes in tokens; times in seconds."""

    def __init__(self, price: Price) -> None:
        self.price = price
        self.prefix = 0  # tokens from the start of the coming request that the cache holds
        self.cold = True
        self.rate = 0.0  # sum over calls of what a cached token cost: a decision's later saving is a difference of it
        self.decisions: list[Decision] = []
        self.records: deque[Mapping[str, Any]] = deque(maxlen=RECORDS)
        self.calls = self.tokens = self.cached = 0
        self.money = self.money_unedited = 0.0
        self.peak = 0
        self.reported = {"input": 0, "cached": 0}
        self._stable = 0  # tokens of the last request that stand unchanged in the coming one
        self._unedited = 0
        self._sent_at: float | None = None
        self._now = 0.0
        self._base = 0
        self._sums: Sequence[int] = (0,)
        self._sent_messages = self._last_sent = 0

    def arrive(self, step: int, sums: Sequence[int], base: int, kept: int | None, now: float) -> None:
        """A request is being made: all before step `step` is as it was sent.

        `base`: tokens before the messages; `kept`: how many of them, from the start, are as they were sent; None: all.
        """
        self._now, self._sums = now, sums
        self.cold = self._sent_at is None or now - self._sent_at > self.price.ttl
        self._stable = 0 if self._sent_at is None else min(self._stable, base + sums[step])
        self.prefix = 0 if self.cold else self.price.cached(self._stable)
        self.fronted(base, kept)

    def fronted(self, base: int, kept: int | None) -> None:
        """What stands before the messages is `base` tokens now, of them `kept` as they were sent; None: all."""
        self._base = base
        if kept is not None:
            self._stable = min(self._stable, kept)
            self.prefix = min(self.prefix, self.price.cached(self._stable))

    def written(self, step: int) -> None:
        """An edit rewrote the view from step `step` on."""
        self._stable = min(self._stable, self._base + self._sums[min(step, len(self._sums) - 1)])
        self.prefix = min(self.prefix, self.price.cached(self._stable))

    def send(self, total: int, unedited: int) -> int:
        """The request goes out with `total` tokens; unedited it had been `unedited`. Returns the stable prefix."""
        stable = self._stable
        self.calls += 1
        self.tokens += total
        self.cached += self.prefix
        self.peak = max(self.peak, total)
        self.money += self.price.cost(total, self.prefix)
        self.money_unedited += self.price.cost(unedited, 0 if self.cold else min(self._unedited, unedited))
        self.rate += self.price.write if self.cold else self.price.read
        self._stable, self._unedited, self._sent_at = total, unedited, self._now
        return stable

    def marks(self, messages: int) -> tuple[int, ...]:
        """Where explicit cache marks pay: after the last message, and where the last request ended, to read from."""
        self._last_sent, self._sent_messages = self._sent_messages, messages
        ends = {messages - 1, self._last_sent - 1}
        return tuple(sorted(end for end in ends if 0 <= end < messages))

    def observe(self, usage: Any) -> int:
        """Take in a provider's usage; returns the input tokens it billed, 0 if it does not say."""
        total, cached = read_usage(usage)
        self.reported["input"] += total
        self.reported["cached"] += cached
        return total

    def record(self, facts: Mapping[str, Any]) -> None:
        """Keep what a policy saw and chose."""
        self.records.append({"call": self.calls, **facts})

    def settled(self) -> list[Decision]:
        """The decisions, each with what it has earned so far: its later calls' saving less what it cost at once."""
        return [
            replace(
                d,
                observed=(self.rate - d.rate_at) * (d.before - d.after)
                - d.cost_now
                - self.price.read * (d.before - d.after),
            )
            for d in self.decisions
        ]

    def report(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "calls": self.calls,
            "tokens": self.tokens,
            "peak_tokens": self.peak,
            "cache_share": self.cached / self.tokens if self.tokens else 0.0,
            "money": self.money,
            "money_unedited": self.money_unedited,
            "decisions": len(self.decisions),
            "reported": dict(self.reported),
        }


def read_usage(usage: Any) -> tuple[int, int]:
    """(input tokens, cached of them) from a provider's usage: OpenAI chat or Responses, Anthropic, Gemini, LangChain."""
    if usage is None:
        return 0, 0

    def get(source: Any, key: str) -> Any:
        return source.get(key) if isinstance(source, Mapping) else getattr(source, key, None)

    def number(value: Any) -> int:
        return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0

    def first(source: Any, *keys: str) -> int:
        return next((found for key in keys if (found := number(get(source, key)))), 0)

    total = first(usage, "prompt_tokens", "input_tokens", "prompt_token_count", "promptTokenCount")
    details = next((d for key in _DETAILS if (d := get(usage, key)) is not None), None)
    cached = first(details, "cached_tokens", "cache_read") if details is not None else 0
    anthropic = number(get(usage, "cache_read_input_tokens")), number(get(usage, "cache_creation_input_tokens"))
    if any(anthropic):  # Anthropic's input_tokens leave out what the cache served or took
        return total + sum(anthropic), anthropic[0]
    return total, cached or first(usage, "cached_content_token_count", "prompt_cache_hit_tokens")


_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
