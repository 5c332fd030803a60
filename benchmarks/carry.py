"""Carry: a key must survive a rewrite of the context. Credit across segments against one truncated sequence a rollout.

    python -m benchmarks.carry [--seeds 0 100 200] [--keys 2] [--plot carry.png]

Three arms, with the same transformer, made from nothing, the same tasks and the same number of steps:

- "segments": the player's last words stay (`internal_state`), and every segment is trained with the reward of its rollout.
- "window": one sequence a rollout, truncated to the newest message. The key is out of sight when it is asked for.
- "last": acts as "segments" does, but only the last context is trained, which is all that a single sequence can hold. What it
  learns there, to say the key that it sees, is by luck the right thing to note as well; nothing makes sure of it.

Half of the training tasks show the key again with the question, which teaches to read. Success is of tasks that do not, none of
which was ever trained on. Of three keys, two end up as one note from about one seed in three, and the answer to it is a guess:
no gradient parts them again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from memctx import Pipeline
from memctx.strategies.internal_state import InternalState
from memctx.strategies.truncate import Truncate
from memctx.train.acting import Stage
from memctx.train.advantages import Term
from memctx.train.algorithm import Algorithm
from memctx.train.codec import Codec, Symbols
from memctx.train.envs.carry import KEYS, Carry
from memctx.train.models import Causal, Policy, tiny
from memctx.train.regularisers import Entropy
from memctx.train.rollouts import Rollout
from memctx.train.sampling import Group
from memctx.train.trainer import TrainConfig, evaluate, train

ARMS = ("segments", "window", "last")
STEPS, EVERY = 250, 25
KEPT = Pipeline([InternalState(tag="")], edit_when="always")
WINDOW = Pipeline([Truncate(high=1e-4, low=1e-4, keep=1)], edit_when="always")  # a share that any message is above


@dataclass(frozen=True, slots=True)
class Run:
    """One arm with one seed: (step, success on unseen tasks) along the way, success at the end, and what it took."""

    arm: str
    seed: int
    curve: list[tuple[int, float]]
    success: float
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class LastContext:
    """The last segment of each rollout is all that is left to train on."""

    def collect(self, stage: Stage, policy: Policy, tasks: Sequence[int], seed: int, version: int = 0) -> list[Rollout]:
        found = Group(1).collect(stage, policy, tasks, seed, version)
        for each in found:
            last = len(each.segments) - 1
            each.turns = [turn for turn in each.turns if turn.segment == last]
        return found


def stage(arm: str, keys: int, reminded: float = 0.0) -> Stage:
    """Where an arm acts."""
    pipeline = WINDOW if arm == "window" else KEPT
    codec = Symbols(KEYS[:keys] + "?")
    return Stage(Carry(keys=keys, reminded=reminded), pipeline, codec, tokens=1, turns=3)


def small(codec: Codec, seed: int) -> Causal:
    """Two layers of width 32. Large models' deviation of 0.02 is all but zero in it, and learns half as fast."""
    policy = tiny(codec, width=32, context=64, seed=seed)
    with torch.no_grad():
        for each in policy.model.model.layers.parameters():
            if each.dim() == 2:
                each.mul_(32**-0.5 / 0.02)
    return policy


def run(arm: str, seed: int, steps: int, keys: int) -> Run:
    """Train one arm."""
    torch.set_num_threads(1)
    begin, cpu = time.time(), time.process_time()
    algorithm = Algorithm(
        sampling=Group(1) if arm == "segments" else LastContext(),
        terms=(Term(group="batch"),),
        entropy=Entropy(0.03),
    )
    test = stage(arm, keys)
    policy = small(test.codec, seed)
    settings: dict[str, Any] = {
        "steps": steps,
        "tasks": 128,
        "lr": 4e-3,
        "decay": True,
        "seed": seed,
        "evaluate_every": EVERY,
    }
    history = train(policy, stage(arm, keys, 0.5), algorithm, test_stage=test, **settings)
    curve = [(int(facts["step"]), facts["test_task"]) for facts in history if "test_task" in facts]
    success = evaluate(policy, test, TrainConfig(evaluate_tasks=400))["task"]
    return Run(arm, seed, curve, success, time.time() - begin, time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--keys", type=int, default=2)
    parser.add_argument("--plot", type=Path)
    wanted = parser.parse_args()
    arms, seeds = zip(*product(ARMS, wanted.seeds), strict=True)
    job = partial(run, steps=wanted.steps, keys=wanted.keys)
    runs = []
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for each in pool.map(job, arms, seeds):
            runs.append(each)
            line = {"arm": each.arm, "seed": each.seed, "success": each.success, "chance": round(1 / wanted.keys, 3)}
            clock = {"seconds": round(each.seconds), "cpu_seconds": round(each.cpu_seconds)}
            print(json.dumps({**line, **clock}), flush=True)
    if wanted.plot:
        draw(runs, 1 / wanted.keys, wanted.plot)


def draw(runs: Sequence[Run], chance: float, file: Path) -> None:
    """A line a run, a colour an arm."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    for number, each in enumerate(runs):
        first = each.arm not in [earlier.arm for earlier in runs[:number]]
        plt.plot(*zip(*each.curve, strict=True), color=f"C{ARMS.index(each.arm)}", label=each.arm if first else None)
    plt.axhline(chance, linestyle=":", color="grey", label="chance")
    plt.xlabel("step")
    plt.ylabel("success on unseen tasks")
    plt.legend()
    plt.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
