"""Matching calls with gold calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memctx.errors import ConfigError

Call = Mapping[str, Any]
ROUNDS = 200  # of Sinkhorn's scaling


def likeness(call: Call, gold: Call) -> float:
    """MatchTIR (2601.10712): (1 + Jaccard of the parameters' names + equal values) / (2 + gold parameters); 0 for another tool."""
    if str(call.get("name", "")).casefold() != str(gold.get("name", "")).casefold():
        return 0.0
    mine, theirs = dict(call.get("arguments") or {}), dict(gold.get("arguments") or {})
    either = mine.keys() | theirs.keys()
    shared = len(mine.keys() & theirs.keys()) / len(either) if either else 1.0
    equal = sum(key in mine and bool(mine[key] == value) for key, value in theirs.items())
    return (1 + shared + equal) / (2 + len(theirs))


def matched(calls: Sequence[Call], gold: Sequence[Call], how: str, unmatched: float, reg: float) -> list[float]:
    """What each call is worth."""
    if not calls:
        return []
    if not gold:
        return [unmatched] * len(calls)
    grid = np.array([[likeness(call, each) for each in gold] for call in calls])
    if how == "ot":
        return [float(x) for x in (transport(grid, reg) * grid).sum(1)]
    found = [unmatched] * len(calls)
    for row, column in _greedy(grid) if how == "greedy" else _exact(grid):
        if grid[row, column] > 0:
            found[row] = float(grid[row, column])
    return found


def _exact(grid: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The one-to-one assignment of the greatest sum: Kuhn and Munkres."""
    from networkx import Graph, max_weight_matching  # type: ignore[import-untyped]

    graph = Graph()
    for row, column in np.argwhere(grid > 0).tolist():
        graph.add_edge(("call", row), ("gold", column), weight=grid[row, column])
    pairs = (sorted(edge) for edge in max_weight_matching(graph))
    return [(a[1], b[1]) for a, b in pairs]


def _greedy(grid: NDArray[np.float64]) -> list[tuple[int, int]]:
    """The likest pair first, each call and each gold call once."""
    pairs: list[tuple[int, int]] = []
    for place in np.argsort(-grid, axis=None, kind="stable").tolist():
        row, column = divmod(place, grid.shape[1])
        if all(row != r and column != c for r, c in pairs):
            pairs.append((row, column))
    return pairs


def transport(grid: NDArray[np.float64], reg: float) -> NDArray[np.float64]:
    """Entropic optimal transport between uniform weights at cost -grid (Cuturi, 2013), in logarithms. `reg` > 0."""
    if not reg > 0:
        raise ConfigError(f"reg = {reg}: must be above 0", field="reg")
    score = grid / reg
    rows, columns = (-np.log(size) for size in grid.shape)
    u, v = np.zeros(grid.shape[0]), np.zeros(grid.shape[1])
    for _ in range(ROUNDS):
        u = rows - _logsum(score + v[None, :], 1)
        v = columns - _logsum(score + u[:, None], 0)
    plan: NDArray[np.float64] = np.exp(score + u[:, None] + v[None, :])
    return plan


def _logsum(x: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    top = x.max(axis, keepdims=True)
    found: NDArray[np.float64] = np.log(np.exp(x - top).sum(axis)) + top.squeeze(axis)
    return found
