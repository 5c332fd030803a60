"""An algorithm is values of independent slots: how rollouts are sampled, what they are paid, how that becomes advantages,
which loss and regularisers they meet, and in which order updates run. `memctx.train.presets` has the papers'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from memctx.train.acting import Layout
from memctx.train.advantages import Post, Term
from memctx.train.filters import Filter
from memctx.train.losses import PolicyLoss
from memctx.train.regularisers import KL, Entropy, EntropySmooth
from memctx.train.sampling import Group, Sampling
from memctx.train.schedules import Joint, Schedule
from memctx.train.shapers import Shaper


@dataclass(frozen=True, slots=True)
class Critic:
    """Values are learned, and advantages come from them. `lam_high`, `gamma_high`: of the upper level, where there are two.

    `level`: "token", "turn" (a turn's value is read before its first token), "bilevel", "hierarchical" (HiPER's three heads), or
    "utterance_q" (ArCHer's double Q and V). `coef`: weight of the value loss; `normed`: advantages are whitened. `bootstrap`: a
    rollout that was cut off goes on to be worth what the critic says of its last state; else it ends there with what it earned.
    """

    level: Literal["token", "turn", "bilevel", "hierarchical", "utterance_q"] = "token"
    gamma: float = 1.0
    lam: float = 1.0
    gamma_high: float = 0.95
    lam_high: float = 1.0
    coef: float = 0.5
    normed: bool = True
    bootstrap: bool = True


@dataclass(frozen=True, slots=True)
class PairLoss:
    """A loss over pairs of rollouts: REFUEL over the turn they differ in, M-DPO and M-KTO over whole rollouts."""

    kind: Literal["refuel", "mdpo", "mkto"]
    eta: float


@dataclass(frozen=True, slots=True)
class WeightedNLL:
    """exp(reward / temperature) times the negative log-prob of the last turn: RISE."""

    temperature: float = 0.4


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The slots. Defaults are GRPO with eight rollouts a task. `train_modules`: which modules learn; None: all."""

    sampling: Sampling = field(default_factory=Group)
    layout: Layout = "per_rewrite"
    train_modules: frozenset[str] | None = None
    shapers: tuple[Shaper, ...] = ()
    filters: tuple[Filter, ...] = ()
    terms: tuple[Term, ...] = (Term(),)
    post: tuple[Post, ...] = ()
    critic: Critic | None = None
    loss: PolicyLoss | PairLoss | WeightedNLL = field(default_factory=PolicyLoss)
    kl: KL | None = None
    entropy: Entropy | None = None
    smooth: Callable[[], EntropySmooth] | None = None
    schedule: Schedule = field(default_factory=Joint)
