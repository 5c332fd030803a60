"""Positions that were met in play: which to start from again, and which to think about."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from memctx.train.tournament import Played, Start, from_the_beginning

POWER = 0.6  # of a priority when drawing: 0 would draw all alike, 1 by priority


@dataclass(frozen=True, slots=True)
class Position:
    """A position met: how to get there (`start`), what its player saw, and the outcome for that player: 1 won, 0, -1 lost."""

    start: Start
    observation: str
    outcome: int


@dataclass(frozen=True, slots=True)
class Met:
    """All positions of one observation together: how often met, and the shares that the player to move won and lost."""

    observation: str
    count: int
    won: float
    lost: float

    @property
    def one_sided(self) -> float:
        """|won - lost| * ln(1 + count): largest where nearly all games from here went the same way.

        MEMO ranks its "strategic" states by it. It does not find positions whose outcome is open: see `open`.
        """
        return abs(self.won - self.lost) * math.log1p(self.count)

    @property
    def open(self) -> float:
        """The variance of the outcome * ln(1 + count): largest where half was won and half lost, 0 where all ended alike."""
        return (self.won + self.lost - (self.won - self.lost) ** 2) * math.log1p(self.count)


class PriorityReplay:
    """The newest `capacity` positions. One is drawn with a chance proportional to (1 / visits of its exact prefix) ** 0.6.

    A prefix is the answers given before; its visits are counted as long as one of its positions is held.
    """

    def __init__(self, capacity: int = 1000) -> None:
        self.capacity = capacity
        self.visits: Counter[tuple[str, ...]] = Counter()
        self._held: deque[Position] = deque()
        self._holding: Counter[tuple[str, ...]] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, played: Played) -> None:
        """Keep every position of a game but the first."""
        answers = played.start.answers
        for move in played.moves:
            if answers:
                reward = played.rewards[move.seat]
                start = Start(played.start.seed, answers)
                self.put(Position(start, move.observation, (reward > 0) - (reward < 0)))
            answers = (*answers, move.answer)

    def put(self, position: Position) -> None:
        """Keep one position; the oldest goes where there are too many."""
        self._held.append(position)
        self.visits[position.start.answers] += 1
        self._holding[position.start.answers] += 1
        while len(self._held) > self.capacity:
            gone = self._held.popleft().start.answers
            self._holding[gone] -= 1
            if not self._holding[gone]:
                del self._holding[gone], self.visits[gone]

    def priority(self, position: Position) -> float:
        """1 / visits of its prefix."""
        return 1 / self.visits[position.start.answers]

    def draw(self, chance: Random) -> Position:
        """One position. Raises `IndexError` where there is none."""
        weights = [self.priority(position) ** POWER for position in self._held]
        return chance.choices(self._held, weights)[0]

    def start(self, chance: Random, share: float) -> Start:
        """Where a match begins: with probability `share` a position met before, else the beginning."""
        again = chance.random() < share
        return self.draw(chance).start if again and self._held else from_the_beginning(chance)

    def met(self) -> list[Met]:
        """The observations held twice or more and won at least once, in the order first met."""
        outcomes: dict[str, list[int]] = defaultdict(list)
        for position in self._held:
            outcomes[position.observation].append(position.outcome)
        return [
            Met(each, len(ends), ends.count(1) / len(ends), ends.count(-1) / len(ends))
            for each, ends in outcomes.items()
            if len(ends) >= 2 and 1 in ends
        ]

    def dump(self) -> dict[str, Any]:
        """Plain data for `load`."""
        held = [[p.start.seed, list(p.start.answers), p.observation, p.outcome] for p in self._held]
        return {"held": held, "visits": [[list(prefix), count] for prefix, count in self.visits.items()]}

    def load(self, data: Mapping[str, Any]) -> None:
        """Hold what `dump` gave."""
        self._held.clear()
        self._holding.clear()
        for seed, answers, observation, outcome in data["held"]:
            self.put(Position(Start(seed, tuple(answers)), observation, outcome))
        self.visits = Counter({tuple(prefix): count for prefix, count in data["visits"]})


def strategic(met: Iterable[Met], k: int = 10) -> list[Met]:
    """The k most one-sided, most so first."""
    return sorted(met, key=lambda each: -each.one_sided)[:k]


def contested(met: Iterable[Met], k: int = 10) -> list[Met]:
    """The k most open, most so first."""
    return sorted(met, key=lambda each: -each.open)[:k]
