"""Schedules: in which order the updates of one batch of rollouts run. Each is driven with a `Learner`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Literal, Protocol

import torch

from memctx.train.advantages import advantages, times
from memctx.train.losses import span_sums, spread

if TYPE_CHECKING:
    from memctx.train.learner import Facts, Learner, Ready
    from memctx.train.rollouts import Rollout


class Schedule(Protocol):
    """One way to run the updates."""

    def run(self, learner: Learner, rollouts: Sequence[Rollout]) -> Facts:
        """Update the policy, and the critic where there is one. Returns figures."""
        ...


@dataclass(frozen=True, slots=True)
class Joint:
    """`epochs` over the batch in `minibatches` parts; a rollout is never torn apart between two."""

    epochs: int = 1
    minibatches: int = 1

    def run(self, learner: Learner, rollouts: Sequence[Rollout]) -> Facts:
        ready = learner.ready(rollouts)
        facts: Facts = {}
        for epoch in range(self.epochs):
            order = list(range(len(ready.rollouts)))  # filters may have dropped some
            Random(f"{learner.steps} {epoch}").shuffle(order)
            for part in range(min(self.minibatches, len(order))):
                facts = learner.update(ready, torch.tensor(order[part :: self.minibatches]))
        return facts


@dataclass(frozen=True, slots=True)
class ByTurn:
    """SeeUPO (2602.06554): one update a turn number, from the last to the first, each with the weights the later ones left.

    A rollout's advantage is multiplied by M, which starts at 1 and takes in how much each update made its turn likelier:
    M <- clip(M * clip(exp(mean change of log-prob), 1 - c, 1 + c), 1 - c, 1 + c). M goes with the rollout, not with its rows.
    """

    order: Literal["reverse", "forward"] = "reverse"
    clip: float = 0.2

    def run(self, learner: Learner, rollouts: Sequence[Rollout]) -> Facts:
        ready = learner.ready(rollouts)
        table = ready.batch.table
        factor = torch.ones(table.rollouts, dtype=torch.float64)
        trained = ready.batch.rows.turn[ready.batch.rows.mask]
        numbers = torch.unique(table.t[trained]).tolist()
        facts: Facts = {}
        for t in reversed(numbers) if self.order == "reverse" else numbers:
            part = _only(ready, t)
            batch = part.batch
            old = learner.logp(batch.rows)
            by_turn = advantages(table, learner.algorithm.terms, (*learner.algorithm.post, times(factor)))
            advantage = spread(batch.rows, by_turn)
            facts = learner.update(replace(part, batch=batch.with_old(old), advantage=advantage), None)
            gap = (learner.logp(batch.rows) - old).clamp(-10, 10).double()
            change = span_sums(gap, batch.rows, table, "rollout")
            count = span_sums(torch.ones_like(gap), batch.rows, table, "rollout").clamp_min(1)
            low, high = 1 - self.clip, 1 + self.clip
            factor = (factor * (change / count).exp().clamp(low, high)).clamp(low, high)
        return facts


def _only(ready: Ready, t: int) -> Ready:
    """The rows in which a turn of number `t` is trained, and nothing trained but that."""
    rows, table = ready.batch.rows, ready.batch.table
    mine = rows.mask & (table.t[rows.turn.clamp_min(0)] == t)
    index = mine.any(1).nonzero()[:, 0]
    taken = replace(rows, turn=torch.where(mine, rows.turn, -1)).take(index)
    reference = None if ready.reference is None else ready.reference[index][:, : taken.ids.shape[1]]
    return replace(ready, batch=replace(ready.batch, rows=taken), reference=reference)


@dataclass(frozen=True, slots=True)
class CriticThenActor:
    """ArCHer (2402.19446): `critic_epochs` on the critic, then `actor_epochs` on the policy, not in the first `warmup` batches.

    In each of its epochs the critic also sees as many rollouts of the last `keep` before, which teach its Q alone.
    """

    warmup: int = 20
    critic_epochs: int = 50
    actor_epochs: int = 3
    keep: int = 10_000
    past: deque[Rollout] = field(default_factory=deque)

    def run(self, learner: Learner, rollouts: Sequence[Rollout]) -> Facts:
        ready = learner.ready(rollouts)
        chance = Random(learner.rounds)
        facts: Facts = {}
        for _ in range(self.critic_epochs):
            if self.past:
                old = chance.sample(self.past, min(len(rollouts), len(self.past)))
                learner.fit_critic(learner.replayed(old))
            facts = learner.fit_critic(ready)
            ready = learner.revalued(ready)
        self.restore([*self.past, *rollouts])
        for _ in range(self.actor_epochs if learner.rounds > self.warmup else 0):
            facts |= learner.update(ready, None)
        return facts

    def held(self) -> list[Rollout]:
        """What is kept, the oldest first: for a checkpoint."""
        return list(self.past)

    def restore(self, rollouts: Sequence[Rollout]) -> None:
        """Go on with what `held` gave."""
        self.past.clear()
        self.past.extend(rollouts[-self.keep :] if self.keep else ())


@dataclass(frozen=True, slots=True)
class Iterative:
    """`epochs` over the batch; then what was learned becomes the reference of the next. M-DPO, REFUEL, RISE."""

    epochs: int = 1
    moving: bool = True

    def run(self, learner: Learner, rollouts: Sequence[Rollout]) -> Facts:
        ready = learner.ready(rollouts)
        facts: Facts = {}
        for _ in range(self.epochs):
            facts = learner.update(ready, None)
        if self.moving:
            learner.move_reference()
        return facts
