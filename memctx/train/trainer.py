"""The trainer: one process, one loop. Sample, pay, update, note down; go on from where it stopped.

    train(policy, stage, presets.preset("supo"), steps=200, tasks=16, out="runs/supo")

The same seed gives the same run, and a run that was stopped and taken up again the same as one that was not.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from memctx.component import Settings
from memctx.errors import ConfigError, require
from memctx.train import serve, storage
from memctx.train.acting import Stage
from memctx.train.algorithm import Algorithm
from memctx.train.draws import mixed
from memctx.train.learner import Facts, Learner
from memctx.train.models import Causal
from memctx.train.rollouts import Rollout
from memctx.train.sampling import Group, ReplayInject, Sampling
from memctx.train.schedules import CriticThenActor

Watch = Callable[[str, int, int], None]
HELD_OUT = 10_000_000  # tasks from this number on are for evaluation only


class TrainConfig(Settings):
    """How long and how much. `tasks` a step; tasks are numbers, and number n is the environment's seed n. `pool`: how many there
    are, taken over and over; 0: no task comes twice.

    `lr` of the policy; with `decay` it falls to 0 along a line. `tokens`: the most worked off at once. `save_every` and
    `evaluate_every` in steps, 0: only at the end.
    """

    steps: int = 100
    tasks: int = 8
    pool: int = 0
    seed: int = 0
    lr: float = 1e-5
    decay: bool = False
    critic_lr: float | None = None
    norm: float = 1.0
    tokens: int = 65_536
    save_every: int = 0
    evaluate_every: int = 0
    evaluate_tasks: int = 64


def train(
    policy: Causal,
    stage: Stage,
    algorithm: Algorithm,
    *,
    out: str | Path | None = None,
    test_stage: Stage | None = None,
    watch: Watch | None = None,
    **settings: Any,
) -> list[Facts]:
    """Train `policy` in place; returns the figures of each step. Fields of `TrainConfig` are keywords.

    `out`: folder of metrics and checkpoints; what is there is taken up. `test_stage`: where it is evaluated, if elsewhere.
    """
    config = TrainConfig(**settings)
    if 0 < config.pool < config.tasks:
        raise ConfigError(
            f"pool = {config.pool} is less than tasks = {config.tasks}: a task may come once a step", field="pool"
        )
    learner = Learner(
        policy, algorithm, lr=config.lr, critic_lr=config.critic_lr, norm=config.norm, tokens=config.tokens
    )
    log = Log(Path(out)) if out is not None else None
    begin = resume(learner, log.folder) if log else 0
    stage = replace(stage, layout=algorithm.layout)
    history: list[Facts] = log.read(begin) if log else []
    for step in range(begin, config.steps):
        learner.pace(1 - step / config.steps if config.decay else 1.0)
        tasks = [n % config.pool if config.pool else n for n in range(step * config.tasks, (step + 1) * config.tasks)]
        rollouts = algorithm.sampling.collect(stage, policy, tasks, mixed(config.seed, step), version=step)
        facts = {"step": float(step), **scores(rollouts), **algorithm.schedule.run(learner, rollouts)}
        if _due(step, config.evaluate_every, config.steps):
            facts |= {f"test_{name}": value for name, value in evaluate(policy, test_stage or stage, config).items()}
        history.append(facts)
        if log:
            log.write(facts)
            if _due(step, config.save_every, config.steps):
                save(learner, stage, log.folder, step + 1)
        if watch:
            watch(f"train, task {facts['task']:.2f}", step + 1, config.steps)
    return history


def evaluate(policy: Causal, stage: Stage, config: TrainConfig, sampling: Sampling = Group(1)) -> Facts:
    """Scores on tasks that no step ever trains on, one rollout a task, always the same draws."""
    tasks = range(HELD_OUT, HELD_OUT + config.evaluate_tasks)
    return scores(sampling.collect(stage, policy, tasks, HELD_OUT))


def scores(rollouts: list[Rollout]) -> Facts:
    """Mean outcome by name, turns, segments, sampled tokens, and the largest context."""
    names = dict.fromkeys(name for each in rollouts for name in each.outcome)
    facts = {name: fmean(each.outcome.get(name, 0.0) for each in rollouts) for name in names}
    sampled = [sum(int(segment.mask.sum()) for segment in each.segments) for each in rollouts]
    peak = max((len(segment.ids) for each in rollouts for segment in each.segments), default=0)
    facts |= {"turns": fmean(len(each.turns) for each in rollouts), "tokens": fmean(sampled), "peak": float(peak)}
    facts |= {"segments": fmean(len(each.segments) for each in rollouts)}
    return facts | {"truncated": fmean(each.status == "truncated" for each in rollouts)}


# Checkpoints: weights and the optimiser's state as safetensors, the rest as JSON; written aside and then renamed. --------


def save(learner: Learner, stage: Stage, folder: Path, step: int) -> Path:
    """A checkpoint after `step` steps, which `serve.Trained` can use; the newest one replaces the last."""
    safetensors = require("safetensors.torch", extra="train")
    aside, final = folder / f"checkpoint.{step}.new", folder / f"checkpoint-{step}"
    shutil.rmtree(aside, ignore_errors=True)  # half of one, from a run that was killed
    serve.save(learner.policy, stage, aside)
    for name, state in _states(learner):
        safetensors.save_file({key: value.contiguous() for key, value in state.items()}, aside / f"{name}.safetensors")
    past = {} if learner.smooth is None else {str(t): list(each) for t, each in learner.smooth.past.items()}
    (aside / "state.json").write_text(json.dumps({"step": step, **_counts(learner), "entropy": past}))
    for name, buffer in _buffers(learner.algorithm):
        if buffer.past:
            storage.write(aside / name, buffer.held())
    aside.replace(final)
    for old in serve.checkpoints(folder)[:-1]:
        shutil.rmtree(old)
    return final


def resume(learner: Learner, folder: Path) -> int:
    """Load the newest checkpoint; returns the steps it had done, 0 where there is none."""
    found = serve.checkpoints(folder)
    if not found:
        return 0
    safetensors = require("safetensors.torch", extra="train")
    state = json.loads((found[-1] / "state.json").read_text())
    _weights(learner.policy.model, found[-1])
    loaded = {name: safetensors.load_file(found[-1] / f"{name}.safetensors") for name, _ in _states(learner)}
    _into(learner.optimizer, loaded["optimizer"])
    if learner.critic is not None:
        learner.critic.load_state_dict(loaded["critic"])
        if learner.slow is not None:
            learner.slow.load_state_dict(loaded["slow"])
        _into(learner.critic_optimizer, loaded["critic_optimizer"])
    if learner.reference is not None:
        learner.reference.model.load_state_dict(loaded["reference"], strict=False)
    if learner.smooth is not None:
        learner.smooth.past = {int(t): (mean, int(count)) for t, (mean, count) in state["entropy"].items()}
    learner.steps, learner.rounds = state["updates"], state["rounds"]
    for name, buffer in _buffers(learner.algorithm):
        held = found[-1] / name
        buffer.restore(list(storage.read(held)) if held.exists() else [])
    return int(state["step"])


def _buffers(algorithm: Algorithm) -> Iterator[tuple[str, ReplayInject | CriticThenActor]]:
    """The slots that remember rollouts, by name."""
    for name, slot in (("replay", algorithm.sampling), ("critic-replay", algorithm.schedule)):
        if isinstance(slot, ReplayInject | CriticThenActor):
            yield name, slot


def _counts(learner: Learner) -> dict[str, int]:
    return {"updates": learner.steps, "rounds": learner.rounds}


def _states(learner: Learner) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    yield "optimizer", _flat(learner.optimizer)
    if learner.critic is not None:
        yield "critic", learner.critic.state_dict()
        if learner.slow is not None:
            yield "slow", learner.slow.state_dict()
        yield "critic_optimizer", _flat(learner.critic_optimizer)
    if learner.reference is not None:  # what never changes, as under adapters, need not be kept
        names = {name for name, each in learner.policy.model.named_parameters() if each.requires_grad}
        yield "reference", {k: v for k, v in learner.reference.model.state_dict().items() if k in names}


def _flat(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{place}.{name}": value for place, each in state.items() for name, value in each.items()}


def _into(optimizer: torch.optim.Optimizer, flat: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        place, _, name = key.partition(".")
        state.setdefault(int(place), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _weights(model: Any, folder: Path) -> None:
    """Weights, or adapters, of a saved model into one of the same shape."""
    safetensors = require("safetensors.torch", extra="train")
    files = sorted(folder.glob("*model*.safetensors"))
    if not files:
        raise ConfigError(f"{folder} holds no weights: give the folder that a training run wrote", field="out")
    if (folder / "adapter_config.json").exists():
        require("peft", extra="train").set_peft_model_state_dict(model, safetensors.load_file(files[0]))
        return
    for file in files:
        model.load_state_dict(safetensors.load_file(file), strict=False)


def _due(step: int, every: int, steps: int) -> bool:
    return step + 1 == steps or (every > 0 and (step + 1) % every == 0)


class Log:
    """Figures of each step, as JSON lines, and for TensorBoard where it is installed."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.file = folder, folder / "metrics.jsonl"
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.board = None
        else:
            self.board = SummaryWriter(str(folder))

    def read(self, steps: int) -> list[Facts]:
        """The first `steps` lines; what was noted after the checkpoint is dropped: it is done again."""
        lines = self.file.read_text().splitlines()[:steps] if self.file.exists() else []
        aside = self.file.with_suffix(".new")
        aside.write_text("".join(f"{line}\n" for line in lines))
        aside.replace(self.file)
        return [json.loads(line) for line in lines]

    def write(self, facts: Facts) -> None:
        with self.file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(facts) + "\n")
            lines.flush()
            os.fsync(lines.fileno())
        if self.board is not None:
            for name, value in facts.items():
                self.board.add_scalar(name, value, int(facts["step"]))
