"""How a tool graph ranks the next tools."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from memctx.graphs._edges import PAST, START, Edges

DISCOUNT = 0.75  # taken from every count and given to the shorter past
SHARE = 0.5  # of likeness; the rest is transitions
SHARP = 20.0  # how fast a lower cosine counts less


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A tool, the probability that it comes next, and what that was made of."""

    tool: str
    score: float
    parts: Mapping[str, float] = field(default_factory=dict)


class Ranker:
    """Reads the edges again when they changed."""

    def __init__(self, edges: Edges, embedder: Any) -> None:
        self._edges, self._given = edges, embedder
        self._embedder: Any = None
        self._documents: dict[str, str] = {}
        self._version = -1

    def describe(self, documents: Mapping[str, str]) -> None:
        self._documents.update(documents)
        self._version = -1

    def suggest(
        self, path: Sequence[str], state: str, available: Collection[str] | None, k: int, explain: bool
    ) -> list[Suggestion]:
        self._refresh()
        names = self._names if available is None else sorted(set(available) & set(self._names))
        if not names or k < 1:
            return []
        follow, near = self._transitions(path), self._alike(state)
        usual = np.array([follow.get(name, 0.0) for name in names]) + 1e-6
        alike = np.array([near.get(name, 0.0) for name in names]) + 1e-6
        parts = {"transitions": usual / usual.sum(), "states": alike / alike.sum()}
        score = (1 - SHARE) * parts["transitions"] + SHARE * parts["states"]
        order = np.argsort(-score, kind="stable")[:k]
        return [
            Suggestion(names[at], float(score[at]), {n: float(p[at]) for n, p in parts.items()} if explain else {})
            for at in order.tolist()
        ]

    def _refresh(self) -> None:
        if self._version == self._edges.version:
            return
        self._follow: dict[tuple[str, ...], dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self._texts: list[str] = []
        self._owners: list[str] = []
        self._vectors: Any = None
        for edge in self._edges.all():
            whole = (*edge.past, edge.u)
            for start in range(len(whole) + 1):
                self._follow[whole[start:]][edge.v] += edge.count + edge.bonus
            self._texts += [state.text for state in edge.states]
            self._owners += [edge.v] * len(edge.states)
        self._names = sorted({*self._edges.tools(), *self._documents})
        self._version = self._edges.version

    def _transitions(self, path: Sequence[str]) -> dict[str, float]:
        """Absolute discounting: what a longer past has seen, the rest from the shorter one."""
        trail = [START, *path][-PAST - 1 :]
        found = {name: 1 / len(self._names) for name in self._names}
        for start in range(len(trail), -1, -1):
            seen = self._follow.get(tuple(trail[start:]))
            if seen:
                total = sum(seen.values())
                rest = sum(min(DISCOUNT, count) for count in seen.values()) / total
                found = {name: max(0.0, seen.get(name, 0.0) - DISCOUNT) / total + rest * p for name, p in found.items()}
        return found

    def _alike(self, state: str) -> dict[str, float]:
        """Tools by the likeness of the states in which they were called."""
        if not state or not self._texts:
            return {}
        if self._embedder is None:
            from memctx.embed import embedder

            self._embedder = embedder(self._given)
        if self._vectors is None:
            self._vectors = self._embedder.embed(self._texts)
        near = np.exp(SHARP * (self._vectors @ self._embedder.embed([state])[0] - 1))
        found: dict[str, float] = defaultdict(float)
        for owner, weight in zip(self._owners, near.tolist(), strict=True):
            found[owner] += weight
        return found
