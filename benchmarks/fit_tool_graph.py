"""Fit the numbers of `memctx/graphs/_near.py` and `_rank.py` on recorded runs; prints them.

    python benchmarks/fit_tool_graph.py ../shared/data

Only the tasks that `memctx bench graph` learns from where one folder is train and test: its test side is not looked at. They are in
four folds by task; a fold's calls are predicted from the other three. First the likeness of states: the votes under which the calls
that were made are most likely (Adam, Kingma & Ba 2015). Then, with what `_near.py` holds by now, a conditional logit (McFadden 1974)
on the facts of all sets together, each set counting alike (Newton's method).
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memctx._bench._graph_data import DATASETS, Recorded
from memctx._bench.graph import SUCCESS, sides
from memctx.embed import embedder
from memctx.graphs._edges import Edges
from memctx.graphs._near import AFTER, ASKED, BUCKETS, RESULT, SAME_KIND, WORDS, Near
from memctx.graphs._rank import FACTS, LEAST, Facts
from memctx.graphs.tool_graph import ToolGraph

Numbers = NDArray[np.float64]
Example = tuple[Facts, int]  # and the place of the tool that was called

FOLDS = 4
CALLS = 250  # of a fold and set
VOTED = 80  # ... of which votes are fitted
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
            if recalled == (facts.far is not None):  # a call before anything was said has no state
                yield facts, facts.names.index(path[at])


def likenesses(runs: Sequence[Recorded]) -> Iterator[tuple[Numbers, Numbers]]:
    """For each fold: how alike each of some calls is to each call of the others, by part; and which of those called the same tool."""
    near = Near(Edges(0, 1, None), EMBEDDER)
    every = [(run, at) for run in runs for at in range(len(run.visits))]
    vectors = near.vectors([run.visits[at].state for run, at in every])
    width = (vectors.shape[1] - BUCKETS - 2) // 2
    parts = np.split(vectors, np.cumsum([width, BUCKETS, width]), axis=1)
    weighted = [part / math.sqrt(by) for part, by in zip(parts, (ASKED, WORDS, RESULT, SAME_KIND), strict=True)]
    trails = [("", *(visit.tool for visit in run.visits[:at])) for run, at in every]
    tools = np.array([run.visits[at].tool for run, at in every])
    for fold in range(FOLDS):
        asked = [place for place, (run, _) in enumerate(every) if _fold(run) == fold]
        asked = asked[:: max(1, len(asked) // VOTED)]
        known = [place for place, (run, _) in enumerate(every) if _fold(run) != fold and run.reward >= SUCCESS]
        alike = [part[asked] @ part[known].T for part in weighted]
        for length in range(1, len(AFTER) + 1):
            ends = np.unique([repr(trail[-length:]) for trail in trails], return_inverse=True)[1]
            alike.append(ends[asked][:, None] == ends[known][None])
        yield np.stack(alike, axis=-1), tools[asked][:, None] == tools[known][None]


def fit_votes(folds: Sequence[tuple[Numbers, Numbers]], steps: int = 60) -> Numbers:
    """The numbers of `_near.py`, in the order of its constants."""
    weights = np.array([ASKED, WORDS, RESULT, SAME_KIND, *AFTER]) / 2
    mean, spread = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(steps):
        slope = SHRINK / 10 * weights
        for alike, same in folds:
            logits = alike @ weights
            votes = np.exp(logits - logits.max(axis=1, keepdims=True))
            right = (votes * same).sum(axis=1)
            share = (1 - LEAST) * right / votes.sum(axis=1)
            trust = share / (share + LEAST / 40)
            pull = votes * same / np.maximum(right, 1e-30)[:, None] - votes / votes.sum(axis=1, keepdims=True)
            slope -= np.einsum("qt,qtk->k", pull * trust[:, None], alike) / len(alike) / len(folds)
        mean, spread = 0.8 * mean + 0.2 * slope, 0.95 * spread + 0.05 * slope**2
        weights -= 0.6 * (1 - step / steps) * mean / (np.sqrt(spread) + 1e-8)
    return weights


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
    print(
        "ASKED, WORDS, RESULT, SAME_KIND, *AFTER:",
        fit_votes([each for runs in learned for each in likenesses(runs)]).round(1),
    )
    without = fit([list(examples(runs, recalled=False)) for runs in learned])
    near, far = np.split(fit([list(examples(runs, recalled=True)) for runs in learned]), 2)
    print(f"FACTS = {FACTS}")
    print("\n".join((told("WITHOUT", without), told("NEAR", near), told("FAR", far))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
