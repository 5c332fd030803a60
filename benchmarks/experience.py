"""By how much retrieval at every step beats the other ways, with intervals: `memctx bench experience`, its steps drawn again.

    python benchmarks/experience.py --train ../shared/data --test ../shared/data [--against none,task] [--json]

The gain in hit@3 of `step` over each of the others on the same steps; the interval holds 95 % of 2,000 bootstrap samples. Whole
tasks are drawn, because the steps of a run, and the runs of a task, go together.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from memctx._bench._experience_methods import Experiences
from memctx._bench._experience_runs import KINDS, Story
from memctx._bench.experience import outcomes, sides

OURS, SAMPLES = "step", 2_000


@dataclass(frozen=True, slots=True)
class Gain:
    """`step` less `against` in points of hit@3, on `n` steps of `tasks` tasks."""

    dataset: str
    against: str
    points: float
    low: float
    high: float
    n: int
    tasks: int


def gains(train: Path, test: Path, others: Sequence[str]) -> Iterator[Gain]:
    for kind in KINDS:
        known, asked = sides(train, test, kind)
        if not known or not asked:
            continue
        with closing(Experiences(known)) as kept:
            ours = list(outcomes(OURS, kept, asked))
            for name in others:
                yield gain(kind.name, name, asked, ours, list(outcomes(name, kept, asked)))


def gain(
    dataset: str, against: str, asked: Sequence[Story], ours: Sequence[Sequence[bool]], theirs: Sequence[Sequence[bool]]
) -> Gain:
    """The difference, and its interval from samples of tasks."""
    of_task: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for story, mine, other in zip(asked, ours, theirs, strict=True):
        of_task[story.task][0] += sum(mine) - sum(other)
        of_task[story.task][1] += len(mine)
    table = np.array(list(of_task.values()))
    drawn = table[np.random.default_rng(0).integers(len(table), size=(SAMPLES, len(table)))].sum(axis=1)
    low, high = np.percentile(100 * drawn[:, 0] / drawn[:, 1], [2.5, 97.5])
    better, steps = table.sum(axis=0).tolist()
    low, high = round(float(low), 1), round(float(high), 1)
    return Gain(dataset, against, round(100 * better / steps, 1), low, high, steps, len(table))


def main(given: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="folder laid out as the public slice")
    parser.add_argument("--test", type=Path, required=True, help="another, or the same: split inside by task")
    parser.add_argument("--against", default="none,task", help="comma list of methods")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    args = parser.parse_args(given)
    for found in gains(args.train, args.test, args.against.split(",")):
        row = asdict(found)
        line = "{dataset:15} step - {against:12} {points:+6.1f} [{low:+.1f}, {high:+.1f}]  n {n}, {tasks} tasks".format(
            **row
        )
        print(json.dumps(row) if args.json else line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
