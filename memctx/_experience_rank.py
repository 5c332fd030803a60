"""How experiences are ranked: by likeness of the situation times measured usefulness, with bounds on both.

All functions take and give arrays with one number an experience.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

OBSERVED = 0.5  # share of the observation in the likeness of a situation; the rest is the task's
GENERAL = 0.8  # what the likeness of the task counts for an experience that names no observation
Z = 1.28  # half width of the interval of a success rate: 80 % of the cases
GAIN = 2.0  # how strongly usefulness lifts or sinks an experience


def likeness(observed: Numbers, tasked: Numbers, general: NDArray[np.bool_]) -> Numbers:
    """0 to 1, from the cosines of the observation and of the task; `general`: those that name no observation."""
    both = OBSERVED * observed + (1 - OBSERVED) * tasked
    return np.clip(np.where(general, GENERAL * tasked, both), 0.0, 1.0)


def usefulness(helped: Numbers, outcomes: Numbers, base: float) -> Numbers:
    """Success with it less the base rate, -1 to 1, as far as that is beyond doubt.

    `helped`: sum of its `outcomes`, each in -1..1; `base`: the success rate of all runs, 0 to 1. It is the distance of `base` from
    the Wilson interval (1927) of its own rate, so what has few uses, or did as all do, is at 0.
    """
    rate = np.divide(helped, outcomes, out=np.zeros_like(helped), where=outcomes > 0) / 2 + 0.5
    weight = 1 / (1 + Z * Z / np.maximum(outcomes, 1e-9))
    middle = weight * rate + (1 - weight) / 2
    half = (
        weight
        * Z
        * np.sqrt(rate * (1 - rate) / np.maximum(outcomes, 1e-9) + (Z / (2 * np.maximum(outcomes, 1e-9))) ** 2)
    )
    apart: Numbers = np.maximum(middle - half - base, 0) + np.minimum(middle + half - base, 0)
    return apart


def score(alike: Numbers, useful: Numbers) -> Numbers:
    """The product that an answer is sorted by."""
    return alike * np.exp(GAIN * useful)


def picked(order: Sequence[int], writers: Sequence[int], k: int, share: float) -> list[int]:
    """The first k of `order` in which no writer has more than `share` of k; one alone among the `writers` may have all."""
    most = max(1, int(share * k))
    alone = len(set(writers)) < 2
    taken: Counter[int] = Counter()
    kept: list[int] = []
    for each in order:
        writer = writers[each]
        if len(kept) < k and (alone or taken[writer] < most):
            taken[writer] += 1
            kept.append(each)
    return kept
