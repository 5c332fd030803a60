"""The pipeline: strategies in order, under one budget. It asks, prices, accepts or refuses.

A pipeline is immutable and shared by all threads; what belongs to one thread is in its `Session`. It dumps to plain data
and loads from a dict or a TOML file to an equal one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from memctx import component
from memctx.budget import Budget
from memctx.errors import ConfigError
from memctx.messages import Message
from memctx.pins import Pin
from memctx.pricing import Forecast, Price
from memctx.pricing import price as price_of
from memctx.strategies import Strategy

if TYPE_CHECKING:
    from memctx.session import Session

EditWhen = Literal["pays", "budget", "always"]
PinLike = Pin | str | Callable[[Message], bool]
DEFAULT_BUDGET = 128_000


@dataclass(frozen=True)
class Pipeline:
    """`strategies` in order of preference: the budget's need goes to the first that can meet it.

    `edit_when`: "pays", an edit must be forced by the budget or earn more than the cache it breaks; "budget", only when
    forced; "always", whatever is proposed. `low`: a forced edit goes down to this share of the limit, so that the next
    is far. `price`: a name of `memctx.pricing.PRICES` or a `Price`. `counter`: what `memctx.tokens.counter` takes.
    `provider`: whose rules the view must meet, when its form does not tell. Raises `ConfigError`.
    """

    strategies: tuple[Strategy, ...]
    budget: Budget
    price: Price
    edit_when: EditWhen
    pins: tuple[Pin, ...]
    counter: Any
    provider: str | None
    low: float
    forecast: Forecast

    def __init__(  # noqa: PLR0913 - one keyword a setting
        self,
        strategies: Sequence[Strategy] = (),
        *,
        budget: int | Budget | dict[str, object] = DEFAULT_BUDGET,
        price: str | Price | dict[str, object] = "openai",
        edit_when: EditWhen = "pays",
        pins: Sequence[PinLike] = (),
        counter: Any = "o200k_base",
        provider: str | None = None,
        low: float = 0.6,
        forecast: Forecast | dict[str, Any] = Forecast(),
    ) -> None:
        if edit_when not in ("pays", "budget", "always"):
            raise ConfigError(f"edit_when = {edit_when!r}: use 'pays', 'budget' or 'always'", field="edit_when")
        if isinstance(low, bool) or not isinstance(low, int | float) or not 0 < low <= 1:
            raise ConfigError(f"low = {low!r}: give a share of the limit, 0 < low <= 1", field="low")
        for place, strategy in enumerate(strategies):
            if not hasattr(strategy, "propose"):
                text = f"strategies[{place}] = {strategy!r:.60} has no propose(ctx); give a Strategy"
                raise ConfigError(text, field=f"strategies[{place}]")
        put = object.__setattr__
        put(self, "strategies", tuple(strategies))
        put(self, "budget", Budget.of(budget))
        put(self, "price", price_of(price))
        put(self, "edit_when", edit_when)
        put(self, "pins", tuple(map(Pin.of, pins)))
        put(self, "counter", counter)
        put(self, "provider", provider)
        put(self, "low", float(low))
        put(self, "forecast", forecast if isinstance(forecast, Forecast) else _forecast(forecast))

    @classmethod
    def safe(cls, budget: int | Budget | dict[str, object] = DEFAULT_BUDGET, **settings: Any) -> Pipeline:
        """Edits only when the budget forces it or it pays: skims old results, fades and clears them, drops old turns."""
        from memctx.strategies.clear import ClearResults
        from memctx.strategies.fade import Fade
        from memctx.strategies.skim import Skim
        from memctx.strategies.truncate import Truncate

        stack: list[Strategy] = [Skim(), Fade(keep=1), ClearResults(keep=1), Truncate(high=0.35, low=0.25)]
        return cls(stack, budget=budget, **{"low": 0.25, **settings})

    @classmethod
    def lean(cls, budget: int | Budget | dict[str, object] = DEFAULT_BUDGET, **settings: Any) -> Pipeline:
        """The smallest view that keeps what later steps draw on: every result but the newest step's is skimmed, once."""
        from memctx.strategies.skim import Skim

        return cls([Skim()], budget=budget, **{"edit_when": "always", **settings})

    def priced(self, price: str | Price) -> Pipeline:
        """The same pipeline under another price."""
        settings = {
            name: getattr(self, name) for name in self.__dataclass_fields__ if name not in ("strategies", "price")
        }
        return Pipeline(self.strategies, price=price, **settings)

    def session(self, thread: str = "", **handlers: Any) -> Session:
        """A thread's session. Keywords: `memory`, a scope of `Memory`, which also keeps the plan; `timeout` in seconds; and
        `generate`, `embed`, `logprobs`, `recall`, `remember`, `forget`, which answer what strategies ask for.
        """
        from memctx.session import Session

        return Session(self, thread, **handlers)

    def dump(self) -> dict[str, Any]:
        """Plain data that `load` turns into an equal pipeline. Predicate pins and counter objects cannot be written."""
        if not isinstance(self.counter, str) or any(pin.where for pin in self.pins):
            raise ConfigError("a pipeline with a predicate pin or a counter object has no plain form", field="pins")
        return {
            "strategies": [_dumped(strategy) for strategy in self.strategies],
            "budget": self.budget.model_dump(exclude_defaults=True),
            "price": {name: getattr(self.price, name) for name in Price.__slots__},
            "edit_when": self.edit_when,
            "pins": [{"id": pin.id} if pin.id else {"marker": pin.marker} for pin in self.pins],
            "counter": self.counter,
            **({"provider": self.provider} if self.provider else {}),
            "low": self.low,
            "forecast": {"patience": self.forecast.patience, "lengths": list(self.forecast.lengths)},
        }

    @classmethod
    def load(cls, source: Mapping[str, Any] | str | Path) -> Pipeline:
        """A pipeline from a dict or a TOML file. Raises `ConfigError` naming the key."""
        data = dict(source) if isinstance(source, Mapping) else _toml(Path(source))
        unknown = data.keys() - cls.__dataclass_fields__.keys()
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise ConfigError(f"unknown key {min(unknown)!r} in a pipeline; known: {known}", field=min(unknown))
        strategies = [component.load("strategies", entry) for entry in data.pop("strategies", ())]
        pins = [Pin(**pin) if isinstance(pin, dict) else pin for pin in data.pop("pins", ())]
        return cls(strategies, pins=pins, **data)


def _dumped(strategy: Any) -> dict[str, Any]:
    if not isinstance(strategy, component.Component):
        raise ConfigError(f"{strategy!r:.60} is not a Component and has no plain form", field="strategies")
    return strategy.dump()


def _forecast(fields: dict[str, Any]) -> Forecast:
    try:
        return replace(Forecast(**fields), lengths=tuple(fields.get("lengths", ())))
    except TypeError as cause:
        raise ConfigError(f"forecast = {fields!r:.80}: {cause}", field="forecast") from cause


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise ConfigError(f"cannot read a pipeline from {path}: {cause}", field="path") from cause
