"""Advantages with a critic: generalised advantage estimation over tokens, turns, both, or a hierarchy.

GAE (Schulman et al., 2016): delta = r + gamma * V' - V; A = delta + gamma * lam * A'. Each estimator runs along a whole
rollout: it jumps over observations, and it chains across segments, so the last trained token of a segment looks to the
value at the first trained token of the next, which stands in another context. Values and rewards are (R, N) grids, one row a
rollout, with `mask` (R, N) for what is there; rows are filled from the left.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from memctx.train.advantages import discounted
from memctx.train.batch import Batch, Rows, Table


def gae(
    reward: Tensor, value: Tensor, mask: Tensor, gamma: float = 1.0, lam: float = 1.0, final: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(R, N) advantages and returns (advantage + value). `final` (R,): the value after the end of a truncated rollout."""
    keep = mask.to(value.dtype)
    value = value * keep
    length = mask.sum(-1, keepdim=True)
    after = torch.cat([value[:, 1:], torch.zeros_like(value[:, :1])], dim=1)
    if final is not None:
        ends = torch.arange(value.shape[1], device=value.device)[None] == length - 1
        after = torch.where(ends, final[:, None], after)
    delta = (reward + gamma * after - value) * keep
    advantage = discounted(delta, gamma * lam) * keep
    return advantage, advantage + value


@dataclass(frozen=True, slots=True)
class Track:
    """Where the trained tokens of each rollout stand: `index` (R, N) into a flattened (B * L) tensor, `mask` (R, N).

    Tokens stand in the order they were sampled: segment by segment.
    """

    index: Tensor
    mask: Tensor

    def read(self, x: Tensor) -> Tensor:
        """(B, L) -> (R, N); 0 where a rollout has ended."""
        return torch.where(self.mask, x.flatten()[self.index], torch.zeros((), dtype=x.dtype, device=x.device))

    def write(self, x: Tensor, like: Tensor) -> Tensor:
        """(R, N) -> (B, L) as `like`; 0 where no token is trained."""
        flat = torch.zeros(like.numel(), dtype=x.dtype, device=x.device)
        flat[self.index[self.mask]] = x[self.mask]
        return flat.view(like.shape)


def track(rows: Rows, rollouts: int) -> Track:
    """The trained tokens of each rollout, chained across its segments."""
    row, _, index = _sampled(rows)
    return _grid(rows.rollout[row], index, rollouts)


def token_gae(
    batch: Batch, values: Tensor, signal: Tensor, gamma: float = 1.0, lam: float = 1.0, final: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(B, L) advantages and returns. `values` (B, L): V of the state before each token. `signal` (T,): a reward on each
    turn's last token.
    """
    rows = batch.rows
    along = track(rows, batch.table.rollouts)
    reward = along.read(_on_last_token(rows, signal).to(values.dtype))
    advantage, returns = gae(reward, along.read(values), along.mask, gamma, lam, final)
    return along.write(advantage, values), along.write(returns, values)


def turn_gae(
    table: Table, values: Tensor, signal: Tensor, gamma: float = 1.0, lam: float = 1.0, final: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """(T,) advantages and returns; `values` (T,) read once a turn."""
    grid = _turns(table)
    advantage, returns = gae(grid.read(signal), grid.read(values), grid.mask, gamma, lam, final)
    return grid.write(advantage, values), grid.write(returns, values)


def bilevel_gae(  # noqa: PLR0913 - two levels and their discounts
    batch: Batch,
    turn_values: Tensor,
    values: Tensor,
    signal: Tensor,
    *,
    gamma_high: float = 0.95,
    lam_high: float = 1.0,
    gamma: float = 1.0,
    lam: float = 1.0,
    final: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """(T,) and (B, L) advantages: GAE over turns; A + V of a turn is then what its last token earns in a GAE inside the turn.

    RAGEN, VAGEN. `turn_values` (T,), such as `at_turns(rows, values)`; `values` (B, L). Whiten the tokens' afterwards if wanted.
    """
    high, returns = turn_gae(batch.table, turn_values, signal, gamma_high, lam_high, final)
    rows = batch.rows
    _, turn, index = _sampled(rows)
    along = _grid(turn, index, len(batch.table))
    reward = along.read(_on_last_token(rows, returns).to(values.dtype))
    low, _ = gae(reward, along.read(values), along.mask, gamma, lam)
    return high, along.write(low, values)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """HiPER's three advantages, (T,) each, and the returns its three heads are fitted to. `high` is 0 but at `boundary`."""

    low: Tensor
    high: Tensor
    term: Tensor
    low_returns: Tensor
    high_returns: Tensor
    term_returns: Tensor
    boundary: Tensor


def hierarchical(  # noqa: PLR0913 - three heads and their discounts
    table: Table,
    signal: Tensor,
    boundary: Tensor,
    low: Tensor,
    high: Tensor,
    term: Tensor,
    *,
    gamma: float = 1.0,
    lam_turn: float = 1.0,
    lam_segment: float = 0.95,
    bootstrap: Tensor | None = None,
) -> Hierarchy:
    """HiPER (2602.16165): GAE within each subgoal, over subgoals, and for the choice to switch.

    `boundary` (T,) is true where a subgoal begins: the first turn of a rollout and each SWITCH. `low`, `high`, `term` (T,):
    the heads' values. Inside a subgoal a turn looks to the next turn's low value; its last turn to the next subgoal's high
    value, which is not trained through. After the end comes 0, or, for rollouts (R,) to `bootstrap`, since they were cut off,
    the last turn's own low value and, for the levels above, the last subgoal's own high value.
    """
    grid = _turns(table)
    starts = grid.read(boundary.to(torch.bool))
    starts[:, 0] = grid.mask[:, 0]
    reward, v_low, v_high, v_term = (grid.read(x.to(torch.float64)) for x in (signal, low, high.detach(), term))
    cut = bootstrap if bootstrap is not None else torch.zeros(table.rollouts, dtype=torch.bool)
    found = [torch.zeros_like(v_low) for _ in range(3)]
    for number in range(table.rollouts):
        carried = torch.zeros((), dtype=torch.float64)
        for begin, end, final in _subgoals(starts[number], int(grid.mask[number].sum())):
            inside = (number, slice(begin, end))
            beyond = v_high[number, begin] * cut[number] if final else v_high[number, end]
            under = v_low[number, end - 1] * cut[number] if final else v_high[number, end]
            after = torch.cat([v_low[inside][1:], under[None]])
            found[0][inside] = discounted(reward[inside] + gamma * after - v_low[inside], gamma * lam_turn)
            togo = discounted(torch.cat([reward[inside], beyond[None]]), gamma)[:-1]
            carried = togo[0] - v_high[number, begin] + gamma ** (end - begin) * lam_segment * carried
            found[1][number, begin] = carried
            found[2][inside] = togo - v_term[inside]
    a_low, a_high, a_term, at = (grid.write(x, signal) for x in (*found, starts))
    return Hierarchy(a_low, a_high, a_term, a_low + low, (a_high + high.detach()) * at, a_term + term, at)


def _subgoals(starts: Tensor, length: int) -> Iterator[tuple[int, int, bool]]:
    """A rollout's subgoals, the last one first: its first turn, the turn after its last, and whether it is the last."""
    edges = [*starts[:length].nonzero().flatten().tolist(), length]
    for begin, end in reversed(list(itertools.pairwise(edges))):
        yield begin, end, end == length


def at_turns(rows: Rows, values: Tensor, turns: int, which: Literal["first", "last"] = "last") -> Tensor:
    """(T,): the value at each turn's first or last token; 0 for a turn that is not trained."""
    before, after = torch.roll(rows.turn, 1, 1), torch.roll(rows.turn, -1, 1)
    before[:, 0] = after[:, -1] = -1
    edge = rows.mask & ((after if which == "last" else before) != rows.turn)
    out = torch.zeros(turns, dtype=values.dtype, device=values.device)
    out[rows.turn[edge]] = values[edge]
    return out


def utterance_advantage(q: tuple[Tensor, Tensor], v: tuple[Tensor, Tensor]) -> Tensor:
    """(T,): min of two Q less min of two V, as ArCHer's actor takes it (2402.19446)."""
    return torch.minimum(*q) - torch.minimum(*v)


def utterance_targets(reward: Tensor, next_value: Tensor, gamma: float = 0.95) -> Tensor:
    """(T,): what ArCHer's Q is fitted to: r + gamma * V of the slow copy, which is 0 after the end."""
    return reward + gamma * next_value


def whiten(x: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the masked; the rest 0."""
    picked = x[mask]
    if picked.numel() < 2:
        return torch.zeros_like(x)
    return torch.where(mask, (x - picked.mean()) / (picked.std() + 1e-8), torch.zeros_like(x))


def _sampled(rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """Of the trained tokens (N,), in the order they were sampled: row, turn, and index into a flattened (B * L) tensor."""
    row, place = rows.mask.nonzero(as_tuple=True)
    turn, width = rows.turn[row, place], rows.ids.shape[1]
    order = torch.argsort(turn * width + place, stable=True)
    return row[order], turn[order], (row * width + place)[order]


def _grid(owner: Tensor, index: Tensor, owners: int) -> Track:
    """`index` (N,) with one row an owner. `owner` (N,) rises."""
    count = torch.bincount(owner, minlength=owners)
    at = torch.arange(len(owner), device=owner.device) - (torch.cumsum(count, 0) - count)[owner]
    shape = (owners, int(count.max()) if len(owner) else 0)
    grid = torch.zeros(shape, dtype=torch.long, device=owner.device)
    mask = torch.zeros(shape, dtype=torch.bool, device=owner.device)
    grid[owner, at] = index
    mask[owner, at] = True
    return Track(grid, mask)


def _turns(table: Table) -> Track:
    """The turns of each rollout; `index` into (T,)."""
    return _grid(table.rollout, torch.arange(len(table)), table.rollouts)


def _on_last_token(rows: Rows, signal: Tensor) -> Tensor:
    """(B, L): each turn's signal on its last token, 0 elsewhere."""
    after = torch.cat([rows.turn[:, 1:], torch.full_like(rows.turn[:, :1], -1)], dim=1)
    last = rows.mask & (after != rows.turn)
    return torch.where(last, signal[rows.turn.clamp_min(0)], torch.zeros((), dtype=signal.dtype))
