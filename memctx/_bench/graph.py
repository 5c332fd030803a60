"""`memctx bench graph`: for each call of a recorded run, its tool predicted from what came before it.

Every method learns from the same training runs (those that ended well) and may name the tools the run could call, no others.
Where the training and the test folder are one, a third of the tasks is the test side, by a hash of the task's id; every run of a
task is on one side. Ranks are exact: of tools with equal scores, the one first in the alphabet comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from memctx._bench._asked import check_methods
from memctx._bench._graph_data import DATASETS, Recorded, held_out, read
from memctx._bench._graph_methods import METHODS, Score
from memctx.embed import embedder
from memctx.errors import ConfigError

SUCCESS = 0.5  # the least reward of a run that is learned from

Watch = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Line:
    """Of `n` calls: the share whose tool was first, the share where it was among the first two, and the mean of 1 / rank."""

    dataset: str
    method: str
    hit1: float
    hit2: float
    mrr: float
    n: int


def bench(train: Path, test: Path, methods: Sequence[str] = (), watch: Watch | None = None) -> Iterator[Line]:
    """A line for each set that both folders have and each method; no methods: all of them. Raises `ConfigError`.

    `train`, `test`: folders as `shared/data`.
    """
    names = list(methods) or list(METHODS)
    check_methods(names, METHODS)
    chosen = embedder()
    found = False
    for dataset in DATASETS:
        known, asked = sides(train, test, dataset)
        learned = [run for run in known if run.reward >= SUCCESS]
        for name in names if learned and asked else ():
            found = True
            yield _line(dataset, name, _ranks(METHODS[name](learned, chosen), asked))
            if watch:
                watch(dataset, names.index(name) + 1, len(names))
    if not found:
        raise ConfigError(f"{train} and {test} have no runs of {', '.join(DATASETS)} in common", field="test")


def sides(train: Path, test: Path, dataset: str) -> tuple[list[Recorded], list[Recorded]]:
    """The runs of the training and of the test side. One folder for both is split by task."""
    runs = read(train, dataset)
    if train.resolve() == test.resolve():
        asked = [run for run in runs if held_out(run.task)]
        runs = [run for run in runs if not held_out(run.task)]
    else:
        asked = read(test, dataset)
    return runs, asked


def _ranks(score: Score, runs: Sequence[Recorded]) -> list[int]:
    """The rank of the tool of every call, from 1. A tool that the run could not call is ranked behind all that it could."""
    ranks: list[int] = []
    for run in runs:
        path = [visit.tool for visit in run.visits]
        for at, visit in enumerate(run.visits):
            scores = score(path[:at], visit.state, run.tools)
            ordered = sorted(run.tools, key=lambda tool: (-scores.get(tool, 0.0), tool))
            ranks.append(ordered.index(visit.tool) + 1 if visit.tool in run.tools else len(ordered) + 1)
    return ranks


def _line(dataset: str, method: str, ranks: Sequence[int]) -> Line:
    hit1, hit2 = (sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 2))
    mrr = sum(1 / rank for rank in ranks) / len(ranks)
    return Line(dataset, method, round(hit1, 4), round(hit2, 4), round(mrr, 4), len(ranks))
