"""Memory-guided exploration: a tool graph of earlier successes leads the first rollouts, and the final policy needs none.

Two ways, to be used alone or together; neither needs a model. The suggestion line of `next_tool` stands in a share of the
rollouts that falls to nothing (`Guidance`), and a transition that worked before earns a little more where the rollout
succeeded (`TransitionBonus`, a shaper). After §7 of H-EPM (arXiv 2512.07287), whose formula is not known: the forms are ours.

    guidance, bonus = Guidance(start=0.5, steps=200), TransitionBonus.of(graph, eta=0.1)
    line = guidance.line(graph, path, step=step, rollout=rollout.id)          # "" for a rollout that goes alone
    bonus([rollout])                                                          # turn.reward["graph"]
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Self

from memctx.errors import ConfigError
from memctx.graphs._pairs import pairs
from memctx.graphs.tool_graph import START, ToolGraph
from memctx.strategies.next_tool import line
from memctx.train.rollouts import Rollout

Shares = Mapping[tuple[str, str], float]  # (u, v) -> w_uv / the sum over w of all that leaves u


@dataclass(frozen=True, slots=True)
class Guidance:
    """Which rollouts see suggestions: the share `start` at training step 0, falling evenly to exactly 0 at `steps` and after.

    Which they are depends on `seed`, step and rollout alone: a resumed training draws the same.
    """

    start: float = 0.5
    steps: int = 1_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.start <= 1 or self.steps < 1:
            text = f"start = {self.start!r}, steps = {self.steps!r}: give a share of 0 to 1, and at least one step"
            raise ConfigError(text, field="start")

    def share(self, step: int) -> float:
        """The share of rollouts that are guided at a training step."""
        return self.start * max(0.0, 1 - max(0, step) / self.steps)

    def guided(self, step: int, rollout: str) -> bool:
        """Whether this rollout is: a draw that is the same each time, with the chance `share(step)`."""
        drawn = blake2b(f"{self.seed}/{step}/{rollout}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn) / 2**64 < self.share(step)

    def line(
        self,
        graph: ToolGraph,
        path: Sequence[str],
        state: str = "",
        *,
        step: int,
        rollout: str,
        available: Collection[str] | None = None,
        k: int = 2,
    ) -> str:
        """What to show the policy before its next call, as `next_tool` would; "" for nothing."""
        if not self.guided(step, rollout):
            return ""
        found = graph.suggest(path, state, available=available, k=k)
        return line(found) if found else ""


def shares(graph: ToolGraph) -> Shares:
    """The weight of each transition as a share of all that leaves its tool."""
    return {(pair.u, pair.v): pair.share for pair in pairs(graph)}


def bonuses(shares: Shares, path: Sequence[str], *, eta: float, success: bool) -> list[float]:
    """For each call of a finished rollout, eta * log(1 + share of the transition that led to it); zeros where it failed."""
    if not success:
        return [0.0] * len(path)
    return [eta * math.log1p(shares.get(step, 0.0)) for step in pairwise([START, *path])]


@dataclass(frozen=True, slots=True)
class TransitionBonus:
    """A shaper: each turn's `reward["graph"]` is the sum of the bonuses of its calls, 0 where `outcome[name]` is below `least`.

    It reads the graph as it was when `of` was called: learn from a batch after it was rewarded, not before.
    """

    shares: Shares
    eta: float = 0.1
    name: str = "task"
    least: float = 0.5

    @classmethod
    def of(cls, graph: ToolGraph, *, eta: float = 0.1, name: str = "task") -> Self:
        """The bonus by this graph, with its own measure of success."""
        return cls(shares(graph), eta, name, graph.success)

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            path = [str(call.get("name", "")) for turn in rollout.turns for call in turn.calls]
            success = rollout.outcome.get(self.name, 0.0) >= self.least
            earned = iter(bonuses(self.shares, path, eta=self.eta, success=success))
            for turn in rollout.turns:
                turn.reward["graph"] = sum((next(earned) for _ in turn.calls), 0.0)
