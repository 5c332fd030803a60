"""Treasure: what each way to keep a small context is worth once it has learned, and which part of SUPO does it.

    python -m benchmarks.treasure strategies [--seeds 3] [--quick] [--plot treasure.png]
    python -m benchmarks.treasure parts [--seeds 3] [--quick]
    python -m benchmarks.treasure summaries [--seeds 3] [--quick]

The hunts, lessons and transformers are those of `examples/training/supo.py`; one JSON line an arm and seed.

"strategies": an answer has two symbols, of which the last counts, so that a policy can note a key as it speaks. That is what
MEM1, DeepMiner and discard-all live on: they hide what the rooms showed and keep what was said.
"parts": SUPO with one thing changed. Runs are cut off after eight turns in the lessons, so that the overlong mask has work.
"summaries": a policy that was taught with ten summaries at most walks hunts of 11 to 22 rooms with 10 to 21.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from examples.training import supo
from memctx.strategies import Strategy
from memctx.strategies.discard import DiscardAll
from memctx.strategies.internal_state import InternalState
from memctx.strategies.window import SlidingWindow
from memctx.train.acting import Actor, Stage
from memctx.train.advantages import Term
from memctx.train.algorithm import Algorithm
from memctx.train.envs.treasure import Hunt, Treasure
from memctx.train.losses import PolicyLoss
from memctx.train.rollouts import Turn
from memctx.train.schedules import Joint
from memctx.train.shapers import PotentialDiff
from memctx.train.trainer import TrainConfig, evaluate

WIDE = 8 * supo.WINDOW
TURNS = 8


@dataclass(frozen=True)
class Arm:
    """How its context is kept, how long it may be, and what it learns by. `tool` as in `Stage`."""

    strategies: Sequence[Strategy]
    window: int
    tool: str = "go"
    algorithm: Callable[[], Algorithm] = supo.algorithm
    tokens: int = 2
    turns: int = supo.ROOMS + 1

    def stage(self, rooms: int) -> Stage:
        made = supo.stage(self.strategies, self.window, rooms)
        return replace(made, tokens=self.tokens, tool=self.tool, turns=self.turns, probe=distance)


def distance(actor: Actor, turn: Turn) -> None:
    """MICA's potential: the share of the way that is left."""
    if isinstance(actor.state, Hunt):
        turn.probe["distance"] = 1 - actor.state.turn / len(actor.state.right)


def strategies() -> dict[str, Arm]:
    """Row 2. One that learns its own commands is one more line."""
    return {
        "supo": Arm(*supo.ARMS["supo"]),
        "mem1": Arm([InternalState(tag="")], WIDE, tool=""),
        "deepminer": Arm([SlidingWindow(W=2, S=1)], WIDE),
        "discard_all": Arm([DiscardAll(at=0.25)], WIDE),
        "truncate": Arm(*supo.ARMS["grpo_w"]),
        "everything": Arm(*supo.ARMS["grpo_8w"]),
    }


def parts() -> dict[str, Arm]:
    """Row 3."""
    made = supo.algorithm()
    potential = {"shapers": (PotentialDiff(),)}
    changes: dict[str, dict[str, Any]] = {
        "supo": {},
        "no overlong mask": {"loss": PolicyLoss(agg="response")},
        "baseline over turns": {"terms": (Term(horizon="togo"),)},
        "turn ratio": {"loss": PolicyLoss(ratio="turn", agg="response", overlong=True)},
        "segment ratio": {"loss": PolicyLoss(ratio="segment", agg="response", overlong=True)},
        "token mean": {"loss": PolicyLoss(overlong=True)},
        "one update": {"schedule": Joint()},
        "trloo": {"terms": (Term("sum", "togo", group="prompt+turn", baseline="loo", scale="none", singleton="raw"),)},
        "mica": {**potential, "terms": mica()},
    }
    return {
        name: Arm(*supo.ARMS["supo"], algorithm=partial(replace, made, **change), turns=TURNS)  # pyright: ignore[reportArgumentType]
        for name, change in changes.items()
    }


def mica() -> tuple[Term, ...]:
    """MICA's advantage: half the return by turn number, half the immediate reward."""
    gain = Term("sum", "immediate", scale="popstd", weight=0.5)
    return Term("sum", "togo", group="prompt+turn", scale="popstd", weight=0.5), gain


def compared(arms: dict[str, Arm], seeds: int, quick: bool) -> Iterator[dict[str, Any]]:
    """Each arm taught and tested; tests are never cut short."""
    for name, arm in arms.items():
        for seed in range(seeds):
            begin = time.process_time()
            policy = supo.learn(arm.stage, arm.algorithm(), seed, quick)
            test = replace(arm.stage(supo.ROOMS), turns=supo.ROOMS + 1)
            found = supo.success(policy, test)
            figures = {"success": found["task"], "tokens": found["tokens"], "peak": found["peak"]}
            yield {"arm": name, "seed": seed, **figures, "cpu_seconds": round(time.process_time() - begin)}


def summaries(seeds: int, quick: bool) -> Iterator[dict[str, Any]]:
    """SUPO on longer hunts than it was taught, by how many summaries it may write."""
    arm = Arm(*supo.ARMS["supo"], tokens=1)
    for seed in range(seeds):
        policy = supo.learn(arm.stage, arm.algorithm(), seed, quick)
        for rooms in (supo.ROOMS, 2 * supo.ROOMS):
            for most in (10, 13, 17, 21):
                env = Treasure(rooms=rooms, fewest=supo.ROOMS)
                won = evaluate(
                    policy, replace(arm.stage(rooms), env=env, turns=most + 2), TrainConfig(evaluate_tasks=100)
                )
                yield {"rooms": rooms, "seed": seed, "summaries": most, "success": won["task"]}


def draw(lines: Sequence[dict[str, Any]], file: Path) -> None:
    """Success and peak by arm: the mean, and the range over seeds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(line["arm"] for line in lines))
    _, both = plt.subplots(1, 2, figsize=(10, 4))
    for axes, figure in zip(both, ("success", "peak"), strict=True):
        values = [[line[figure] for line in lines if line["arm"] == name] for name in names]
        means = [fmean(each) for each in values]
        spread = [[m - min(v) for m, v in zip(means, values, strict=True)]]
        spread.append([max(v) - m for m, v in zip(means, values, strict=True)])
        axes.barh(names, means, xerr=spread)
        axes.set_xlabel(figure)
    plt.tight_layout()
    plt.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["strategies", "parts", "summaries"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--arms", nargs="*", help="only these")
    parser.add_argument("--plot", type=Path)
    wanted = parser.parse_args()
    logging.getLogger("memctx").setLevel(logging.ERROR)
    if wanted.what == "summaries":
        found = summaries(wanted.seeds, wanted.quick)
    else:
        arms = strategies() if wanted.what == "strategies" else parts()
        chosen = {name: arm for name, arm in arms.items() if not wanted.arms or name in wanted.arms}
        found = compared(chosen, wanted.seeds, wanted.quick)
    lines = []
    for line in found:
        lines.append(line)
        print(json.dumps(line), flush=True)
    if wanted.plot:
        draw(lines, wanted.plot)


if __name__ == "__main__":
    main()
