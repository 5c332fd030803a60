"""The presets as a table in Markdown: every paper as values of the slots. `memctx train presets` prints it."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from typing import Any

from memctx.train import presets
from memctx.train.algorithm import Algorithm

SLOTS = (
    ("sampling", ("sampling", "layout", "train_modules", "filters")),
    ("rewards", ("shapers",)),
    ("advantage", ("terms", "post", "critic")),
    ("loss", ("loss",)),
    ("regularisers", ("kl", "entropy", "smooth")),
    ("schedule", ("schedule",)),
)
DEFAULT = Algorithm()


HEAD = """# Algorithms

Every algorithm is values of the same slots (`memctx.train.algorithm`); an empty cell is the default, GRPO on groups of eight. This
page is made of `memctx.train.presets` by `memctx train presets`; the docstrings there give formulas, and say where released code
does something else than its paper.

"""


def page() -> str:
    """The page of the docs."""
    return HEAD + table()


def table() -> str:
    """One row a preset; an empty cell is the default, GRPO on groups of eight."""
    head = ["preset", *(name for name, _ in SLOTS), "source"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, maker in presets.makers().items():
        made = maker()
        cells = [", ".join(_slot(made, each) for each in names if _slot(made, each)) for _, names in SLOTS]
        source = (inspect.getdoc(maker) or "").partition(":")[0]
        lines.append(f"| `{name}` | {' | '.join(cells)} | {source} |")
    return "\n".join(lines) + "\n"


def _slot(made: Algorithm, name: str) -> str:
    value = getattr(made, name)
    if value == getattr(DEFAULT, name):
        return ""
    if isinstance(value, tuple):
        return " + ".join(map(_short, value))
    return _short(value)


def _short(value: Any) -> str:
    """A value as the code that makes it, fields that are defaults left out."""
    if isinstance(value, partial):
        named = ", ".join(f"{key}={each}" for key, each in value.keywords.items())
        return f"{value.func.__name__}({named})"
    if isinstance(value, frozenset):
        return "{" + ", ".join(sorted(value)) + "}"
    if callable(value) and hasattr(value, "__qualname__"):
        return str(value.__qualname__).split(".")[0]
    if not is_dataclass(value) or isinstance(value, type):
        return str(value)
    shown = [
        f"{each.name}={_short(getattr(value, each.name))}" for each in fields(value) if not _is_default(value, each)
    ]
    return f"{type(value).__name__}({', '.join(shown)})"


def _is_default(value: Any, field: Any) -> bool:
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    return bool(getattr(value, field.name) == default)
