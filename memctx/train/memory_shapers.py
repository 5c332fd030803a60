"""Reward shapers for what is done to context and memory: omitting, compressing, writing, folding. See `memctx.train.shapers`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from memctx.train.rollouts import Rollout, Turn


@dataclass(frozen=True, slots=True)
class Omission:
    """(1 - weight) * task + weight * the share of text saved, and the latter only where the task succeeded. Agent-Omit.

    probe["saved"]: share of all text that the turn's omission saved (0..1). Without the gate it pays to omit and fail.
    """

    weight: float = 0.2
    name: str = "task"

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            task = rollout.outcome.get(self.name, 0.0)
            saved = min(1.0, sum(float(turn.probe.get("saved", 0.0)) for turn in rollout.turns))
            rollout.outcome[self.name] = (1 - self.weight) * task
            rollout.outcome["omission"] = self.weight * saved if task > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Compression:
    """beta * (1 - memory / input), in tokens of meta["memory_tokens"] and meta["input_tokens"]. Mem-α (2509.25911).

    Paid only where the task succeeded, which the released code does not ask: else it pays to keep nothing and fail.
    """

    beta: float = 0.05

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            memory, read = (float(rollout.meta.get(name, 0.0)) for name in ("memory_tokens", "input_tokens"))
            paid = read > 0 and rollout.outcome.get("task", 0.0) > 0
            rollout.outcome["compression"] = self.beta * max(0.0, 1 - memory / read) if paid else 0.0


@dataclass(frozen=True, slots=True)
class CallValidity:
    """The share of a turn's calls that were valid (`call["ok"]`), times `weight`. Mem-α."""

    weight: float = 1.0

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for turn in (turn for rollout in rollouts for turn in rollout.turns if turn.calls):
            turn.reward["calls"] = self.weight * sum(bool(call.get("ok")) for call in turn.calls) / len(turn.calls)


@dataclass(frozen=True, slots=True)
class Probed:
    """probe[`name`] times `weight`: what somebody else measured, such as a judge of the store an item was put in."""

    name: str
    weight: float = 1.0

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for turn in (turn for rollout in rollouts for turn in rollout.turns if self.name in turn.probe):
            turn.reward[self.name] = self.weight * float(turn.probe[self.name])


@dataclass(frozen=True, slots=True)
class FoldProcess:
    """FoldGRPO (2510.11967): what a turn earns for how it folds, in floats (an int8 map turns 0.2 into 0).

    probe["thread"]: "main" or a branch; probe["tokens"]; probe["branches"] or probe["finishes"] true; probe["in_scope"];
    probe["failed"]. A successful rollout whose main thread is over half of `budget` pays `long` on main turns that neither
    branch nor finish; one that never branches pays it on every turn.
    """

    budget: int
    long: float = -1.0
    scope: float = 0.2
    failed: float = -1.0

    def __call__(self, rollouts: Sequence[Rollout]) -> None:
        for rollout in rollouts:
            main = sum(int(t.probe.get("tokens", 0)) for t in rollout.turns if t.probe.get("thread", "main") == "main")
            branched = any(turn.probe.get("branches") for turn in rollout.turns)
            over = rollout.outcome.get("task", 0.0) > 0 and main > self.budget / 2
            for turn in rollout.turns:
                turn.reward["fold"] = self._worth(turn, over, branched)

    def _worth(self, turn: Turn, over: bool, branched: bool) -> float:
        found = self.failed if turn.probe.get("failed") else 0.0
        idle = turn.probe.get("thread", "main") == "main" and not (
            turn.probe.get("branches") or turn.probe.get("finishes")
        )
        if (over and idle) or not branched:
            found += self.long
        if (inside := turn.probe.get("in_scope")) is not None:
            found += self.scope if inside else -self.scope
        return found
