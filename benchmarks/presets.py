"""Does every preset learn? Two pulls of a bandit with four arms; the success rate before and after, seed by seed.

python -m benchmarks.presets
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace

from memctx import Pipeline
from memctx.train import presets
from memctx.train.acting import Actor, Stage
from memctx.train.codec import Symbols
from memctx.train.envs.bandit import Bandit
from memctx.train.models import tiny
from memctx.train.rollouts import Turn
from memctx.train.schedules import CriticThenActor
from memctx.train.trainer import train

STEPS = 20
SLOW = ("archer", "ppo", "turn_ppo", "s_ppo", "st_ppo")  # one rollout a task, or a critic to fit first


def probes(actor: Actor, turn: Turn) -> None:
    """What the shapers of all presets look at."""
    paid = actor.state.paid[-1]  # type: ignore[attr-defined]  # a bandit's state
    turn.probe |= {"distance": 1 - paid, "gold": 0.0, "with": 0.0, "without": 0.0, "features": {"any": 1.0}}
    turn.calls = [{"name": "pull", "arguments": {"arm": turn.text}, "ok": True}]


def learned(name: str, seed: int) -> tuple[float, float]:
    """Success rate over the first two and the last three steps."""
    algorithm, codec = presets.preset(name), Symbols("0123?")
    if name == "archer":  # its own schedule is for weeks of dialogue, not for two pulls
        algorithm = replace(algorithm, schedule=CriticThenActor(5, 5, 1))
    stage = Stage(Bandit(turns=2), Pipeline(), codec, tokens=1, turns=2, layout=algorithm.layout, probe=probes)
    policy = tiny(codec, width=32, layers=1, context=64, seed=seed)
    steps, tasks = (2 * STEPS, 16) if name in SLOW else (STEPS, 4)
    history = train(policy, stage, algorithm, steps=steps, tasks=tasks, lr=1e-2, critic_lr=1e-2, seed=seed * 100)
    first, last = (sum(facts["task"] for facts in part) / len(part) for part in (history[:2], history[-3:]))
    return first, last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("names", nargs="*", default=presets.names())
    wanted = parser.parse_args()
    bad = 0
    for name in wanted.names:
        found = [learned(name, seed) for seed in range(wanted.seeds)]
        bad += sum(last <= first for first, last in found)
        print(json.dumps({"preset": name, "first": [a for a, _ in found], "last": [b for _, b in found]}), flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
