"""Try again: any task, begun anew while the answer is wrong. UFO's unary feedback (2507.14295)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from pydantic import Field

from memctx.component import Component, load
from memctx.train.envs import Env, State


class TryAgain(Component):
    """At most `attempts` at the `task`, an environment by name or as its dump; `text` is what a wrong answer hears.

    The reward is the last attempt's; `shapers.TurnDecay` makes late ones worth less.
    """

    task: str | dict[str, Any] = "bandit"
    attempts: int = Field(default=5, ge=1)
    text: str = "Incorrect. Think again."
    players: ClassVar[int] = 1
    rules: ClassVar[str] = "Solve the task. If you are told that an answer is wrong, give another one."

    def start(self, seed: int) -> Attempt:
        env: Env = load("train.envs", self.task if isinstance(self.task, dict) else {"use": self.task})
        return Attempt(self, env, seed, env.start(seed), f"{env.rules}\n")


@dataclass(frozen=True, slots=True)
class Attempt:
    """`inner`: the task's position; `before`: what is said ahead of its observation; `failed` attempts so far."""

    of: TryAgain
    env: Env
    seed: int
    inner: State
    before: str
    failed: int = 0
    player: int = 0

    @property
    def observation(self) -> str:
        return self.before + self.inner.observation

    @property
    def actions(self) -> tuple[str, ...]:
        return self.inner.actions

    @property
    def rewards(self) -> tuple[float, ...]:
        return self.inner.rewards

    def after(self, text: str) -> Attempt:
        inner = self.inner.after(text)
        if not inner.rewards or inner.rewards[0] > 0 or self.failed + 1 == self.of.attempts:
            return replace(self, inner=inner, before="")
        again = self.env.start(self.seed)
        return replace(self, inner=again, before=f"{self.of.text}\n", failed=self.failed + 1)
