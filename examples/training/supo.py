"""SUPO: an agent that learns to write its own summaries walks a hunt of eight times its window.

    python examples/training/supo.py [--quick] [--json] [--out runs/supo]

Three transformers, made from nothing and alike, take the same lessons, shorter hunts first. "supo" has a window of 32 tokens
and `Summarize`, which asks the transformer itself; "grpo_w" has that window and loses its oldest turns; "grpo_8w" sees all.
What opens the chest at the end was shown in the first room, so "grpo_w" can only guess one key of four.
Success is of 200 hunts of eleven rooms that no lesson had, answers drawn as in training.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from memctx import Pipeline
from memctx.strategies import Strategy
from memctx.strategies.summarize import Summarize
from memctx.strategies.truncate import Truncate
from memctx.train import presets, serve
from memctx.train.acting import Stage
from memctx.train.algorithm import Algorithm
from memctx.train.codec import Symbols
from memctx.train.counting import CodecCounter
from memctx.train.envs.treasure import ALPHABET, Treasure
from memctx.train.learner import Facts
from memctx.train.losses import PolicyLoss
from memctx.train.models import Causal, tiny
from memctx.train.regularisers import Entropy
from memctx.train.sampling import Group
from memctx.train.schedules import Joint
from memctx.train.trainer import TrainConfig, evaluate, train

WINDOW = 32
ROOMS = 11  # so many make eight windows
CODEC = Symbols(ALPHABET)
OLDEST_LEAVE = Truncate(high=1.0, low=1.0, keep=1)
ARMS: dict[str, tuple[list[Strategy], int]] = {
    "supo": ([Summarize(at=1.0, keep=1, min_tokens=1, min_words=1, sections=("key?",)), OLDEST_LEAVE], WINDOW),
    "grpo_w": ([OLDEST_LEAVE], WINDOW),
    "grpo_8w": ([], 8 * WINDOW),
}
LESSONS = ((4, 90, 32), (ROOMS, 40, 16))  # most rooms, steps, tasks a step


def stage(strategies: Sequence[Strategy], window: int, rooms: int = ROOMS) -> Stage:
    """Hunts of at most `rooms` rooms; each answer is one symbol. `window` counts the very symbols that the policy sees."""
    pipeline = Pipeline(strategies, budget=window, edit_when="always", counter=CodecCounter(CODEC))
    return Stage(Treasure(rooms=rooms, short=0.4, way=0.5), pipeline, CODEC, tokens=1, turns=ROOMS + 1, tool="go")


def algorithm() -> Algorithm:
    """SUPO, which is GRPO where no context is rewritten; a short hunt weighs as much as a long one."""
    loss = PolicyLoss(overlong=True, agg="response")
    return replace(
        presets.preset("supo"),
        loss=loss,
        sampling=Group(4),
        entropy=Entropy(0.05),
        schedule=Joint(minibatches=4),
    )


def learn(stage_of: Callable[[int], Stage], algorithm: Algorithm, seed: int, quick: bool) -> Causal:
    """The policy after its lessons; each is twice as long where there is time. `stage_of` (most rooms)."""
    policy = tiny(CODEC, width=64, layers=2, heads=4, context=512, seed=seed)
    for number, (rooms, steps, tasks) in enumerate(LESSONS):
        pace: dict[str, Any] = {"steps": steps if quick else 2 * steps, "tasks": tasks, "lr": 3e-3}
        last = number == len(LESSONS) - 1
        train(policy, stage_of(rooms), algorithm, seed=10 * seed + number, decay=last, **pace)
    return policy


def success(policy: Causal, stage: Stage, rooms: int = ROOMS) -> Facts:
    """Figures of 200 unseen hunts of exactly so many rooms."""
    return evaluate(policy, replace(stage, env=Treasure(rooms=rooms, fewest=rooms)), TrainConfig(evaluate_tasks=200))


def run(arm: str, seed: int, quick: bool, out: Path | None) -> float:
    logging.getLogger("memctx").setLevel(logging.ERROR)  # a beginner's summaries are refused again and again
    policy = learn(partial(stage, *ARMS[arm]), algorithm(), seed, quick)
    if out is not None:
        serve.save(policy, stage(*ARMS[arm]), out / f"{arm}-{seed}")
    return success(policy, stage(*ARMS[arm]))["task"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, half of the steps: under five minutes")
    parser.add_argument("--json", action="store_true", help="only the last line, as JSON")
    parser.add_argument("--out", type=Path, help="a folder for the trained policies")
    wanted = parser.parse_args()
    begin = time.time()
    jobs = [(arm, seed) for seed in range(1 if wanted.quick else 3) for arm in ARMS]
    with ProcessPoolExecutor(2) as pool:
        held = [pool.submit(run, arm, seed, wanted.quick, wanted.out) for arm, seed in jobs]
        found = [each.result() for each in held]
    scores = {arm: fmean(x for (name, _), x in zip(jobs, found, strict=True) if name == arm) for arm in ARMS}
    if not wanted.json:
        for (arm, seed), value in zip(jobs, found, strict=True):
            print(f"{arm:8} seed {seed}: {value:.0%} of the hunts")
    print(json.dumps({**scores, "window": WINDOW, "seconds": round(time.time() - begin, 1)}))


if __name__ == "__main__":
    main()
