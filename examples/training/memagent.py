"""MemAgent: an agent learns to read a document chunk by chunk into a memory of one symbol, which each chunk overwrites.

    python examples/training/memagent.py [--quick] [--json]

A document of scribbles holds one key, and is longer than the window. "memagent" reads it with `ChunkedOverwrite`, which asks the
transformer itself; "window" has no strategy, and its view of the document is cut. Both are made from nothing, first copy a script
that names the key it sees in documents of one chunk, and are then trained on up to four by the preset of MemAgent. Printed is
the success on 200 documents that no lesson had, of four chunks ("_4"), and of sixteen ("_16"), before ("copied") and after: the
mean of three seeds, and the lowest and highest ("spread").
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import fmean
from typing import ClassVar

import torch
from torch import Tensor

from memctx import Pipeline
from memctx.component import Component
from memctx.strategies.chunked import ChunkedOverwrite
from memctx.train import presets
from memctx.train.acting import Stage
from memctx.train.batch import collate
from memctx.train.codec import Symbols
from memctx.train.counting import CodecCounter
from memctx.train.losses import logprobs
from memctx.train.models import Causal, Sampled, tiny
from memctx.train.regularisers import Entropy
from memctx.train.sampling import Group
from memctx.train.trainer import scores, train

KEYS, SCRIBBLES = "♠♥♦♣", "○●□■△▲"
CODEC = Symbols(KEYS + SCRIBBLES + "?")
CHUNK = 10  # symbols
WINDOW = 3 * CHUNK
TEST = range(20_000_000, 20_000_200)  # documents that nothing was chosen by
READER = ChunkedOverwrite(over=CHUNK // 2, chunk=CHUNK, memory=2, problem=1)


class Find(Component):
    """The first answer opens a document of `fewest` to `chunks` chunks; the second must be the one key in it."""

    chunks: int = 4
    fewest: int = 1
    players: ClassVar[int] = 1
    rules: ClassVar[str] = "Open the document, then name the key in it."

    def start(self, seed: int) -> Page:
        chance = Random(seed)
        text = chance.choices(SCRIBBLES, k=CHUNK * chance.randint(self.fewest, self.chunks) - 1)
        key, place = chance.choice(KEYS), chance.randint(0, len(text))
        return Page("".join([*text[:place], key, *text[place:]]), key)


@dataclass(frozen=True)
class Page:
    text: str
    key: str
    opened: bool = False
    rewards: tuple[float, ...] = ()
    player: int = 0
    actions: tuple[str, ...] = ()

    @property
    def observation(self) -> str:
        return self.text if self.opened else "?"

    def after(self, text: str) -> Page:
        return replace(self, rewards=(float(text == self.key),)) if self.opened else replace(self, opened=True)


@dataclass
class Script:
    """What is copied: the newest key in sight, or a scribble."""

    temperature: float = 1.0

    def logits(self, ids: Tensor, attend: Tensor) -> Tensor:
        raise NotImplementedError("a script has no weights")

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        return iter(())

    def sample(
        self, prompts: Sequence[Sequence[int]], *, tokens: int, stop: Collection[int], seeds: Sequence[int]
    ) -> list[Sampled]:
        seen = [[symbol for symbol in CODEC.text(prompt) if symbol in KEYS] for prompt in prompts]
        said = [keys[-1] if keys else Random(seed).choice(SCRIBBLES) for keys, seed in zip(seen, seeds, strict=True)]
        return [Sampled(CODEC.body(symbol), [0.0], [0.0]) for symbol in said]


def stage(arm: str, chunks: int, fewest: int = 1) -> Stage:
    """Every answer is one symbol."""
    pipeline = Pipeline(
        [READER] if arm == "memagent" else [], budget=WINDOW, edit_when="always", counter=CodecCounter(CODEC)
    )
    return Stage(Find(chunks=chunks, fewest=fewest), pipeline, CODEC, tokens=1, turns=2, tool="open", layout="per_turn")


def copied(arm: str, seed: int) -> Causal:
    """A policy that knows a little: sixty steps of likelihood on 256 scripted runs."""
    policy, chance = tiny(CODEC, width=32, layers=2, heads=4, context=256, seed=seed), Random(seed)
    runs = Group(1).collect(stage(arm, 1), Script(), range(256), seed)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    for _ in range(60):
        rows = collate(chance.sample(runs, 32), pad=policy.pad).rows
        logp = logprobs(policy.logits(rows.ids, rows.attend), rows.ids)
        optimizer.zero_grad()
        torch.autograd.backward(-logp[rows.mask].mean())
        optimizer.step()
    return policy


def success(policy: Causal, arm: str) -> dict[str, float]:
    """Share of unseen documents whose key is named, by how many chunks they have."""
    runs = {n: Group(1).collect(stage(arm, n, n), policy, TEST, 0) for n in (4, 16)}
    return {f"{arm}_{n}": scores(found)["task"] for n, found in runs.items()}


def learned(seed: int, steps: int) -> tuple[dict[str, float], dict[str, float]]:
    """Success of both arms as copied, and as trained."""
    algorithm = replace(presets.preset("memagent"), sampling=Group(8), kl=None, entropy=Entropy(0.01))
    before, after = dict[str, float](), dict[str, float]()
    for arm in ("memagent", "window"):
        policy = copied(arm, seed)
        before |= success(policy, arm)
        train(policy, stage(arm, 4), algorithm, steps=steps, tasks=8, lr=2e-3, seed=seed)
        after |= success(policy, arm)
    return before, after


def means(found: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: fmean(each[name] for each in found) for name in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed in place of three, a third of the steps")
    parser.add_argument("--json", action="store_true", help="only the last line, as JSON")
    wanted = parser.parse_args()
    logging.getLogger("memctx").setLevel(logging.ERROR)
    begin, before, after = time.time(), list[dict[str, float]](), list[dict[str, float]]()
    for seed in range(1 if wanted.quick else 3):
        copies, trained = learned(seed, 60 if wanted.quick else 180)
        before.append(copies)
        after.append(trained)
        if not wanted.json:
            print(f"seed {seed}: copied {copies}, trained {trained}")
    spread = {name: [min(each[name] for each in after), max(each[name] for each in after)] for name in after[0]}
    facts = {"copied": means(before), **means(after), "spread": spread, "window": WINDOW}
    print(json.dumps({**facts, "seconds": round(time.time() - begin, 1)}))


if __name__ == "__main__":
    main()
