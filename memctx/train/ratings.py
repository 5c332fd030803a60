"""Ratings with their uncertainty: who is best, and how sure that is.

Players who meet each other are rated by Weng and Lin's Bayesian rules ("A Bayesian approximation method for online ranking",
2011; the model of TrueSkill, from the kept library openskill). Players who are scored alone are rated by their mean score
under Jeffreys' prior. Either way a choice is by the lower bound `mu - k * sigma`, so that a few lucky games do not win it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from memctx.errors import require

K = 1.0  # how many sigmas below mu the bound lies


@dataclass(frozen=True, slots=True)
class Rating:
    """A belief about a skill: mean, standard deviation, and the games it rests on."""

    mu: float
    sigma: float
    games: int = 0
    points: float = 0.0

    def lower(self, k: float = K) -> float:
        """The skill that it is likely to have at least."""
        return self.mu - k * self.sigma

    @property
    def mean(self) -> float:
        """The mean reward of a game, 0 before the first: the plain win rate where a reward is 1 or 0."""
        return self.points / self.games if self.games else 0.0


@cache
def _model() -> Any:
    """Skills do not drift: a prompt stays what it is, so nothing is added to sigma between games."""
    return require("openskill.models", extra="ratings").BradleyTerryFull(tau=0.0)


def fresh(players: int) -> Rating:
    """The belief before the first game, for games of this many players."""
    if players == 1:
        return _share(0.0, 0)
    start = _model().rating()
    return Rating(start.mu, start.sigma)


def rated(before: Sequence[Rating], rewards: Sequence[float]) -> tuple[Rating, ...]:
    """The beliefs after a game. Several players: only who had more counts. One: the reward itself, from 0 to 1."""
    if len(before) == 1:
        return (_share(before[0].points + rewards[0], before[0].games + 1),)
    model = _model()
    teams = [[model.rating(mu=each.mu, sigma=each.sigma)] for each in before]
    after = model.rate(teams, scores=list(rewards))
    return tuple(
        Rating(new.mu, new.sigma, old.games + 1, old.points + reward)
        for old, (new,), reward in zip(before, after, rewards, strict=True)
    )


def _share(points: float, games: int) -> Rating:
    hits, misses = points + 0.5, games - points + 0.5
    total = hits + misses
    return Rating(hits / total, (hits * misses / (total + 1)) ** 0.5 / total, games, points)


def ranked(ratings: Mapping[str, Rating], k: float = K) -> list[str]:
    """Names, the highest lower bound first; ties by name."""
    return sorted(ratings, key=lambda name: (-ratings[name].lower(k), name))


def dump(ratings: Mapping[str, Rating]) -> dict[str, Any]:
    """Plain data for `load`."""
    return {name: asdict(rating) for name, rating in ratings.items()}


def load(data: Mapping[str, Any]) -> dict[str, Rating]:
    """What `dump` wrote."""
    return {name: Rating(**fields) for name, fields in data.items()}
