"""Mem-α: a writer that sees each chunk of a stream once learns what to keep for a reader that sees the memory alone.

    python examples/training/mem_alpha.py [--quick] [--json] [--out runs/mem_alpha]

A transformer made from nothing is trained on streams of 16 chunks at most and tested on unseen ones of 128. It answers each chunk
with one mark: insert as fact or event, update, or skip. "recency" keeps the newest raw chunks that fit into as many words as
the writer may keep; "bm25" keeps all raw chunks, some sixteen times as many words, and has the reader search them. The reader is
the same frozen code for all three.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from memctx import Pipeline
from memctx.strategies.internal_state import InternalState
from memctx.train import presets, serve
from memctx.train.acting import Stage
from memctx.train.advantages import Term
from memctx.train.algorithm import Algorithm
from memctx.train.codec import Symbols
from memctx.train.envs.stream import Stream, measure
from memctx.train.memory_shapers import Compression, Probed
from memctx.train.models import Causal, tiny
from memctx.train.regularisers import Entropy
from memctx.train.sampling import Group
from memctx.train.schedules import Joint
from memctx.train.shapers import Outcome
from memctx.train.trainer import HELD_OUT, TrainConfig, evaluate, train

CODEC = Symbols("ABCDEF=>@?~|+!-")
TRAIN, TEST, TASKS = 16, 128, 100  # chunks, chunks, unseen streams


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
    Lesson(chunks=TRAIN, facts=4, events=2, noise=0.3, entropy=0.1, steps=25, tasks=4, lr=3e-3),
    Lesson(chunks=TRAIN, facts=4, events=2, noise=0.3, entropy=0.01, steps=25, tasks=4, lr=1e-3),
)


def world(chunks: int, facts: int = 4, events: int = 2) -> Stream:
    return Stream(chunks=chunks, each=1, facts=facts, events=events, room=56, form="symbols")


def stage(env: Stream) -> Stage:
    """Each prompt holds the rules, the last answer, what memory has and the new chunk."""
    pipeline = Pipeline([InternalState(tag="")], edit_when="always")
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
        pace: dict[str, Any] = {"steps": lesson.steps, "tasks": lesson.tasks, "lr": lesson.lr}
        train(policy, stage(env), way, seed=10 * seed + number, **pace)
    return policy


def newest(env: Stream, seed: int) -> list[str]:
    """The newest raw chunks that fit into the writer's room."""
    texts, left = list[str](), env.room
    for text in reversed(env.raw(seed)):
        left -= len(text.split())
        if left < 0:
            break
        texts.insert(0, text)
    return texts


def read(keep: Callable[[Stream, int], list[str]], chunks: int) -> float:
    """Mean share of right answers where `keep` chooses the texts."""
    env = world(chunks)
    return fmean(env.read(seed, keep(env, seed)) for seed in range(HELD_OUT, HELD_OUT + TASKS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed in place of three")
    parser.add_argument("--json", action="store_true", help="only the last line, as JSON")
    parser.add_argument("--out", type=Path, help="a folder for the trained writers")
    wanted = parser.parse_args()
    begin, found = time.time(), []
    for seed in range(1 if wanted.quick else 3):
        policy = learn(seed)
        if wanted.out is not None:
            serve.save(policy, stage(world(TEST)), wanted.out / f"writer-{seed}")
        scores = [
            evaluate(policy, stage(world(chunks)), TrainConfig(evaluate_tasks=TASKS))["task"]
            for chunks in (TRAIN, TEST)
        ]
        found.append(scores)
        if not wanted.json:
            print(f"seed {seed}: {scores[0]:.0%} of the answers after {TRAIN} chunks, {scores[1]:.0%} after {TEST}")
    arms = {"trained": fmean(long for _, long in found), "trained_short": fmean(short for short, _ in found)}
    arms |= {"recency": read(newest, TEST), "bm25": read(Stream.raw, TEST)}
    sizes = {"train_chunks": TRAIN, "test_chunks": TEST}
    print(json.dumps({**arms, **sizes, "seconds": round(time.time() - begin, 1)}))


if __name__ == "__main__":
    main()
