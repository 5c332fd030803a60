"""The learner: rollouts in, one optimiser step at a time out. It holds the weights that change; schedules say when.

A batch is worked off in parts of at most `tokens` tokens; what each token counts is settled for the whole batch before, so the
parts add up to the same gradient whatever their size.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from memctx.errors import ConfigError, TrainingError
from memctx.train.advantages import advantages, by_role
from memctx.train.algorithm import Algorithm, PairLoss, WeightedNLL
from memctx.train.batch import Batch, Rows, collate, joined
from memctx.train.losses import PolicyLoss, entropies, logprobs, spread
from memctx.train.models import Causal
from memctx.train.pairs import whole_loss
from memctx.train.rollouts import Rollout
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
    """`lr`, `critic_lr`: of AdamW. `norm`: gradients are cut to it. `tokens`: the most worked off at once.

    Its methods raise `TrainingError` where nothing can be learned or a number is not finite, before any weight changes.
    """

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
        self.steps = 0  # of the optimiser
        self.rounds = 0  # batches of rollouts seen
        self.lr = lr
        self.optimizer = torch.optim.AdamW(list(policy.parameters()), lr=lr, weight_decay=0.0)
        self.smooth = algorithm.smooth() if algorithm.smooth else None
        wants_reference = algorithm.kl is not None or isinstance(algorithm.loss, PairLoss)
        self.reference = self._copy() if wants_reference else None
        self.critic: ValueModel | None = None
        self.slow: ValueModel | None = None  # follows the critic; ArCHer's targets come from it
        if algorithm.critic is not None:
            ahead = 2 if algorithm.critic.level == "utterance_q" else 0  # Q is of what was done, V of where one stands
            self.critic = ValueModel(policy, HEADS[algorithm.critic.level], after=ahead)
            self.slow = copy.deepcopy(self.critic) if ahead else None
            self.critic_optimizer = torch.optim.AdamW(
                self.critic.parameters(), lr=critic_lr or 10 * lr, weight_decay=0.0
            )

    # -- before the updates ------------------------------------------------------------------------------------------

    def ready(self, rollouts: Sequence[Rollout]) -> Ready:
        """Shaped, filtered, collated; old log-probs as the trainer sees them, so that replayed rollouts start at ratio 1.

        Rewards are written into copies: the same rollouts can come again.
        """
        self.rounds += 1
        kept, batch = self._collated(rollouts)
        batch = batch.with_old(self.logp(batch.rows))
        reference = self.logp(batch.rows, self.reference) if self.reference is not None else None
        ready = Ready(batch, torch.zeros_like(batch.rows.old), reference, None, kept)
        if self.critic is not None:
            ready = self.revalued(ready)
        elif isinstance(self.algorithm.loss, PolicyLoss):
            by_turn = advantages(batch.table, self.algorithm.terms, self.algorithm.post)
            advantage = spread(batch.rows, by_turn, by_role(batch.table, self.algorithm.terms))
            ready = replace(ready, advantage=advantage)
        spec = self.algorithm.loss
        if isinstance(spec, PolicyLoss) and not spec.weights(batch, ready.advantage).any():
            cut = int(batch.table.truncated.sum())
            text = f"all tokens of the batch are masked ({cut} of {len(kept)} rollouts were cut off): allow more turns"
            raise TrainingError(f"{text}, or sample more rollouts", field="loss")
        return ready

    def _collated(self, rollouts: Sequence[Rollout]) -> tuple[list[Rollout], Batch]:
        kept = [each.copy() for each in rollouts]
        for shaper in self.algorithm.shapers:
            shaper(kept)
        for choose in self.algorithm.filters:
            kept = choose(kept)
        batch = collate(kept, train_modules=self.algorithm.train_modules, pad=self.policy.pad)
        check(batch, self.algorithm)
        return kept, batch

    def replayed(self, rollouts: Sequence[Rollout]) -> Ready:
        """Rollouts of earlier policies, for ArCHer's critic alone: its Q may learn from anybody's turns, its V not."""
        kept, batch = self._collated(rollouts)
        ready = self.revalued(Ready(batch, torch.zeros_like(batch.rows.old), None, None, kept))
        if ready.critic is not None:
            ready.critic.at[..., 2:] = False
        return ready

    @torch.no_grad()
    def revalued(self, ready: Ready) -> Ready:
        """The same with the critic's present advantages."""
        settings = self.algorithm.critic
        if self.critic is None or settings is None:
            raise ConfigError("this algorithm has no critic", field="critic")
        rows = ready.batch.rows
        values = joined([self.critic(part) for part in rows.parts(self.tokens)])
        slow = None if self.slow is None else joined([self.slow(part) for part in rows.parts(self.tokens)])
        found = estimate(ready.batch, values, settings, slow)
        return replace(ready, advantage=found.advantage, critic=found)

    @torch.no_grad()
    def logp(self, rows: Rows, policy: Causal | None = None) -> Tensor:
        """(B, L), without a gradient."""
        model = policy or self.policy
        parts = [logprobs(model.logits(part.ids, part.attend), part.ids).cpu() for part in rows.parts(self.tokens)]
        return joined(parts)

    # -- updates -----------------------------------------------------------------------------------------------------

    def update(self, ready: Ready, members: Tensor | None) -> Facts:
        """One optimiser step on the rollouts numbered `members`; None: on all."""
        rows = ready.batch.rows
        wanted = rows.mask.any(1) if members is None else rows.mask.any(1) & torch.isin(rows.rollout, members)
        self.optimizer.zero_grad()
        if isinstance(self.algorithm.loss, PolicyLoss):
            facts = self._policy_gradient(ready, wanted.nonzero()[:, 0], self.algorithm.loss)
        else:
            facts = self._whole(ready, self.algorithm.loss)
        parameters = list(self.policy.parameters())
        facts["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(parameters, self.norm))
        if not (math.isfinite(facts["loss"]) and math.isfinite(facts["grad_norm"])):
            self.optimizer.zero_grad()
            text = f"update {self.steps}: loss {facts['loss']}, gradient norm {facts['grad_norm']}; the weights are unchanged"
            raise TrainingError(f"{text}. A lower lr or float32 weights may help", field="loss")
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
        for index, part in ready.batch.rows.split(self.tokens):
            width = part.ids.shape[1]
            gap = self.critic(part)[:, :width] - found.targets[index][:, :width].to(torch.float32)
            value = settings.coef * torch.where(found.at[index][:, :width], gap.pow(2), 0.0).sum() / count
            value.backward()  # type: ignore[no-untyped-call]  # torch
            loss += float(value.detach())
        if not math.isfinite(loss):
            raise TrainingError(f"the critic's loss is {loss}: look at the rewards, or lower critic_lr", field="critic")
        torch.nn.utils.clip_grad_norm_(self.critic.parameters(), self.norm)
        self.critic_optimizer.step()
        if self.slow is not None:
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
        parameters = list(self.policy.parameters())
        bias = [torch.zeros_like(each) for each in parameters] if spec.clip_bias else []
        facts: Facts = {"loss": 0.0, "clipped": 0.0, "entropy": 0.0}
        seen: list[tuple[Tensor, Rows]] = []
        for at, part in chosen.rows.split(self.tokens):
            cut = part.ids.shape[1]
            logp, entropy = self._scores(part)
            share = weight[at][:, :cut]
            loss = spec.of(logp, Batch(chosen.table, part), advantage[at][:, :cut], share)
            value = loss.value + self._extras(logp, entropy, ready, index[at], part, share, chosen)
            if bias and loss.facts["clipped"]:
                found = torch.autograd.grad(loss.cut, parameters, retain_graph=True, allow_unused=True)
                bias = [held if each is None else held + each for held, each in zip(bias, found, strict=True)]
            value.backward()  # type: ignore[no-untyped-call]  # torch
            seen.append((entropy.detach(), part))
            facts["loss"] += float(value.detach())
            facts["clipped"] += loss.facts["clipped"] * float(part.mask.sum() / chosen.rows.mask.sum())
            facts["entropy"] += float((share * entropy.detach()).sum())
        if bias:
            facts["bias"] = math.sqrt(sum(float(each.double().pow(2).sum()) for each in bias))
            for each in parameters:
                if each.grad is not None:
                    each.grad /= max(facts["bias"], 1.0)
        if self.smooth is not None:  # all parts at once, after the last: how a batch was cut does not matter
            for entropy, part in seen:
                self.smooth.note(entropy, part, chosen.table)
        return facts

    def _scores(self, part: Rows) -> tuple[Tensor, Tensor]:
        """(B, L) log-probs and entropies; the latter without a gradient where nobody asks for one: it needs much memory."""
        logits = self.policy.logits(part.ids, part.attend)
        with torch.set_grad_enabled(self.algorithm.entropy is not None or self.smooth is not None):
            entropy = entropies(logits).cpu()
        return logprobs(logits, part.ids).cpu(), entropy

    def _extras(
        self, logp: Tensor, entropy: Tensor, ready: Ready, index: Tensor, part: Rows, weight: Tensor, batch: Batch
    ) -> Tensor:
        algorithm, found = self.algorithm, torch.zeros(())
        if algorithm.kl is not None and ready.reference is not None:
            found = found + algorithm.kl.of(logp, ready.reference[index][:, : logp.shape[1]], weight)
        if algorithm.entropy is not None:
            found = found + algorithm.entropy.of(entropy, weight)
        if self.smooth is not None:
            found = found + self.smooth.of(entropy, part, batch.table, weight, self.steps)
        return found

    def _whole(self, ready: Ready, spec: PairLoss | WeightedNLL) -> Facts:
        """The loss on all log-probs first, then its gradient at each of them, part by part, through the policy."""
        rows = ready.batch.rows
        logp = self.logp(rows).requires_grad_()
        before = ready.reference if ready.reference is not None else rows.old
        value = whole_loss(spec, logp, before, ready.batch, ready.rollouts)
        (slope,) = torch.autograd.grad(value, logp)
        for at, part in rows.split(self.tokens):
            found = logprobs(self.policy.logits(part.ids, part.attend), part.ids).cpu()
            torch.autograd.backward(found, slope[at][:, : part.ids.shape[1]])
        return {"loss": float(value.detach())}

    def _copy(self) -> Causal:
        model: Any = copy.deepcopy(self.policy.model).eval()
        for each in model.parameters():
            each.requires_grad_(False)
        for module in model.modules():
            vars(module).pop("forward", None)  # what others put on the policy runs the policy, in its copy too
        policy = self.policy
        return Causal(model, policy.pad, temperature=policy.temperature, device=policy.device, bf16=policy.bf16)


def check(batch: Batch, algorithm: Algorithm) -> None:
    """Raises `TrainingError` where nothing in the batch can teach this algorithm anything."""
    table = batch.table
    if not batch.rows.mask.any():
        only = "" if algorithm.train_modules is None else f"; only {sorted(algorithm.train_modules)} learn"
        raise TrainingError(f"no token can be trained: the turns are of {list(table.modules)}{only}", field="rollouts")
    for name, values in [*table.reward.items(), *table.outcome.items()]:
        if not values.isfinite().all():
            raise TrainingError(f"reward {name!r} is not finite: {values.tolist()[:8]}", field=name)
    alone = len(torch.unique(table.group)) == table.rollouts
    compares = all(
        each.horizon == "episode" and each.group == "prompt" and each.baseline != "none" and each.singleton == "zero"
        for each in algorithm.terms
    )
    if alone and compares and algorithm.critic is None and isinstance(algorithm.loss, PolicyLoss):
        raise TrainingError("each group holds one rollout, so there is nothing to compare: sample two or more a task")
