"""A tool graph without its pasts: one pair for all parallel edges, for pictures, tables and rewards."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from memctx.graphs.tool_graph import State, ToolGraph


@dataclass(frozen=True, slots=True)
class Pair:
    """`v` was called after `u`: how often, with which `weight` (count + bonus), and `share` of the weight of all that leaves `u`."""

    u: str
    v: str
    count: float
    weight: float
    share: float
    states: tuple[State, ...]


def pairs(graph: ToolGraph) -> list[Pair]:
    """Every pair of the graph, the heaviest first, equal ones by name."""
    count: dict[str, dict[str, float]] = defaultdict(dict)
    weight: dict[str, dict[str, float]] = defaultdict(dict)
    states: dict[tuple[str, str], tuple[State, ...]] = {}
    for edge in graph.edges():
        count[edge.u][edge.v] = count[edge.u].get(edge.v, 0.0) + edge.count
        weight[edge.u][edge.v] = weight[edge.u].get(edge.v, 0.0) + edge.count + edge.bonus
        states[edge.u, edge.v] = (*states.get((edge.u, edge.v), ()), *edge.states)
    found = [
        Pair(u, v, count[u][v], value, value / sum(out.values()), states[u, v])
        for u, out in weight.items()
        for v, value in out.items()
    ]
    return sorted(found, key=lambda pair: (-pair.weight, pair.u, pair.v))
