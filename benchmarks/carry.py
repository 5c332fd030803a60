"""Carry: a key must survive a rewrite of the context. Credit across segments against one truncated sequence a rollout.

    python -m benchmarks.carry [--seeds 3] [--plot carry.png]

Both arms sample alike, with the pipeline of `internal_state`, and have the same transformer, made from nothing, and the same
number of steps. "segments" trains every segment (SUPO's shape). "truncated" trains one sequence a rollout, the last context,
as a trainer does that keeps a window of the whole run: the note is then never trained where it was written. Half of the
training tasks show the key again with the question, which teaches to read; success is of those that do not.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memctx import Pipeline
from memctx.strategies.internal_state import InternalState
from memctx.train.acting import Stage
from memctx.train.advantages import Term
from memctx.train.algorithm import Algorithm
from memctx.train.codec import Symbols
from memctx.train.envs.carry import Carry
from memctx.train.learner import Facts
from memctx.train.models import Policy, tiny
from memctx.train.regularisers import Entropy
from memctx.train.rollouts import Rollout
from memctx.train.sampling import Group
from memctx.train.trainer import train

KEYS = 4
EVERY = 20


@dataclass(frozen=True, slots=True)
class Truncated:
    """The last segment of each rollout is all that is left to train on."""

    def collect(self, stage: Stage, policy: Policy, tasks: Sequence[int], seed: int, version: int = 0) -> list[Rollout]:
        found = Group(1).collect(stage, policy, tasks, seed, version)
        for each in found:
            last = len(each.segments) - 1
            each.turns = [turn for turn in each.turns if turn.segment == last]
        return found


def stage(codec: Symbols, reminded: float) -> Stage:
    pipeline = Pipeline([InternalState(tag="")], edit_when="always")
    return Stage(Carry(keys=KEYS, reminded=reminded), pipeline, codec, tokens=1, turns=3)


def curve(arm: str, seed: int, steps: int) -> list[Facts]:
    """Success on unseen tasks every twenty steps."""
    codec = Symbols("0123?")
    algorithm = Algorithm(
        sampling=Group(1) if arm == "segments" else Truncated(),
        terms=(Term(group="batch"),),
        entropy=Entropy(0.01),
    )
    policy = tiny(codec, width=32, layers=2, heads=4, context=128, seed=seed)
    pace: dict[str, Any] = {"steps": steps, "tasks": 64, "lr": 4e-3, "decay": True, "seed": seed * 1000}
    test: dict[str, Any] = {"test_stage": stage(codec, 0.0), "evaluate_every": EVERY, "evaluate_tasks": 100}
    history = train(policy, stage(codec, 0.5), algorithm, **pace, **test)
    return [facts for facts in history if "test_task" in facts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--plot", type=Path)
    wanted = parser.parse_args()
    curves: dict[str, list[list[Facts]]] = {"segments": [], "truncated": []}
    for arm, runs in curves.items():
        for seed in range(wanted.seeds):
            begin, cpu = time.time(), time.process_time()
            runs.append(curve(arm, seed, wanted.steps))
            line = {"arm": arm, "seed": seed, "success": runs[-1][-1]["test_task"], "chance": 1 / KEYS}
            clock = {"seconds": round(time.time() - begin), "cpu_seconds": round(time.process_time() - cpu)}
            print(json.dumps({**line, **clock}), flush=True)
    if wanted.plot:
        draw(curves, wanted.plot)


def draw(curves: dict[str, list[list[Facts]]], file: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    for arm, runs in curves.items():
        for number, run in enumerate(runs):
            steps, success = [f["step"] for f in run], [f["test_task"] for f in run]
            plt.plot(steps, success, label=arm if not number else None, color="C0" if arm == "segments" else "C1")
    plt.axhline(1 / KEYS, linestyle=":", color="grey", label="chance")
    plt.xlabel("step")
    plt.ylabel("success on unseen tasks")
    plt.legend()
    plt.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
