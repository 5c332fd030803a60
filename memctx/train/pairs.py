"""Which rollouts stand against which, for the losses over pairs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from memctx.errors import TrainingError
from memctx.train.algorithm import PairLoss, WeightedNLL
from memctx.train.batch import Batch
from memctx.train.losses import mdpo, mkto, refuel, span_sums, weighted_nll
from memctx.train.rollouts import Rollout


def whole_loss(
    spec: PairLoss | WeightedNLL, logp: Tensor, before: Tensor, batch: Batch, rollouts: Sequence[Rollout]
) -> Tensor:
    """A loss that needs all rows of a rollout at once. `logp`, `before` (B, L): of the policy, and of what it is held against."""
    rows, table = batch.rows, batch.table
    reward = torch.tensor([sum(each.outcome.values()) for each in rollouts], dtype=logp.dtype)
    if isinstance(spec, WeightedNLL):
        total, count = (span_sums(x, rows, table, "last_turn") for x in (logp, torch.ones_like(logp)))
        return weighted_nll(total, count, reward, spec.temperature)
    shift = logp - before
    if spec.kind == "refuel":
        return _refuel(spec, span_sums(shift, rows, table, "turn"), reward, batch, rollouts)
    whole = span_sums(shift, rows, table, "rollout")
    groups = [(table.group == number).nonzero()[:, 0] for number in range(int(table.group.max()) + 1)]
    told = [group for group in groups if float(reward[group].max()) > float(reward[group].min())]
    if not told:
        return (whole * 0).sum()
    if spec.kind == "mkto":
        good = torch.cat([reward[group] > reward[group].mean() for group in told])
        return mkto(whole[torch.cat(told)], good, spec.eta)
    best, worst = ([int(group[pick(reward[group])]) for group in told] for pick in (torch.argmax, torch.argmin))
    return mdpo(whole, torch.tensor(best), torch.tensor(worst), spec.eta)


def _refuel(spec: PairLoss, turns: Tensor, reward: Tensor, batch: Batch, rollouts: Sequence[Rollout]) -> Tensor:
    """The two of a `meta["pair"]`, at the turn `meta["from"]` in which they part."""
    table = batch.table
    where = {(r, int(table.t[i])): i for i, r in enumerate(table.rollout.tolist())}
    pairs: dict[tuple[str, int], list[int]] = {}
    for number, each in enumerate(rollouts):
        if {"pair", "from"} <= each.meta.keys():
            pairs.setdefault((each.group, each.meta["pair"]), []).append(number)
    whole = [pair for pair in pairs.values() if len(pair) == 2]
    if not whole:
        raise TrainingError("REFUEL needs two rollouts that share meta['pair']: sample with ResampleFrom", field="meta")
    sides = [torch.tensor([where[n, rollouts[n].meta["from"]] for n in side]) for side in zip(*whole, strict=True)]
    a, b = (torch.tensor(side) for side in zip(*whole, strict=True))
    shift, paid = torch.cat([turns[side] for side in sides]), torch.cat([reward[a], reward[b]])
    own = torch.arange(len(a))
    return refuel(shift, paid, own, own + len(a), spec.eta)
