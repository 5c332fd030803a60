"""The learner: rollouts in, one optimiser step at a time out. It holds the weights that change; schedules say when.

A batch is worked off in parts of at most `tokens` tokens; what each token counts is settled for the whole batch before, so the
parts add up to the same gradient whatever their size.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from memctx.errors import ConfigError
from memctx.train.advantages import advantages, by_role
from memctx.train.algorithm import Algorithm, PairLoss, WeightedNLL
from memctx.train.batch import Batch, Rows, collate
from memctx.train.losses import PolicyLoss, entropies, logprobs, mdpo, mkto, refuel, span_sums, spread, weighted_nll
from memctx.train.models import Causal
from memctx.train.rollouts import Rollout
from memctx.train.sampling import total
from memctx.train.values import HEADS, Estimate, ValueModel, estimate

Facts = dict[str, float]


@dataclass(frozen=True, slots=True)
class Ready:
    """A batch with its advantages (B, L), the reference's log-probs where they are asked for, and the critic's estimate."""

    batch: Batch
    advantage: Tensor
    reference: Tensor | None
    critic: Estimate | None
    rollouts: Sequence[Rollout]


class Learner:
    """`lr`, `critic_lr`: of AdamW. `norm`: gradients are cut to it. `tokens`: the most worked off at once."""

    def __init__(
        self,
        policy: Causal,
        algorithm: Algorithm,
        *,
        lr: float = 1e-5,
        critic_lr: float | None = None,
        norm: float = 1.0,
        tokens: int = 65_536,
        polyak: float = 0.1,
    ) -> None:
        self.policy, self.algorithm = policy, algorithm
        self.norm, self.tokens, self.polyak = norm, tokens, polyak
        self.steps = 0
        self.lr = lr
        self.optimizer = torch.optim.AdamW(list(policy.parameters()), lr=lr, weight_decay=0.0)
        self.smooth = algorithm.smooth() if algorithm.smooth else None
        wants_reference = algorithm.kl is not None or isinstance(algorithm.loss, PairLoss)
        self.reference = self._copy() if wants_reference else None
        self.critic: ValueModel | None = None
        if algorithm.critic is not None:
            self.critic = ValueModel(policy, HEADS[algorithm.critic.level])
            self.slow = copy.deepcopy(self.critic)
            self.critic_optimizer = torch.optim.AdamW(
                self.critic.parameters(), lr=critic_lr or 10 * lr, weight_decay=0.0
            )

    # -- before the updates ------------------------------------------------------------------------------------------

    def ready(self, rollouts: Sequence[Rollout]) -> Ready:
        """Shaped, filtered, collated; old log-probs as the trainer sees them, so that replayed rollouts start at ratio 1."""
        for shaper in self.algorithm.shapers:
            shaper(rollouts)
        kept = list(rollouts)
        for choose in self.algorithm.filters:
            kept = choose(kept)
        batch = collate(kept, train_modules=self.algorithm.train_modules, pad=self.policy.pad)
        batch = replace(batch, rows=batch.rows.to(self.policy.device))
        batch = batch.with_old(self.logp(batch.rows))
        reference = self.logp(batch.rows, self.reference) if self.reference is not None else None
        ready = Ready(batch, torch.zeros_like(batch.rows.old), reference, None, kept)
        if self.critic is not None:
            return self.revalued(ready)
        by_turn = advantages(batch.table, self.algorithm.terms, self.algorithm.post)
        return replace(ready, advantage=spread(batch.rows, by_turn, by_role(batch.table, self.algorithm.terms)))

    @torch.no_grad()
    def revalued(self, ready: Ready) -> Ready:
        """The same with the critic's present advantages."""
        settings = self.algorithm.critic
        if self.critic is None or settings is None:
            raise ConfigError("this algorithm has no critic", field="critic")
        rows = ready.batch.rows
        values, slow = (
            _padded([model(part) for part in self._parts(rows)], rows) for model in (self.critic, self.slow)
        )
        found = estimate(ready.batch, values, settings, slow)
        return replace(ready, advantage=found.advantage, critic=found)

    @torch.no_grad()
    def logp(self, rows: Rows, policy: Causal | None = None) -> Tensor:
        """(B, L), without a gradient."""
        model = policy or self.policy
        parts = [logprobs(model.logits(part.ids, part.attend), part.ids) for part in self._parts(rows)]
        return _padded(parts, rows)

    # -- updates -----------------------------------------------------------------------------------------------------

    def update(self, ready: Ready, members: Tensor | None) -> Facts:
        """One optimiser step on the rollouts numbered `members`; None: on all."""
        rows = ready.batch.rows
        index = torch.arange(len(rows.ids)) if members is None else torch.isin(rows.rollout, members).nonzero()[:, 0]
        self.optimizer.zero_grad()
        if isinstance(self.algorithm.loss, PolicyLoss):
            facts = self._policy_gradient(ready, index, self.algorithm.loss)
        else:
            facts = self._whole(ready, self.algorithm.loss)
        parameters = list(self.policy.parameters())
        facts["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(parameters, self.norm))
        self.optimizer.step()
        if ready.critic is not None and self.algorithm.critic and self.algorithm.critic.level != "utterance_q":
            facts |= self.fit_critic(ready)
        self.steps += 1
        return facts

    def fit_critic(self, ready: Ready) -> Facts:
        """One step of the critic towards its targets; the slow copy follows."""
        found, settings = ready.critic, self.algorithm.critic
        if self.critic is None or found is None or settings is None:
            raise ConfigError("this algorithm has no critic", field="critic")
        self.critic_optimizer.zero_grad()
        count, loss = found.at.sum().clamp_min(1), 0.0
        for index, part in self._split(ready.batch.rows):
            width = part.ids.shape[1]
            gap = self.critic(part) - found.targets[index][:, :width].to(torch.float32)
            value = settings.coef * torch.where(found.at[index][:, :width], gap.pow(2), 0.0).sum() / count
            value.backward()  # type: ignore[no-untyped-call]  # torch
            loss += float(value.detach())
        torch.nn.utils.clip_grad_norm_(self.critic.parameters(), self.norm)
        self.critic_optimizer.step()
        with torch.no_grad():
            for old, new in zip(self.slow.parameters(), self.critic.parameters(), strict=True):
                old.lerp_(new, self.polyak)
        return {"value_loss": loss}

    def pace(self, share: float) -> None:
        """The policy learns at this share of its rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * share

    def move_reference(self) -> None:
        """What was learned becomes the reference."""
        if self.reference is not None:
            self.reference = self._copy()

    # -- the gradient ------------------------------------------------------------------------------------------------

    def _policy_gradient(self, ready: Ready, index: Tensor, spec: PolicyLoss) -> Facts:
        chosen = replace(ready.batch, rows=ready.batch.rows.take(index))
        width = chosen.rows.ids.shape[1]
        advantage = ready.advantage[index][:, :width].to(chosen.rows.old.dtype)
        weight = spec.weights(chosen, advantage)
        bias = [torch.zeros_like(each) for each in self.policy.parameters()] if spec.clip_bias else []
        facts: Facts = {"loss": 0.0, "clipped": 0.0, "entropy": 0.0}
        for at, part in self._split(chosen.rows):
            cut = part.ids.shape[1]
            logits = self.policy.logits(part.ids, part.attend)
            logp, entropy = logprobs(logits, part.ids), entropies(logits)
            share = weight[at][:, :cut]
            loss = spec.of(logp, Batch(chosen.table, part), advantage[at][:, :cut], share)
            value = loss.value + self._extras(logp, entropy, ready, index[at], part, share, chosen)
            if bias:
                found = torch.autograd.grad(loss.cut, list(self.policy.parameters()), retain_graph=True)
                bias = [held + each for held, each in zip(bias, found, strict=True)]
            value.backward()  # type: ignore[no-untyped-call]  # torch
            facts["loss"] += float(value.detach())
            facts["clipped"] += loss.facts["clipped"] * float(part.mask.sum() / chosen.rows.mask.sum())
            facts["entropy"] += float((share * entropy.detach()).sum())
        if bias:
            facts["bias"] = float(torch.sqrt(sum((each.double().pow(2).sum() for each in bias), torch.zeros(()))))
            for each in self.policy.parameters():
                if each.grad is not None:
                    each.grad /= max(facts["bias"], 1.0)
        return facts

    def _extras(
        self, logp: Tensor, entropy: Tensor, ready: Ready, index: Tensor, part: Rows, weight: Tensor, batch: Batch
    ) -> Tensor:
        algorithm, found = self.algorithm, torch.zeros((), device=logp.device)
        if algorithm.kl is not None and ready.reference is not None:
            found = found + algorithm.kl.of(logp, ready.reference[index][:, : logp.shape[1]], weight)
        if algorithm.entropy is not None:
            found = found + algorithm.entropy.of(entropy, weight)
        if self.smooth is not None:
            found = found + self.smooth.of(entropy, part, batch.table, weight)
            self.smooth.note(entropy, part, batch.table)
        return found

    def _whole(self, ready: Ready, spec: PairLoss | WeightedNLL) -> Facts:
        """Losses over pairs and last turns need all rows of a rollout at once."""
        rows, table = ready.batch.rows, ready.batch.table
        logp = logprobs(self.policy.logits(rows.ids, rows.attend), rows.ids)
        reward = torch.tensor([total(each) for each in ready.rollouts], dtype=logp.dtype)
        if isinstance(spec, WeightedNLL):
            sums, count = (span_sums(x, rows, table, "last_turn") for x in (logp, torch.ones_like(logp)))
            value = weighted_nll(sums, count, reward, spec.temperature)
        else:
            shift = logp - (ready.reference if ready.reference is not None else rows.old)
            value = _paired(spec, shift, rows, ready, reward)
        value.backward()  # type: ignore[no-untyped-call]  # torch
        return {"loss": float(value.detach())}

    def _split(self, rows: Rows) -> Iterator[tuple[Tensor, Rows]]:
        """(row numbers, rows): short rows together, so that little is padded."""
        lengths = rows.attend.sum(1)
        order = torch.argsort(lengths, stable=True)
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * int(lengths[order[end]]) <= self.tokens:
                end += 1
            index = order[start:end]
            yield index, rows.take(index)
            start = end

    def _parts(self, rows: Rows) -> Iterator[Rows]:
        """As many rows at once as fit, in order."""
        step = max(1, self.tokens // max(1, rows.ids.shape[1]))
        for start in range(0, len(rows.ids), step):
            yield rows.take(torch.arange(start, min(start + step, len(rows.ids))))

    def _copy(self) -> Causal:
        model: Any = copy.deepcopy(self.policy.model).eval()
        for each in model.parameters():
            each.requires_grad_(False)
        return Causal(model, self.policy.pad, temperature=self.policy.temperature, device=self.policy.device)


def _padded(parts: Sequence[Tensor], rows: Rows) -> Tensor:
    """Parts of their own widths as one tensor as wide as the rows."""
    width = rows.ids.shape[1]
    wide = [torch.cat([p, p.new_zeros(len(p), width - p.shape[1], *p.shape[2:])], dim=1) for p in parts]
    return torch.cat(wide)


def _paired(spec: PairLoss, shift: Tensor, rows: Rows, ready: Ready, reward: Tensor) -> Tensor:
    """The pairs: the two of a `meta["pair"]` for REFUEL; a task's best and worst for M-DPO; above and below its mean for M-KTO."""
    table = ready.batch.table
    if spec.kind == "refuel":
        turns = span_sums(shift, rows, table, "turn")
        where = {(r, int(table.t[i])): i for i, r in enumerate(table.rollout.tolist())}
        pairs: dict[tuple[str, int], list[int]] = {}
        for number, each in enumerate(ready.rollouts):
            pairs.setdefault((each.group, each.meta["pair"]), []).append(number)
        a, b = zip(*(pair for pair in pairs.values() if len(pair) == 2), strict=True)
        at = [[where[n, ready.rollouts[n].meta["from"]] for n in side] for side in (a, b)]
        gap = reward[list(a)] - reward[list(b)]
        zero = torch.zeros_like(gap)
        left, right = (turns[torch.tensor(side)] for side in at)
        both, own = torch.cat([left, right]), torch.arange(len(gap))
        return refuel(both, torch.cat([gap, zero]), own, own + len(gap), spec.eta)
    whole = span_sums(shift, rows, table, "rollout")
    groups = [table.group == number for number in range(int(table.group.max()) + 1)]
    if spec.kind == "mkto":
        means = torch.stack([reward[group].mean() for group in groups])
        return mkto(whole, reward > means[table.group], spec.eta)
    spread_ = [group for group in groups if float(reward[group].max()) > float(reward[group].min())]
    if not spread_:
        return (whole * 0).sum()
    best = [int(group.nonzero()[reward[group].argmax(), 0]) for group in spread_]
    worst = [int(group.nonzero()[reward[group].argmin(), 0]) for group in spread_]
    return mdpo(whole, torch.tensor(best), torch.tensor(worst), spec.eta)
