"""Tool retrieval: of the tools that a query needs, the share among the first k. No model is called.

Every method answers every query. Those that learn from use (`memctx-used`) are told what half of the queries needed, chosen by
a hash of their ids, and answer the other half; beside them, the others are measured on that half as well, as `SET-half`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import log2
from pathlib import Path
from statistics import median
from time import perf_counter

from memctx._bench._asked import check_ks, check_methods
from memctx._bench._tools_data import SETS, Query, load
from memctx._bench._tools_methods import LEARNS, METHODS, Method
from memctx._tool_rank_read import read
from memctx.embed import embedder

Watch = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Line:
    """One method at one k: recall and nDCG averaged over `n` queries; the median of the milliseconds of one search.

    The vector of a query is made once: of the methods with one embedder, the first has it in its milliseconds.
    """

    dataset: str
    method: str
    k: int
    recall: float
    ndcg: float
    n: int
    ms_per_query: float


def bench(
    path: Path,
    methods: Sequence[str] = ("bm25", "dense", "fused", "bigtool", "memctx"),
    ks: Sequence[int] = (5, 10),
    datasets: Sequence[str] = tuple(SETS),
    watch: Watch | None = None,
) -> Iterator[Line]:
    """Every method over every set: a line for each k. `path`: a folder as `shared/data/tools`. Raises `ConfigError`."""
    check_methods(methods, METHODS)
    check_ks(ks)
    named = cache(embedder)
    for name in datasets:
        data = load(path, name)
        tools = [tool for raw in data.tools for tool in read(raw)]
        told = [query for query in data.queries if heard(query)]
        left = [query for query in data.queries if not heard(query)]
        halves = any(method in LEARNS for method in methods)
        for method in methods:
            asked = left if method in LEARNS else data.queries
            answered = _answers(METHODS[method](tools, told, named), asked, ks)
            if method not in LEARNS:
                yield from _lines(name, method, ks, [answered[query.id] for query in asked])
            if halves:
                yield from _lines(f"{name}-half", method, ks, [answered[query.id] for query in left])
            if watch:
                watch(name, methods.index(method) + 1, len(methods))


@dataclass(frozen=True, slots=True)
class _Answer:
    """One query: recall and nDCG at each k, and the seconds it took."""

    recall: list[float]
    ndcg: list[float]
    seconds: float


def _answers(method: Method, queries: Sequence[Query], ks: Sequence[int]) -> dict[str, _Answer]:
    if queries:
        method.ask(queries[0].text, max(ks))  # what is made when first asked for is no part of a search
    found = {}
    for query in queries:
        begin = perf_counter()
        best = method.ask(query.text, max(ks))
        seconds = perf_counter() - begin
        met = [_met(best[:k], query) for k in ks]
        recall = [sum(first < k for first in places) / len(query.gold) for k, places in zip(ks, met, strict=True)]
        ndcg = [_gain(places) / _gain(range(min(k, len(query.gold)))) for k, places in zip(ks, met, strict=True)]
        found[query.id] = _Answer(recall, ndcg, seconds)
    return found


def _met(best: Sequence[str], query: Query) -> list[int]:
    """The place of the first tool of each group that was found; two groups may be met by one tool, which then counts twice."""
    places = {tool: place for place, tool in reversed(list(enumerate(best)))}
    firsts = (min((places[tool] for tool in group if tool in places), default=None) for group in query.gold)
    return [first for first in firsts if first is not None]


def _gain(places: Iterable[int]) -> float:
    return sum(1 / log2(2 + place) for place in places)


def _lines(dataset: str, method: str, ks: Sequence[int], answers: Sequence[_Answer]) -> Iterator[Line]:
    count = len(answers)
    if not count:
        return
    ms = round(1000 * median(answer.seconds for answer in answers), 3)
    for at, k in enumerate(ks):
        recall = round(sum(answer.recall[at] for answer in answers) / count, 4)
        ndcg = round(sum(answer.ndcg[at] for answer in answers) / count, 4)
        yield Line(dataset, method, k, recall, ndcg, count, ms)


def heard(query: Query) -> bool:
    """Whether a query is in the half that is learned from."""
    return zlib.crc32(query.id.encode()) % 2 == 0
