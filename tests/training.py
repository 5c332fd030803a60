"""For the tests of training: rollouts made up, of a few tokens; a policy that parrots; a talk without an end."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, ClassVar

import numpy as np

from memctx.component import Component
from memctx.train.rollouts import Recorder, Rollout

VOCABULARY = 9


def rollout(
    number: int,
    *,
    group: str = "task",
    turns: int = 3,
    rewrite: Sequence[int] = (),
    tokens: int = 4,
    outcome: float | None = None,
    rewards: Sequence[float] = (),
    seed: int = 0,
    **facts: object,
) -> Rollout:
    """One of `turns` turns of `tokens` sampled ids; before each turn in `rewrite` the context is written anew."""
    rng = np.random.default_rng([seed, number])
    recorder = Recorder(f"{group}-{number}", group)
    held = rng.integers(0, VOCABULARY, 3).tolist()
    for t in range(turns):
        if t in rewrite:
            held = rng.integers(0, VOCABULARY, 4).tolist()
        sampled = rng.integers(0, VOCABULARY, tokens).tolist()
        turn = recorder.turn(held, sampled, [-2.0] * tokens, **facts)  # type: ignore[arg-type]  # facts of a turn
        if rewards:
            turn.reward["step"] = rewards[t]
        held = held + sampled + rng.integers(0, VOCABULARY, 2).tolist()
    return recorder.finish({} if outcome is None else {"task": outcome})


@dataclass
class Parrot:
    """A policy that says seeded bytes, and remembers what it was shown."""

    temperature: float = 1.0
    shown: list[list[int]] | None = None
    words: int = 4

    def logits(self, ids: Any, attend: Any) -> Any:
        raise NotImplementedError

    def parameters(self) -> Iterator[Any]:
        return iter(())

    def sample(
        self, prompts: Sequence[Sequence[int]], *, tokens: int, stop: Collection[int], seeds: Sequence[int]
    ) -> list[Any]:
        from memctx.train.models import Sampled

        found = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            if self.shown is not None:
                self.shown.append(list(prompt))
            chance = Random(seed)
            words = " ".join(
                chance.choice(["order", "id-17", "total 30", "<state>x</state>"]) for _ in range(self.words)
            )
            ids = [*words.encode()[: tokens - 1], next(iter(stop))]
            found.append(Sampled(ids, [-1.0] * len(ids), [1.0] * len(ids)))
        return found


class Talk(Component):
    """Long, seeded observations without an end."""

    players: ClassVar[int] = 1
    rules: ClassVar[str] = "Look things up."

    def start(self, seed: int) -> Said:
        return Said(seed)


@dataclass(frozen=True)
class Said:
    seed: int
    turn: int = 0
    player: int = 0
    actions: tuple[str, ...] = ()
    rewards: tuple[float, ...] = ()

    @property
    def observation(self) -> str:
        chance = Random(f"{self.seed} {self.turn}")
        rows = [{"id": f"row-{chance.randrange(999)}", "note": "word " * chance.randrange(30)} for _ in range(6)]
        return json.dumps(rows)

    def after(self, text: str) -> Said:
        return replace(self, turn=self.turn + 1)
