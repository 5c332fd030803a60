"""What a request costs, and what an edit is worth. All money is in units of one uncached input token.

A provider's price is data: what writing and reading its prompt cache costs, from how many tokens and in what steps it
caches, and for how long. Sources: the providers' prompt-caching documentation. Prices move; give your own `Price`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from memctx.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Price:
    """`write` and `read`: price of a token put into, or taken from, the cache, relative to a plain input token.

    `minimum`: tokens below which nothing is cached. `block`: cached lengths are multiples of it. `ttl`: seconds a cached
    prefix lives after its last use. `marks`: explicit breakpoints the request may carry; 0 where caching is automatic.
    """

    name: str
    write: float = 1.0
    read: float = 0.1
    minimum: int = 1024
    block: int = 1
    ttl: float = 300.0
    marks: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.read <= self.write and self.minimum >= 0 and self.block >= 1 and self.ttl > 0):
            text = f"price {self.name!r}: needs 0 <= read <= write, minimum >= 0, block >= 1, ttl > 0"
            raise ConfigError(text, field="price")

    def cached(self, tokens: int) -> int:
        """How many of a common prefix of `tokens` tokens the provider serves from its cache."""
        return 0 if tokens < self.minimum else tokens - tokens % self.block

    def cost(self, total: int, prefix: int) -> float:
        """A request of `total` tokens whose first `prefix` stand in the cache."""
        if total < self.minimum:
            return float(total)
        hit = self.cached(prefix)
        return self.read * hit + self.write * (total - hit)


PRICES: dict[str, Price] = {
    price.name: price
    for price in (
        Price("openai", 1.0, 0.1, 1024, 128, 300),
        Price("openai-write", 1.25, 0.1, 1024, 128, 1800),
        Price("anthropic-5m", 1.25, 0.1, 1024, 1, 300, marks=4),
        Price("anthropic-1h", 2.0, 0.1, 1024, 1, 3600, marks=4),
        Price("gemini", 1.0, 0.1, 2048, 1, 300),
        Price("deepseek", 1.0, 0.1, 64, 64, 3600),
        Price("none", 1.0, 1.0, 0, 1, 1.0),
    )
}


def price(value: str | Price | dict[str, object]) -> Price:
    """A price by name, from a table of fields, or as it is. Raises `ConfigError`."""
    if isinstance(value, Price):
        return value
    if isinstance(value, dict):
        try:
            return Price(**value)  # type: ignore[arg-type]  # Price checks its own fields
        except TypeError as cause:
            raise ConfigError(f"price = {value!r:.80}: {cause}", field="price") from cause
    if value not in PRICES:
        raise ConfigError(f"unknown price {value!r}; known: {', '.join(PRICES)}, or give a Price", field="price")
    return PRICES[value]


@dataclass(frozen=True, slots=True)
class Forecast:
    """How many more calls a run will make.

    From a sample of past run lengths in calls (`lengths`): the mean of what remained of those that got this far. Without
    a sample: what has lasted will last, the more surely the longer it has; calls * calls / (calls + patience).
    """

    patience: float = 120.0
    lengths: tuple[int, ...] = ()

    def remaining(self, calls: int) -> float:
        longer = [length - calls for length in self.lengths if length > calls]
        if longer:
            return sum(longer) / len(longer)
        return calls * calls / (calls + self.patience)


@dataclass(frozen=True, slots=True)
class Outlook:
    """The cache and the run as they stand before a call: `total` tokens, of them `prefix` cached, `calls_left` to come."""

    price: Price
    total: int
    prefix: int
    calls_left: float

    def worth(self, at: int, saved: int) -> float:
        """What editing pays over the rest of the run: `saved` tokens less, the prefix kept up to token `at`.

        A view below the provider's minimum is not cached at all, so editing down to there earns nothing.
        """
        if self.price.read < self.price.write and self.total - saved < self.price.minimum:
            return -1.0
        now = self.price.cost(self.total, self.prefix) - self.price.cost(self.total - saved, min(at, self.prefix))
        later = self.price.cost(self.total, self.total) - self.price.cost(self.total - saved, self.total - saved)
        return now + self.calls_left * later


class Ledger:
    """Prices a sequence of requests, each given as one hashable and one size a message, in request order."""

    def __init__(self, price: Price) -> None:
        self.price = price
        self.tokens = 0
        self.cached = 0
        self.money = 0.0
        self._last: Sequence[Hashable] = ()
        self._at: float | None = None

    def charge(self, sizes: Iterable[int], ids: Sequence[Hashable], now: float | None = None) -> float:
        """Cost of the next request. `now` in seconds; None: no time has passed."""
        cold = now is not None and self._at is not None and now - self._at > self.price.ttl
        same = 0 if cold else _common(ids, self._last)
        counts = list(sizes)
        total, prefix = sum(counts), sum(counts[:same])
        cost = self.price.cost(total, prefix)
        self.tokens += total
        self.cached += self.price.cached(prefix)
        self.money += cost
        self._last, self._at = ids, now
        return cost


def _common(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count
