"""How experiences are ranked: by likeness of the situation times measured usefulness, with bounds on both.

All functions take and give arrays with one number an experience.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

OBSERVED = 0.75  # share of the observation in the likeness of a situation; the rest is the task's
WORDS = 0.7  # share of the words in the likeness of two texts; the rest is the meaning's
GENERAL = 0.8  # what likeness counts for an experience that names no observation, or no task
Z = 1.28  # half width of the interval of a success rate: 80 % of the cases
GAIN = 2.0  # how strongly usefulness lifts or sinks an experience
CURIOSITY = 0.05  # lifts what nobody has tried, so that it gets outcomes too


def texts_alike(meaning: Numbers, words: Numbers) -> Numbers:
    """0 to 1, from the cosine of the vectors and the share of words in common."""
    return np.clip((1 - WORDS) * meaning + WORDS * words, 0.0, 1.0)


def likeness(observed: Numbers | None, tasked: Numbers | None) -> Numbers:
    """0 to 1, from the likeness of the observation and of the task.

    NaN for an experience that does not name one; None where the agent's own is not known.
    """
    if observed is None or tasked is None:
        known = observed if observed is not None else tasked
        return np.zeros(0) if known is None else np.nan_to_num(known)
    both = OBSERVED * observed + (1 - OBSERVED) * tasked
    one = GENERAL * np.nan_to_num(np.where(np.isnan(observed), tasked, observed))
    return np.where(np.isnan(both), one, both)


def usefulness(helped: Numbers, outcomes: Numbers, base: float) -> Numbers:
    """Success with it less the base rate, -1 to 1, as far as that is beyond doubt.

    `helped`: sum of its `outcomes`, each in -1..1; `base`: the success rate of all runs, 0 to 1. It is the distance of `base` from
    the Wilson interval (1927) of its own rate, so what has few uses, or did as all do, is at 0.
    """
    count = np.maximum(outcomes, 1e-9)
    rate = np.clip(helped / count, -1, 1) / 2 + 0.5
    weight = count / (count + Z * Z)
    middle = weight * rate + (1 - weight) / 2
    half = weight * Z * np.sqrt(rate * (1 - rate) / count + (Z / (2 * count)) ** 2)
    apart: Numbers = np.maximum(middle - half - base, 0) + np.minimum(middle + half - base, 0)
    return apart


def score(alike: Numbers, useful: Numbers, outcomes: Numbers) -> Numbers:
    """What an answer is sorted by: likeness times usefulness, and a little for what was hardly tried."""
    return alike * np.exp(GAIN * useful) * (1 + CURIOSITY / (1 + outcomes))


def turns(writers: NDArray[np.int32]) -> NDArray[np.int64]:
    """How many of the same writer stand before each."""
    order = np.argsort(writers, kind="stable")
    grouped = writers[order]
    starts = np.searchsorted(grouped, grouped)
    found = np.empty(len(writers), np.int64)
    found[order] = np.arange(len(writers)) - starts
    return found


def picked(
    order: Iterable[int], zones: Sequence[int], writers: Sequence[int], rooms: Sequence[int], most: int
) -> list[int]:
    """The first of `order` that fill the room of each zone, at most `most` of a writer."""
    left = list(rooms)
    taken: Counter[int] = Counter()
    kept: list[int] = []
    for each in order:
        if left[zones[each]] and taken[writers[each]] < most:
            left[zones[each]] -= 1
            taken[writers[each]] += 1
            kept.append(each)
            if not any(left):
                break
    return kept
