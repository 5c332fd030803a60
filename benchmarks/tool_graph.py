"""The tool graph beyond hits: calibration, what the gate saves and costs, and milliseconds at 5,000 tools.

    python benchmarks/tool_graph.py ../shared/data          # the split of `memctx bench graph` with one folder as train and test

Calibration: expected calibration error of the first suggestion's score, ten bins. Gate: the share of calls at which the state is not
looked at, and the hits with that. Times are of one thread's CPU.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from memctx._bench._graph_data import DATASETS, Recorded
from memctx._bench.graph import sides
from memctx.embed import embedder
from memctx.graphs.tool_graph import ToolGraph, Visit

GATES = (1.0, 0.99, 0.95, 0.9, 0.8)
TOOLS, RUNS, ASKED = 5_000, 5_000, 300


def predicted(graph: ToolGraph, runs: Sequence[Recorded]) -> Iterator[tuple[float, bool, float, bool, bool]]:
    """For each call: how sure without the state, whether that is right, how sure with it, whether that is, or the second is."""
    for run in runs:
        path = [visit.tool for visit in run.visits]
        for at, visit in enumerate(run.visits):
            blind = graph.suggest(path[:at], available=run.tools, k=1)[0]
            best = graph.suggest(path[:at], visit.state, available=run.tools, k=2)
            hits = [each.tool == visit.tool for each in best]
            yield blind.score, blind.tool == visit.tool, best[0].score, hits[0], any(hits)


def calibration(scores: Sequence[float], hits: Sequence[bool]) -> float:
    """The mean gap between score and share of hits over ten bins of equal width."""
    bins = np.minimum((np.array(scores) * 10).astype(int), 9)
    gaps = np.bincount(bins, np.array(scores) - np.array(hits, float), 10)
    return float(np.abs(gaps).sum() / len(scores))


def accuracy(folder: Path) -> None:
    chosen = embedder()
    for dataset in DATASETS:
        learned, asked = sides(folder, folder, dataset)
        graph = ToolGraph(embedder=chosen, gate=1.0)
        for run in [*learned, *asked]:
            graph.describe(run.tools)
        for run in learned:
            graph.learn(run.visits, reward=run.reward, now=0.0)
        sure, blind, scores, hits, _ = zip(*predicted(graph, asked), strict=True)
        print(
            f"{dataset:16} calibration error {calibration(scores, hits):.3f}, without states {calibration(sure, blind):.3f}"
        )
        for gate in GATES:
            shut = np.array(sure) >= gate
            hit = np.where(shut, blind, hits).mean()
            print(f"{'':16} gate {gate}: state not looked at {shut.mean():.3f}, hit@1 {hit:.4f}")


def speed() -> None:
    chance = random.Random(0)
    words = ["".join(chance.choices("abcdefghijklmnop", k=6)) for _ in range(3_000)]
    tools = [f"{chance.choice(words)}_{chance.choice(words)}_{number}" for number in range(TOOLS)]

    def run() -> list[Visit]:
        said = [
            " ".join(chance.choices(words, k=40)) + "\n\n" + " ".join(chance.choices(words, k=30)) for _ in range(5)
        ]
        at = chance.randrange(TOOLS)
        return [Visit(tools[(at + 7 * place + chance.randrange(20)) % TOOLS], text) for place, text in enumerate(said)]

    graph = ToolGraph()
    graph.describe({tool: f"{tool} {' '.join(chance.choices(words, k=12))}" for tool in tools})
    told("learn one run", [timed(partial(graph.learn, run(), now=0.0)) for _ in range(RUNS)])
    graph.suggest([], "hello")
    asked = [run() for _ in range(ASKED)]
    told("suggest", [timed(partial(graph.suggest, [run[0].tool], run[1].state)) for run in asked])
    graph.learn(run(), now=0.0)
    told("suggest, first after a run", [timed(lambda: graph.suggest([], "hello"))])


def timed(work: Callable[[], object]) -> float:
    begin = time.thread_time()
    work()
    return 1000 * (time.thread_time() - begin)


def told(what: str, times: Sequence[float]) -> None:
    print(f"{what}: p50 {np.quantile(times, 0.5):.2f} ms, p95 {np.quantile(times, 0.95):.2f} ms, n {len(times)}")


if __name__ == "__main__":
    speed()
    accuracy(Path(sys.argv[1]))
