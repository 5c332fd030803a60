"""Edits: the five things that can be done to a view. Frozen, serialisable, named by message id.

A strategy proposes them; the pipeline accepts or refuses; the plan keeps the accepted ones; the renderer applies them.
`risk` is the strategy's estimate, 0 to 1, that a later step needs what the edit takes out of sight.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from memctx.errors import ConfigError

Delivery = Literal["list", "allow", "defer"]


@dataclass(frozen=True, slots=True)
class Clear:
    """Show `content` in place of the text of message `target`, or of the arguments of its call `call` (JSON text)."""

    target: str
    content: str
    handle: str
    call: str = ""
    risk: float = 0.0


@dataclass(frozen=True, slots=True)
class Drop:
    """Leave out the steps from the one holding message `first` to the one holding `last`; one line marks the gap."""

    first: str
    last: str
    handle: str
    risk: float = 0.0


@dataclass(frozen=True, slots=True)
class Replace:
    """Show one user message `content` in place of the steps from `first` to `last`. Protected steps inside it stay."""

    first: str
    last: str
    content: str
    handle: str
    risk: float = 0.0


@dataclass(frozen=True, slots=True)
class Insert:
    """Show a user message `content` after the step holding message `after`, while that step is in the history."""

    after: str
    content: str


@dataclass(frozen=True, slots=True)
class Offer:
    """The model may use the tools named here, of those the host gave, for as long as message `at` is in the history.

    `by` says how the others are kept from it. "list": the request holds `block`, in this order (empty: `tools`, in the
    host's order); what is not yet taken out of the block can still be called. "allow": the same, and the provider is told
    which of the block may be called. "defer": the request holds all tools, and the provider loads those not named here only
    when they are searched for. `at` is "" for an offer that always holds.
    """

    tools: tuple[str, ...]
    block: tuple[str, ...] = ()
    by: Delivery = "list"
    at: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Remember `value` (JSON data) under `key` in the plan: a strategy's state. Changes nothing in the view."""

    key: str
    value: Any


Edit = Clear | Drop | Replace | Insert | Offer | Note
KINDS: dict[str, type[Edit]] = {kind.__name__.lower(): kind for kind in (Clear, Drop, Replace, Insert, Offer, Note)}


def marker(handle: str) -> str:
    """What stands in a view where text was shortened; `session.reopen(handle)` gives the whole back."""
    return f"[cut {handle}]"


def dump(edit: Edit) -> dict[str, Any]:
    """Plain data for JSON."""
    return {"kind": type(edit).__name__.lower(), **asdict(edit)}


def load(data: dict[str, Any]) -> Edit:
    """The edit that `dump` wrote; raises `ConfigError` naming what is wrong."""
    fields = dict(data)
    kind = fields.pop("kind", None)
    if kind not in KINDS:
        raise ConfigError(f"unknown edit kind {kind!r}; known: {', '.join(KINDS)}", field="kind")
    if kind == "offer":
        fields |= {key: tuple(fields.get(key, ())) for key in ("tools", "block")}
    try:
        return KINDS[kind](**fields)
    except TypeError as cause:
        raise ConfigError(f"edit {kind!r} has the wrong fields: {cause}", field=kind) from cause
