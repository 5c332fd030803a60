"""Policies without weights, environments without an end, and runs of both in which what acted must be what trains."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, ClassVar

import torch

from memctx.pipeline import Pipeline
from memctx.train.acting import Stage, play
from memctx.train.codec import Bytes, Codec
from memctx.train.models import Sampled
from memctx.train.rollouts import Rollout

CODEC = Bytes()


@dataclass
class Says:
    """A policy: `say` (text of the prompt, draw) -> what it says, cut where it may say no more. `shown`: every prompt, in ids."""

    say: Callable[[str, Random], str]
    codec: Codec = CODEC
    temperature: float = 1.0
    shown: list[tuple[int, ...]] = field(default_factory=list)

    def logits(self, ids: torch.Tensor, attend: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        return iter(())

    def sample(
        self, prompts: Sequence[Sequence[int]], *, tokens: int, stop: Collection[int], seeds: Sequence[int]
    ) -> list[Sampled]:
        self.shown += map(tuple, prompts)
        words = [self.say(self.codec.text(prompt), Random(seed)) for prompt, seed in zip(prompts, seeds, strict=True)]
        answers = [[*self.codec.body(said), *self.codec.tail()[:1]][:tokens] for said in words]
        return [Sampled(ids, [-1.0] * len(ids), [1.0] * len(ids)) for ids in answers]


def babble(prompt: str, chance: Random, words: int = 4) -> str:
    """For `Says`: words at random, whatever was shown."""
    return " ".join(chance.choice(["order", "id-17", "total 30", "<state>x</state>"]) for _ in range(words))


@dataclass(frozen=True)
class Endless:
    """An environment, and any position of it: turn t of task n shows `page(n, t)`, whatever is said, and there is no end."""

    players: ClassVar[int] = 1
    rules: ClassVar[str] = "Read the pages."
    page: Callable[[int, int], str]
    task: int = 0
    turn: int = 0
    player: int = 0
    actions: tuple[str, ...] = ()
    rewards: tuple[float, ...] = ()

    @property
    def observation(self) -> str:
        return self.page(self.task, self.turn)

    def start(self, seed: int) -> Endless:
        return replace(self, task=seed)

    def after(self, text: str) -> Endless:
        return replace(self, turn=self.turn + 1)


def listing(task: int, turn: int) -> str:
    """For `Endless`: long, and different in each turn of each task."""
    chance = Random(f"{task} {turn}")
    rows = [{"id": f"row-{chance.randrange(999)}", "note": "word " * chance.randrange(30)} for _ in range(6)]
    return json.dumps(rows)


def numbered(task: int, turn: int) -> str:
    """For `Endless`: says its number."""
    return f"This is page {turn}. " + "Nothing much stands here. " * 8


def played(strategy: Any, policy: Says, *, runs: int = 1, turns: int = 8, tool: str = "look") -> list[Rollout]:
    """Runs of one task under a strategy whose every edit is accepted, each checked: what acted is what trains."""
    pipeline = Pipeline([strategy], budget=20_000, edit_when="always")
    stage = Stage(Endless(numbered), pipeline, CODEC, tokens=200, turns=turns, tool=tool)
    actors = [stage.actor(0, number, number + 1) for number in range(runs)]
    play(actors, policy)
    rollouts = [actor.finish() for actor in actors]
    for rollout in rollouts:
        rollout.check()
        contexts = [context(rollout, turn.t) for turn in rollout.turns]
        assert len(contexts) >= turns
        assert set(contexts) <= set(policy.shown), "trained on a context that the policy never saw"
    recorded = {context(rollout, turn.t) for rollout in rollouts for turn in rollout.turns}
    assert recorded == set(policy.shown), "the policy saw a context that nothing was recorded for"
    return rollouts


def context(rollout: Rollout, number: int) -> tuple[int, ...]:
    """The ids before a turn, as they are trained on."""
    turn = rollout.turns[number]
    segment = rollout.segments[turn.segment]
    return (*segment.prompt.tolist(), *segment.response[: turn.span[0]].tolist())
