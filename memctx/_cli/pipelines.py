"""Pipelines by the names a user gives on the command line."""

from __future__ import annotations

from memctx import component
from memctx.errors import ConfigError, NotFound
from memctx.pipeline import Pipeline
from memctx.pricing import PRICES

PRESETS = {"safe": Pipeline.safe, "lean": Pipeline.lean}
BUDGET = 128_000  # the window of the most used models; recorded runs seldom fill it, so what is measured is the price


def parse(names: str, budget: int | None, price: str) -> dict[str, Pipeline]:
    """Pipelines from a comma list of presets, TOML files and strategy names, by label, in the order given.

    A strategy's name stands for it alone, with its defaults, editing at every call. `budget` (tokens) overrides that of
    a file. Raises `ConfigError` or `NotFound`.
    """
    if price not in PRICES:
        raise ConfigError(f"price {price!r} is not known; use one of {', '.join(PRICES)}", field="price")
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise ConfigError("no strategies given; name a preset, a TOML file or a strategy", field="strategies")
    return dict(_pipeline(name, budget, price) for name in wanted)


def _pipeline(name: str, budget: int | None, price: str) -> tuple[str, Pipeline]:
    if name in PRESETS:
        return name, PRESETS[name](budget=budget or BUDGET, price=price)
    if name.endswith(".toml"):
        loaded = Pipeline.load(name)
        return name, Pipeline.load({**loaded.dump(), "budget": budget}) if budget else loaded
    try:
        strategy = component.load("strategies", {"use": name})
    except NotFound as cause:
        known = ", ".join([*PRESETS, *component.names("strategies")])
        raise NotFound(f"no preset, TOML file or strategy {name!r}; known: {known}") from cause
    return name, Pipeline([strategy], budget=budget or BUDGET, price=price, edit_when="always")
