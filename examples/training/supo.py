"""SUPO: an agent that learns to write its own summaries walks a hunt of eight times its window.

    python examples/training/supo.py [--quick] [--json] [--out runs/supo]

Three transformers, made from nothing and alike, take the same lessons, easier hunts first. "supo" has a window of 32 tokens
and `Summarize`, which asks the transformer itself; "grpo_w" has that window and loses its oldest turns; "grpo_8w" sees all.
What opens the chest at the end was shown in the first room, so "grpo_w" can only guess one key of four.
Success is of 200 hunts of eleven rooms that no lesson had, answers drawn as in training. The lessons were chosen with other
training seeds (100 and up) and other hunts than those that are reported.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch

from memctx import Pipeline
from memctx.strategies import Strategy
from memctx.strategies.summarize import Summarize
from memctx.strategies.truncate import Truncate
from memctx.train import presets, serve
from memctx.train.acting import Stage
from memctx.train.algorithm import Algorithm
from memctx.train.codec import Codec, Symbols
from memctx.train.counting import CodecCounter
from memctx.train.envs.treasure import ALPHABET, Treasure
from memctx.train.learner import Facts
from memctx.train.models import Causal, tiny
from memctx.train.regularisers import Entropy
from memctx.train.sampling import Group
from memctx.train.schedules import Joint
from memctx.train.trainer import HELD_OUT, scores, train

WINDOW = 32
ROOMS = 11  # so many make eight windows
CODEC = Symbols(ALPHABET)
OLDEST_LEAVE = Truncate(high=1.0, low=1.0, keep=1)
ARMS: dict[str, tuple[list[Strategy], int]] = {
    "grpo_8w": ([], 8 * WINDOW),
    "supo": ([Summarize(at=1.0, keep=1, min_tokens=1, min_words=1, sections=("key?",)), OLDEST_LEAVE], WINDOW),
    "grpo_w": ([OLDEST_LEAVE], WINDOW),
}
TEST = 2 * HELD_OUT  # the first hunt that success is of; those from HELD_OUT on served to choose the lessons


@dataclass(frozen=True, slots=True)
class Lesson:
    """Hunts of 1 to `rooms` rooms with `noise` scribbles each, so many `tasks` a step. `lr` falls to 0; `entropy`: its bonus."""

    rooms: int
    noise: int
    steps: int
    tasks: int
    lr: float
    entropy: float


LESSONS = (
    Lesson(1, 4, 35, 16, 3e-3, 0.1),
    Lesson(3, 8, 55, 16, 2e-3, 0.1),
    Lesson(3, 14, 30, 16, 2e-3, 0.05),
    Lesson(6, 14, 25, 16, 2e-3, 0.02),
    Lesson(ROOMS, 14, 36, 8, 1e-3, 0.0),
)


def stage(strategies: Sequence[Strategy], window: int, codec: Symbols = CODEC) -> Stage:
    """Whole hunts; each answer is one symbol. `window` counts the very symbols that the policy sees."""
    pipeline = Pipeline(strategies, budget=window, edit_when="always", counter=CodecCounter(codec))
    return Stage(Treasure(rooms=ROOMS), pipeline, codec, tokens=1, turns=ROOMS + 1, tool="go")


def algorithm() -> Algorithm:
    """SUPO, which is GRPO where no context is rewritten; eight optimiser steps a batch."""
    return replace(presets.preset("supo"), sampling=Group(8), schedule=Joint(epochs=2, minibatches=4))


def beginner(codec: Codec, seed: int) -> Causal:
    """Two layers of width 64. The deviation of 0.02 that suits large models is all but zero here; ours is 1 / sqrt(inputs)."""
    policy = tiny(codec, width=64, layers=2, heads=4, context=512, seed=seed)
    with torch.no_grad():
        for each in policy.model.parameters():
            if each.dim() == 2:
                each.mul_(each.shape[1] ** -0.5 / 0.02)
    return policy


def learn(stage: Stage, algorithm: Algorithm, seed: int) -> Causal:
    """The policy after its lessons, which stand in for the hunts of `stage`."""
    policy = beginner(stage.codec, seed)
    for number, lesson in enumerate(LESSONS):
        train(
            policy,
            replace(stage, env=Treasure(rooms=lesson.rooms, noise=lesson.noise, way=0.5)),
            replace(algorithm, entropy=Entropy(lesson.entropy)),
            steps=lesson.steps,
            tasks=lesson.tasks,
            lr=lesson.lr,
            decay=True,
            seed=10 * seed + number,
            evaluate_tasks=1,
        )
    return policy


def success(policy: Causal, stage: Stage, rooms: int = ROOMS, hunts: int = 200) -> Facts:
    """Figures of unseen hunts of exactly so many rooms."""
    whole = replace(stage, env=Treasure(rooms=rooms, fewest=rooms))
    return scores(Group(1).collect(whole, policy, range(TEST, TEST + hunts), TEST))


def run(arm: str, seed: int, out: Path | None) -> float:
    """Teach and test one arm."""
    torch.set_num_threads(1)
    logging.getLogger("memctx").setLevel(logging.ERROR)  # a beginner's summaries are refused again and again
    acting = stage(*ARMS[arm])
    policy = learn(acting, algorithm(), seed)
    if out is not None:
        serve.save(policy, acting, out / f"{arm}-{seed}")
    return success(policy, acting)["task"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="one seed: under five minutes")
    parser.add_argument("--json", action="store_true", help="only the last line, as JSON")
    parser.add_argument("--out", type=Path, help="a folder for the trained policies")
    wanted = parser.parse_args()
    begin = time.time()
    jobs = [(arm, seed) for seed in wanted.seeds[: 1 if wanted.quick else None] for arm in ARMS]
    with ProcessPoolExecutor(2) as pool:
        held = [pool.submit(run, arm, seed, wanted.out) for arm, seed in jobs]
        found = [each.result() for each in held]
    means = {arm: fmean(x for (name, _), x in zip(jobs, found, strict=True) if name == arm) for arm in ARMS}
    if not wanted.json:
        for (arm, seed), value in zip(jobs, found, strict=True):
            print(f"{arm:8} seed {seed}: {value:.0%} of the hunts")
    print(json.dumps({**means, "window": WINDOW, "seconds": round(time.time() - begin, 1)}))


if __name__ == "__main__":
    main()
