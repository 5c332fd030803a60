"""How tools are ranked for a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from memctx._tool_rank_read import Tool
from memctx.scope import scope
from memctx.stores.words import WordIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memctx.embed import Embedder

    Scores = NDArray[np.float64]

FUSED, TOP = 60, 100
SCOPE = scope("tools")


class Ranker:
    """The tools of one moment, ready to be asked. Never changed."""

    def __init__(self, tools: Sequence[Tool], examples: Mapping[str, Sequence[str]], embedder: Embedder) -> None:
        self._embedder = embedder
        self._size = len(tools)
        texts = [
            f"{tool.server} {tool.name}: {tool.ranked} {tool.about} {tool.arguments} {' '.join(examples.get(tool.id, ()))}"
            for tool in tools
        ]
        self._vectors = embedder.embed(texts)
        self._words = WordIndex()
        self._words.add(SCOPE, range(1, len(texts) + 1), texts)

    def scores(self, query: str) -> tuple[Scores, dict[str, Scores]]:
        """A score for each tool, and its parts."""
        words, meaning = np.zeros(self._size), np.zeros(self._size)
        ids, _ = self._words.search(query, TOP, SCOPE)
        words[ids - 1] = 1 / (FUSED + 1 + np.arange(len(ids)))
        best = np.argsort(-(self._vectors @ self._embedder.embed([query])[0]), kind="stable")[:TOP]
        meaning[best] = 1 / (FUSED + 1 + np.arange(len(best)))
        return words + meaning, {"words": words, "meaning": meaning}
