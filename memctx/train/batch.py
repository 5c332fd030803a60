"""A batch: rollouts flattened to index arrays and (B, L) tensors, which is all that advantages and losses look at.

R rollouts, T turns, B rows (a row is a segment), L tokens, prompts included. Statistics are always taken over the tables of
turns and rollouts, never over rows: a rollout counts once, however many segments it was cut into. All of it stays on the CPU:
only ids go to where the model runs, and log-probs come back.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from memctx.errors import ConfigError
from memctx.train.rollouts import Role, Rollout

FULL = ("finished", "error")


@dataclass(frozen=True, slots=True)
class Table:
    """Turns and the rollouts they belong to.

    By turn, (T,): `rollout`, `t`, `module`, `anchor` (numbers of equal keys; -1: none), `last` of its rollout, `switch`
    (probe: a subgoal begins), `reward` by name.
    By rollout, (R,): `group`, `outcome` by name, `truncated`. Turns stand in order, rollout by rollout.
    """

    rollout: Tensor
    t: Tensor
    module: Tensor
    anchor: Tensor
    last: Tensor
    switch: Tensor
    reward: dict[str, Tensor]
    group: Tensor
    outcome: dict[str, Tensor]
    truncated: Tensor
    ids: tuple[str, ...]
    modules: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rollout)

    @property
    def rollouts(self) -> int:
        """R."""
        return len(self.group)

    def signal(self, name: str) -> Tensor:
        """(T,) reward of each turn: "turns", all components; "outcome", the rollout's on its last turn; "sum", both; or one name."""
        zero = torch.zeros(len(self), dtype=torch.float64)
        turns = sum(self.reward.values(), zero)
        outcome = sum(self.outcome.values(), torch.zeros(self.rollouts, dtype=torch.float64))
        ending = torch.where(self.last, outcome[self.rollout], zero)
        known = {"turns": turns, "outcome": ending, "sum": turns + ending, **self.reward}
        if name in self.outcome and name not in known:
            return torch.where(self.last, self.outcome[name][self.rollout], zero)
        if name not in known:
            names = ", ".join([*known, *self.outcome])
            raise ConfigError(f"signal {name!r} is not known: use one of {names}", field="signal")
        return known[name]


@dataclass(frozen=True, slots=True)
class Rows:
    """Training sequences, (B, L): `ids`, `attend` (1: no padding), `turn` (index into the table, -1: not trained), `roles`.

    `rollout`, `segment` (B,). `sampler`: log-probs as recorded; `old`: of the policy that acted, as the trainer sees it, the
    sampler's unless computed anew. Position l holds what is told of token l, so its log-prob comes from the output at l - 1.
    """

    ids: Tensor
    attend: Tensor
    turn: Tensor
    roles: Tensor
    sampler: Tensor
    old: Tensor
    rollout: Tensor
    segment: Tensor

    @property
    def mask(self) -> Tensor:
        """(B, L): the tokens that are trained."""
        return self.turn >= 0

    def take(self, index: Tensor) -> Rows:
        """The rows at `index`, padding that nobody needs cut off."""
        kept = {name: getattr(self, name)[index] for name in self.__slots__}
        width = int(kept["attend"].sum(1).max()) if len(index) else 0
        wide = ("ids", "attend", "turn", "roles", "sampler", "old")
        return Rows(**{name: kept[name][:, :width] if name in wide else kept[name] for name in kept})

    def split(self, tokens: int) -> Iterator[tuple[Tensor, Rows]]:
        """(row numbers, rows) of at most `tokens` each: short rows together, so that little is padded."""
        lengths = self.attend.sum(1)
        order = torch.argsort(lengths, stable=True)
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * int(lengths[order[end]]) <= tokens:
                end += 1
            index = order[start:end]
            yield index, self.take(index)
            start = end

    def parts(self, tokens: int) -> Iterator[Rows]:
        """As many rows at once as fit into `tokens`, in order; each part keeps its own width. See `joined`."""
        step = max(1, tokens // max(1, self.ids.shape[1]))
        for start in range(0, len(self.ids), step):
            yield self.take(torch.arange(start, min(start + step, len(self.ids))))


def joined(parts: Sequence[Tensor]) -> Tensor:
    """What was made of `Rows.parts`, (B', L', ...) each, as one tensor as wide as the widest."""
    width = max(part.shape[1] for part in parts)
    return torch.cat([torch.cat([p, p.new_zeros(len(p), width - p.shape[1], *p.shape[2:])], dim=1) for p in parts])


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows and the table they point into."""

    table: Table
    rows: Rows

    def with_old(self, old: Tensor) -> Batch:
        """With log-probs (B, L) computed anew: for replayed rollouts, and where trainer and sampler differ."""
        return replace(self, rows=replace(self.rows, old=old))


def collate(rollouts: Sequence[Rollout], *, train_modules: Collection[str] | None = None, pad: int = 0) -> Batch:
    """Rollouts as one batch. `train_modules`: the modules that learn; None: all. Raises `ConfigError`.

    A turn whose probe["rejected"] is true is not trained, though its rewards count.
    """
    if not rollouts:
        raise ConfigError("there are no rollouts to train on", field="rollouts")
    for each in rollouts:
        each.check()
    return Batch(table_of(rollouts), _rows(rollouts, train_modules, pad))


def table_of(rollouts: Sequence[Rollout]) -> Table:
    """The table alone: what advantages need."""
    turns = [(number, turn) for number, rollout in enumerate(rollouts) for turn in rollout.turns]
    last = {number: index for index, (number, _) in enumerate(turns)}
    modules = tuple(dict.fromkeys(turn.module for _, turn in turns))
    groups = [rollout.group for rollout in rollouts]
    anchors = [(rollouts[number].group, turn.anchor) if turn.anchor else None for number, turn in turns]
    return Table(
        rollout=torch.tensor([number for number, _ in turns], dtype=torch.long),
        t=torch.tensor([turn.t for _, turn in turns], dtype=torch.long),
        module=torch.tensor([modules.index(turn.module) for _, turn in turns], dtype=torch.long),
        anchor=_numbered(anchors),
        last=torch.tensor([last[number] == index for index, (number, _) in enumerate(turns)], dtype=torch.bool),
        switch=torch.tensor([bool(turn.probe.get("switch")) for _, turn in turns], dtype=torch.bool),
        reward=_columns([turn.reward for _, turn in turns]),
        group=_numbered(groups),
        outcome=_columns([rollout.outcome for rollout in rollouts]),
        truncated=torch.tensor([rollout.status not in FULL for rollout in rollouts], dtype=torch.bool),
        ids=tuple(rollout.id for rollout in rollouts),
        modules=modules,
    )


def _numbered(keys: Iterable[Hashable]) -> Tensor:
    """Equal keys as equal numbers, in order of appearance; None as -1."""
    seen: dict[Hashable, int] = {}
    numbers = [-1 if key is None else seen.setdefault(key, len(seen)) for key in keys]
    return torch.tensor(numbers, dtype=torch.long)


def _columns(rows: Sequence[dict[str, float]]) -> dict[str, Tensor]:
    """Named rewards as one column a name; who does not have it has 0."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: torch.tensor([row.get(name, 0.0) for row in rows], dtype=torch.float64) for name in names}


def _rows(rollouts: Sequence[Rollout], train_modules: Collection[str] | None, pad: int) -> Rows:
    segments = [(number, place) for number, rollout in enumerate(rollouts) for place in range(len(rollout.segments))]
    sizes = [len(rollouts[number].segments[place].ids) for number, place in segments]
    shape = (len(segments), max(sizes, default=0))
    ids = torch.full(shape, pad, dtype=torch.long)
    attend, roles = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    turn, old = torch.full(shape, -1, dtype=torch.long), torch.zeros(shape, dtype=torch.float32)
    row_of = {}
    for row, (number, place) in enumerate(segments):
        segment = rollouts[number].segments[place]
        start, end = len(segment.prompt), sizes[row]
        ids[row, :end] = torch.from_numpy(segment.ids)
        attend[row, :end] = 1
        roles[row, start:end] = torch.from_numpy(segment.roles)
        old[row, start:end] = torch.from_numpy(segment.logp)
        row_of[number, place] = (row, start)
    index = 0
    for number, rollout in enumerate(rollouts):
        for each in rollout.turns:
            if (train_modules is None or each.module in train_modules) and not each.probe.get("rejected"):
                row, start = row_of[number, each.segment]
                turn[row, start + each.span[0] : start + each.span[1]] = index
            index += 1
    trained = roles & int(Role.SAMPLED)
    turn = torch.where(trained != 0, turn, -1)
    at = torch.tensor(segments, dtype=torch.long).reshape(-1, 2)
    return Rows(ids, attend, turn, roles, old, old, at[:, 0], at[:, 1])
