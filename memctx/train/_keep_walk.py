"""What keeping by a policy would have shown and held, over recorded runs, at every amount of money at once.

The rule of `ClearResults(keep=0, below=...)`: an older result goes for good at the first call where its worth is less than `below`.
So each entry has the largest `below` under which the result still stands there, and all of a curve is one sort.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memctx.train._keep_data import Decisions
from memctx.train._keep_rules import GRID, LOSS, MARK

Floats = NDArray[np.float64]
LEVELS = tuple(level / 10 for level in range(1, 10))  # money, from clearing every older result (0) to clearing none (1)


@dataclass(frozen=True, slots=True)
class Curve:
    """By falling `below`: `money`, tokens of all requests over the same with no edit, and `recall` of grounded arguments."""

    below: Floats
    money: Floats
    recall: Floats

    def at(self, money: float) -> float:
        """Recall at this money; on the line between the two settings next to it."""
        return float(np.interp(money, self.money, self.recall))

    def below_at(self, money: float) -> float:
        """The setting that spends most of this much."""
        return float(self.below[max(0, int(np.searchsorted(self.money, money, side="right")) - 1)])


def lasting(data: Decisions, worth: Floats) -> Floats:
    """(n,): the least worth that each entry's result has had so far."""
    worth = np.where(data.tokens <= MARK, 2.0, worth)
    order = np.argsort(data.result, kind="stable")
    new = np.r_[True, np.diff(data.result[order]) != 0]
    lift = np.cumsum(new) * 4.0  # each result's stretch lies below the one before: one running minimum serves all
    out = np.empty(len(order))
    out[order] = np.minimum.accumulate(worth[order] - lift) + lift
    return out


def curve(data: Decisions, worth: Floats) -> Curve:
    """The curve of worths (n,), one an entry, 0 to 1."""
    if not len(data.tokens):
        return Curve(np.array([1.0, 0.0]), np.array([1.0, 1.0]), np.array([1.0, 1.0]))
    stands = lasting(data, worth)
    below = np.r_[3.0, np.unique(np.round(stands, 9))[::-1]]
    order = np.argsort(-stands)
    extra = np.r_[0.0, np.cumsum(np.maximum(0, data.tokens - MARK)[order])]
    least = data.fixed + float(np.minimum(data.tokens, MARK).sum())
    money = (least + extra[np.searchsorted(-stands[order], -below + 1e-9, side="right")]) / data.whole
    wanted = np.sort(np.array([-max((stands[place] for place in need), default=9.0) for need in data.needs]))
    recall = np.searchsorted(wanted, -below + 1e-9, side="right") / max(1, len(wanted))
    return Curve(below, money, recall if len(wanted) else np.ones(len(below), np.float64))


def at_work(data: Decisions, by_tokens: bool) -> Curve:
    """The curve of the rules, whose worth depends on what they cleared before; where they were not played, by what they said of
    whole views."""
    ends = curve(data, weighed(data, data.rules) if by_tokens else data.rules)
    played = data.played[int(by_tokens)]
    if not played.any():
        return ends
    money = (data.fixed + played[:, 0]) / data.whole
    recall = played[:, 1] / max(1, len(data.needs))
    order = np.lexsort((recall, money))
    return Curve(
        np.r_[3.0, np.array(GRID)[order], 0.0],
        np.r_[ends.money[0], money[order], ends.money[-1]],
        np.r_[ends.recall[0], recall[order], ends.recall[-1]],
    )


def oracle(data: Decisions) -> Floats:
    """Worth by one that sees the future: nothing where no later call draws on the result, else the more the smaller it is."""
    return np.where(data.needed, 100 / (100 + data.tokens), 0.0)


def weighed(data: Decisions, chance: Floats, loss: float = LOSS) -> Floats:
    """Worth where chances of need are weighed against tokens."""
    return chance * loss / (chance * loss + data.tokens)


@dataclass(frozen=True, slots=True)
class Compared:
    """A file at equal money: recall by the rules, the policy and the oracle, each the mean over `LEVELS` of money.

    `weighed`: by the rules, were their worth weighed against tokens. `floor`: the money of clearing all. `levels`: the four by level.
    """

    file: str
    needs: int
    floor: float
    money: float
    rules: float
    weighed: float
    policy: float
    oracle: float
    levels: tuple[tuple[float, float, float, float], ...]

    @property
    def closed(self) -> float:
        """The share of the gap between rules and oracle that the policy closes; 1 where there is none."""
        return self._closed(self.rules)

    @property
    def closed_weighed(self) -> float:
        """The same, against the rules weighed by tokens."""
        return self._closed(self.weighed)

    def _closed(self, rules: float) -> float:
        gap = self.oracle - rules
        return (self.policy - rules) / gap if gap > 1e-9 else float(self.policy >= rules)


def compare(data: Decisions, worth: Floats) -> Compared:
    """Rules, policy and oracle through the same rule of clearing, at the same money."""
    curves = [at_work(data, False), at_work(data, True), curve(data, worth), curve(data, oracle(data))]
    floor = float(curves[0].money[0])
    monies = [floor + level * (1 - floor) for level in LEVELS]
    levels = [_four([each.at(money) for each in curves]) for money in monies]
    means = _four(np.mean(levels, axis=0).tolist())
    return Compared(data.file, len(data.needs), floor, float(np.mean(monies)), *means, tuple(levels))


def _four(values: list[float]) -> tuple[float, float, float, float]:
    rules, by_tokens, policy, best = values
    return rules, by_tokens, policy, best
