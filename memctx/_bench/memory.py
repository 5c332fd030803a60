"""Evidence recall: of the records that hold the evidence for a question, the share among the first k. No model is called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from memctx._bench._asked import check_ks, check_methods
from memctx._bench.conversations import Case, load
from memctx._bench.methods import METHODS, Method
from memctx.errors import ConfigError

if TYPE_CHECKING:
    from memctx.embed import Embedder

Watch = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Line:
    """One method at one k: recall averaged over the `n` questions whose evidence resolves; milliseconds of one search."""

    dataset: str
    method: str
    k: int
    recall: float
    n: int
    ms_per_query: float


def bench(
    dataset: str, path: Path, methods: Sequence[str], ks: Sequence[int], embedder: Embedder, watch: Watch | None = None
) -> Iterator[Line]:
    """Every method over every conversation of the file: a line for each k. Raises `ConfigError`."""
    check_methods(methods, METHODS)
    check_ks(ks)
    cases = load(dataset, path)
    if not any(case.questions for case in cases):
        raise ConfigError(f"{path} has no question whose evidence resolves", field="path")
    for name in methods:
        found: list[list[float]] = []
        seconds = 0.0
        for number, case in enumerate(cases):
            method = METHODS[name](case, embedder)
            try:
                seconds += _over(method, case, ks, found)
            finally:
                method.close()
            if watch:
                watch(f"{dataset} {name}", number + 1, len(cases))
        for k, column in zip(ks, zip(*found, strict=True), strict=True):
            recall = round(sum(column) / len(found), 4)
            yield Line(dataset, name, k, recall, len(found), round(1000 * seconds / len(found), 3))


def _over(method: Method, case: Case, ks: Sequence[int], found: list[list[float]]) -> float:
    """Ask every question once, for the largest k; returns the seconds the asking took. Nothing to find before an entry is there."""
    seconds = 0.0
    for question in case.questions:
        method.upto(question.seen)
        begin = perf_counter()
        keys = method.ask(question.text, max(ks))
        seconds += perf_counter() - begin
        found.append([len(question.gold & set(keys[:k])) / len(question.gold) for k in ks])
    return seconds
