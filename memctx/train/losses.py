"""Policy losses over (B, L) log-probs: how the ratio is pooled, how it is bounded, what is summed, what is left out.

    loss, facts = PolicyLoss(ratio="turn").of(logp, batch, advantage)

PPO (Schulman et al., 2017), dual clip (Ye et al., 2020), GSPO's pooled ratio (2507.18071), CISPO (2506.13585), the turn ratio and
the clipping-bias norm of ST-PPO (2511.20718). A ratio over a span is the geometric mean of its tokens' ratios.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from memctx.errors import ConfigError
from memctx.train.batch import Batch, Rows, Table
from memctx.train.rollouts import Role

Aggregation = Literal["token", "turn", "segment", "rollout", "response", "sum"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """Leave out whole segments that trainer and sampler disagree on: geometric-mean ratio outside [low, high], or a token's
    below `token`. Dr.Kernel (2602.05885).
    """

    low: float = 0.999
    high: float = 1.001
    token: float = 1e-4


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """Settings of a policy loss.

    `ratio`: pooled over a token, a turn or a segment. `clip`: (below, above) 1. `dual`: the most a ratio may count for where
    the advantage is negative. `surrogate`: "clip"; "cispo", -sg(clipped ratio) * A * log pi; "reinforce", -A * log pi.
    `agg`: mean over tokens; over turns or segments of the means inside; over rollouts of the means of their turns' means
    ("rollout") or of all their tokens ("response"); or "sum", over rollouts of their sums over `length`.
    `overlong`: truncated rollouts teach nothing (SUPO). `protect`: tokens of these roles are
    never pushed down (DialTree). `truncate`: weigh by min(pi_trainer / pi_sampler, this). `clip_bias`: divide the gradient by
    the norm of what clipping took out of it (S-PPO), where that is above 1.
    """

    ratio: Literal["token", "turn", "segment"] = "token"
    clip: tuple[float, float] = (0.2, 0.2)
    dual: float | None = None
    surrogate: Literal["clip", "cispo", "reinforce"] = "clip"
    agg: Aggregation = "token"
    length: float = 1000.0
    overlong: bool = False
    protect: Role = Role.CONTEXT
    truncate: float | None = None
    reject: Rejection | None = None
    clip_bias: bool = False

    def of(self, logp: Tensor, batch: Batch, advantage: Tensor, weight: Tensor | None = None) -> Loss:
        """`logp`, `advantage` (B, L). `weight`: what `weights` gave for the whole batch, where `batch` is a part of it.

        Returns the loss with what clipping took out of it, and figures.
        """
        rows = batch.rows
        if weight is None:
            weight = self.weights(batch, advantage)
        shift = torch.where(rows.mask, logp - rows.old, torch.zeros((), dtype=logp.dtype))
        ratio = pooled(shift, rows, self.ratio)
        low, high = 1 - self.clip[0], 1 + self.clip[1]
        clipped = ((advantage > 0) & (ratio > high)) | ((advantage < 0) & (ratio < low))
        if self.surrogate == "reinforce":
            each, clipped = -advantage * logp, torch.zeros_like(clipped)
        elif self.surrogate == "cispo":
            each = -ratio.detach().clamp(low, high) * advantage * logp
        else:
            each = -torch.minimum(ratio * advantage, ratio.clamp(low, high) * advantage)
            if self.dual is not None:
                each = torch.where(advantage < 0, torch.minimum(each, -self.dual * advantage), each)
        zero = torch.zeros((), dtype=each.dtype)
        total = torch.where(rows.mask, weight * each, zero).sum()
        cut = torch.where(rows.mask & clipped, weight * ratio * advantage, zero).sum()
        facts = {
            "clipped": _share(clipped, rows.mask),
            "shift": float(shift.detach().abs().max()) if len(shift) else 0.0,
        }
        return Loss(total, cut, facts)

    def weights(self, batch: Batch, advantage: Tensor) -> Tensor:
        """(B, L): what each token's loss counts, so that parts of a batch add up to the whole. 0 for what is left out."""
        keep = batch.rows.mask & self._kept(batch, advantage)
        weight = _weights(batch.rows, batch.table, self.agg, self.length, keep, advantage.dtype)
        if self.truncate is not None:
            weight = weight * (batch.rows.old - batch.rows.sampler).exp().clamp(max=self.truncate)
        return weight

    def _kept(self, batch: Batch, advantage: Tensor) -> Tensor:
        rows, keep = batch.rows, torch.ones_like(batch.rows.mask)
        if self.overlong:
            keep &= ~batch.table.truncated[rows.rollout][:, None]
        if self.protect:
            keep &= ~(((rows.roles & int(self.protect)) != 0) & (advantage < 0))
        if self.reject is not None:
            gap = torch.where(rows.mask, rows.old - rows.sampler, torch.zeros((), dtype=rows.old.dtype))
            whole = pooled(gap, rows, "segment")
            bad = (whole < self.reject.low) | (whole > self.reject.high)
            lost = ((gap.exp() < self.reject.token) & rows.mask).any(1, keepdim=True)
            keep &= ~(bad | lost)
        return keep


@dataclass(frozen=True, slots=True)
class Loss:
    """`value`; `cut`: the surrogate of the clipped tokens, whose gradient is the clipping bias C; `facts` as plain numbers."""

    value: Tensor
    cut: Tensor
    facts: dict[str, float]


def pooled(shift: Tensor, rows: Rows, span: Literal["token", "turn", "segment"]) -> Tensor:
    """(B, L): exp of the mean of `shift` over each token's span; the gradient flows through the mean. 1 outside."""
    if span == "token":
        return shift.exp()
    key = (
        rows.turn if span == "turn" else torch.arange(len(rows.turn), device=shift.device)[:, None].expand_as(rows.turn)
    )
    key = torch.where(rows.mask, key, 0).flatten()
    keep = rows.mask.flatten().to(shift.dtype)
    size = int(key.max()) + 1 if key.numel() else 0
    total = shift.new_zeros(size).index_add(0, key, shift.flatten() * keep)
    count = shift.new_zeros(size).index_add(0, key, keep).clamp_min(1)
    found = (total / count).exp()[key].view_as(shift)
    return torch.where(rows.mask, found, torch.ones((), dtype=shift.dtype))


def spread(rows: Rows, by_turn: Tensor, by_role: dict[Role, Tensor] | None = None) -> Tensor:
    """(B, L): each turn's advantage on its tokens, plus that of their roles."""
    at = rows.turn.clamp_min(0)
    found = by_turn[at]
    for role, values in (by_role or {}).items():
        found = found + torch.where((rows.roles & int(role)) != 0, values[at], torch.zeros((), dtype=values.dtype))
    return torch.where(rows.mask, found, torch.zeros((), dtype=found.dtype))


def span_sums(x: Tensor, rows: Rows, table: Table, span: Literal["turn", "last_turn", "rollout"]) -> Tensor:
    """(T,) or (R,): the sum over the trained tokens of each turn, of each rollout's last turn, or of each rollout."""
    flat = torch.where(rows.mask, x, torch.zeros((), dtype=x.dtype)).flatten()
    by_turn = x.new_zeros(len(table)).index_add(0, rows.turn.clamp_min(0).flatten(), flat)
    if span == "turn":
        return by_turn
    counted = by_turn if span == "rollout" else by_turn * table.last
    return x.new_zeros(table.rollouts).index_add(0, table.rollout, counted)


# Losses over pairs and over weighted runs. `a` and `b` index what `span_sums` gave: turns for REFUEL, rollouts for the others.


def refuel(shift: Tensor, reward: Tensor, a: Tensor, b: Tensor, eta: float = 1000.0) -> Tensor:
    """REFUEL (2410.04612): ((shift_a - shift_b) - eta * (r_a - r_b))^2, the mean over pairs.

    `shift`: log pi - log pi_then of the turn resampled from the same prefix; `reward` of the whole dialogue.
    """
    return ((shift[a] - shift[b]) - eta * (reward[a] - reward[b])).pow(2).mean()


def mdpo(shift: Tensor, better: Tensor, worse: Tensor, eta: float = 0.1) -> Tensor:
    """M-DPO (2409.02392): -log sigmoid(eta * (shift_better - shift_worse)); `shift` against the reference, policy tokens only."""
    return -nn.functional.logsigmoid(eta * (shift[better] - shift[worse])).mean()


def mkto(shift: Tensor, good: Tensor, eta: float = 0.1, weights: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """M-KTO (2409.02392): 1 - sigmoid(eta * (shift - z)) for good runs, 1 - sigmoid(eta * (z - shift)) for bad ones.

    `good` (R,) bool; z: the batch's mean shift, at least 0, not trained through.
    """
    z = shift.detach().mean().clamp_min(0)
    sign = torch.where(good, 1.0, -1.0).to(shift.dtype)
    weight = torch.where(good, weights[0], weights[1]).to(shift.dtype)
    return (weight * (1 - torch.sigmoid(eta * sign * (shift - z)))).mean()


def weighted_nll(total: Tensor, count: Tensor, reward: Tensor, temperature: float = 0.4) -> Tensor:
    """RISE (2407.18219): exp(reward / temperature) times the mean negative log-prob of a rollout's last turn.

    `total`, `count` (R,): `span_sums` of log-probs and of ones over "last_turn".
    """
    return -((reward / temperature).exp().to(total.dtype) * total / count.clamp_min(1)).mean()


def _weights(rows: Rows, table: Table, agg: Aggregation, length: float, keep: Tensor, dtype: torch.dtype) -> Tensor:
    kept = keep.to(dtype)
    if agg == "token":
        return kept / kept.sum().clamp_min(1)
    if agg == "sum":
        trained = torch.unique(rows.rollout[rows.mask.any(1)])
        return kept / (length * max(1, len(trained)))
    if agg == "response":
        size = kept.new_zeros(table.rollouts).index_add(0, rows.rollout, kept.sum(1))
        return kept / size.clamp_min(1)[rows.rollout][:, None] / (size > 0).sum().clamp_min(1)
    if agg == "segment":
        count = kept.sum(1, keepdim=True)
        return kept / count.clamp_min(1) / (count > 0).sum().clamp_min(1)
    at = rows.turn.clamp_min(0)
    tokens = kept.new_zeros(len(table)).index_add(0, at.flatten(), kept.flatten())
    mean = kept / tokens.clamp_min(1)[at]
    if agg == "turn":
        return mean / (tokens > 0).sum().clamp_min(1)
    if agg != "rollout":
        raise ConfigError(f"agg = {agg!r}: use token, turn, segment, rollout, response or sum", field="agg")
    turns = kept.new_zeros(table.rollouts).index_add(0, table.rollout, (tokens > 0).to(dtype))
    return mean / turns.clamp_min(1)[table.rollout][at] / (turns > 0).sum().clamp_min(1)


def _share(part: Tensor, whole: Tensor) -> float:
    return float((part & whole).sum() / whole.sum().clamp_min(1))


def logprobs(logits: Tensor, ids: Tensor, temperature: float = 1.0) -> Tensor:
    """(B, L) log-prob of each token given those before it, from (B, L, V) logits; 0 for the first."""
    wide = logits[:, :-1].to(torch.promote_types(logits.dtype, torch.float32))
    scores = torch.log_softmax(wide / temperature, -1)
    picked = scores.gather(-1, ids[:, 1:, None].to(scores.device)).squeeze(-1)
    return torch.cat([torch.zeros_like(picked[:, :1]), picked], dim=1)


def entropies(logits: Tensor) -> Tensor:
    """(B, L) entropy of what each token was drawn from; 0 for the first."""
    scores = torch.log_softmax(logits[:, :-1].to(torch.promote_types(logits.dtype, torch.float32)), -1)
    found = -(scores.exp() * scores).sum(-1)
    return torch.cat([torch.zeros_like(found[:, :1]), found], dim=1)
