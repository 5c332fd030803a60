"""Advantages without a critic: a sum of terms, each a return, centred and scaled within a group.

    advantages(table, [Term()])                                                   # GRPO
    advantages(table, [Term(horizon="togo", group="prompt+turn", baseline="loo", scale="none", singleton="raw")])   # TRLOO

All statistics are of rollouts or of turns, never of training rows; so cutting a rollout into more segments changes nothing,
and a long rollout weighs no more than a short one. Values are float64, one a turn: (T,).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from memctx.errors import ConfigError
from memctx.train.batch import Table, table_of
from memctx.train.rollouts import Role, Rollout, Turn

if TYPE_CHECKING:
    from memctx.train.algorithm import Algorithm

Horizon = Literal["episode", "togo", "immediate"]
Grouping = Literal["prompt", "prompt+turn", "prompt+anchor", "batch"]
Baseline = Literal["mean", "loo", "none"]
Scale = Literal["std", "popstd", "batch", "none"]
EPS = 1e-6
POP_EPS = 1e-8  # where the population's deviation scales, as in the code of MICA


@dataclass(frozen=True, slots=True)
class Term:
    """One summand of the advantage: weight * norm(return).

    `signal`: what `Table.signal` knows. `horizon`: "episode", the rollout's whole return for each of its turns; "togo", from
    the turn on, discounted by `gamma` a turn; "immediate", the turn's own. `group`: what a return is compared with.
    `baseline`: the group's mean, the mean of the others ("loo"), or none. `scale`: by the deviation of the group, of the
    sample or the population, or of all centred values ("batch"). `singleton`: what a value alone in its group becomes, 0 or
    itself. `order`: "norm_then_return" normalises rewards and then sums them up (IGPO). `nonzero`: only turns whose signal is
    not 0 enter the statistics and get a value (InfoPO). `gate` (table, values) -> (T,) factors. `roles`: the tokens it is
    for; 0: all of the turn.
    """

    signal: str = "outcome"
    horizon: Horizon = "episode"
    gamma: float = 1.0
    group: Grouping = "prompt"
    baseline: Baseline = "mean"
    scale: Scale = "std"
    singleton: Literal["zero", "raw"] = "zero"
    order: Literal["return_then_norm", "norm_then_return"] = "return_then_norm"
    weight: float = 1.0
    nonzero: bool = False
    gate: Callable[[Table, Tensor], Tensor] | None = None
    roles: Role = Role.CONTEXT


Post = Callable[[Table, Tensor], Tensor]


def advantages(table: Table, terms: Sequence[Term], post: Sequence[Post] = ()) -> Tensor:
    """(T,): the sum of the terms, then `post` in order. Terms with `roles` are summed by `by_role`, not here."""
    total = torch.zeros(len(table), dtype=torch.float64)
    for each in terms:
        if not each.roles:
            total = total + value(table, each)
    for step in post:
        total = step(table, total)
    return total


def turn_advantages(
    preset: str | Algorithm, turn_rewards: Sequence[Sequence[float]], outcomes: Sequence[float] | None = None
) -> list[list[float]]:
    """Advantages of the turns of one prompt's rollouts under a preset, by name or as an algorithm.

    `turn_rewards`: all that each turn was paid, the outcome on the last one included, for terms that pay turns. `outcomes`:
    for terms that look at outcomes only; by default the sums of the turns. Raises `ConfigError` for a preset with a critic.
    """
    from memctx.train import presets
    from memctx.train.losses import PolicyLoss

    algorithm = presets.preset(preset) if isinstance(preset, str) else preset
    if algorithm.critic is not None or not isinstance(algorithm.loss, PolicyLoss):
        raise ConfigError(
            f"{preset} takes no advantages from rewards alone: use one without critic or pairs", field="preset"
        )
    ends = [sum(each) for each in turn_rewards] if outcomes is None else list(outcomes)
    if len(ends) != len(turn_rewards) or not turn_rewards:
        text = f"{len(turn_rewards)} rollouts and {len(ends)} outcomes: give one of each a rollout, at least one"
        raise ConfigError(text, field="outcomes")
    rollouts = [
        Rollout(
            str(i),
            "",
            outcome={"task": end},
            turns=[Turn(t, 0, (0, 1), reward={"paid": x}) for t, x in enumerate(paid)],
        )
        for i, (end, paid) in enumerate(zip(ends, turn_rewards, strict=True))
    ]
    terms = [each if each.signal == "outcome" else replace(each, signal="turns") for each in algorithm.terms]
    table = table_of(rollouts)
    found = advantages(table, terms, algorithm.post)
    return [found[table.rollout == i].tolist() for i in range(len(rollouts))]


def by_role(table: Table, terms: Sequence[Term]) -> dict[Role, Tensor]:
    """Role -> (T,) of the terms that are for tokens of that role only."""
    found: dict[Role, Tensor] = {}
    for each in terms:
        if each.roles:
            found[each.roles] = found.get(each.roles, torch.zeros(len(table), dtype=torch.float64)) + value(table, each)
    return found


def value(table: Table, term: Term) -> Tensor:
    """(T,): one term."""
    signal = table.signal(term.signal)
    if term.order == "norm_then_return":
        found = returns(table, _normed(table, term, signal), term.horizon, term.gamma)
    elif term.horizon == "episode":
        found = _normed_episodes(table, term, signal)
    else:
        found = _normed(table, term, returns(table, signal, term.horizon, term.gamma))
    if term.gate is not None:
        found = found * term.gate(table, found)
    return term.weight * found


def returns(table: Table, signal: Tensor, horizon: Horizon, gamma: float = 1.0) -> Tensor:
    """(T,): what each turn is paid: its own, the discounted rest of the rollout, or the rollout's plain sum."""
    if horizon == "immediate":
        return signal
    if horizon == "episode":
        return _sums(signal, table.rollout, table.rollouts)[table.rollout]
    place, longest = _places(table)
    grid = torch.zeros(table.rollouts, longest, dtype=signal.dtype)
    grid[table.rollout, place] = signal
    return discounted(grid, gamma)[table.rollout, place]


def discounted(values: Tensor, decay: float | Tensor) -> Tensor:
    """(..., N): y[n] = x[n] + decay * y[n + 1], from the end. `decay` may be a tensor like `values`."""
    out = torch.empty_like(values)
    tail = torch.zeros_like(values[..., 0])
    for n in range(values.shape[-1] - 1, -1, -1):
        factor = decay[..., n] if isinstance(decay, Tensor) else decay
        tail = values[..., n] + factor * tail
        out[..., n] = tail
    return out


def centred(
    x: Tensor, key: Tensor, baseline: Baseline = "mean", scale: Scale = "std", singleton: str = "zero"
) -> Tensor:
    """(N,): each value less its group's baseline, over a deviation. `key` (N,) >= 0 tells the group.

    A group without spread gives zeros.
    """
    if not len(x):
        return x
    count = torch.bincount(key)[key].to(x.dtype)
    mean = _sums(x, key, int(key.max()) + 1)[key] / count
    found = x if baseline == "none" else x - mean
    if baseline == "loo":
        found = found * count / (count - 1).clamp_min(1)
    if baseline != "none":
        found = torch.where(count > 1, found, x if singleton == "raw" else torch.zeros_like(x))
    if scale == "batch":
        return found / (_deviation(found) + EPS)
    if scale != "none":
        return found / (_deviations(x, key, scale) + (POP_EPS if scale == "popstd" else EPS))
    return found


def _deviations(x: Tensor, key: Tensor, scale: Scale) -> Tensor:
    """(N,): the deviation of each value's group; of the sample (n - 1) or of the population. 1 for a value alone."""
    count = torch.bincount(key)[key].to(x.dtype)
    groups = int(key.max()) + 1
    gap = x - _sums(x, key, groups)[key] / count
    spread = (_sums(gap * gap, key, groups)[key] / (count if scale == "popstd" else (count - 1).clamp_min(1))).sqrt()
    return torch.where(count > 1, spread, torch.ones_like(spread))


def _deviation(x: Tensor) -> Tensor:
    """Of the sample; 0 for fewer than two values."""
    return x.std() if len(x) > 1 else torch.zeros((), dtype=x.dtype)


def clamp(limit: float) -> Post:
    """Post: at most `limit` either way."""
    return lambda table, values: values.clamp(-limit, limit)


def times(factor: Tensor) -> Post:
    """Post: a factor a rollout, (R,), such as SeeUPO's accumulated ratio."""
    return lambda table, values: values * factor[table.rollout]


def where_outcomes_agree(sharpness: float = 0.05) -> Callable[[Table, Tensor], Tensor]:
    """Gate of InfoPO (2603.00656): sigmoid(-deviation of the group's outcomes / sharpness), 1/2 where they are all equal.

    It also keeps the term from being louder than the outcome: times min(1, max(deviation of the outcome's advantage, 1) /
    deviation of the term's values).
    """

    def gate(table: Table, values: Tensor) -> Tensor:
        total = sum(table.outcome.values(), torch.zeros(table.rollouts, dtype=torch.float64))
        spread = _deviations(total, table.group, "popstd")
        outer = centred(total, table.group)
        loud = _deviation(values[values != 0])
        scale = torch.clamp(_deviation(outer).clamp_min(1) / loud.clamp_min(EPS), max=1)
        return torch.sigmoid(-spread / sharpness)[table.rollout] * scale

    return gate


def _normed(table: Table, term: Term, x: Tensor) -> Tensor:
    key = _key(table, term.group)
    if not term.nonzero:
        return centred(x, key, term.baseline, term.scale, term.singleton)
    counted = table.signal(term.signal) != 0
    out = torch.zeros_like(x)
    out[counted] = centred(x[counted], key[counted], term.baseline, term.scale, term.singleton)
    return out


def _normed_episodes(table: Table, term: Term, signal: Tensor) -> Tensor:
    """One value a rollout, compared with rollouts: a rollout of many turns counts once."""
    if term.group not in ("prompt", "batch"):
        text = f"group = {term.group!r} with horizon 'episode': whole rollouts are compared by 'prompt' or 'batch'"
        raise ConfigError(text, field="group")
    total = _sums(signal, table.rollout, table.rollouts)
    key = table.group if term.group == "prompt" else torch.zeros_like(table.group)
    return centred(total, key, term.baseline, term.scale, term.singleton)[table.rollout]


def _key(table: Table, group: Grouping) -> Tensor:
    """(T,) numbers of groups, from 0."""
    prompt = table.group[table.rollout]
    if group == "batch":
        return torch.zeros_like(prompt)
    if group == "prompt":
        return prompt
    if group == "prompt+turn":
        return _pairs(prompt, table.t)
    alone = -2 - torch.arange(len(prompt))  # a turn without an anchor is like no other
    anchor = torch.where(table.anchor >= 0, table.anchor, alone)
    return _pairs(prompt, anchor)


def _pairs(a: Tensor, b: Tensor) -> Tensor:
    """(N,) equal pairs as equal numbers from 0."""
    numbers: Tensor = torch.unique(torch.stack([a, b]), dim=1, return_inverse=True)[1]
    return numbers


def _places(table: Table) -> tuple[Tensor, int]:
    """(T,) each turn's place among the turns of its rollout, and the most turns of one."""
    count = torch.bincount(table.rollout, minlength=table.rollouts)
    starts = torch.cumsum(count, 0) - count
    return torch.arange(len(table)) - starts[table.rollout], int(count.max())


def _sums(x: Tensor, key: Tensor, size: int) -> Tensor:
    out: Tensor = torch.zeros(size, dtype=x.dtype).index_add(0, key, x)
    return out
