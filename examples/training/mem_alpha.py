"""Mem-α: a writer that sees each chunk of a stream once learns what to keep for a reader that sees the memory alone.

    python examples/training/mem_alpha.py [--quick] [--json] [--out runs/mem_alpha]

A transformer made from nothing is trained on streams of 16 chunks at most and tested on 50 unseen ones of 128. Statements come
as marks, and it answers each with one: insert as fact or event, update, or skip. The reader of all arms is the same frozen code,
which ranks by BM25. "recency" gives it the newest raw chunks that fit into as many words as the writer may keep; "bm25" as many
words of raw chunks drawn at random from all of the stream; "bm25_all" all raw chunks, some twenty times as many words.

It is easier than Mem-α: a mark tells what a statement is, a change included; what is kept is copied, not worded; updates find
the item they are about; and each item is paid for as it is written, where the paper's judge counts for a tenth.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

from memctx import Pipeline
from memctx.strategies.internal_state import InternalState
from memctx.train import presets, serve
from memctx.train.acting import Stage
from memctx.train.advantages import Term
from memctx.train.algorithm import Algorithm
from memctx.train.codec import Symbols
from memctx.train.counting import CodecCounter
from memctx.train.envs.stream import Stream, measure
from memctx.train.memory_shapers import Compression, Probed
from memctx.train.models import Causal, tiny
from memctx.train.regularisers import Entropy
from memctx.train.sampling import Group
from memctx.train.schedules import Joint
from memctx.train.shapers import Outcome
from memctx.train.trainer import scores, train

CODEC = Symbols("ABCDEF=>@?~|+!-")
TRAIN_CHUNKS, TEST_CHUNKS = 16, 128
TEST = range(20_000_000, 20_000_050)  # streams that nothing was chosen by


class Lesson(NamedTuple):
    """`noise`: what an item that is no good costs; one that is good pays 1, and all right answers at the end pay 1."""

    chunks: int
    facts: int
    events: int
    noise: float
    entropy: float
    steps: int
    tasks: int
    lr: float


LESSONS = (
    Lesson(chunks=8, facts=2, events=1, noise=0.0, entropy=0.2, steps=30, tasks=8, lr=5e-3),
    Lesson(chunks=TRAIN_CHUNKS, facts=4, events=2, noise=0.3, entropy=0.1, steps=25, tasks=4, lr=3e-3),
    Lesson(chunks=TRAIN_CHUNKS, facts=4, events=2, noise=0.3, entropy=0.01, steps=25, tasks=4, lr=1e-3),
)


def world(chunks: int, facts: int = 4, events: int = 2) -> Stream:
    """The room is for one statement, as long as they come, of each fact and event."""
    return Stream(chunks=chunks, each=1, facts=facts, events=events, room=11 * facts + 6 * events, form="symbols")


def stage(env: Stream) -> Stage:
    """Each prompt holds the rules, the last answer, what memory has and the new chunk."""
    pipeline = Pipeline([InternalState(tag="")], edit_when="always", counter=CodecCounter(CODEC))
    return Stage(env, pipeline, CODEC, tokens=1, turns=env.chunks + 1, layout="per_turn", probe=measure)


def algorithm(noise: float, entropy: float) -> Algorithm:
    """Mem-α's, with each turn compared with others at the same chunk, and without r2: it pays for calls on noise too."""
    shared = (Compression(), Outcome("task", on="all"), Outcome("compression", on="all"))
    return replace(
        presets.preset("mem_alpha"),
        shapers=(*shared, Probed("content"), Probed("noise", -noise)),
        terms=(Term("turns", "immediate", group="prompt+turn"),),
        kl=None,
        entropy=Entropy(entropy),
        sampling=Group(8),
        schedule=Joint(minibatches=4),
    )


def learn(seed: int) -> Causal:
    policy = tiny(CODEC, width=32, layers=2, heads=4, context=128, seed=seed)
    for number, lesson in enumerate(LESSONS):
        env, way = world(lesson.chunks, lesson.facts, lesson.events), algorithm(lesson.noise, lesson.entropy)
        pace: dict[str, Any] = {"steps": lesson.steps, "tasks": lesson.tasks, "lr": lesson.lr, "evaluate_tasks": 1}
        train(policy, stage(env), way, seed=10 * seed + number, **pace)
    return policy


def recency(env: Stream, seed: int) -> list[str]:
    return env.fitting(seed, reversed(range(env.chunks)))


def bm25(env: Stream, seed: int) -> list[str]:
    return env.fitting(seed, Random(seed).sample(range(env.chunks), env.chunks))


RAW: dict[str, Callable[[Stream, int], list[str]]] = {"recency": recency, "bm25": bm25, "bm25_all": Stream.raw}


def success(policy: Causal, chunks: int) -> float:
    return scores(Group(1).collect(stage(world(chunks)), policy, TEST, 0))["task"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed in place of three")
    parser.add_argument("--json", action="store_true", help="only the last line, as JSON")
    parser.add_argument("--out", type=Path, help="a folder for the trained writers")
    wanted = parser.parse_args()
    begin, short, long = time.time(), list[float](), list[float]()
    for seed in range(1 if wanted.quick else 3):
        policy = learn(seed)
        if wanted.out is not None:
            serve.save(policy, stage(world(TEST_CHUNKS)), wanted.out / f"writer-{seed}")
        short.append(success(policy, TRAIN_CHUNKS))
        long.append(success(policy, TEST_CHUNKS))
        if not wanted.json:
            print(
                f"seed {seed}: {short[-1]:.0%} of the answers after {TRAIN_CHUNKS} chunks, {long[-1]:.0%} after {TEST_CHUNKS}"
            )
    env = world(TEST_CHUNKS)
    raw = {name: fmean(env.read(seed, keep(env, seed)) for seed in TEST) for name, keep in RAW.items()}
    arms = {"trained": fmean(long), "spread": [min(long), max(long)], "trained_short": fmean(short), **raw}
    sizes = {"train_chunks": TRAIN_CHUNKS, "test_chunks": TEST_CHUNKS, "room": env.room}
    print(json.dumps({**arms, **sizes, "seconds": round(time.time() - begin, 1)}))


if __name__ == "__main__":
    main()
