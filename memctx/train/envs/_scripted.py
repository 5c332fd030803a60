"""Scripted players of a known skill, for tests, examples and benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import accumulate
from random import Random

from memctx.train.envs import Env, State

Policy = Callable[[str], Mapping[str, float]]
"""The chance of each legal action at an observation."""


def noisy(optimal: Policy, skill: float) -> Policy:
    """Plays as `optimal` with probability `skill`, otherwise any legal action."""

    @cache
    def policy(observation: str) -> Mapping[str, float]:
        best = optimal(observation)
        return {each: skill * chance + (1 - skill) / len(best) for each, chance in best.items()}

    return policy


def player(policy: Policy) -> Callable[[str, int], str]:
    """A policy as a player: the seed decides."""

    def answer(observation: str, seed: int) -> str:
        chances = policy(observation)
        ends = zip(chances, accumulate(chances.values()), strict=True)
        point = Random(seed).random()
        return next((action for action, end in ends if point < end), next(iter(chances)))

    return answer


def value(state: State, policies: tuple[Policy, ...]) -> tuple[float, ...]:
    """The exact mean rewards from a position on, by walking every line of play."""
    if state.rewards:
        return state.rewards
    total = [0.0] * len(policies)
    for action, chance in policies[state.player](state.observation).items():
        if chance:
            for seat, reward in enumerate(value(state.after(action), policies)):
                total[seat] += chance * reward
    return tuple(total)


def mean_value(env: Env, seeds: range, policies: tuple[Policy, ...]) -> tuple[float, ...]:
    """The mean of `value` over seeds."""
    found = [value(env.start(seed), policies) for seed in seeds]
    return tuple(sum(each) / len(found) for each in zip(*found, strict=True))
