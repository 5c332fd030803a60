"""Fit the weights of `memctx/graphs/_rank.py` on recorded runs; prints them.

    python benchmarks/fit_tool_graph.py ../shared/data

Only the tasks that `memctx bench graph` learns from where one folder is train and test: its test side is not looked at. They are in
four folds by task; a fold's calls are predicted by a graph of the other three. A conditional logit (McFadden 1974) is fitted to the
facts of all sets together, each set counting alike, by Newton's method.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memctx._bench._graph_data import DATASETS, Recorded
from memctx._bench.graph import sides
from memctx.embed import embedder
from memctx.graphs._rank import FACTS, Facts
from memctx.graphs.tool_graph import ToolGraph

Numbers = NDArray[np.float64]
Example = tuple[Facts, int]  # and the place of the tool that was called

FOLDS = 4
CALLS = 250  # of a fold and set
SHRINK = 1e-3
EMBEDDER = embedder()


def examples(runs: Sequence[Recorded], recalled: bool) -> Iterator[Example]:
    """Calls of each fold with their facts in the graph of the others."""
    for fold in range(FOLDS):
        graph = ToolGraph(embedder=EMBEDDER, gate=1.0)
        for run in runs:
            graph.describe(run.tools)
            if _fold(run) != fold:
                graph.learn(run.visits, reward=run.reward, now=0.0)
        calls = [(run, at) for run in runs if _fold(run) == fold for at in range(len(run.visits))]
        for run, at in calls[:: max(1, len(calls) // CALLS)]:
            path = [visit.tool for visit in run.visits]
            facts = graph.facts(path[:at], run.visits[at].state if recalled else "", available=run.tools)
            yield facts, facts.names.index(path[at])


def _fold(run: Recorded) -> int:
    return zlib.crc32(f"fold {run.task}".encode()) % FOLDS


def columns(facts: Facts) -> Numbers:
    """What is weighted: the facts, or the facts by how near and by how far the known states are."""
    if facts.far is None:
        return facts.rows
    return np.concatenate([(1 - facts.far) * facts.rows, facts.far * facts.rows], axis=1)


def fit(sets: Sequence[Sequence[Example]], steps: int = 60) -> Numbers:
    """The weights under which the calls that were made are most likely, shrunk a little."""
    rows = [columns(facts) for calls in sets for facts, _ in calls]
    worth = np.concatenate([np.full(len(calls), 1 / len(calls) / len(sets)) for calls in sets])
    starts = np.cumsum([0, *(len(each) for each in rows[:-1])])
    of = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    all_rows = np.concatenate(rows)
    called = starts + np.array([gold for calls in sets for _, gold in calls])
    weights = np.zeros(all_rows.shape[1])
    for _ in range(steps):
        logits = all_rows @ weights
        powers = np.exp(logits - np.maximum.reduceat(logits, starts)[of])
        shares = powers / np.add.reduceat(powers, starts)[of]
        means = np.add.reduceat(shares[:, None] * all_rows, starts, axis=0)
        slope = worth @ (means - all_rows[called]) + SHRINK * weights
        curve = (all_rows * (shares * worth[of])[:, None]).T @ all_rows - (means * worth[:, None]).T @ means
        step = np.linalg.solve(curve + SHRINK * np.eye(len(weights)), slope)
        weights -= step / max(1.0, float(np.abs(step).max()))  # the first steps would go too far
    return weights


def told(name: str, weights: Numbers) -> str:
    return f"{name} = ({', '.join(f'{weight:.2f}' for weight in weights)})"


def main(folder: Path) -> None:
    learned = [sides(folder, folder, dataset)[0] for dataset in DATASETS]
    without = fit([list(examples(runs, recalled=False)) for runs in learned])
    near, far = np.split(fit([list(examples(runs, recalled=True)) for runs in learned]), 2)
    print(f"FACTS = {FACTS}")
    print("\n".join((told("WITHOUT", without), told("NEAR", near), told("FAR", far))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
