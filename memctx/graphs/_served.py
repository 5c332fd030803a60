"""Which tools served requests like this one: the requests in the states of all edges vote, each for every tool it needed."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection

import numpy as np

from memctx.graphs._edges import Edges, sampled
from memctx.graphs._near import Near, Vector
from memctx.graphs._state import parts

SHARP = 2.0  # how much sharper a vote falls off than one on the next tool: all the tools of a whole request hang on it
NEAREST = 64  # requests that vote,
MOST = 4_096  # of so many that are looked at


class Served:
    """A table of (request, tool), read off the edges when they changed: kept, faded and forgotten with them."""

    def __init__(self, edges: Edges, near: Near) -> None:
        self._edges, self._near = edges, near
        self._version = -1
        self._needed: list[dict[str, float]] = []  # by request: how often each tool served it
        self._vectors: Vector = np.empty((0, 0), np.float32)

    def shares(self, request: str, available: Collection[str] | None) -> dict[str, float]:
        """For each tool, the share of the requests like this one that needed it; the nearer ones count more."""
        self._refresh()
        request, _ = parts(request)
        if not self._needed or not request:
            return {}
        likeness = SHARP * (self._vectors @ self._near.vectors([request])[0])
        nearest = np.argsort(-likeness, kind="stable")[:NEAREST]
        weights = np.exp(likeness[nearest] - likeness[nearest[0]])
        weights /= sum(weight * max(self._needed[at].values()) for at, weight in zip(nearest, weights, strict=True))
        found: dict[str, float] = defaultdict(float)
        for at, weight in zip(nearest.tolist(), weights.tolist(), strict=True):
            for tool, count in self._needed[at].items():
                found[tool] += weight * count
        return {tool: share for tool, share in found.items() if available is None or tool in available}

    def _refresh(self) -> None:
        if self._version == self._edges.version:
            return
        needed: dict[str, dict[str, float]] = defaultdict(dict)
        for tool in self._edges.versions():
            for edge in self._edges.after(tool):
                for state in edge.states:
                    if request := parts(state.text)[0]:
                        count = max(state.count, needed[request].get(edge.v, 0.0))
                        needed[request][edge.v] = count  # a tool that one run called in many states served it once
        held = heapq.nsmallest(MOST, needed, key=sampled)
        self._needed = [needed[request] for request in held]
        self._vectors = self._near.vectors(held) if held else np.empty((0, 0), np.float32)
        self._version = self._edges.version
