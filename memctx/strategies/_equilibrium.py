"""Drift as a series of numbers: how far two distributions are apart, and where a series settles."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

LEAST = 1e-9  # probability of a token of which nothing is known


@dataclass(frozen=True, slots=True)
class Equilibrium:
    """D' = D - rate * (D - level) + a normal draw of deviation `noise` - `relief` where a reminder was given."""

    rate: float
    level: float
    noise: float
    relief: float = 0.0

    @property
    def band(self) -> float:
        """What drift stays under while nothing pushes it: level + 2 noise."""
        return self.level + 2 * self.noise


def fit(runs: Sequence[Sequence[float]], reminded: Sequence[Collection[int]] = ()) -> Equilibrium | None:
    """Least squares over the steps of all runs. `reminded[i]`: places of run i after whose value a reminder was given.

    None where there are fewer than two steps more than there is to find. Where no pull back shows, the level is the mean of all
    values and the noise their deviation.
    """
    import numpy as np

    given = [*reminded, *([()] * (len(runs) - len(reminded)))]
    rows = [
        (1.0, a, -float(t in marks)) for run, marks in zip(runs, given, strict=True) for t, a in enumerate(run[:-1])
    ]
    told = any(row[2] for row in rows)
    if len(rows) < (5 if told else 4):
        return None
    x = np.array(rows)[:, : 3 if told else 2]
    y = np.array([b for run in runs for b in run[1:]])
    found, *_ = np.linalg.lstsq(x, y, rcond=None)
    rate = 1 - float(found[1])
    if not 0.01 < rate < 2 or np.ptp(x[:, 1]) == 0:
        values = np.concatenate([np.asarray(run, float) for run in runs])
        return Equilibrium(0.0, float(values.mean()), float(values.std()))
    noise = float(np.sqrt(((y - x @ found) ** 2).sum() / (len(x) - x.shape[1])))
    return Equilibrium(rate, float(found[0]) / rate, noise, float(found[2]) if told else 0.0)


def divergence(shown: Sequence[Mapping[str, float]], reference: Sequence[Mapping[str, float]]) -> float:
    """Mean over tokens of KL(shown || reference), in nats, from log-probabilities of the likeliest tokens of each.

    A token that only one of them names has, in the other, what that one leaves to tokens it does not name, at most the
    probability of its least likely one. Raises `ValueError` where there is nothing to compare.
    """
    pairs = list(zip(shown, reference, strict=False))
    if not pairs or not all(a and b for a, b in pairs):
        raise ValueError("no log-probabilities to compare")
    return sum(_kl(a, b) for a, b in pairs) / len(pairs)


def _kl(shown: Mapping[str, float], reference: Mapping[str, float]) -> float:
    tokens = sorted(shown.keys() | reference.keys())
    p, q = _whole(shown, tokens), _whole(reference, tokens)
    return max(0.0, sum(a * log(a / b) for a, b in zip(p, q, strict=True)))


def _whole(logp: Mapping[str, float], tokens: Sequence[str]) -> list[float]:
    """Probabilities of these tokens that sum to one."""
    known = {token: max(LEAST, exp(min(0.0, value))) for token, value in logp.items()}
    missing = max(LEAST, min(*known.values(), 1 - sum(known.values())))
    found = [known.get(token, missing) for token in tokens]
    total = sum(found)
    return [value / total for value in found]
