"""Reward shapers: each is called with rollouts and writes rewards into them, by name, before advantages are taken.

A shaper is a frozen dataclass with `__call__(rollouts)`. What it measures was put into the rollouts when they were acted
(`Turn.probe`, `Turn.calls`, `Rollout.meta`); a shaper asks no model. Code decides rewards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from memctx.errors import ConfigError
from memctx.train.rollouts import Rollout, Turn

Shaper = Callable[[Sequence[Rollout]], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The rollout's outcome `name` as a reward of its turns: of the last one, or of all."""

    name: str = "task"
    on: Literal["last", "all"] = "last"

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            for turn in rollout.turns if self.on == "all" else rollout.turns[-1:]:
                turn.reward[self.name] = rollout.outcome.get(self.name, 0.0)


@dataclass(frozen=True, slots=True)
class Graded:
    """outcome["task"], 0..1, on the scale `wrong`..`right`; `broken` where a turn's probe["malformed"] is true or no answer came.

    ARPO (-1), IGPO (-2), RISE (-1), BR-RM (0, -10, -100).
    """

    right: float = 1.0
    wrong: float = 0.0
    broken: float = -1.0

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            task = self.wrong + (self.right - self.wrong) * rollout.outcome.get("task", 0.0)
            bad = rollout.status == "truncated" or any(turn.probe.get("malformed") for turn in rollout.turns)
            rollout.outcome["task"] = self.broken if bad else task


@dataclass(frozen=True, slots=True)
class WellFormed:
    """A bonus for a rollout none of whose turns is malformed. ARPO for GUIs (2505.16282)."""

    bonus: float = 0.5

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            bad = any(turn.probe.get("malformed") for turn in rollout.turns)
            rollout.outcome["format"] = 0.0 if bad else self.bonus


@dataclass(frozen=True, slots=True)
class PotentialDiff:
    """probe[`name`] is a distance from the goal after a turn; its fall is the turn's reward. MICA (2603.06194)."""

    name: str = "distance"
    start: float = 1.0

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            before = float(rollout.meta.get(self.name, self.start))
            for turn in answers(rollout):
                after = float(_probe(rollout, turn, self.name))
                turn.reward[self.name] = before - after
                before = after


@dataclass(frozen=True, slots=True)
class InfoGainGold:
    """probe["gold"]: mean log-prob of the gold answer after a turn; its rise is the reward, the last turn has the outcome.

    IGPO (2510.14967) takes the rise of the probability ("p"); "logp" that of the log-prob, which does not vanish for long
    answers. meta["gold"]: the same before the first turn; without it "p" takes the answer for impossible, and "logp" fails.
    """

    mode: Literal["p", "logp"] = "p"

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        scale = math.exp if self.mode == "p" else float
        for rollout in rollouts:
            if self.mode == "logp" and "gold" not in rollout.meta:
                raise ConfigError(
                    f"rollout {rollout.id!r} has no meta 'gold': measure it before the first turn", field="gold"
                )
            before = scale(float(rollout.meta.get("gold", -math.inf)))
            for turn in answers(rollout)[:-1]:
                after = scale(float(_probe(rollout, turn, "gold")))
                turn.reward["gain"] = after - before
                before = after


@dataclass(frozen=True, slots=True)
class InfoGainCounterfactual:
    """How much a turn's feedback changed the next action: mean log-prob with it less without it. InfoPO (2603.00656).

    The credit is of the turn that asked, spread over its tokens. probe["with"], probe["without"] stand at the next turn.
    """

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            said = answers(rollout)
            for turn, after in pairwise(said):
                gain = float(_probe(rollout, after, "with")) - float(_probe(rollout, after, "without"))
                turn.reward["gain"] = gain / (turn.span[1] - turn.span[0])


@dataclass(frozen=True, slots=True)
class BipartiteMatch:
    """Each call is worth its likeness to the gold call it is matched with, one to one; a turn the mean of its calls'.

    MatchTIR (2601.10712). "km" is an exact assignment; "greedy" takes the likest pair first, as the released code does;
    "ot" is entropic transport with `reg`, whose rewards carry a factor of 1 / calls. meta["gold_calls"] holds the gold ones.
    """

    how: Literal["km", "greedy", "ot"] = "km"
    unmatched: float = 0.0
    reg: float = 0.1

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        from memctx.train._matching import matched

        for rollout in rollouts:
            gold = list(rollout.meta.get("gold_calls", ()))
            calls = [call for turn in rollout.turns for call in turn.calls]
            worth = iter(matched(calls, gold, self.how, self.unmatched, self.reg))
            for turn in rollout.turns:
                values = [next(worth) for _ in turn.calls]
                if values:
                    turn.reward["match"] = sum(values) / len(values)


@dataclass(frozen=True, slots=True)
class TurnDecay:
    """The outcome times `factor` to the number of turns before the last. UFO (2507.14295)."""

    factor: float = 0.5
    name: str = "task"

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            before = max(0, len(answers(rollout)) - 1)
            rollout.outcome[self.name] = rollout.outcome.get(self.name, 0.0) * self.factor**before


@dataclass(frozen=True, slots=True)
class EfficiencyDecay:
    """Each turn is paid the outcome, less the more turns follow it: factor^(T - t) * R. IterResearch (2511.07327)."""

    factor: float = 0.995
    name: str = "task"

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            for rest, turn in enumerate(reversed(rollout.turns)):
                turn.reward["efficiency"] = rollout.outcome.get(self.name, 0.0) * self.factor**rest


@dataclass(frozen=True, slots=True)
class Repetition:
    """-weight * (1 - different answers / answers), for the whole rollout. UFO."""

    weight: float = 0.5

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            said = [turn.text.strip() for turn in answers(rollout)]
            rollout.outcome["repetition"] = -self.weight * (1 - len(set(said)) / max(1, len(said)))


@dataclass(frozen=True, slots=True)
class Flagged:
    """`value` for each turn whose probe[`flag`] is true: an invalid action, a broken format, a KEEP (EPO, UFO, HiPER).

    `shared`: over the number of turns, so that a rollout is paid `value` times the share of flagged ones (HiPER, "normalized").
    """

    flag: str
    value: float = -0.1
    shared: bool = False

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            worth = self.value / max(1, len(answers(rollout))) if self.shared else self.value
            for turn in rollout.turns:
                if turn.probe.get(self.flag):
                    turn.reward[self.flag] = worth


@dataclass(frozen=True, slots=True)
class MultiTool:
    """A bonus for a solved task in which `least` different tools were called. ARPO (2507.19849)."""

    bonus: float = 0.1
    least: int = 2

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            used = {call.get("name") for turn in rollout.turns for call in turn.calls}
            if len(used) >= self.least and rollout.outcome.get("task", 0.0) > 0:
                rollout.outcome["tools"] = self.bonus


@dataclass(frozen=True, slots=True)
class Novelty:
    """coef * KL(features of a turn || of the turn before); probe["features"]: a distribution by name. MINT (2604.11742)."""

    coef: float = 1.0
    floor: float = 1e-3

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            said = answers(rollout)
            for before, turn in pairwise(said):
                pair = [_probe(rollout, each, "features") for each in (turn, before)]
                names = dict.fromkeys(name for each in pair for name in each)
                here, there = (_smooth(each, names, self.floor) for each in pair)
                gap = sum(p * math.log(p / there[name]) for name, p in here.items())
                turn.reward["novelty"] = self.coef * gap


@dataclass(frozen=True, slots=True)
class ConstraintGate:
    """hard + sigmoid(sharpness * (hard - threshold)) * soft: soft wishes count once the hard ones are met. TourPlanner's idea."""

    hard: str = "hard"
    soft: str = "soft"
    sharpness: float = 10.0
    threshold: float = 0.5

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            hard, soft = rollout.outcome.pop(self.hard, 0.0), rollout.outcome.pop(self.soft, 0.0)
            rollout.outcome["task"] = hard + soft / (1 + math.exp(-self.sharpness * (hard - self.threshold)))


@dataclass(frozen=True, slots=True)
class OverlongRamp:
    """0 up to `soft` sampled tokens, falling to -1 at `hard`. DAPO (2503.14476)."""

    soft: int
    hard: int

    def __post_init__(self) -> None:
        if not 0 <= self.soft < self.hard:
            raise ConfigError(f"soft = {self.soft}, hard = {self.hard}: needs 0 <= soft < hard", field="soft")

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            length = sum(turn.span[1] - turn.span[0] for turn in rollout.turns)
            rollout.outcome["length"] = -min(1.0, max(0.0, (length - self.soft) / (self.hard - self.soft)))


def answers(rollout: Rollout) -> list[Turn]:
    """The agent's own turns, without those of a strategy that asked the policy, such as summaries; all where none is the agent's."""
    return [turn for turn in rollout.turns if turn.module == "agent"] or rollout.turns


def _probe(rollout: Rollout, turn: Turn, name: str) -> Any:
    if name not in turn.probe:
        text = f"rollout {rollout.id!r}, turn {turn.t} has no probe {name!r}: measure it while acting"
        raise ConfigError(text, field=name)
    return turn.probe[name]


def _smooth(features: Mapping[str, float], names: Iterable[str], floor: float) -> dict[str, float]:
    """A distribution over all `names`, nothing below `floor` before it is normed."""
    raised = {name: max(features.get(name, 0.0), floor) for name in names}
    total = sum(raised.values())
    return {name: value / total for name, value in raised.items()}
