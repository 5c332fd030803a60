"""Which tools say of themselves what is asked: the words of the request in a tool's own description."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memctx.graphs._state import parts
from memctx.stores._terms import terms

LONGEST = 2_000  # characters of a description that are read


class Told:
    """Words of tools by inverted lists. A tool that was not described is known by the words of its name."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self._having: dict[str, NDArray[np.int64]] = {}
        self._worth: dict[str, float] = {}
        self._lengths = np.empty(0)

    def index(self, tools: Sequence[str]) -> None:
        """These tools, in this order, from now on."""
        words = [set(terms(self.texts.get(tool, tool)[:LONGEST])) for tool in tools]
        having: dict[str, list[int]] = defaultdict(list)
        for at, some in enumerate(words):
            for term in sorted(some):
                having[term].append(at)
        self._having = {term: np.array(some) for term, some in having.items()}
        self._worth = {term: math.log((len(tools) + 1) / (len(some) + 0.5)) for term, some in having.items()}
        self._lengths = np.array([math.sqrt(sum(self._worth[term] ** 2 for term in some)) or 1.0 for some in words])

    def likeness(self, state: str) -> NDArray[np.float64]:
        """For each tool: the worth of the words it shares with what is asked, rare ones more, over its length."""
        found = np.zeros(len(self._lengths))
        for term in sorted(set(terms(parts(state)[0]))):
            if term in self._having:
                found[self._having[term]] += self._worth[term]
        return found / self._lengths
