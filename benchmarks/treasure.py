"""Treasure: what each way to keep a small context is worth once it has learned, and which part of SUPO does it.

    python -m benchmarks.treasure strategies [--seeds 0 1 2] [--jobs 2] [--plot treasure.png]
    python -m benchmarks.treasure parts [--seeds 0 1 2] [--jobs 2]
    python -m benchmarks.treasure summaries [--seeds 0]

The hunts, lessons and transformers are those of `examples/training/supo.py`; one JSON line an arm and seed, then a table.

"strategies": an answer has two symbols, of which the last counts, so that a policy can note a key as it speaks. That is what
MEM1, DeepMiner and discard-all live on: they hide what the rooms showed and keep what was said. A command of fold or omit is
three symbols and more, which a policy made from nothing hardly comes upon: their papers begin by copying.
"parts": SUPO with one thing changed. Runs are cut off after ten turns in the lessons, so that the overlong mask has work.
An answer is one symbol there, so a turn's ratio is its token's.
"summaries": a policy that was taught with ten summaries at most walks hunts of 1 to 22 rooms with as many as it is allowed.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from examples.training import supo
from memctx.strategies import Strategy
from memctx.strategies.discard import DiscardAll
from memctx.strategies.fold import Fold
from memctx.strategies.internal_state import InternalState
from memctx.strategies.omit import Omit
from memctx.strategies.window import SlidingWindow
from memctx.train.acting import Actor, Stage
from memctx.train.advantages import Term
from memctx.train.algorithm import Algorithm
from memctx.train.codec import Symbols
from memctx.train.draws import mixed
from memctx.train.envs.treasure import ALPHABET, Hunt, Treasure
from memctx.train.losses import PolicyLoss, logprobs
from memctx.train.models import Policy
from memctx.train.rollouts import Rollout, Turn
from memctx.train.sampling import Group
from memctx.train.schedules import Joint
from memctx.train.shapers import InfoGainGold, PotentialDiff, answers
from memctx.train.trainer import scores

WIDE = 8 * supo.WINDOW
TURNS = 10
NUMBERED = Symbols(ALPHABET + "‹›0123456789")  # omit names turns by number


@dataclass(frozen=True)
class Arm:
    """How its context is kept, how long it may be, and what it learns by. `tool`, `tokens`, `turns` as in `Stage`."""

    strategies: Sequence[Strategy]
    window: int
    tool: str = "go"
    algorithm: Algorithm = field(default_factory=supo.algorithm)
    tokens: int = 2
    turns: int = supo.ROOMS + 1
    codec: Symbols = supo.CODEC

    def stage(self) -> Stage:
        made = supo.stage(self.strategies, self.window, self.codec)
        return replace(made, tokens=self.tokens, tool=self.tool, turns=self.turns, probe=distance)


def distance(actor: Actor, turn: Turn) -> None:
    """MICA's potential: the share of the way that is left."""
    if isinstance(actor.state, Hunt):
        turn.probe["distance"] = 1 - actor.state.turn / len(actor.state.right)


@dataclass(frozen=True, slots=True)
class Believed:
    """A group whose turns have probe["gold"]: the log-prob of the right key, were the chest to ask for it next."""

    n: int = 8

    def collect(self, stage: Stage, policy: Policy, tasks: Sequence[int], seed: int, version: int = 0) -> list[Rollout]:
        found = Group(self.n).collect(stage, policy, tasks, seed, version)
        codec = stage.codec
        question = [*codec.head("tool"), *codec.body("?"), *codec.tail(), *codec.head("assistant")]
        turns, rows = list[Turn](), list[list[int]]()
        for each in found:
            gold = codec.body(stage.env.start(int(each.group)).right[-1])  # type: ignore[attr-defined]
            for turn in answers(each):
                segment = each.segments[turn.segment]
                seen = [*segment.prompt.tolist(), *segment.response[: turn.span[1]].tolist()]
                closed = [] if seen[-1] in codec.stop else codec.tail()
                turns.append(turn)
                rows.append([*seen, *closed, *question, *gold])
        width = max(map(len, rows))
        ids = torch.tensor([[codec.tail()[0]] * (width - len(row)) + row for row in rows])
        attend = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        with torch.no_grad():
            for turn, gold in zip(turns, logprobs(policy.logits(ids, attend), ids)[:, -1].tolist(), strict=True):
                turn.probe["gold"] = gold
        return found


def strategies() -> dict[str, Arm]:
    """Ways to keep the context. Where the window is eight times as wide, it is the strategy that keeps the context small."""
    return {
        "supo": Arm(*supo.ARMS["supo"]),
        "mem1": Arm([InternalState(tag="")], WIDE, tool=""),
        "deepminer": Arm([SlidingWindow(W=2, S=1)], WIDE),
        "discard_all": Arm([DiscardAll(at=0.25)], WIDE),
        "fold": Arm([Fold(tags=("○", "●"), observations="user", number=False)], WIDE, tool="", tokens=4),
        "omit": Arm([Omit(tags=("‹", "›"), observations="user")], WIDE, tool="", tokens=5, codec=NUMBERED),
        "truncate": Arm(*supo.ARMS["grpo_w"]),
        "everything": Arm(*supo.ARMS["grpo_8w"]),
    }


def parts() -> dict[str, Arm]:
    """SUPO, and SUPO with one slot changed. "grpo" is one optimiser step a batch and no mask."""
    by_turn = Term("sum", "togo", group="prompt+turn", baseline="loo", scale="none", singleton="raw")
    gain = Term("sum", "immediate", scale="popstd", weight=0.5)
    togo = Term("sum", "togo", group="prompt+turn", scale="popstd", weight=0.5)
    belief = Term("sum", "togo", order="norm_then_return")
    changes: dict[str, dict[str, Any]] = {
        "supo": {},
        "no overlong mask": {"loss": PolicyLoss()},
        "baseline over segments": {"terms": (Term(group="batch"),)},
        "turn ratio": {"loss": PolicyLoss(ratio="turn", overlong=True)},
        "segment ratio": {"loss": PolicyLoss(ratio="segment", overlong=True)},
        "one update": {"schedule": Joint()},
        "grpo": {"loss": PolicyLoss(), "schedule": Joint()},
        "trloo": {"terms": (by_turn,)},
        "mica": {"shapers": (PotentialDiff(),), "terms": (togo, gain)},
        "igpo": {"sampling": Believed(), "shapers": (InfoGainGold(),), "terms": (belief,)},
    }
    made = partial(Arm, *supo.ARMS["supo"], tokens=1, turns=TURNS)
    return {name: made(algorithm=replace(supo.algorithm(), **change)) for name, change in changes.items()}


TABLES: dict[str, Callable[[], dict[str, Arm]]] = {"strategies": strategies, "parts": parts}


def compared(table: str, name: str, seed: int) -> dict[str, Any]:
    """One arm taught and tested; tests are never cut short."""
    torch.set_num_threads(1)
    logging.getLogger("memctx").setLevel(logging.ERROR)  # a beginner's summaries are refused again and again
    arm, begin = TABLES[table]()[name], time.process_time()
    policy = supo.learn(arm.stage(), arm.algorithm, seed)
    found = supo.success(policy, replace(arm.stage(), turns=supo.ROOMS + 1))
    figures = {"success": found["task"], "tokens": found["tokens"], "peak": found["peak"]}
    return {"arm": name, "seed": seed, **figures, "cpu_seconds": round(time.process_time() - begin)}


def run_all(table: str, names: Sequence[str], seeds: Sequence[int], jobs: int) -> Iterator[dict[str, Any]]:
    """A line as soon as it and those before it are done."""
    chosen, numbers = zip(*product(names, seeds), strict=True)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(partial(compared, table), chosen, numbers)


def summaries(seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Hunts of 1 to 22 rooms by how many summaries the policy may write; `possible`: the share that so many are enough for."""
    torch.set_num_threads(1)
    logging.getLogger("memctx").setLevel(logging.ERROR)
    arm, env = Arm(*supo.ARMS["supo"], tokens=1), Treasure(rooms=2 * supo.ROOMS)
    tasks = range(supo.TEST, supo.TEST + 200)
    for seed in seeds:
        policy = supo.learn(arm.stage(), arm.algorithm, seed)
        for most in (4, 7, 10, 14, 21):
            allowed = replace(arm.stage(), env=env, turns=most + 2)
            won = scores(Group(1).collect(allowed, policy, tasks, mixed(supo.TEST, seed)))["task"]
            possible = fmean(len(env.start(task).texts) <= most + 2 for task in tasks)
            yield {"seed": seed, "summaries": most, "success": won, "possible": possible}


def summed_up(lines: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A row an arm: the mean over seeds, and the lowest and highest."""
    for name in dict.fromkeys(line["arm"] for line in lines):
        cells = []
        for figure in ("success", "tokens", "peak"):
            values = [line[figure] for line in lines if line["arm"] == name]
            cells.append(f"{fmean(values):8.2f} ({min(values):.2f}-{max(values):.2f})")
        yield f"{name:24}" + " ".join(f"{cell:24}" for cell in cells)


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
    parser.add_argument("what", choices=[*TABLES, "summaries"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--arms", nargs="*", help="only these")
    parser.add_argument("--plot", type=Path)
    wanted = parser.parse_args()
    if wanted.what == "summaries":
        for line in summaries(wanted.seeds):
            print(json.dumps(line), flush=True)
        return
    names = [name for name in TABLES[wanted.what]() if not wanted.arms or name in wanted.arms]
    lines = []
    for line in run_all(wanted.what, names, wanted.seeds, wanted.jobs):
        lines.append(line)
        print(json.dumps(line), flush=True)
    print(f"{'arm':27}{'success':25}{'tokens':25}peak: mean over seeds (lowest-highest)")
    print("\n".join(summed_up(lines)))
    if wanted.plot:
        draw(lines, wanted.plot)


if __name__ == "__main__":
    main()
