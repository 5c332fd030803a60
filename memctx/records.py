"""What memory holds: records, their history, what a search finds and what an erasure removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from memctx.errors import FilterError

Kind = Literal["core", "semantic", "episodic", "experience"]
KINDS: tuple[Kind, ...] = ("core", "semantic", "episodic", "experience")

TRUST: Mapping[str, int] = MappingProxyType({"unverified": 0, "model": 1, "user": 2, "host": 3})
SOURCE_TRUST: Mapping[str, int] = MappingProxyType(  # how far a text may be believed, by where it comes from
    {"tool": 0, "web": 0, "document": 0, "assistant": 1, "model": 1, "user": 2, "system": 3, "host": 3}
)


@dataclass(frozen=True, slots=True)
class Record:
    """One thing remembered.

    `sources`: ids of the messages, records or documents it comes from. `trust`: 0 unverified, 1 model, 2 user, 3 host; the
    least of its sources. It is so from `valid_from` until `valid_to` (seconds since 1970; None: still). `helped`: sum of the
    `outcomes` reported for its uses, each in -1..1. `ended`: when something took its place or it was taken back.
    """

    id: int
    kind: Kind
    text: str
    about: str = ""
    sources: tuple[str, ...] = ()
    trust: int = 2
    valid_from: float = 0.0
    valid_to: float | None = None
    ended: float | None = None
    superseded_by: int | None = None
    thread: str = ""
    run: str = ""
    checkpoint: str = ""
    pinned: bool = False
    uses: int = 0
    helped: float = 0.0
    outcomes: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)
    created: float = 0.0
    version: int = 1

    @property
    def current(self) -> bool:
        """Whether nothing took its place and nobody took it back."""
        return self.ended is None

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {**asdict(self), "meta": dict(self.meta), "sources": list(self.sources)}


@dataclass(frozen=True, slots=True)
class Hit:
    """A record that a search found. `parts`: what made up its score, where `explain` was asked for."""

    record: Record
    score: float
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a record. `op`: write, repeat, correct, supersede, retract, evict; `text` as it was before."""

    seq: int
    record: int
    op: str
    text: str | None
    why: str
    at: float
    thread: str = ""
    run: str = ""
    checkpoint: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure did. `removed`: rows by table, `vectors` and `words` among them. `left`: what still holds something.

    `probes`: how many texts were looked for, byte by byte, in `files` afterwards; `notes`: what is out of reach.
    """

    scope: str
    removed: Mapping[str, int]
    probes: int
    files: tuple[str, ...]
    left: tuple[str, ...]
    notes: tuple[str, ...]
    at: float

    @property
    def complete(self) -> bool:
        """Whether nothing was found afterwards."""
        return not self.left


def trust_of(source: str | int) -> int:
    """The level of a trust name, a source label, or a number 0 to 3. Raises `FilterError`."""
    if isinstance(source, int) and not isinstance(source, bool) and 0 <= source <= max(TRUST.values()):
        return source
    if isinstance(source, str) and (found := TRUST.get(source, SOURCE_TRUST.get(source))) is not None:
        return found
    known = ", ".join([*TRUST, *SOURCE_TRUST])
    raise FilterError(f"trust or source {source!r:.40} is not known: use one of {known}, or 0 to 3", field="trust")
