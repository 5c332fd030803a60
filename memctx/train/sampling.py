"""How rollouts are sampled: in groups, branching where the policy is unsure, as trees, from a turn on, with replay.

Each has `collect(stage, policy, tasks, seed)` and gives whole groups: the rollouts of one task share its number as group. A user
in the loop is the stage's, so that it takes part in evaluations too: `Stage(..., others={"user": sim})`; trying again is an
environment, `memctx.train.envs.try_again`.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from statistics import fmean, pstdev
from typing import Protocol

from memctx.train.acting import AGENT, Actor, Stage, play
from memctx.train.draws import mixed
from memctx.train.filters import total
from memctx.train.models import Policy
from memctx.train.rollouts import Rollout, Turn


class Sampling(Protocol):
    """One way to sample."""

    def collect(self, stage: Stage, policy: Policy, tasks: Sequence[int], seed: int, version: int = 0) -> list[Rollout]:
        """Finished rollouts of the tasks, group by group."""
        ...


def actors(stage: Stage, tasks: Sequence[int], n: int, seed: int, version: int = 0) -> list[Actor]:
    """`n` fresh runs a task. What they draw depends on seed, task and number alone, not on what else is sampled."""
    return [stage.actor(task, number, mixed(seed, task, number), version) for task in tasks for number in range(n)]


@dataclass(frozen=True, slots=True)
class Group:
    """`n` independent rollouts a task."""

    n: int = 8

    def collect(self, stage: Stage, policy: Policy, tasks: Sequence[int], seed: int, version: int = 0) -> list[Rollout]:
        runs = actors(stage, tasks, self.n, seed, version)
        play(runs, policy)
        return [run.finish() for run in runs]


@dataclass(frozen=True, slots=True)
class EntropyBranch:
    """ARPO (2507.19849): `start` runs a task; one that is less sure than at its first turn branches, up to `budget` in all.

    With the rise dH of probe["entropy"], which is of a turn's first 20 tokens and at most 1, it branches where clip(u - coef *
    dH, 0, 1) <= threshold, u uniform; `beam` runs then take that turn, each with draws of its own. Slots left over are filled
    with fresh runs.
    """

    start: int = 8
    budget: int = 16
    beam: int = 2
    coef: float = 0.2
    threshold: float = 0.5

    def collect(self, stage: Stage, policy: Policy, tasks: Sequence[int], seed: int, version: int = 0) -> list[Rollout]:
        runs = actors(stage, tasks, self.start, seed, version)
        chances = _chances(seed, tasks)
        for _ in range(stage.turns):
            going = [run for run in runs if not run.over]
            before = [run.fork(0, run.seed) for run in going]
            play(going, policy, turns=1)
            born = self._branches(going, before, runs, chances, seed)
            play(born, policy, turns=1)
            runs += born
        for task in tasks:
            missing = self.budget - sum(run.task == task for run in runs)
            numbers = range(self.budget, self.budget + missing)
            fresh = [stage.actor(task, number, mixed(seed, task, number), version) for number in numbers]
            play(fresh, policy)
            runs += fresh
        return [run.finish() for task in tasks for run in runs if run.task == task]

    def _branches(
        self, going: list[Actor], before: list[Actor], runs: list[Actor], chances: dict[int, Random], seed: int
    ) -> list[Actor]:
        born: list[Actor] = []
        for run, earlier in zip(going, before, strict=True):
            if run.full:
                continue
            taken = sum(each.task == run.task for each in [*runs, *born])
            agent = [turn for turn in run.recorder.rollout.turns if turn.module == AGENT]
            rise = agent[-1].probe["entropy"] - agent[0].probe["entropy"]
            unsure = min(1.0, max(0.0, chances[run.task].random() - self.coef * rise)) <= self.threshold
            if unsure and len(agent) > 1:
                room = min(self.beam - 1, self.budget - taken)
                born += [_fork(earlier, taken + i, seed) for i in range(room)]
        return born


@dataclass(frozen=True, slots=True)
class Tree:
    """DialTree (2510.02286): each live node has `branch` children a turn; pruned, then at most `width` are kept a task.

    `keep` (actor) -> bool: false for a turn that is malformed or off its goal. The leaves are the group.
    """

    branch: int = 4
    width: int = 8
    keep: Callable[[Actor], bool] | None = None

    def collect(self, stage: Stage, policy: Policy, tasks: Sequence[int], seed: int, version: int = 0) -> list[Rollout]:
        leaves: list[Actor] = []
        live = actors(stage, tasks, 1, seed, version)
        chances, numbers = _chances(seed, tasks), {task: count(1) for task in tasks}
        while live:
            children = [_fork(node, next(numbers[node.task]), seed) for node in live * self.branch]
            play(children, policy, turns=1)
            kept = [child for child in children if self.keep is None or self.keep(child)]
            done = [child for child in kept if child.over or not child.left]
            leaves += done
            live = [node for task in tasks for node in _few(kept, done, task, self.width, chances[task])]
        return [leaf.finish() for task in tasks for leaf in leaves if leaf.task == task]


@dataclass(frozen=True, slots=True)
class ResampleFrom:
    """REFUEL (2410.04612): `pairs` a task: a run, and another that shares it up to a turn chosen at random and goes on anew.

    `Rollout.meta["pair"]` names the pair, `meta["from"]` the first turn in which the two differ.
    """

    pairs: int = 4

    def collect(self, stage: Stage, policy: Policy, tasks: Sequence[int], seed: int, version: int = 0) -> list[Rollout]:
        chances = _chances(seed, tasks)
        firsts = actors(stage, tasks, self.pairs, seed, version)
        befores = _retraced(firsts, stage, policy)
        points = [chances[run.task].choice(before or [run]) for run, before in zip(firsts, befores, strict=True)]
        starts = [len(point.recorder.rollout.turns) for point in points]
        seconds = [_fork(point, self.pairs + i % self.pairs, seed) for i, point in enumerate(points)]
        play(seconds, policy)
        found: list[Rollout] = []
        for number, pair in enumerate(zip(firsts, seconds, starts, strict=True)):
            for run in pair[:2]:
                rollout = run.finish()
                rollout.meta |= {"pair": number % self.pairs, "from": pair[2]}
                found.append(rollout)
        return found


def omits(turn: Turn) -> bool:
    """Whether the turn left something out."""
    return float(turn.probe.get("saved", 0.0)) > 0


@dataclass(frozen=True, slots=True)
class PartialRestart:
    """Agent-Omit (2602.04284): `n` runs a task, and up to `restarts` more from just before a turn that `select` picks."""

    n: int = 8
    restarts: int = 8
    select: Callable[[Turn], bool] = omits

    def collect(self, stage: Stage, policy: Policy, tasks: Sequence[int], seed: int, version: int = 0) -> list[Rollout]:
        chances = _chances(seed, tasks)
        runs = actors(stage, tasks, self.n, seed, version)
        points: dict[int, list[Actor]] = {task: [] for task in tasks}
        for run, befores in zip(runs, _retraced(runs, stage, policy), strict=True):
            turns = [turn for turn in run.recorder.rollout.turns if turn.module == AGENT]
            points[run.task] += [before for before, turn in zip(befores, turns, strict=True) if self.select(turn)]
        for task, before in points.items():
            picked = chances[task].sample(before, min(self.restarts, len(before)))
            again = [_fork(each, self.n + i, seed) for i, each in enumerate(picked)]
            play(again, policy)
            runs += again
        return [run.finish() for task in tasks for run in runs if run.task == task]


@dataclass(frozen=True, slots=True)
class ReplayInject:
    """ARPO for GUIs (2505.16282): where a group all but fails, its first rollout is replaced by an old success.

    Deviation below `spread` and mean below `mean`; the last `keep` successes of a task are kept, of the last `tasks` tasks
    that had one. It needs tasks that come again (`pool` of the trainer). Log-probs of a replayed rollout are computed anew.
    """

    inner: Sampling = field(default_factory=Group)
    keep: int = 8
    spread: float = 0.05
    mean: float = 0.2
    success: float = 0.1
    tasks: int = 512
    past: dict[str, deque[Rollout]] = field(default_factory=dict)

    def collect(self, stage: Stage, policy: Policy, tasks: Sequence[int], seed: int, version: int = 0) -> list[Rollout]:
        found = self.inner.collect(stage, policy, tasks, seed, version)
        places: dict[str, list[int]] = defaultdict(list)
        for place, rollout in enumerate(found):
            places[rollout.group].append(place)
        for group, members in places.items():
            scores = [total(found[place]) for place in members]
            won = [found[place] for place in members if total(found[place]) > self.success]
            old = self.past.get(group)
            if old and pstdev(scores) < self.spread and fmean(scores) < self.mean:
                found[members[0]] = replace(Random(mixed(seed, group)).choice(list(old)).copy(), source="replay")
            self._hold(won)
        return found

    def held(self) -> list[Rollout]:
        """What is kept, the oldest first: for a checkpoint."""
        return [rollout for each in self.past.values() for rollout in each]

    def restore(self, rollouts: Iterable[Rollout]) -> None:
        """Go on with what `held` gave."""
        self.past.clear()
        self._hold(rollouts)

    def _hold(self, rollouts: Iterable[Rollout]) -> None:
        for each in rollouts:
            kept = self.past.pop(each.group, None)  # the task goes to the end: it was solved last
            self.past[each.group] = kept if kept is not None else deque(maxlen=self.keep)
            self.past[each.group].append(each)
        while len(self.past) > self.tasks:
            del self.past[next(iter(self.past))]


def _few(kept: list[Actor], done: list[Actor], task: int, width: int, chance: Random) -> list[Actor]:
    mine = [node for node in kept if node.task == task and not any(node is each for each in done)]
    return mine if len(mine) <= width else chance.sample(mine, width)


def _retraced(runs: Sequence[Actor], stage: Stage, policy: Policy) -> list[list[Actor]]:
    """Play the runs to their ends; for each, what it was before each of its turns."""
    befores: list[list[Actor]] = [[] for _ in runs]
    for _ in range(stage.turns):
        going = [
            (run, run.fork(0, run.seed), before) for run, before in zip(runs, befores, strict=True) if not run.over
        ]
        play([run for run, _, _ in going], policy, turns=1)
        for run, earlier, before in going:
            before.extend([] if run.full else [earlier])
    return befores


def _fork(run: Actor, number: int, seed: int) -> Actor:
    """Another that goes on from here as run `number` of its task."""
    return run.fork(number, mixed(seed, run.task, number))


def _chances(seed: int, tasks: Iterable[int]) -> dict[int, Random]:
    """What is left to chance beside the policy's draws, a task each: what else is sampled changes nothing."""
    return {task: Random(mixed(seed, task)) for task in tasks}
