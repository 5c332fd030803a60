"""Which tools usually come next: transitions after the last one, two and three tools, the longer ones backed by the shorter.

Absolute discounting (Ney, Essen, Kneser 1994): a part of every count is taken and given to what the shorter past says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memctx.graphs._edges import PAST, START, Edges

Numbers = NDArray[np.float64]

DISCOUNT = 0.75
LONGEST = PAST + 1


class Usual:
    """Counts by past, of every length from none to three. Only what changed is counted again."""

    def __init__(self, edges: Edges) -> None:
        self._edges = edges
        self._seen: dict[str, int] = {}
        self._after: dict[str, dict[tuple[str, ...], dict[str, float]]] = {}
        self._all: dict[str, float] = {}

    def chances(self, path: Sequence[str], place: Mapping[str, int]) -> list[Numbers]:
        """P(next) for the tools of `place` (tool -> index): given nothing, given the last tool, and given the last three."""
        self._refresh()
        trail = (START, *path)[-LONGEST:]
        after = self._after.get(trail[-1], {})
        found = [_discounted(self._all, np.full(len(place), 1 / len(place)), place)]
        for length in range(1, LONGEST + 1):
            counts = after.get(trail[-length:]) if length <= len(trail) else None
            found.append(_discounted(counts, found[-1], place) if counts else found[-1])
        return [found[0], found[1], found[-1]]

    def _refresh(self) -> None:
        stale = [tool for tool, version in self._edges.versions.items() if self._seen.get(tool) != version]
        for tool in stale:
            counts: Any = defaultdict(lambda: defaultdict(float))
            for edge in self._edges.out.get(tool, {}).values():
                trail = (*edge.past, edge.u)
                for length in range(1, len(trail) + 1):
                    counts[trail[-length:]][edge.v] += edge.count + edge.bonus
            self._after[tool] = counts
            self._seen[tool] = self._edges.versions[tool]
        if stale:
            totals: dict[str, float] = defaultdict(float)
            for tool, after in self._after.items():
                for name, count in after.get((tool,), {}).items():
                    totals[name] += count
            self._all = totals


def _discounted(counts: Mapping[str, float], shorter: Numbers, place: Mapping[str, int]) -> Numbers:
    at = [(place[tool], count) for tool, count in counts.items() if tool in place]
    if not at:
        return shorter
    where, many = np.array([each for each, _ in at]), np.array([count for _, count in at])
    found: Numbers = shorter * (np.minimum(many, DISCOUNT).sum() / many.sum())
    found[where] += np.maximum(many - DISCOUNT, 0.0) / many.sum()
    return found
