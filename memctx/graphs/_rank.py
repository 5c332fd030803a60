"""How a tool graph ranks the next tools: a log-linear model of a few facts about each tool.

The facts are log-probabilities and small counts, so that a handful of weights fitted once (benchmarks/fit_tool_graph.py) holds for
any set of tools. The scores are a softmax: probabilities over what is available.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memctx.graphs._edges import Edges
from memctx.graphs._near import Near
from memctx.graphs._told import Told
from memctx.graphs._usual import Usual

Numbers = NDArray[np.float64]

FACTS = ("frequency", "pairs", "transitions", "called", "last", "times", "words", "states")
WITHOUT = (-0.01, 0.22, 0.59, -0.52, 0.83, -0.08, 0.00, 0.00)  # weights of the facts where no state is recalled,
NEAR = (0.05, -0.39, 0.43, -0.47, 0.82, -0.25, 1.23, 0.92)  # where the states of other runs are near,
FAR = (-1.24, 0.33, 0.07, -1.31, 0.82, 0.48, 3.47, 1.59)  # and where they are far; between the two, in between
UNSEEN = math.exp(-9)  # votes at which near and far are even; so many go to what is usual
LEAST = 0.02  # of every probability, shared evenly: no tool is impossible


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A tool, the probability that it comes next, and what each fact added to its logit."""

    tool: str
    score: float
    parts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """The tools that may come next, a row of `FACTS` for each, and how far the known states are: 0 to 1, None without a state."""

    names: Sequence[str]
    rows: Numbers
    far: float | None = None

    def weights(self) -> Numbers:
        if self.far is None:
            return np.array(WITHOUT)
        return (1 - self.far) * np.array(NEAR) + self.far * np.array(FAR)

    def shares(self) -> list[float]:
        """P(next) for each tool."""
        logits = self.rows @ self.weights()
        powers = np.exp(logits - logits.max(initial=0.0))
        return (powers / powers.sum()).tolist()  # type: ignore[no-any-return]


class Ranker:
    """Reads the edges; keeps what it made of them until they change."""

    def __init__(self, edges: Edges, embedder: Any) -> None:
        self._edges = edges
        self._usual, self._near, self._told = Usual(edges), Near(edges, embedder), Told()
        self._tools: list[str] = []
        self._version = -1

    def describe(self, documents: Mapping[str, str]) -> None:
        """What tools do; the same again costs nothing."""
        texts = self._told.texts
        new = {tool: text for tool, text in documents.items() if tool and texts.get(tool) != text}
        if new:
            texts.update(new)
            self._version = -1

    def suggest(
        self, path: Sequence[str], state: str, available: Collection[str] | None, k: int, gate: float, explain: bool
    ) -> list[Suggestion]:
        """The best `k`; the state is recalled unless the best tool is at least `gate` sure without it."""
        found = self.facts(path, "" if gate < 1 else state, available)
        if not found.names or k < 1:
            return []
        shares = found.shares()
        if state and found.far is None and max(shares) < gate:
            found = self.facts(path, state, available)
            shares = found.shares()
        best = heapq.nsmallest(k, range(len(shares)), key=lambda at: -shares[at])
        parts = found.rows * found.weights() if explain else None
        return [Suggestion(found.names[at], shares[at], {} if parts is None else _named(parts[at])) for at in best]

    def facts(self, path: Sequence[str], state: str, available: Collection[str] | None) -> Facts:
        """What is known of each tool that may come next, sorted by name. Without a state, the facts that need one are zero."""
        self._refresh()
        names = self._tools if available is None else sorted(self._place.keys() & set(available))
        if not names:
            return Facts(names, np.empty((0, len(FACTS))))
        place = self._place if available is None else {name: at for at, name in enumerate(names)}
        usual = [_even(chances, LEAST) for chances in self._usual.chances(path, place)]
        rows = np.zeros((len(names), len(FACTS)))
        rows[:, :3] = np.log(usual).T
        rows[:, 3:6] = _called(path, place)
        if not state:
            return Facts(names, rows)
        rows[:, 6] = self._told.likeness(state)[[self._place[name] for name in names]]
        votes = np.zeros(len(names))
        for tool, vote in self._near.votes(path, state).items():
            if tool in place:
                votes[place[tool]] = vote
        rows[:, 7] = np.log((votes + UNSEEN * usual[0]) / (votes.sum() + UNSEEN))
        return Facts(names, rows, float(UNSEEN / (votes.sum() + UNSEEN)))

    def _refresh(self) -> None:
        if self._version == self._edges.version:
            return
        tools = sorted({edge.v for out in self._edges.out.values() for edge in out.values()} | self._told.texts.keys())
        if tools != self._tools or self._version < 0:
            self._tools, self._place = tools, {tool: at for at, tool in enumerate(tools)}
            self._told.index(tools)
        self._version = self._edges.version


def _even(chances: Numbers, share: float) -> Numbers:
    """The chances, with a share of them given to all alike."""
    return (1 - share) * chances + share / len(chances)


def _called(path: Sequence[str], place: Mapping[str, int]) -> Numbers:
    """For each tool: was it called in this run, was it the last, and the logarithm of one more than how often."""
    found = np.zeros((len(place), 3))
    for tool in path:
        if tool in place:
            found[place[tool], 0] = 1.0
            found[place[tool], 2] += 1.0
    if path and path[-1] in place:
        found[place[path[-1]], 1] = 1.0
    found[:, 2] = np.log1p(found[:, 2])
    return found


def _named(row: Numbers) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(FACTS, row, strict=True)}
