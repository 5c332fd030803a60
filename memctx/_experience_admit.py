"""Who is admitted to a library: deterministic rules, in this order: outcome, source, score, duplicate, rate, room."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from memctx._experience_items import Experience, Level, Polarity, Refused
from memctx._experience_shelf import SAME_ADVICE, Entry, Shelf, Slots
from memctx.component import Settings

Place = tuple[Level, *tuple[bytes, ...]]


class Rules(Settings):
    """How a library admits and answers."""

    capacity: int = Field(default=20_000, ge=1, description="experiences of a level; the least useful goes first")
    worked: int = Field(default=40, ge=0, description="experiences of what worked that one outcome may add")
    failed: int = Field(default=10, ge=0, description="experiences of what failed that one outcome may add")
    least: float = Field(default=0.3, ge=0, le=1, description="score below which nothing is admitted")
    share: float = Field(default=1 / 3, gt=0, le=1, description="of an answer that one writer may have beside others")


@dataclass(slots=True)
class Verdict:
    """What is to be done: entries to add, new scores by id, ids to evict, and what was refused."""

    add: list[Entry] = field(default_factory=list)
    raised: dict[int, float] = field(default_factory=dict)
    evict: list[int] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def judge(
    shelf: Shelf,
    entries: Sequence[Entry],
    rules: Rules,
    outcome: float,
    revoked: Collection[str],
    *,
    gone: Collection[int] = (),
    edited: Sequence[Entry] = (),
) -> Verdict:
    """Rule on each, the best score first. `gone` and `edited`: what the same transaction did, which the shelf has not seen."""
    verdict = Verdict()
    room = _Room(shelf, rules.capacity, verdict.evict)
    spent: Counter[Polarity] = Counter()
    gone = {*gone, *(entry.experience.id for entry in edited)}
    others: dict[Place, list[Entry]] = defaultdict(list)
    for entry in edited:
        others[_place(entry)].append(entry)
    for entry in sorted(entries, key=lambda each: -each.experience.score):
        item = entry.experience
        twin = None
        why = _unfit(item, rules, outcome, revoked)
        if not why and (twin := _twin(shelf, others, gone, entry)) is not None:
            why = "duplicate"
            _raise(shelf, verdict, twin, item.score)
        if not why and spent[item.polarity] >= getattr(rules, item.polarity):
            why = "rate"
        if not why and not room.make(item.level):
            why = "full"
        if why:
            verdict.refused.append(Refused(item, why, twin or None))
        else:
            verdict.add.append(entry)
            others[_place(entry)].append(entry)
            spent[item.polarity] += 1
    return verdict


def _unfit(item: Experience, rules: Rules, outcome: float, revoked: Collection[str]) -> str:
    if (item.polarity == "worked") != (outcome > 0):
        return "outcome"
    if any(source in revoked for source in item.evidence):
        return "revoked"
    return "score" if item.score < rules.least else ""


def _twin(shelf: Shelf, others: Mapping[Place, Sequence[Entry]], gone: Collection[int], entry: Entry) -> int | None:
    """The id of one that says the same already, 0 for one that is being added; None: it is new."""
    found = shelf.twins(entry)
    ids = shelf.items["id"][found.slots]
    best = next((each for each in ids[np.lexsort((ids, -found.alike))].tolist() if each not in gone), None)
    beside = others.get(_place(entry), ())
    return best if best is not None else next((each.experience.id for each in beside if _equal(entry, each)), None)


def _equal(one: Entry, other: Entry) -> bool:
    common = len(np.intersect1d(one.advice, other.advice, assume_unique=True))
    return common / max(len(one.advice) + len(other.advice) - common, 1) >= SAME_ADVICE


def _place(entry: Entry) -> Place:
    at = entry.situation
    return entry.experience.level, *(text.key if text else b"" for text in (at.observation, at.task))


def _raise(shelf: Shelf, verdict: Verdict, twin: int, score: float) -> None:
    """The old one is as good as the best source that said it."""
    if twin and score > max(verdict.raised.get(twin, 0.0), float(shelf.items["score"][shelf.slots[twin]])):
        verdict.raised[twin] = score


class _Room:
    """Room within the capacity of each level. What is evicted did worst; what helped is never evicted for what is new."""

    def __init__(self, shelf: Shelf, capacity: int, evicted: list[int]) -> None:
        self._shelf = shelf
        self._capacity = capacity
        self._evicted = evicted
        self._left: dict[Level, int] = {}
        self._worst: dict[Level, Iterator[int]] = {}

    def make(self, level: Level) -> bool:
        """Whether one more of that level fits, someone evicted for it if need be."""
        if level not in self._left:
            held = self._shelf.of_level(level)
            self._left[level] = self._capacity - len(held)
            self._worst[level] = iter(self._by_worth(held) if self._left[level] < len(held) else [])
        if self._left[level] > 0:
            self._left[level] -= 1
            return True
        victim = next(self._worst[level], None)
        if victim is not None:
            self._evicted.append(victim)
        return victim is not None

    def _by_worth(self, slots: Slots) -> list[int]:
        """Those that did not help, worst first; of equal ones those of the writer with most, of low score, the oldest."""
        items = self._shelf.items[slots]
        useful = self._shelf.useful(slots)
        writes = np.array([self._shelf.written[writer] for writer in items["writer"].tolist()])
        order = np.lexsort((items["id"], items["score"], -writes, useful))
        return [int(items["id"][at]) for at in order if useful[at] <= 0]
