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

ROLES = Role.ACTION | Role.SUBGOAL | Role.SWITCH
HEADS = {"token": 1, "turn": 1, "bilevel": 1, "hierarchical": 3, "utterance_q": 4}


@dataclass(frozen=True, slots=True)
class Estimate:
    """`advantage` (B, L); the heads' `targets` (B, L, H), to be met where `at` (B, L, H) is true."""

    advantage: Tensor
    targets: Tensor
    at: Tensor


class ValueModel(nn.Module):
    """A copy of a policy's transformer with `heads` scalar outputs; (B, L) ids -> (B, L + 1, heads), float32 on the CPU.

    The first `after` heads tell of the state with each token, such as Q; the others of the state before it, so that what
    follows a row's last token tells of the state in which the row ends.
    """

    def __init__(self, policy: Causal, heads: int = 1, after: int = 0) -> None:
        super().__init__()
        whole = policy.model.get_base_model() if hasattr(policy.model, "get_base_model") else policy.model  # LoRA
        self.after, self.device = after, policy.device
        self.body: Any = copy.deepcopy(whole.base_model).float()
        self.head = nn.Linear(whole.config.hidden_size, heads)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        for each in self.body.parameters():
            each.requires_grad_(True)
        self.to(policy.device)

    def forward(self, rows: Rows) -> Tensor:
        ids, attend = rows.ids.to(self.device), rows.attend.to(self.device)
        place = (attend.cumsum(1) - 1).clamp_min(0)
        hidden = self.body(input_ids=ids, attention_mask=attend, position_ids=place).last_hidden_state
        found: Tensor = self.head(hidden).cpu()
        nothing = torch.zeros_like(found[:, :1])
        ahead, behind = torch.cat([found, nothing], dim=1), torch.cat([nothing, found], dim=1)
        return torch.cat([ahead[..., : self.after], behind[..., self.after :]], dim=-1)


def estimate(batch: Batch, values: Tensor, critic: Critic, slow: Tensor | None = None) -> Estimate:
    """Advantages and targets of one batch. `values` (B, L + 1, H) as a `ValueModel` gives them, not differentiated; `slow`: those
    of a slow copy (ArCHer).
    """
    rows, table = batch.rows, batch.table
    values = values.detach().to(torch.float64)
    slow = values if slow is None else slow.to(torch.float64)
    final = _final(batch, values, critic)[:, 0]
    values = values[:, :-1]
    signal = table.signal("sum")
    targets, at = torch.zeros_like(values), torch.zeros_like(values, dtype=torch.bool)
    if critic.level == "token":
        advantage, targets[..., 0] = token_gae(batch, values[..., 0], signal, critic.gamma, critic.lam, final)
        at[..., 0] = rows.mask
    elif critic.level == "turn":
        read = at_turns(rows, values[..., 0], len(table), "first")
        by_turn, returns = turn_gae(table, read, signal, critic.gamma, critic.lam, final)
        advantage, at[..., 0] = spread(rows, by_turn), _edge(rows, "first")
        targets[..., 0] = spread(rows, returns)
    elif critic.level == "bilevel":
        by_turn = at_turns(rows, values[..., 0], len(table))
        _, advantage = bilevel_gae(
            batch, by_turn, values[..., 0], signal,
            gamma_high=critic.gamma_high, lam_high=critic.lam_high, gamma=critic.gamma, lam=critic.lam, final=final,
        )  # fmt: skip
        targets[..., 0], at[..., 0] = advantage + values[..., 0], rows.mask
    elif critic.level == "hierarchical":
        advantage = _hierarchical(batch, values, critic, signal, targets, at)
    else:
        advantage = _utterances(batch, values, critic, signal, targets, at, slow)
    if critic.normed and critic.level != "hierarchical":
        advantage = whiten(advantage, rows.mask)
    return Estimate(advantage, targets, at)


def _final(batch: Batch, values: Tensor, critic: Critic) -> Tensor:
    """(R, H): of the state in which a rollout was cut off; 0 for one that came to its end, and where nothing is bootstrapped."""
    rows, table = batch.rows, batch.table
    number = torch.arange(len(rows.ids))
    last = torch.zeros(table.rollouts, dtype=torch.long).scatter_reduce(0, rows.rollout, number, "amax")
    ends = values[number, rows.attend.sum(1)]
    return torch.where(table.truncated[:, None] & critic.bootstrap, ends[last], 0.0)


def _hierarchical(batch: Batch, values: Tensor, critic: Critic, signal: Tensor, targets: Tensor, at: Tensor) -> Tensor:
    """HiPER: low for ACTION tokens, high for the SUBGOAL tokens of turns that begin one, termination for SWITCH.

    A turn without roles is all action. The low value is read at a turn's first action token, or its first token.
    """
    rows, table = batch.rows, batch.table
    first = _edge(rows, "first")
    acting = _has(rows, Role.ACTION) | (rows.mask & ~_of_turns(rows, _has(rows, ROLES), len(table)))
    reading = _starts(rows, torch.where(_of_turns(rows, acting, len(table)), acting, first))
    low = _at(rows, reading, values[..., 0], len(table))
    high, term = (_at(rows, first, values[..., head], len(table)) for head in (1, 2))
    found = hierarchical(
        table, signal, table.switch, low, high, term,
        gamma=critic.gamma, lam_turn=critic.lam, lam_segment=critic.lam_high,
        bootstrap=table.truncated & critic.bootstrap,
    )  # fmt: skip
    returns = torch.stack([found.low_returns, found.high_returns, found.term_returns], -1)
    targets[:] = torch.where(rows.mask[..., None], returns[rows.turn.clamp_min(0)], 0.0)
    begins = found.boundary[rows.turn.clamp_min(0)] & rows.mask
    at[..., 0], at[..., 1], at[..., 2] = reading, first & begins, first
    parts = (
        (found.low, acting),
        (found.high, _has(rows, Role.SUBGOAL) & begins),
        (found.term, _has(rows, Role.SWITCH)),
    )
    advantage = torch.zeros_like(values[..., 0])
    for by_turn, where in parts:
        owned = torch.zeros(len(table), dtype=torch.bool).index_fill(0, rows.turn[where], True)
        level = _standard(by_turn, owned) if critic.normed else by_turn
        advantage = advantage + torch.where(where, spread(rows, level), 0.0)
    return advantage


def _standard(by_turn: Tensor, owned: Tensor) -> Tensor:
    """(T,): mean 0 and the population's deviation 1 over the turns that have tokens of the level."""
    mine = by_turn[owned]
    if len(mine) < 2:
        return by_turn
    return (by_turn - mine.mean()) / (mine.std(correction=0) + 1e-8)


def _utterances(
    batch: Batch, values: Tensor, critic: Critic, signal: Tensor, targets: Tensor, at: Tensor, slow: Tensor
) -> Tensor:
    """ArCHer: heads 0, 1 are Q at a turn's last token, heads 2, 3 are V at its first."""
    rows, table = batch.rows, batch.table
    q = [at_turns(rows, values[..., head], len(table)) for head in (0, 1)]
    v = [at_turns(rows, values[..., head], len(table), "first") for head in (2, 3)]
    final, slow = _final(batch, slow, critic), slow[:, :-1]
    old_v = torch.minimum(*(at_turns(rows, slow[..., head], len(table), "first") for head in (2, 3)))
    ending = torch.minimum(final[:, 2], final[:, 3])[table.rollout]
    q_target = utterance_targets(signal, torch.where(table.last, ending, torch.roll(old_v, -1)), critic.gamma)
    v_target = torch.minimum(*(at_turns(rows, slow[..., head], len(table)) for head in (0, 1)))
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
    place = torch.arange(turn.shape[1]).expand_as(turn)
    best = torch.full((int(rows.turn.max()) + 1,), turn.shape[1], dtype=torch.long)
    best = best.scatter_reduce(0, turn[where], place[where], "amin")
    return where & (place == best[turn.clamp_min(0)])


def _at(rows: Rows, where: Tensor, values: Tensor, turns: int) -> Tensor:
    """(T,): the value at the one token of each turn for which `where` holds; 0 where there is none."""
    out = torch.zeros(turns, dtype=values.dtype)
    out[rows.turn[where]] = values[where]
    return out


def _of_turns(rows: Rows, where: Tensor, turns: int) -> Tensor:
    """(B, L): whether `where` holds for any token of the token's turn."""
    has = torch.zeros(turns, dtype=torch.bool).index_fill(0, rows.turn[where & rows.mask], True)
    return has[rows.turn.clamp_min(0)] & rows.mask


def _has(rows: Rows, role: Role) -> Tensor:
    return rows.mask & ((rows.roles & int(role)) != 0)
