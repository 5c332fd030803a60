"""Engines: trainers and clusters of others that run our algorithms.

Every file here is one engine; this one says what an engine gets. An engine gets rows. A row is one segment with all that its
loss needs: ids, which tokens are trained, their log-probs under the policy that acted, advantages, and what each token's loss
counts in the whole batch. So an engine may cut a batch as it likes: the sum of `loss` over the parts, and its gradient, are those
of `memctx.train.trainer` on the same rollouts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memctx.errors import ConfigError, TrainingError
from memctx.train.algorithm import Algorithm
from memctx.train.batch import Batch, Rows, table_of
from memctx.train.learner import Learner
from memctx.train.losses import PolicyLoss, entropies, logprobs
from memctx.train.rollouts import Rollout
from memctx.train.schedules import Joint

PER_TOKEN = ("turn", "roles", "old", "advantage", "weight")


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Segment `segment` of the `segments` of a rollout. All tensors are (N,): one value a token, prompt included.

    `turn`: number of the turn a token is trained in, -1 where it is not; `old`: log-probs under the policy that acted; `weight`:
    what its loss counts; `reference`: log-probs of the reference, where the algorithm has one. `source`: the batch whose
    advantages these are.
    """

    rollout: str
    group: str
    segment: int
    segments: int
    source: int
    ids: Tensor
    turn: Tensor
    roles: Tensor
    old: Tensor
    advantage: Tensor
    weight: Tensor
    reference: Tensor | None = None


def fits(algorithm: Algorithm) -> PolicyLoss:
    """The algorithm's loss. Raises `ConfigError` for what is more than one step on rows that stand."""
    loss = algorithm.loss
    if not isinstance(loss, PolicyLoss):
        raise ConfigError(
            f"loss {type(loss).__name__} is over pairs or whole rollouts: use memctx.train.trainer", field="loss"
        )
    beyond = {
        "critic": algorithm.critic is not None,
        "smooth": algorithm.smooth is not None,
        "clip_bias": loss.clip_bias,
        "schedule": algorithm.schedule != Joint(),
    }
    for field, wanted in beyond.items():
        if wanted:
            raise ConfigError(
                f"{field}: an engine takes one step on each batch; use memctx.train.trainer for this", field=field
            )
    return loss


def rows_of(learner: Learner, rollouts: Sequence[Rollout]) -> list[Row]:
    """The rows of a batch, a rollout's segments side by side. Raises `ConfigError`, `TrainingError`."""
    spec = fits(learner.algorithm)
    ready = learner.ready(rollouts)
    rows = ready.batch.rows
    advantage = ready.advantage.to(rows.old.dtype)
    weight = spec.weights(ready.batch, advantage)
    found = []
    for at in range(len(rows.ids)):
        number, size = int(rows.rollout[at]), int(rows.attend[at].sum())
        run = ready.rollouts[number]
        whole = {"ids": rows.ids, "turn": rows.turn, "roles": rows.roles, "old": rows.old}
        whole |= {"advantage": advantage, "weight": weight}
        whole |= {} if ready.reference is None else {"reference": ready.reference}
        cut = {name: each[at, :size] for name, each in whole.items()}
        found.append(Row(run.id, run.group, int(rows.segment[at]), len(run.segments), learner.rounds, **cut))
    check(found)
    return found


def check(rows: Sequence[Row]) -> None:
    """Raises `TrainingError` for rows that an engine would silently learn the wrong thing from."""
    if not rows:
        raise TrainingError("there are no rows to train on", field="rows")
    if len({row.reference is None for row in rows}) > 1:
        raise TrainingError("some rows have a reference and some none: make all by one algorithm", field="reference")
    parts: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        _same_lengths(row)
        parts[row.rollout].append(row)
    for name, mine in parts.items():
        if len({(row.group, row.source, row.segments) for row in mine}) > 1:
            text = "its rows come from different groups or batches: one rollout has one source of advantages"
            raise TrainingError(f"rollout {name!r}: {text}", field="source")
        numbers = sorted(row.segment for row in mine)
        if numbers != list(range(mine[0].segments)):
            text = f"it has segments {numbers} of {mine[0].segments}: give each once, all in one step"
            raise TrainingError(f"rollout {name!r}: {text}", field="segment")


def _same_lengths(row: Row) -> None:
    sizes = {name: len(getattr(row, name)) for name in ("ids", *PER_TOKEN)}
    if row.reference is not None:
        sizes["reference"] = len(row.reference)
    if len(set(sizes.values())) > 1 or not len(row.ids):
        text = (
            f"rollout {row.rollout!r}, segment {row.segment}: lengths {sizes} differ, or are 0: give one value a token"
        )
        raise TrainingError(text, field="rows")


def collate(rows: Sequence[Row], pad: int) -> dict[str, Tensor]:
    """(B, L) tensors by name, padded on the right with what is not trained."""
    fill = {"ids": pad, "turn": -1}
    columns = {"attend": [torch.ones_like(row.ids) for row in rows]}
    columns |= {name: [getattr(row, name) for row in rows] for name in ("ids", *PER_TOKEN)}
    references = [row.reference for row in rows if row.reference is not None]
    if references:
        columns["reference"] = references
    return {
        name: torch.nn.utils.rnn.pad_sequence(column, batch_first=True, padding_value=fill.get(name, 0))
        for name, column in columns.items()
    }


def loss(algorithm: Algorithm, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """What `batch`, of `collate`, adds to the loss of its whole batch. `logits` (B, L, V), over the temperature."""
    spec = fits(algorithm)
    ids = batch["ids"]
    logp = logprobs(logits, ids)
    weight, old = batch["weight"], batch["old"]
    nobody = torch.zeros(len(ids), dtype=torch.long, device=ids.device)
    rows = Rows(ids, batch["attend"], batch["turn"], batch["roles"], old, old, nobody, nobody)
    value = spec.of(logp, Batch(table_of(()), rows), batch["advantage"], weight).value
    if algorithm.kl is not None:
        value = value + algorithm.kl.of(logp, batch["reference"], weight)
    if algorithm.entropy is not None:
        value = value + algorithm.entropy.of(entropies(logits), weight)
    return value
