"""Regularisers: what is added to a policy loss to keep it near a reference or away from certainty. All over (B, L)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from memctx.train.batch import Rows, Table


@dataclass(frozen=True, slots=True)
class KL:
    """Estimates of KL(pi || reference) from sampled tokens (Schulman, "Approximating KL divergence"), times `coef`.

    With d = log pi - log reference: k1 = d, unbiased; k2 = d^2 / 2; k3 = exp(-d) - 1 + d, never negative.
    """

    kind: Literal["k1", "k2", "k3"] = "k3"
    coef: float = 0.001

    def of(self, logp: Tensor, reference: Tensor, weight: Tensor) -> Tensor:
        """The weighted sum; `weight` (B, L) as in the policy loss, 0 where nothing is trained."""
        gap = torch.where(weight != 0, logp - reference, torch.zeros((), dtype=logp.dtype)).clamp(-10, 10)
        each = {"k1": gap, "k2": gap.pow(2) / 2, "k3": (-gap).exp() - 1 + gap}[self.kind]
        return self.coef * (weight * each).sum()


@dataclass(frozen=True, slots=True)
class Entropy:
    """A bonus for entropy: -coef * H."""

    coef: float = 0.001

    def of(self, entropy: Tensor, weight: Tensor) -> Tensor:
        """`entropy` (B, L) of the distribution that each token was drawn from."""
        return -self.coef * (weight * entropy).sum()


@dataclass(slots=True)
class EntropySmooth:
    """EPO (2509.22576): entropy is held in a band around its history, turn number by turn number.

    Adds coef * alpha * (relu(H - high * past) + relu(low * past - H)) / past for turns from `start` of the longest on. The
    released code compares instead of measuring, so its penalty is constant in the weights and has no gradient; this one has
    a gradient exactly outside the band. `past`: mean entropy by turn number over the batches told to `note`. `fade`: updates
    over which the weight sinks slowly and in the second half fast, as the released code can; 0: it stays.
    """

    coef: float = 0.001
    low: float = 0.0
    high: float = 2.0
    alpha: float = 0.1
    start: float = 0.5
    fade: int = 0
    past: dict[int, tuple[float, int]] = field(default_factory=dict)

    def share(self, step: int) -> float:
        """The weight at update `step`, with p from 0 to 1 in each half: 1 - 0.2 (1 - exp(-2p)), then 0.8 exp(-3p)."""
        if not self.fade:
            return 1.0
        half, p = divmod(min(2 * step / self.fade, 2.0), 1.0)
        return 1 - 0.2 * (1 - math.exp(-2 * p)) if half == 0 else 0.8 * math.exp(-3 * (p if half == 1 else 1.0))

    def of(self, entropy: Tensor, rows: Rows, table: Table, weight: Tensor, step: int = 0) -> Tensor:
        """The penalty of a batch at update `step`, given what was noted of earlier ones."""
        number = table.t[rows.turn.clamp_min(0)]
        late = number >= self.start * int(table.t.max())
        means = {t: mean for t, (mean, _) in self.past.items() if mean > 0}
        past = torch.zeros(int(table.t.max()) + 1, dtype=entropy.dtype)
        for t, mean in means.items():
            if t < len(past):
                past[t] = mean
        band = past[number]
        over = torch.relu(entropy - self.high * band) + torch.relu(self.low * band - entropy)
        each = torch.where(
            (band > 0) & late & rows.mask, over / band.clamp_min(1e-8), torch.zeros((), dtype=over.dtype)
        )
        return self.share(step) * self.coef * self.alpha * (weight * each).sum()

    def note(self, entropy: Tensor, rows: Rows, table: Table) -> None:
        """Take a batch into the history."""
        number = table.t[rows.turn.clamp_min(0)]
        for t in torch.unique(number[rows.mask]).tolist():
            found = entropy.detach()[rows.mask & (number == t)]
            mean, count = self.past.get(t, (0.0, 0))
            total = count + found.numel()
            self.past[t] = ((mean * count + float(found.sum())) / total, total)
