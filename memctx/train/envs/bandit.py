"""Bandit: one pull of an arm. The smallest thing that can be learned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from pydantic import Field

from memctx.component import Component
from memctx.train.envs import action


class Bandit(Component):
    """Arm number i of `arms` pays 1 with probability `best` if it is the last one, else `other`; `turns` pulls, their mean."""

    arms: int = Field(default=4, ge=2, le=10)
    best: float = Field(default=1.0, ge=0, le=1)
    other: float = Field(default=0.0, ge=0, le=1)
    turns: int = Field(default=1, ge=1)
    players: ClassVar[int] = 1
    rules: ClassVar[str] = "Answer with the number of an arm."

    def start(self, seed: int) -> Pulls:
        return Pulls(self, seed)


@dataclass(frozen=True, slots=True)
class Pulls:
    """`paid`: what each pull so far has paid."""

    of: Bandit
    seed: int
    paid: tuple[float, ...] = ()
    player: int = 0

    @property
    def observation(self) -> str:
        return "arm?" if not self.paid else f"{self.paid[-1]:.0f}. arm?"

    @property
    def actions(self) -> tuple[str, ...]:
        return () if self.rewards else tuple(map(str, range(self.of.arms)))

    @property
    def rewards(self) -> tuple[float, ...]:
        return (sum(self.paid) / len(self.paid),) if len(self.paid) == self.of.turns else ()

    def after(self, text: str) -> Pulls:
        arm = action(text, self.actions)
        chance = self.of.best if arm == str(self.of.arms - 1) else self.of.other
        won = Random(f"{self.seed} {len(self.paid)} {arm}").random() < chance
        return replace(self, paid=(*self.paid, float(won and arm is not None)))
