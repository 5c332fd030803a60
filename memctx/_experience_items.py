"""What a library of experience holds and gives: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Polarity = Literal["worked", "failed"]
Level = Literal["principle", "method", "example", "mistake", "pattern", "diagnostic"]

ZONES: Mapping[Polarity, tuple[Level, ...]] = MappingProxyType(  # from the most general to the most particular
    {"worked": ("principle", "method", "example"), "failed": ("pattern", "diagnostic", "mistake")}
)
POLARITY: Mapping[Level, Polarity] = MappingProxyType(
    {level: polarity for polarity, levels in ZONES.items() for level in levels}
)
LONGEST_ADVICE = 600  # characters kept of an advice,
LONGEST_SITUATION = 4_000  # of an observation and of a task


@dataclass(frozen=True, slots=True)
class Experience:
    """What worked or failed in a situation: the `task`, and what was observed just before. "" where it does not matter.

    `score`: how good its source was, 0 to 1; it decides about admission only. `evidence`: ids of the runs, messages or
    documents it comes from. `writer`: on whose behalf it was written. `trust`: 0 unverified, 1 model, 2 user, 3 host.
    `helped`: sum of the `outcomes` reported for runs that were shown it, each in -1..1. `id`: 0 until it is admitted.
    """

    advice: str
    level: Level = "example"
    task: str = ""
    observation: str = ""
    score: float = 1.0
    evidence: tuple[str, ...] = ()
    writer: str = ""
    trust: int = 1
    uses: int = 0
    helped: float = 0.0
    outcomes: int = 0
    version: int = 1
    id: int = 0

    @property
    def polarity(self) -> Polarity:
        """Whether it says what worked or what failed; its level tells."""
        return POLARITY[self.level]


@dataclass(frozen=True, slots=True)
class StepSeen:
    """A step of a run: what the agent saw last, and what it did then.

    `observation` names what it did before as well, as in "ls /tmp" with the listing below: that tells situations apart best.
    """

    observation: str
    action: str


@dataclass(frozen=True, slots=True)
class Retrieved:
    """An experience for the present observation. `parts`: what its score was made of."""

    experience: Experience
    score: float
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Refused:
    """An experience that was not added, and why: outcome, revoked, score, duplicate, rate or full.

    `instead`: the id of the one that says the same already.
    """

    experience: Experience
    why: str
    instead: int | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """What an outcome did to the library, by id. `raised`: had a duplicate with a higher score; `evicted`: made room.

    `again`: the run was reported before; this is what that did, and nothing was done now.
    """

    added: tuple[int, ...] = ()
    raised: tuple[int, ...] = ()
    evicted: tuple[int, ...] = ()
    refused: tuple[Refused, ...] = ()
    again: bool = False
