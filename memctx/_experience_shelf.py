"""A library in memory: numbers of every experience, and where its situation lies. The rows of the store are the truth."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from memctx._experience_items import Experience, Level
from memctx._experience_near import CELL, NO_WORDS, SCAN, Nearby, Rows, Text
from memctx._experience_rank import Numbers, likeness, score, texts_alike, turns, usefulness
from memctx._experience_words import Words

LEVELS: tuple[Level, ...] = ("principle", "method", "example", "pattern", "diagnostic", "mistake")
ROWS = 128  # situations looked at, the nearest first,
READ = 4_000  # and experiences in them,
MOST = 200  # of which so many are compared,
BEST = 128  # and of those the ones whose words are compared
TWINS = 8  # situations in which a duplicate is looked for
SAME_ADVICE = 0.85  # share of words from which on two advices say the same,
SAME_SITUATION = 0.95  # and likeness from which on two situations are one
NONE = -1  # the row of an observation or a task that is not named

Slots = NDArray[np.int64]
_WORD = re.compile(r"\w+")

ITEM = np.dtype(
    [
        ("id", np.int64),
        ("observed", np.int32),
        ("tasked", np.int32),
        ("level", np.int8),
        ("trust", np.int8),
        ("writer", np.int32),
        ("helped", np.float64),
        ("outcomes", np.float64),
        ("score", np.float64),
    ]
)


@dataclass(frozen=True, slots=True)
class Situation:
    """Where an experience belongs, or where an agent is; None: not named."""

    observation: Text | None
    task: Text | None


@dataclass(frozen=True, slots=True)
class Entry:
    """An experience with what it is compared by."""

    experience: Experience
    situation: Situation
    advice: Words


def advice_of(text: str) -> Words:
    """The different words of an advice as numbers; here "desk 1" and "desk 2" are not the same."""
    words = set(_WORD.findall(text.casefold()))
    return np.array(sorted({crc32(word.encode("utf-8", "surrogatepass")) & 0x7FFFFFFF for word in words}), np.int32)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Experiences near a situation. `observed` and `tasked` as `likeness` takes them; `alike`: what it gives."""

    slots: Slots
    observed: Numbers | None
    tasked: Numbers | None
    alike: Numbers

    def only(self, kept: NDArray[np.bool_] | Slots) -> Candidates:
        observed = None if self.observed is None else self.observed[kept]
        tasked = None if self.tasked is None else self.tasked[kept]
        return Candidates(self.slots[kept], observed, tasked, self.alike[kept])


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which experiences a search may return."""

    levels: Collection[Level] = LEVELS
    min_trust: int = 0


class Shelf:
    """All experiences of one scope. `items` has a place, a slot, for each; a slot with id 0 is empty."""

    def __init__(self, dim: int) -> None:
        self.items = np.zeros(64, ITEM)
        self.slots: dict[int, int] = {}
        self.advice: dict[int, Words] = {}
        self.observed, self.tasked = Nearby(dim), Nearby(dim)
        self.writers: dict[str, int] = {}
        self.written: Counter[int] = Counter()  # experiences of each writer
        self.base = 0.5  # the success rate of all runs
        self._free: list[int] = []
        self._top = 0

    def __len__(self) -> int:
        return len(self.slots)

    def put(self, entries: Sequence[Entry]) -> None:
        """Add experiences; one that is there is replaced, and keeps its place among others in its situation."""
        entries = [entry for entry in entries if not self._again(entry)]
        self.drop(entry.experience.id for entry in entries)
        slots = [self._slot() for _ in entries]
        for slot, entry in zip(slots, entries, strict=True):
            self._fill(slot, entry)
            self._signed(int(self.items["writer"][slot]), 1)
        for name, near in (("observed", self.observed), ("tasked", self.tasked)):
            texts = [entry.situation.observation if name == "observed" else entry.situation.task for entry in entries]
            there = [(text, slot) for text, slot in zip(texts, slots, strict=True) if text is not None]
            rows = near.put([text for text, _ in there], [slot for _, slot in there])
            self.items[name][[slot for _, slot in there]] = rows

    def drop(self, ids: Iterable[int]) -> None:
        """Take experiences out; what is not there is passed over."""
        for each in ids:
            slot = self.slots.pop(each, None)
            if slot is None:
                continue
            for name, near in (("observed", self.observed), ("tasked", self.tasked)):
                if (row := int(self.items[name][slot])) != NONE:
                    near.take(row, slot)
            self._signed(int(self.items["writer"][slot]), -1)
            self.items[slot] = np.zeros((), ITEM)
            del self.advice[slot]
            self._free.append(slot)

    def near(self, at: Situation, wanted: Wanted) -> Candidates:
        """The experiences whose situation is most like this one, in no order."""
        observed = self._rows(self.observed, at.observation)
        tasked = self._rows(self.tasked, at.task)
        some = [
            self._first(self._held(self.observed, observed, wanted), "tasked", tasked),
            self._first(self._held(self.tasked, tasked, wanted), "observed", observed),
        ]
        slots = np.unique(np.concatenate(some))
        meant = self._meant(slots, at)
        if len(slots) > BEST:
            order = np.lexsort((self.items["id"][slots], -self.scores(meant)))
            meant = meant.only(self._fairly(order, slots[order], BEST))
        return self._worded(meant, at)

    def twins(self, entry: Entry) -> Candidates:
        """The experiences of the same level that say nearly the same in nearly the same situation."""
        at, wanted = entry.situation, Wanted((entry.experience.level,))
        observed = self._rows(self.observed, at.observation, TWINS, CELL)
        tasked = self._rows(self.tasked, at.task, TWINS, CELL)
        if at.observation:
            slots = self._first(self._held(self.observed, observed, wanted), "tasked", tasked)
        else:
            slots = self._first(self._held(self.tasked, tasked, wanted), "tasked", tasked)
        slots = slots[(self.items["observed"][slots] == NONE) == (at.observation is None)]
        slots = slots[(self.items["tasked"][slots] == NONE) == (at.task is None)]
        slots = slots[self.same_advice(entry.advice, slots) >= SAME_ADVICE]
        found = self._worded(self._meant(slots, at), at)
        same = [part >= SAME_SITUATION for part in (found.observed, found.tasked) if part is not None]
        return found.only(np.logical_and.reduce(same)) if same else found

    def useful(self, slots: Slots) -> Numbers:
        """Measured usefulness, see `usefulness`."""
        return usefulness(self.items["helped"][slots], self.items["outcomes"][slots], self.base)

    def scores(self, found: Candidates) -> Numbers:
        """What an answer is sorted by."""
        return score(found.alike, self.useful(found.slots), self.items["outcomes"][found.slots])

    def of_level(self, level: Level) -> Slots:
        """The slots of all experiences of a level."""
        items = self.items[: self._top]
        return np.flatnonzero((items["id"] > 0) & (items["level"] == LEVELS.index(level)))

    def same_advice(self, advice: Words, slots: Slots) -> Numbers:
        """How much the advice of these says the same: the share of all words that both have (Jaccard)."""
        held = [self.advice[slot] for slot in slots.tolist()]
        sizes = np.array([len(words) for words in held], np.int64)
        inside = np.concatenate([[0], np.cumsum(np.isin(np.concatenate([NO_WORDS, *held]), advice))])
        ends = np.cumsum(sizes)
        common = inside[ends] - inside[ends - sizes]
        share: Numbers = common / np.maximum(sizes + len(advice) - common, 1)
        return share

    def _slot(self) -> int:
        if self._free:
            return self._free.pop()
        if self._top == len(self.items):
            self.items = np.concatenate([self.items, np.zeros(len(self.items), ITEM)])
        self._top += 1
        return self._top - 1

    def _again(self, entry: Entry) -> bool:
        """Take over the numbers of one that is there, if it is where it was and who wrote it did not change."""
        slot = self.slots.get(entry.experience.id)
        if slot is None or self.writers.get(entry.experience.writer) != self.items["writer"][slot]:
            return False
        rows = [int(self.items[name][slot]) for name in ("observed", "tasked")]
        texts = [entry.situation.observation, entry.situation.task]
        keys = [near.key(row) for near, row in zip((self.observed, self.tasked), rows, strict=True)]
        if keys != [text.key if text else None for text in texts]:
            return False
        self._fill(slot, entry, *rows)
        return True

    def _fill(self, slot: int, entry: Entry, observed: int = NONE, tasked: int = NONE) -> None:
        given = entry.experience
        writer = self.writers.setdefault(given.writer, len(self.writers))
        numbers = (given.helped, given.outcomes, given.score)
        level = LEVELS.index(given.level)
        self.items[slot] = (given.id, observed, tasked, level, given.trust, writer, *numbers)
        self.slots[given.id] = slot
        self.advice[slot] = entry.advice

    def _signed(self, writer: int, more: int) -> None:
        self.written[writer] += more
        if not self.written[writer]:
            del self.written[writer]

    def _rows(self, near: Nearby, text: Text | None, n: int = ROWS, scan: int = SCAN) -> Rows:
        return np.empty(0, np.int32) if text is None else near.nearest(text.vector, n, scan)

    def _held(self, near: Nearby, rows: Rows, wanted: Wanted) -> Slots:
        """Who is in these situations, of the first ones first."""
        slots = near.held(rows, READ)
        allowed = np.zeros(len(LEVELS), bool)
        allowed[[LEVELS.index(level) for level in wanted.levels]] = True
        kept: Slots = slots[allowed[self.items["level"][slots]] & (self.items["trust"][slots] >= wanted.min_trust)]
        return kept

    def _first(self, slots: Slots, other: str, rows: Rows) -> Slots:
        """No more than are compared; those that are near on the `other` side as well stay before those that are not."""
        if len(slots) <= MOST:
            return slots
        near = np.isin(self.items[other][slots], rows, kind="table")
        slots = np.concatenate([slots[near], slots[~near]])
        return self._fairly(slots, slots, MOST)

    def _fairly(self, what: Slots, slots: Slots, most: int) -> Slots:
        """The first of `what`, whose slots are given, with no more than half of one writer where there are others."""
        if len(self.written) < 2:
            return what[:most]
        for some in (4 * most, len(what)):  # the first of them nearly always hold enough
            fair: Slots = what[:some][turns(self.items["writer"][slots[:some]]) < most // 2]
            if len(fair) >= most:
                break
        return fair[:most]

    def _meant(self, slots: Slots, at: Situation) -> Candidates:
        """Compared by the meaning of their situations alone."""
        observed = self._part(self.observed.meaning, at.observation, self.items["observed"][slots])
        tasked = self._part(self.tasked.meaning, at.task, self.items["tasked"][slots])
        return Candidates(slots, observed, tasked, likeness(observed, tasked))

    def _worded(self, found: Candidates, at: Situation) -> Candidates:
        """Compared by the words too."""
        rows = self.items[found.slots]
        observed = _both(found.observed, self._part(self.observed.words, at.observation, rows["observed"]))
        tasked = _both(found.tasked, self._part(self.tasked.words, at.task, rows["tasked"]))
        return Candidates(found.slots, observed, tasked, likeness(observed, tasked))

    def _part(self, compare: Callable[[Text, Rows], Numbers], text: Text | None, rows: Rows) -> Numbers | None:
        """How `text` compares with each of the rows, NaN where there is none."""
        if text is None:
            return None
        unique, back = np.unique(rows, return_inverse=True)
        there = unique[unique != NONE]
        numbers = np.full(len(unique), np.nan)
        if len(there):
            numbers[len(unique) - len(there) :] = compare(text, there)
        return numbers[back]


def _both(meaning: Numbers | None, words: Numbers | None) -> Numbers | None:
    return None if meaning is None or words is None else texts_alike(meaning, words)
