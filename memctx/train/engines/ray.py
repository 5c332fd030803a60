"""Ray: rollouts and replays on its workers, on this machine or a cluster.

Call `ray.init()` yourself, with an address where there is a cluster; the rest is the same code:

    sampling = OnRay(Group(8), workers=16)
    train(policy, stage, replace(presets.preset("supo"), sampling=sampling), ...)
    rows = replay(paths, {"safe": Pipeline.safe(budget=32_000)}, jobs=pool())
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from memctx.errors import ConfigError, require
from memctx.train.acting import Stage
from memctx.train.models import Policy
from memctx.train.rollouts import Rollout
from memctx.train.sampling import Group, ReplayInject, Sampling


class OnRay:
    """`sampling` by `workers` processes of Ray, each with `cpus` cores and `gpus` GPUs; a task is played by one of them.

    A worker gets the policy once, and afterwards only the weights that are trained. The rollouts are those that `sampling` itself
    would have given, in the same order, so long as it treats each task for itself. Raises `ConfigError` where Ray is not started,
    and for a `ReplayInject`, whose past no checkpoint would reach: put this inside it.
    """

    def __init__(self, sampling: Sampling | None = None, *, workers: int = 2, cpus: float = 1, gpus: float = 0) -> None:
        if workers < 1:
            raise ConfigError(f"workers = {workers}: give 1 or more", field="workers")
        if isinstance(sampling, ReplayInject):
            text = "a ReplayInject remembers rollouts, and each worker would have its own: ReplayInject(OnRay(...)) has one"
            raise ConfigError(text, field="sampling")
        self.sampling = sampling or Group()
        self.workers, self.cpus, self.gpus = workers, cpus, gpus
        self._players: list[Any] = []
        self._policy: Policy | None = None

    def collect(self, stage: Stage, policy: Policy, tasks: Sequence[int], seed: int, version: int = 0) -> list[Rollout]:
        """Rollouts of all tasks, each worker's share of them sampled together."""
        ray = _started()
        if policy is not self._policy:
            self.close()
            kept = ray.put(policy)
            make = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus)(Player).remote
            self._players, self._policy = [make(self.sampling, kept) for _ in range(self.workers)], policy
        weights, where = ray.put(_weights(policy)), ray.put(stage)
        shares = [list(tasks[n :: self.workers]) for n in range(self.workers)]
        waiting = [
            player.collect.remote(where, weights, share, seed, version)
            for player, share in zip(self._players, shares, strict=True)
            if share
        ]
        place = {str(task): number for number, task in enumerate(tasks)}
        return sorted((each for share in ray.get(waiting) for each in share), key=lambda each: place[each.group])

    def close(self) -> None:
        """Let the workers go. Another `collect` takes new ones."""
        for player in self._players:
            require("ray", extra="ray").kill(player)
        self._players, self._policy = [], None


class Player:
    """A policy in a worker."""

    def __init__(self, sampling: Sampling, policy: Policy) -> None:
        self.sampling, self.policy = sampling, policy

    def collect(self, stage: Stage, weights: list[Any], tasks: list[int], seed: int, version: int) -> list[Rollout]:
        """As `Sampling.collect`, with these weights."""
        with torch.no_grad():
            for held, new in zip(self.policy.parameters(), weights, strict=True):
                held.copy_(torch.tensor(new))
        return self.sampling.collect(stage, self.policy, tasks, seed, version)


def _weights(policy: Policy) -> list[Any]:
    """What is trained, as arrays, which Ray shares between the workers of a machine."""
    return [each.detach().cpu().float().numpy() for each in policy.parameters()]


def pool(processes: int | None = None) -> Any:
    """A pool of Ray's for `memctx.replay.replay`: as many `processes` as there are cores, unless told."""
    _started()
    return require("ray.util.multiprocessing", extra="ray").Pool(processes)


def _started() -> Any:
    ray = require("ray", extra="ray")
    if not ray.is_initialized():
        raise ConfigError("Ray is not started: call ray.init(), or ray.init(address=...) for a cluster", field="ray")
    return ray
