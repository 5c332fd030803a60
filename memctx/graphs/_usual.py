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
        self._version = -1
        self._seen: dict[str, int] = {}
        self._after: dict[str, dict[tuple[str, ...], dict[str, float]]] = {}
        self._place: Mapping[str, int] = {}
        self._all = np.empty(0)

    def chances(self, path: Sequence[str], place: Mapping[str, int], usable: NDArray[np.bool_]) -> list[Numbers]:
        """P(next) for the usable tools: given nothing, given the last tool, and given the last three. `place`: tool -> index."""
        self._refresh(place)
        trail = (START, *path)[-LONGEST:]
        after = self._after.get(trail[-1], {})
        found = [_discounted(np.arange(len(usable)), self._all, usable / usable.sum(), usable)]
        for length in range(1, LONGEST + 1):
            counts = after.get(trail[-length:], {}) if length <= len(trail) else {}
            known = [(place[tool], count) for tool, count in counts.items()]
            where, many = np.array([at for at, _ in known], np.int64), np.array([count for _, count in known])
            found.append(_discounted(where, many, found[-1], usable))
        return [found[0], found[1], found[-1]]

    def _refresh(self, place: Mapping[str, int]) -> None:
        if self._version == self._edges.version and self._place is place:
            return
        self._version = self._edges.version
        for tool, version in self._edges.versions().items():
            if self._seen.get(tool) != version:
                self._seen[tool], self._after[tool] = version, self._counted(tool)
        self._place, self._all = place, np.zeros(len(place))
        for tool, after in self._after.items():
            for name, count in after.get((tool,), {}).items():
                self._all[place[name]] += count

    def _counted(self, tool: str) -> dict[tuple[str, ...], dict[str, float]]:
        counts: Any = defaultdict(lambda: defaultdict(float))
        for edge in self._edges.after(tool):
            trail = (*edge.past, edge.u)
            for length in range(1, len(trail) + 1):
                counts[trail[-length:]][edge.v] += edge.count + edge.bonus
        return dict(counts)


def _discounted(where: NDArray[np.int64], many: Numbers, shorter: Numbers, usable: NDArray[np.bool_]) -> Numbers:
    """Counts of the tools at `where`, of which only the usable ones are looked at."""
    kept = usable[where] & (many > 0)
    where, many = where[kept], many[kept]
    if not len(where):
        return shorter
    found: Numbers = shorter * (np.minimum(many, DISCOUNT).sum() / many.sum())
    found[where] += np.maximum(many - DISCOUNT, 0.0) / many.sum()
    return found
