"""Filters: which groups and turns of what was sampled are trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from random import Random
from statistics import pstdev

from memctx.train.rollouts import Rollout

Filter = Callable[[Sequence[Rollout]], list[Rollout]]


def top_spread(share: float) -> Filter:
    """Filter: the groups whose outcomes spread most, that share of them, at least one. UFO."""

    def choose(rollouts: Sequence[Rollout]) -> list[Rollout]:
        groups = _groups(rollouts)
        ranked = sorted(groups, key=lambda group: -pstdev(map(total, groups[group])))
        kept = set(ranked[: max(1, round(share * len(ranked)))])
        return [rollout for rollout in rollouts if rollout.group in kept]

    return choose


def reject_unprofiled(low: float = 0.3, width: float = 0.1) -> Filter:
    """Filter: a turn with probe["coverage"], which only correct ones have, is trained with chance clip((coverage - low) / width).

    The profiling rejection of Dr.Kernel (2602.05885). The others, and all rewards, stay.
    """

    def choose(rollouts: Sequence[Rollout]) -> list[Rollout]:
        for rollout in rollouts:
            for turn in rollout.turns:
                if "coverage" in turn.probe:
                    chance = (float(turn.probe["coverage"]) - low) / width
                    draw = Random(f"{rollout.id} {turn.t} {rollout.segments[turn.segment].version}").random()
                    turn.probe["rejected"] = draw >= chance
        return list(rollouts)

    return choose


def with_spread(rollouts: Sequence[Rollout]) -> list[Rollout]:
    """Filter: groups whose outcomes are all equal go, unless all would."""
    groups = _groups(rollouts)
    kept = {group for group, members in groups.items() if pstdev(map(total, members)) > 0}
    return [rollout for rollout in rollouts if not kept or rollout.group in kept]


def total(rollout: Rollout) -> float:
    """Its outcomes, summed."""
    return sum(rollout.outcome.values())


def _groups(rollouts: Sequence[Rollout]) -> dict[str, list[Rollout]]:
    groups: dict[str, list[Rollout]] = defaultdict(list)
    for rollout in rollouts:
        groups[rollout.group].append(rollout)
    return groups
