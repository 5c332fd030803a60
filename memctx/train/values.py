"""Values: what a critic says of the state before each token, and the advantages that follow from it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from memctx.train.algorithm import Critic
from memctx.train.batch import Batch, Rows
from memctx.train.critics import (
    at_turns,
    bilevel_gae,
    hierarchical,
    token_gae,
    turn_gae,
    utterance_advantage,
    utterance_targets,
    whiten,
)
from memctx.train.losses import spread
from memctx.train.models import Causal
from memctx.train.rollouts import Role

HEADS = {"token": 1, "turn": 1, "bilevel": 1, "hierarchical": 3, "utterance_q": 4}


@dataclass(frozen=True, slots=True)
class Estimate:
    """`advantage` (B, L); the heads' `targets` (B, L, H), to be met where `at` (B, L, H) is true."""

    advantage: Tensor
    targets: Tensor
    at: Tensor


class ValueModel(nn.Module):
    """A copy of a policy's transformer with `heads` scalar outputs. (B, L) ids -> (B, L, heads): of the state before each token."""

    def __init__(self, policy: Causal, heads: int = 1) -> None:
        super().__init__()
        self.body: Any = copy.deepcopy(policy.model.base_model)
        self.head = nn.Linear(policy.model.config.hidden_size, heads)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        for each in self.body.parameters():
            each.requires_grad_(True)
        self.to(policy.device)

    def forward(self, rows: Rows) -> Tensor:
        place = (rows.attend.cumsum(1) - 1).clamp_min(0)
        hidden = self.body(input_ids=rows.ids, attention_mask=rows.attend, position_ids=place).last_hidden_state
        found: Tensor = self.head(hidden)
        return torch.cat([torch.zeros_like(found[:, :1]), found[:, :-1]], dim=1)


def estimate(batch: Batch, values: Tensor, critic: Critic, slow: Tensor | None = None) -> Estimate:
    """Advantages and targets of one batch. `values` (B, L, H), not differentiated; `slow`: those of a slow copy (ArCHer)."""
    rows, table = batch.rows, batch.table
    values = values.detach().to(torch.float64)
    signal = table.signal("sum")
    targets, at = torch.zeros_like(values), torch.zeros_like(values, dtype=torch.bool)
    if critic.level == "token":
        advantage, targets[..., 0] = token_gae(batch, values[..., 0], signal, critic.gamma, critic.lam)
        at[..., 0] = rows.mask
    elif critic.level == "turn":
        by_turn, returns = turn_gae(table, at_turns(rows, values[..., 0], len(table)), signal, critic.gamma, critic.lam)
        advantage, at[..., 0] = spread(rows, by_turn), _edge(rows, "last")
        targets[..., 0] = spread(rows, returns)
    elif critic.level == "bilevel":
        by_turn = at_turns(rows, values[..., 0], len(table))
        settings = {
            "gamma_high": critic.gamma_high,
            "lam_high": critic.lam_high,
            "gamma": critic.gamma,
            "lam": critic.lam,
        }
        _, advantage = bilevel_gae(batch, by_turn, values[..., 0], signal, **settings)
        targets[..., 0], at[..., 0] = advantage + values[..., 0], rows.mask
    elif critic.level == "hierarchical":
        advantage = _hierarchical(batch, values, critic, signal, targets, at)
    else:
        advantage = _utterances(batch, values, critic, signal, targets, at, values if slow is None else slow)
    if critic.normed and critic.level != "hierarchical":
        advantage = whiten(advantage, rows.mask)
    return Estimate(advantage, targets, at)


def _hierarchical(batch: Batch, values: Tensor, critic: Critic, signal: Tensor, targets: Tensor, at: Tensor) -> Tensor:
    """HiPER: low for ACTION tokens, high for SUBGOAL, termination for SWITCH. A response without roles is all action."""
    rows, table = batch.rows, batch.table
    marked = (rows.roles & int(Role.ACTION | Role.SUBGOAL | Role.SWITCH)) != 0
    acting = rows.mask & ((rows.roles & int(Role.ACTION)) != 0) | (rows.mask & ~marked)
    first = _edge(rows, "first")
    low = _first_of(rows, acting, values[..., 0], len(table))
    high, term = (at_turns(rows, values[..., head], len(table), "first") for head in (1, 2))
    lams = {"lam_turn": critic.lam, "lam_segment": critic.lam_high}
    found = hierarchical(table, signal, table.switch, low, high, term, gamma=critic.gamma, final=None, **lams)
    returns = torch.stack([found.low_returns, found.high_returns, found.term_returns], -1)
    targets[:] = torch.where(rows.mask[..., None], returns[rows.turn.clamp_min(0)], 0.0)
    at[..., 0] = _starts(rows, acting)
    at[..., 1] = first & (spread(rows, (found.high_returns != 0).to(torch.float64)) != 0)
    at[..., 2] = first
    parts = ((found.low, acting), (found.high, _has(rows, Role.SUBGOAL)), (found.term, _has(rows, Role.SWITCH)))
    advantage = torch.zeros_like(values[..., 0])
    for by_turn, where in parts:
        level = torch.where(where, spread(rows, by_turn), 0.0)
        advantage = advantage + (whiten(level, where) if critic.normed else level)
    return advantage


def _utterances(
    batch: Batch, values: Tensor, critic: Critic, signal: Tensor, targets: Tensor, at: Tensor, slow: Tensor
) -> Tensor:
    """ArCHer: heads 0, 1 are Q at a turn's last token, heads 2, 3 are V at its first."""
    rows, table = batch.rows, batch.table
    q = [at_turns(rows, values[..., head], len(table)) for head in (0, 1)]
    v = [at_turns(rows, values[..., head], len(table), "first") for head in (2, 3)]
    old_v = torch.minimum(*(at_turns(rows, slow.to(values.dtype)[..., head], len(table), "first") for head in (2, 3)))
    after = torch.where(table.last, 0.0, torch.roll(old_v, -1))
    q_target = utterance_targets(signal, table.last, after, critic.gamma)
    v_target = torch.minimum(*(at_turns(rows, slow.to(values.dtype)[..., head], len(table)) for head in (0, 1)))
    for head in range(4):
        targets[..., head] = spread(rows, q_target if head < 2 else v_target)
        at[..., head] = _edge(rows, "last" if head < 2 else "first")
    return spread(rows, utterance_advantage((q[0], q[1]), (v[0], v[1])))


def _edge(rows: Rows, which: str) -> Tensor:
    """(B, L): each turn's first or last token."""
    beside = torch.roll(rows.turn, 1 if which == "first" else -1, 1)
    beside[:, 0 if which == "first" else -1] = -1
    return rows.mask & (beside != rows.turn)


def _starts(rows: Rows, where: Tensor) -> Tensor:
    """(B, L): the first token of each turn for which `where` holds."""
    turn = torch.where(where, rows.turn, -1)
    place = torch.arange(turn.shape[1], device=turn.device).expand_as(turn)
    best = torch.full((int(rows.turn.max()) + 1,), turn.shape[1], dtype=torch.long, device=turn.device)
    best = best.scatter_reduce(0, turn[where], place[where], "amin")
    return where & (place == best[turn.clamp_min(0)])


def _first_of(rows: Rows, where: Tensor, values: Tensor, turns: int) -> Tensor:
    """(T,): the value at each turn's first token for which `where` holds."""
    starts = _starts(rows, where)
    out = torch.zeros(turns, dtype=values.dtype, device=values.device)
    out[rows.turn[starts]] = values[starts]
    return out


def _has(rows: Rows, role: Role) -> Tensor:
    return rows.mask & ((rows.roles & int(role)) != 0)
