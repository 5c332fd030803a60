"""What is compared: each method is given a catalogue, and answers a query with ids of tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from memctx._bench._tools_data import Query
from memctx._tool_rank_read import Tool
from memctx.catalogue import Catalogue
from memctx.errors import require

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memctx.embed import Embedder

    Rows = NDArray[Any]

FUSED, TOP = 60, 100  # reciprocal ranks: the constant, and how much of each list counts


class Method(Protocol):
    """One catalogue under one method."""

    def ask(self, query: str, k: int) -> list[str]:
        """Ids of the k best tools."""
        ...


Make = Callable[[Sequence[Tool], Sequence[Query], Callable[[str], "Embedder"]], Method]


def text(tool: Tool) -> str:
    """All that a tool says of itself, as the baselines are given it: with the server and the arguments they do better."""
    return f"{tool.server} {tool.name}: {tool.description} {tool.about} {tool.arguments}"


class _Scores:
    """A method that scores every tool."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._ids = [tool.id for tool in tools]

    def ask(self, query: str, k: int) -> list[str]:
        return [self._ids[at] for at in np.argsort(-self.scores(query), kind="stable")[:k]]

    def scores(self, query: str) -> Rows:
        raise NotImplementedError


class Bm25(_Scores):
    """bm25s as it comes, with English stop words."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        super().__init__(tools)
        self._library = require("bm25s", extra="bench")
        self._index = self._library.BM25()
        split = self._library.tokenize([text(tool) for tool in tools], stopwords="en", show_progress=False)
        self._index.index(split, show_progress=False)

    def scores(self, query: str) -> Rows:
        words = self._library.tokenize([query], stopwords="en", return_ids=False, show_progress=False)[0]
        return np.asarray(self._index.get_scores(words)) if words else np.zeros(len(self._ids))


class Dense(_Scores):
    """The cosine alone."""

    def __init__(self, tools: Sequence[Tool], embedder: Embedder) -> None:
        super().__init__(tools)
        self._embedder = embedder
        self._vectors = embedder.embed([text(tool) for tool in tools])

    def scores(self, query: str) -> Rows:
        return np.asarray(self._vectors @ self._embedder.embed([query])[0])


class Fused(_Scores):
    """Reciprocal ranks of the two."""

    def __init__(self, tools: Sequence[Tool], embedder: Embedder) -> None:
        super().__init__(tools)
        self._both = (Bm25(tools), Dense(tools, embedder))

    def scores(self, query: str) -> Rows:
        summed = np.zeros(len(self._ids))
        for each in self._both:
            best = np.argsort(-each.scores(query), kind="stable")[:TOP]
            summed[best] += 1 / (FUSED + 1 + np.arange(len(best)))
        return summed


class Bigtool:
    """The search of LangGraph-bigtool: LangGraph's own store over "name: description", as its README shows."""

    def __init__(self, tools: Sequence[Tool], embedder: Embedder) -> None:
        store = require("langgraph.store.memory", extra="bench").InMemoryStore
        numbers = lambda texts: list(embedder.embed(texts).astype(float))  # noqa: E731 - lists are slow to compare
        index = {"embed": numbers, "dims": embedder.dim, "fields": ["description"]}
        self._store = store(index=index)
        for tool in tools:
            self._store.put(("tools",), tool.id, {"description": f"{tool.name}: {tool.description}"})

    def ask(self, query: str, k: int) -> list[str]:
        return [found.key for found in self._store.search(("tools",), query=query, limit=k)]


class Memctx:
    """A `Catalogue`, told beforehand which tools some queries needed, or nothing."""

    def __init__(self, tools: Sequence[Tool], embedder: Embedder, examples: Sequence[Query] = ()) -> None:
        self._catalogue = Catalogue(embedder)
        self._catalogue.sync([tool.raw for tool in tools])
        known = {tool.id for tool in tools}
        for query in examples:
            for group in query.gold:
                for tool_id in sorted(group & known):
                    self._catalogue.learn(query.text, tool_id)

    def ask(self, query: str, k: int) -> list[str]:
        return [found.tool.id for found in self._catalogue.search(query, k)]


METHODS: dict[str, Make] = {
    "bm25": lambda tools, _, __: Bm25(tools),
    "dense": lambda tools, _, named: Dense(tools, named("minilm")),
    "fused": lambda tools, _, named: Fused(tools, named("minilm")),
    "bigtool": lambda tools, _, named: Bigtool(tools, named("minilm")),
    "memctx": lambda tools, _, named: Memctx(tools, named("default")),
    "memctx-minilm": lambda tools, _, named: Memctx(tools, named("minilm")),
    "memctx-used": lambda tools, examples, named: Memctx(tools, named("default"), examples),
}
LEARNS = ("memctx-used",)
