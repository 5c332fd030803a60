"""Runs of a made-up policy, for tests that what acted is what trains: it says what a function of the prompt's text says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, ClassVar

import torch

from memctx.component import Component
from memctx.pipeline import Pipeline
from memctx.train.acting import Stage, play
from memctx.train.codec import Bytes
from memctx.train.models import Sampled
from memctx.train.rollouts import Rollout

CODEC = Bytes()


@dataclass
class Says:
    """`say` (text of the prompt, draw) -> what it says. `shown`: every prompt, in ids."""

    say: Callable[[str, Random], str]
    temperature: float = 1.0
    shown: list[tuple[int, ...]] = field(default_factory=list)

    def logits(self, ids: torch.Tensor, attend: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        return iter(())

    def sample(
        self, prompts: Sequence[Sequence[int]], *, tokens: int, stop: Collection[int], seeds: Sequence[int]
    ) -> list[Sampled]:
        found = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            self.shown.append(tuple(prompt))
            said = self.say(CODEC.text(prompt), Random(seed)).encode()
            ids = [*said[: tokens - 1], next(iter(stop))]
            found.append(Sampled(ids, [-1.0] * len(ids), [1.0] * len(ids)))
        return found


class Pages(Component):
    """A player reads page after page: the page says its number."""

    players: ClassVar[int] = 1
    rules: ClassVar[str] = "Read the pages."

    def start(self, seed: int) -> Page:
        return Page()


@dataclass(frozen=True)
class Page:
    turn: int = 0
    player: int = 0
    actions: tuple[str, ...] = ()
    rewards: tuple[float, ...] = ()

    @property
    def observation(self) -> str:
        return f"This is page {self.turn}. " + "Nothing much stands here. " * 8

    def after(self, text: str) -> Page:
        return replace(self, turn=self.turn + 1)


def played(strategy: Any, policy: Says, *, runs: int = 1, turns: int = 8, tool: str = "look") -> list[Rollout]:
    """Runs of one task under a strategy whose every edit is accepted, each checked: what acted is what trains."""
    pipeline = Pipeline([strategy], budget=20_000, edit_when="always")
    stage = Stage(Pages(), pipeline, CODEC, tokens=200, turns=turns, tool=tool)
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
