"""Tournaments: who plays whom next, until a number of games is spent.

A match is one game from every seat with the same seed, and its result is the sum: luck and the first move fall on all alike,
and cancel. The next match is drawn from what is known so far, so a tournament that stopped goes on as if it had not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Any, Literal
from zlib import crc32

from memctx.errors import ConfigError
from memctx.train import ratings
from memctx.train._jobs import Call, Steps, arun, run
from memctx.train.envs import Env, position
from memctx.train.ratings import Rating

Player = Callable[[str, int], str | Awaitable[str]]
"""Answers an observation; the number is a seed for this answer, for who needs one."""

TRIES = 16  # draws to find a challenger; where one is best without doubt, it is the next best of the first draw


@dataclass(frozen=True, slots=True)
class Start:
    """Where a game begins: the seed, and the answers given before."""

    seed: int
    answers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Move:
    """What a seat saw and answered."""

    seat: int
    observation: str
    answer: str


@dataclass(frozen=True, slots=True)
class Played:
    """A finished game: who sat where, from which start, what was said and won."""

    seats: tuple[str, ...]
    start: Start
    moves: tuple[Move, ...]
    rewards: tuple[float, ...]


def play(
    env: Env, players: Mapping[str, Player], seats: tuple[str, ...], start: Start, luck: str = ""
) -> Steps[Played]:
    """One game, a call a move. `luck` seeds the answers, each player's and each move's apart from the others."""
    state = position(env, start.seed, start.answers)
    moves: list[Move] = []
    while not state.rewards:
        observation = state.observation
        name = seats[state.player]
        seed = crc32(f"{luck} {name} {len(moves)}".encode())
        (answer,) = yield [Call(players[name], (observation, seed))]
        moves.append(Move(state.player, observation, answer))
        state = state.after(answer)
    return Played(seats, start, tuple(moves), state.rewards)


class Tournament:
    """Rates `players` in `env`: against each other, against `opponents` where they are given, or alone in a game for one.

    `matching`: "top_two" plays those two who may be best (D. Russo, "Simple Bayesian algorithms for best-arm identification",
    2020), "round_robin" plays all equally often. `batch`: matches drawn together, and played at once by `arun`.
    `starts`: draws where a match begins, the beginning by default. `seen`: is told of every finished game.
    """

    def __init__(
        self,
        env: Env,
        players: Mapping[str, Player],
        *,
        opponents: Mapping[str, Player] | None = None,
        matching: Literal["top_two", "round_robin"] = "top_two",
        batch: int = 4,
        seed: int | str = 0,
        starts: Callable[[Random], Start] | None = None,
        seen: Callable[[Played], None] | None = None,
    ) -> None:
        self.env, self.names, self.against = env, sorted(players), sorted(opponents or {})
        self.players = {**players, **(opponents or {})}
        self.matching, self.batch, self.seed = matching, batch, seed
        self.starts, self.seen = starts or from_the_beginning, seen
        self.matches = 0
        self.ratings = {name: ratings.fresh(env.players) for name in self.players}
        if len(self.players) < max(env.players, 1) or len(self.players) != len(self.names) + len(self.against):
            raise ConfigError(f"{self.names} and {self.against}: too few for the game, or a name on both sides")

    @property
    def games(self) -> int:
        """Games played so far."""
        return self.matches * self.env.players

    @property
    def best(self) -> str:
        """The player with the highest lower bound."""
        return ratings.ranked({name: self.ratings[name] for name in self.names})[0]

    def run(self, games: int) -> dict[str, Rating]:
        """Play until `games` have been played in all; what was played before counts."""
        return run(self.steps(games))

    async def arun(self, games: int) -> dict[str, Rating]:
        """As `run`, for players that are async; a batch is played at once."""
        return await arun(self.steps(games))

    def steps(self, games: int) -> Steps[dict[str, Rating]]:
        """The work of `run`, for who drives it with other work. What a player raises loses its batch, and no more."""
        while (left := (games - self.games) // self.env.players) > 0:
            drawn = [self._match(self.matches + number) for number in range(min(left, self.batch))]
            found: list[Played] = yield [
                play(self.env, self.players, turned(seats, turn), start, f"{self.seed} {self.matches + number} {turn}")
                for number, (seats, start) in enumerate(drawn)
                for turn in range(self.env.players)
            ]
            for number in range(len(drawn)):
                self._rate(found[number * self.env.players : (number + 1) * self.env.players])
            self.matches += len(drawn)
        return dict(self.ratings)

    def _rate(self, match: list[Played]) -> None:
        total = dict.fromkeys(match[0].seats, 0.0)
        for game in match:
            for name, reward in zip(game.seats, game.rewards, strict=True):
                total[name] += reward
        new = ratings.rated([self.ratings[name] for name in total], list(total.values()))
        self.ratings.update(zip(total, new, strict=True))
        if self.seen:
            for game in match:
                self.seen(game)

    def _match(self, number: int) -> tuple[tuple[str, ...], Start]:
        chance = Random(f"{self.seed} {number}")
        start = self.starts(chance)
        if self.matching == "round_robin":
            table = self._pairs()
            return table[number % len(table)], start
        leader, challenger = self._two(chance)
        if self.env.players == 2 and not self.against:
            return (leader, challenger), start
        who = (leader, challenger)[number % 2]
        return (who, *chance.sample(self.against, self.env.players - 1)), start

    def _pairs(self) -> list[tuple[str, ...]]:
        others = self.env.players - 1
        if not self.against:
            return list(days(self.names)) if others == 1 else list(combinations(self.names, self.env.players))
        return [(name, *rest) for rest in combinations(self.against, others) for name in self.names]

    def _two(self, chance: Random) -> tuple[str, str]:
        """Who is best in one draw of all skills, and who is in another."""
        first = self._draw(chance)
        for _ in range(TRIES):
            drawn = self._draw(chance)
            if drawn[-1] != first[-1]:
                return first[-1], drawn[-1]
        return first[-1], first[-2]

    def _draw(self, chance: Random) -> list[str]:
        skills = {name: chance.gauss(self.ratings[name].mu, self.ratings[name].sigma) for name in self.names}
        return sorted(skills, key=skills.__getitem__)

    def dump(self) -> dict[str, Any]:
        """Plain data from which `load` goes on: ratings and the number of matches."""
        return {"matches": self.matches, "ratings": ratings.dump(self.ratings)}

    def load(self, data: Mapping[str, Any]) -> None:
        """Go on from what `dump` gave, with the same players and settings."""
        self.matches = data["matches"]
        self.ratings.update(ratings.load(data["ratings"]))


def from_the_beginning(chance: Random) -> Start:
    """Any seed, no answers."""
    return Start(chance.getrandbits(31))


def days(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Every pair once, in an order in which all have played nearly equally often at any time (the circle method)."""
    ring = [*names, *([""] if len(names) % 2 else [])]
    half = len(ring) // 2
    for _ in range(len(ring) - 1):
        yield from ((a, b) for a, b in zip(ring[:half], reversed(ring[half:]), strict=True) if a and b)
        ring = [ring[0], ring[-1], *ring[1:-1]]


def turned(seats: tuple[str, ...], by: int) -> tuple[str, ...]:
    """The same players, each some seats further."""
    return seats[by:] + seats[:by]
