"""Learning what to keep: hindsight labels first, then reinforcement on the recorded runs. Torch trains; NumPy runs the result."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from memctx.policies._features import COLUMNS
from memctx.policies._weights import Net
from memctx.train._keep_data import Decisions
from memctx.train.advantages import Term, advantages
from memctx.train.batch import Table

Array = NDArray[np.float32]
Step = Callable[[str, int, int], None]
RULE = COLUMNS.index("rule")
BATCH = 512
LARGE = 3_000  # tokens above which a result weighs no more in training


@dataclass(frozen=True, slots=True)
class Settings:
    """`hidden` 0 is a linear policy. `seeds` networks are taught and averaged, which is one network as wide as all.

    `share`: how much of what they learned beside the rules goes into the policy. Less than all of it, since a run may be of
    a kind that nobody taught: there what was learned is doubtful, and the rules are not.
    """

    hidden: int = 64
    seeds: int = 3
    epochs: int = 20
    lr: float = 5e-3
    decay: float = 0.03
    dropout: float = 0.3
    rl_epochs: int = 4
    rl_lr: float = 1e-3
    group: int = 4
    temperature: float = 0.5
    labels: float = 0.3  # weight of the labels beside the reward
    share: float = 0.4
    seed: int = 0


class Model(nn.Module):
    """Log odds (n, 2) of rows: what the hand-written rules alone would say, a `line` (slope, bias) in their own log odds, and
    beside it what a network of the standardised rows has learned."""

    def __init__(self, rows: Array, line: Tensor, settings: Settings) -> None:
        super().__init__()
        self.mean = torch.from_numpy(rows.mean(0))
        self.scale = torch.from_numpy(rows.std(0) + 5e-2)
        self.line = line
        width = settings.hidden or rows.shape[1]
        self.drop = nn.Dropout(settings.dropout if settings.hidden else 0.0)
        self.first = nn.Linear(rows.shape[1], settings.hidden) if settings.hidden else None
        self.last = nn.Linear(width, 2)
        nn.init.zeros_(self.last.weight)

    def forward(self, rows: Tensor) -> Tensor:
        x = self.drop((rows - self.mean) / self.scale)
        if self.first is not None:
            x = self.drop(torch.relu(self.first(x)))
        learned: Tensor = self.last(x)
        return self.line[1] + self.line[0] * rows[:, RULE, None] + learned


def rules_line(rows: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """(2, 2): slope and bias of each output by the log odds of the rules alone, least cross-entropy; held off infinity."""
    line = torch.zeros(2, 2, requires_grad=True)
    optimizer = torch.optim.LBFGS([line], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        odds = line[1] + line[0] * rows[:, RULE, None]
        each = binary_cross_entropy_with_logits(odds, target, reduction="none").mean(1)
        found = (each * weight).mean() + 1e-4 * line.square().sum()
        found.backward()  # type: ignore[no-untyped-call]  # torch's own
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]  # torch's own
    return line.detach()


def labels(parts: Sequence[Decisions], settings: Settings, watch: Step) -> list[Model]:
    """Taught by hindsight: cross-entropy, each file by its decisions, each result by the root of its tokens."""
    rows = np.concatenate([part.rows for part in parts])
    target = torch.from_numpy(_targets(parts))
    weight = torch.from_numpy(_weights(parts))
    found, data = list[Model](), torch.from_numpy(rows)
    line = rules_line(data, target, weight)
    for number in range(settings.seeds):
        torch.manual_seed(settings.seed * 1_000 + number)
        model = Model(rows, line, settings)
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=settings.decay)
        for epoch in range(settings.epochs):
            for batch in _batches(len(data), BATCH):
                loss = _label_loss(model, data[batch], target[batch], weight[batch])
                _update(model, optimizer, loss)
            _slow(optimizer, settings.lr, (epoch + 1) / settings.epochs)
            watch("labels", number * settings.epochs + epoch + 1, settings.seeds * settings.epochs)
        found.append(model)
    return found


def reinforce(models: Sequence[Model], parts: Sequence[Decisions], settings: Settings, watch: Step) -> list[Model]:
    """Copies taught further by reward: tokens saved less `loss` for each need lost, `group` samples of what is kept a result.

    The loss is drawn anew for each result, so that one policy serves every price.
    """
    chains = _chains(parts)
    rows = torch.from_numpy(np.concatenate([part.rows for part in parts]))
    target, weight = torch.from_numpy(_targets(parts)), torch.from_numpy(_weights(parts))
    found = []
    for number, model in enumerate(map(copy.deepcopy, models)):
        torch.manual_seed(settings.seed * 1_000 + 500 + number)
        optimizer = torch.optim.AdamW(model.parameters(), lr=settings.rl_lr, weight_decay=settings.decay)
        for epoch in range(settings.rl_epochs):
            for batch in _batches(len(chains.place), BATCH // 2):
                some = torch.randint(len(rows), (BATCH,))
                loss = _reward_loss(model, rows, chains, batch, settings)
                loss = loss + settings.labels * _label_loss(model, rows[some], target[some], weight[some])
                _update(model, optimizer, loss)
            _slow(optimizer, settings.rl_lr, (epoch + 1) / settings.rl_epochs)
            watch("reward", number * settings.rl_epochs + epoch + 1, len(models) * settings.rl_epochs)
        found.append(model)
    return found


def exported(models: Sequence[Model], share: float) -> Net:
    """The rules' line and `share` of the mean of what the models learned, as one network in NumPy, standardising folded in."""
    slope, bias = _numpy(models[0].line)
    if models[0].first is None:
        pairs = [_standardised(model, model.last) for model in models]
        weight = share * np.mean([weight for weight, _ in pairs], axis=0)
        weight[RULE] += slope
        return Net(((_single(weight), _single(bias + share * np.mean([bias for _, bias in pairs], axis=0))),))
    firsts = [_standardised(model, model.first) for model in models if model.first is not None]
    rule = np.zeros((len(COLUMNS), 2), np.float32)
    rule[RULE] = (1, -1)  # relu(x) - relu(-x) = x: the rules' log odds pass through
    first = np.concatenate([*(weight for weight, _ in firsts), rule], axis=1)
    lasts = [share / len(models) * _numpy(model.last.weight).T for model in models]
    last = np.concatenate([*lasts, np.stack([slope, -slope])])
    middle = np.concatenate([*(bias for _, bias in firsts), np.zeros(2, np.float32)])
    end = bias + share * np.mean([_numpy(model.last.bias) for model in models], axis=0)
    return Net(((_single(first), _single(middle)), (_single(last), _single(end))))


@dataclass(frozen=True, slots=True)
class _Chains:
    """By result, (R, L) padded: `place` of its entries in order of calls, `real`, `tokens` and `hits` of each; (R,) `scale`."""

    place: Tensor
    real: Tensor
    tokens: Tensor
    hits: Tensor
    scale: Tensor


def _chains(parts: Sequence[Decisions], longest: int = 40) -> _Chains:
    places: list[NDArray[np.int64]] = []
    scale: list[float] = []
    start = 0
    for part in parts:
        order = np.argsort(part.result, kind="stable")
        cuts = np.flatnonzero(np.diff(part.result[order])) + 1
        stretches = [stretch[:longest] + start for stretch in np.split(order, cuts) if len(stretch)]
        places += stretches
        scale += [max(1.0, float(part.hits.sum())) ** -0.5] * len(stretches)
        start += len(part.tokens)
    place = np.zeros((len(places), max(map(len, places), default=1)), np.int64)
    real = np.zeros(place.shape, np.float32)
    for row, stretch in enumerate(places):
        place[row, : len(stretch)] = stretch
        real[row, : len(stretch)] = 1
    tokens = np.concatenate([part.tokens for part in parts])[place] * real
    hits = np.concatenate([part.hits for part in parts])[place] * real
    floats = (torch.from_numpy(each.astype(np.float32)) for each in (real, tokens, hits, np.array(scale)))
    return _Chains(torch.from_numpy(place), *floats)


def _reward_loss(model: Model, rows: Tensor, chains: _Chains, batch: Tensor, settings: Settings) -> Tensor:
    """Policy gradient: at each call the result is kept with the odds (chance * loss / tokens) ** (1 / temperature)."""
    real = chains.real[batch]
    real = real[:, : int(real.sum(1).max())]
    width = real.shape[1]
    place, tokens, hits = (each[batch, :width] for each in (chains.place, chains.tokens, chains.hits))
    chance = torch.zeros(real.shape)
    chance[real > 0] = logsigmoid(model(rows[place[real > 0]])[:, 0])
    price = torch.empty(len(batch), 1).uniform_(5.7, 12.6)  # log of 300 to 300,000 tokens a need
    odds = (chance + price - tokens.clamp_min(1).log()) / settings.temperature
    with torch.no_grad():
        kept = (torch.rand(settings.group, *odds.shape) < odds.sigmoid()) | (real == 0)
        stands = kept.float().cumprod(2)
        asked = torch.cat([torch.ones_like(stands[:, :, :1]), stands[:, :, :-1]], 2) * real
        reward = stands * (hits * price.exp() - tokens) * (-0.5 * price).exp() / 100
        gain = _advantages(reward * real, real) * chains.scale[batch, None]
    said = torch.where(kept, logsigmoid(odds), logsigmoid(-odds))
    return -(said * gain * asked).sum(2).mean()


def _advantages(reward: Tensor, real: Tensor) -> Tensor:
    """(G, R, L): reward to go less the mean of the group's others at the same call: the term of TRLOO."""
    group, results, calls = reward.shape
    rollout = torch.arange(results * group).repeat_interleave(calls)
    none = torch.zeros(len(rollout), dtype=torch.long)
    table = Table(
        rollout=rollout,
        t=torch.arange(calls).repeat(results * group),
        module=none,
        anchor=none - 1,
        last=torch.arange(calls).repeat(results * group) == calls - 1,
        switch=none.bool(),
        reward={"kept": reward.permute(1, 0, 2).reshape(-1).double()},
        group=torch.arange(results).repeat_interleave(group),
        outcome={},
        truncated=torch.zeros(results * group, dtype=torch.bool),
        ids=(),
        modules=("keep",),
    )
    term = Term(signal="kept", horizon="togo", group="prompt+turn", baseline="loo", scale="none")
    found = advantages(table, [term]).reshape(results, group, calls).permute(1, 0, 2)
    return found.float() * real


def _label_loss(model: Model, rows: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    each = binary_cross_entropy_with_logits(model(rows), target, reduction="none").mean(1)
    return (each * weight).mean()


def _batches(count: int, size: int) -> tuple[Tensor, ...]:
    return torch.tensor_split(torch.randperm(count), max(1, round(count / size)))


def _update(model: Model, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()


def _slow(optimizer: torch.optim.Optimizer, lr: float, done: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr * (1 - done) + 1e-5


def _targets(parts: Sequence[Decisions]) -> Array:
    return np.concatenate([np.stack([part.needed, part.beyond], 1) for part in parts]).astype(np.float32)


def _weights(parts: Sequence[Decisions]) -> Array:
    found = []
    for part in parts:
        often = np.bincount(part.result, minlength=1)[part.result] if len(part.result) else np.ones(0)
        weight = np.sqrt(np.minimum(part.tokens, LARGE) / np.maximum(often, 1))
        found.append(weight / max(1e-9, float(weight.mean())) if len(weight) else weight)
    joined = np.concatenate(found)
    return _single(joined / joined.mean())


def _standardised(model: Model, layer: nn.Linear) -> tuple[Array, Array]:
    """A first layer's weight (D, H) and bias (H,) for rows as they come."""
    weight = _numpy(layer.weight).T / _numpy(model.scale)[:, None]
    return _single(weight), _single(_numpy(layer.bias) - _numpy(model.mean) @ weight)


def _numpy(tensor: Tensor) -> Array:
    return _single(tensor.detach().numpy())


def _single(array: NDArray[Any]) -> Array:
    found: Array = array.astype(np.float32)
    return found
