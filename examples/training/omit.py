"""Agent-Omit: an agent learns to leave out, page by page, what it will not need.

    python examples/training/omit.py [--quick] [--json] [--out runs/omit]

Pages of scribbles go by, one of which shows a key; after the last the key is asked for. A transformer, made from nothing, first
copies a script that omits half of the pages without the key as it reads them. Then it is trained by the preset of Agent-Omit: a
fifth of the reward is for the text left out, paid where the task succeeded. Printed: success, share of the pages' text left
out, and mean largest context in tokens, of 200 books that no lesson had, before ("copied") and after ("trained").
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import fmean
from typing import ClassVar

import torch

from memctx import Pipeline
from memctx.component import Component
from memctx.formats.openai_chat import FORMAT
from memctx.messages import Transcript
from memctx.strategies.omit import Omit
from memctx.train import presets, serve
from memctx.train.acting import Actor, Stage
from memctx.train.batch import collate
from memctx.train.codec import Symbols
from memctx.train.counting import CodecCounter
from memctx.train.losses import logprobs
from memctx.train.models import Causal, Policy, Sampled, tiny
from memctx.train.rollouts import Turn
from memctx.train.sampling import Group, PartialRestart
from memctx.train.schedules import Joint
from memctx.train.trainer import HELD_OUT, train

KEYS, SCRIBBLES = "♠♥♦♣", "○●□■△▲"
CODEC = Symbols(KEYS + SCRIBBLES + "→?‹›123456789")
END = CODEC.tail()[0]
PAGES, SIZE = 5, 8
LESSONS = ((1, 60, 32), (PAGES, 150, 16))  # of the script: pages, steps, books a step
OMIT = Omit(tags=("‹", "›"), observations="user", number=False)  # a page says its own


class Book(Component):
    """Whatever is said turns the page; what is said after the last must be the key."""

    pages: int = PAGES
    players: ClassVar[int] = 1
    rules: ClassVar[str] = "One page shows a key. Remember it."

    def start(self, seed: int) -> Reading:
        chance = Random(seed)
        text = chance.choices(SCRIBBLES, k=SIZE * self.pages)
        text[chance.randrange(len(text))] = key = chance.choice(KEYS)
        return Reading("".join(text), key)


@dataclass(frozen=True)
class Reading:
    text: str
    key: str
    page: int = 0
    rewards: tuple[float, ...] = ()
    player: int = 0
    actions: tuple[str, ...] = ()

    @property
    def observation(self) -> str:
        if self.page == 0:
            return "→"
        text = self.text[(self.page - 1) * SIZE : self.page * SIZE]
        return f"{text}{self.page}" if text else "?"

    def after(self, text: str) -> Reading:
        if self.page * SIZE > len(self.text):
            return replace(self, rewards=(float(text == self.key),))
        return replace(self, page=self.page + 1)


class Script(Causal):
    """What is copied: by chance a tag with the number of a page just read that has no key, or "→"; at the end the key."""

    def sample(
        self, prompts: Sequence[Sequence[int]], *, tokens: int, stop: Collection[int], seeds: Sequence[int] | None
    ) -> list[Sampled]:
        said = [answer(CODEC.text(prompt), Random(seed)) for prompt, seed in zip(prompts, seeds or (), strict=True)]
        found = [[*CODEC.body(text), END] for text in said]
        return [Sampled(ids, [0.0] * len(ids), [0.0] * len(ids)) for ids in found]


def answer(seen: str, chance: Random) -> str:
    """`seen` ends with the newest page and its number, but for the first turn, which has none."""
    if "?" in seen:
        return next(symbol for symbol in seen if symbol in KEYS)
    may_go = seen[-1].isdigit() and not set(seen[-SIZE - 1 :]) & set(KEYS)
    return f"‹{seen[-1]}›" if may_go and chance.random() < 0.5 else "→"


def saved(actor: Actor, turn: Turn) -> None:
    """What share of all pages the turn leaves out: the preset's reward is made of it."""
    history = Transcript(FORMAT, lambda message: 0)
    history.sync(actor.messages[: -1 if actor.over else -2])
    read = sum(len(message.text) for message in history.messages)
    turn.probe["saved"] = OMIT.saved(history, turn.text) * read / (PAGES * (SIZE + 1))


def stage(pages: int = PAGES) -> Stage:
    """An answer is a tag of three symbols and the end, or less."""
    pipeline = Pipeline([OMIT], budget=10_000, edit_when="always", counter=CodecCounter(CODEC))
    return Stage(Book(pages=pages), pipeline, CODEC, tokens=4, turns=PAGES + 2, probe=saved)


def copied(policy: Causal, seed: int) -> None:
    """Teach `policy` what the script says: first to name the key of one page, then all.

    As long as it cannot name a key, the ends, which are easily told, would keep it from learning to.
    """
    optimizer, chance = torch.optim.AdamW(policy.parameters(), lr=3e-3), Random(seed)
    for pages, steps, batch in LESSONS:
        runs = Group(1).collect(stage(pages), Script(policy.model, policy.pad), range(512), seed)
        for _ in range(steps):
            taught = collate(chance.sample(runs, batch), pad=policy.pad)
            rows, key = taught.rows, taught.table.last[taught.rows.turn] & (taught.rows.ids != END)
            logp = logprobs(policy.logits(rows.ids, rows.attend), rows.ids)
            mask = rows.mask & key if pages == 1 else rows.mask
            optimizer.zero_grad()
            torch.autograd.backward(-logp[mask].mean())
            optimizer.step()


def measured(policy: Policy) -> dict[str, float]:
    runs = Group(1).collect(stage(), policy, range(HELD_OUT, HELD_OUT + 200), HELD_OUT)
    left_out = fmean(sum(turn.probe["saved"] for turn in run.turns) for run in runs)
    peak = fmean(max(len(segment.ids) for segment in run.segments) for run in runs)
    return {"success": fmean(run.outcome["task"] for run in runs), "left_out": round(left_out, 3), "peak": round(peak)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a third of the steps")
    parser.add_argument("--json", action="store_true", help="only the last line, as JSON")
    parser.add_argument("--out", type=Path, help="a folder for the trained policy")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    begin = time.time()
    policy = tiny(CODEC, width=64, layers=2, heads=4, context=256, seed=wanted.seed)
    copied(policy, wanted.seed)
    before = measured(policy)
    if not wanted.json:
        print(f"copied: {before}")
    steps = 30 if wanted.quick else 90
    algorithm = replace(presets.preset("agent_omit"), sampling=PartialRestart(6, 4), schedule=Joint(minibatches=4))
    train(policy, stage(), algorithm, steps=steps, tasks=6, lr=1e-3, seed=wanted.seed, evaluate_tasks=1)
    if wanted.out is not None:
        serve.save(policy, stage(), wanted.out)
    print(json.dumps({"copied": before, "trained": measured(policy), "seconds": round(time.time() - begin, 1)}))


if __name__ == "__main__":
    main()
