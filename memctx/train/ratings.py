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
    """A belief about a skill: mean and standard deviation; and the matches it rests on, with the sum of their rewards."""

    mu: float
    sigma: float
    matches: int = 0
    points: float = 0.0

    def lower(self, k: float = K) -> float:
        """The skill that it is likely to have at least."""
        return self.mu - k * self.sigma

    @property
    def mean(self) -> float:
        """The mean reward of a match, 0 before the first."""
        return self.points / self.matches if self.matches else 0.0


@cache
def _model() -> Any:
    """A prompt stays what it is, so nothing is added to sigma between matches, and each takes off all it tells.

    The package's own `gamma` lets sigma fall more slowly; over hundreds of matches mu then follows the newest too closely,
    and picks the best less often than the mean reward does (`benchmarks/memo.py`).
    """
    return require("openskill.models", extra="ratings").BradleyTerryFull(tau=0.0, gamma=_all_it_tells)


def _all_it_tells(*_: Any) -> float:
    return 1.0


def fresh(players: int) -> Rating:
    """The belief before the first match, for games of this many players."""
    if players == 1:
        return _share(0.0, 0)
    start = _model().rating()
    return Rating(start.mu, start.sigma)


def rated(before: Sequence[Rating], rewards: Sequence[float]) -> tuple[Rating, ...]:
    """The beliefs after a match. Several players: only who had more counts. One: the reward itself, from 0 to 1."""
    if len(before) == 1:
        return (_share(before[0].points + rewards[0], before[0].matches + 1),)
    model = _model()
    teams = [[model.rating(mu=each.mu, sigma=each.sigma)] for each in before]
    after = model.rate(teams, scores=list(rewards))
    return tuple(
        Rating(new.mu, new.sigma, old.matches + 1, old.points + reward)
        for old, (new,), reward in zip(before, after, rewards, strict=True)
    )


def _share(points: float, matches: int) -> Rating:
    hits, misses = points + 0.5, matches - points + 0.5
    total = hits + misses
    return Rating(hits / total, (hits * misses / (total + 1)) ** 0.5 / total, matches, points)


def ranked(ratings: Mapping[str, Rating], k: float = K) -> list[str]:
    """Names, the highest lower bound first; ties by name."""
    return sorted(ratings, key=lambda name: (-ratings[name].lower(k), name))


def dump(ratings: Mapping[str, Rating]) -> dict[str, Any]:
    """Plain data for `load`."""
    return {name: asdict(rating) for name, rating in ratings.items()}


def load(data: Mapping[str, Any]) -> dict[str, Rating]:
    """What `dump` wrote."""
    return {name: Rating(**fields) for name, fields in data.items()}
