"""How a tool graph ranks the next tools: a log-linear model of a few facts about each tool.

The facts are log-probabilities and small counts, so that a handful of weights fitted once (benchmarks/fit_tool_graph.py) holds for
any set of tools. The scores are a softmax: probabilities over what is available.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memctx.graphs._edges import Edges
from memctx.graphs._near import Near
from memctx.graphs._served import Served
from memctx.graphs._told import Told
from memctx.graphs._usual import Usual

Numbers = NDArray[np.float64]

FACTS = ("frequency", "pairs", "transitions", "called", "times", "last", "row", "words", "states")
WITHOUT = (-0.08, 0.21, 0.60, -0.72, 0.17, 0.85, 0.66, 0.00, 0.00)  # weights of the facts where no state is recalled,
NEAR = (0.04, -0.42, 0.54, -0.73, -0.46, 0.80, 0.75, 1.11, 0.91)  # where the states of other runs are near,
FAR = (-1.33, 0.36, 0.06, -1.03, 0.59, 0.89, 0.83, 3.38, 1.40)  # and where they are far; between the two, in between
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

    def shares(self) -> Numbers:
        """P(next) for each tool."""
        logits = self.rows @ self.weights()
        powers = np.exp(logits - logits.max(initial=-math.inf))
        shares: Numbers = powers / powers.sum()
        return shares


class Ranker:
    """Reads the edges; keeps what it made of them until they change."""

    def __init__(self, edges: Edges, embedder: Any) -> None:
        self._edges = edges
        self._usual, self._near, self._told = Usual(edges), Near(edges, embedder), Told()
        self._served = Served(edges, self._near)
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
        """The best `k`, by score and then by name."""
        found = self.facts(path, state, available, gate)
        if not found.names or k < 1:
            return []
        shares = found.shares()
        least = np.partition(shares, -k)[-k] if k < len(shares) else 0.0
        best = sorted(np.flatnonzero(shares >= least).tolist(), key=lambda at: (-shares[at], at))[:k]
        parts = found.rows * found.weights() if explain else None
        return [
            Suggestion(found.names[at], float(shares[at]), {} if parts is None else _named(parts[at])) for at in best
        ]

    def served(self, request: str, available: Collection[str] | None, k: int) -> list[Suggestion]:
        """The best `k` for a whole request, by score and then by name."""
        shares = self._served.shares(request, available)
        return [Suggestion(tool, shares[tool]) for tool in sorted(shares, key=lambda tool: (-shares[tool], tool))[:k]]

    def facts(self, path: Sequence[str], state: str, available: Collection[str] | None, gate: float = 1.0) -> Facts:
        """What is known of each tool that may come next, sorted by name.

        The state is recalled where there is one, and no tool is at least `gate` sure without it; else the facts of it are zero.
        """
        self._refresh()
        usable = np.ones(len(self._tools), bool)
        if available is not None:
            usable[:] = False
            usable[[self._place[tool] for tool in available if tool in self._place]] = True
        at = np.flatnonzero(usable)
        rows = np.zeros((len(at), len(FACTS)))
        names = self._tools if len(at) == len(usable) else [self._tools[each] for each in at.tolist()]
        if not names:
            return Facts(names, rows)
        usual = [chances[at] for chances in self._usual.chances(path, self._place, usable)]
        rows[:, :3] = np.log((1 - LEAST) * np.array(usual).T + LEAST / len(at))
        rows[:, 3:7] = _called(path, self._place)[at]
        blind = Facts(names, rows)
        if not state or (gate < 1 and blind.shares().max() >= gate):
            return blind
        rows[:, 7] = self._told.likeness(state)[at]
        votes = self._near.votes(path, state, self._place)[at]
        rows[:, 8] = np.log((votes + UNSEEN * np.exp(rows[:, 0])) / (votes.sum() + UNSEEN))
        return Facts(names, rows, float(UNSEEN / (votes.sum() + UNSEEN)))

    def _refresh(self) -> None:
        if self._version == self._edges.version:
            return
        tools = sorted({edge.v for edge in self._edges.all()} | self._told.texts.keys())
        if tools != self._tools or self._version < 0:
            self._tools, self._place = tools, {tool: at for at, tool in enumerate(tools)}
            self._told.index(tools)
        self._version = self._edges.version


def _called(path: Sequence[str], place: Mapping[str, int]) -> Numbers:
    """For each tool: was it called, ln(1 + how often), is it the last one, ln(how often in a row just now)."""
    found = np.zeros((len(place), 4))
    for tool, times in Counter(path).items():
        if tool in place:
            found[place[tool], :2] = 1.0, math.log1p(times)
    if path and path[-1] in place:
        row = next((at for at, tool in enumerate(reversed(path)) if tool != path[-1]), len(path))
        found[place[path[-1]], 2:] = 1.0, math.log(row)
    return found


def _named(row: Numbers) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in zip(FACTS, row, strict=True)}
