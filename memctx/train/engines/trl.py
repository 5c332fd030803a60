"""TRL: its `AsyncGRPOTrainer` on our rollouts, advantages and losses, with what it brings around them: PEFT, schedulers,
checkpoints, logging.

TRL's own loop stamps one advantage on each row and knows one loss, and its rows come from a rollout worker elsewhere. Here the
trainer itself plays a `Stage`, once each step, with the weights that it trains: so nothing is sent anywhere and no row is stale.
The rows of a step are one whole batch, and the loss is the algorithm's.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from memctx.errors import ConfigError, require
from memctx.train.acting import Stage
from memctx.train.algorithm import Algorithm
from memctx.train.draws import mixed
from memctx.train.engines import Row, collate, fits, loss, rows_of
from memctx.train.learner import Learner
from memctx.train.models import Causal
from memctx.train.trainer import scores

async_grpo: Any = require("trl.experimental.async_grpo", extra="trl")
disable_dropout_in_model: Any = require("trl.trainer.utils", extra="trl").disable_dropout_in_model


class MemctxTrainer(async_grpo.AsyncGRPOTrainer):  # type: ignore[misc]  # TRL's types are not for others
    """A stage is played, and a causal LM learns. `model`: its folder or name; `args`: an `AsyncGRPOConfig`.

    `tokenizer`: the model's, with a padding token. `tasks` a step; task numbers go on from step to step. One optimiser step a
    batch; `gradient_accumulation_steps` cuts it into so many parts, which add up to the same gradient. Other keywords go to TRL.
    One process: where more is wanted, let `sampling` play elsewhere, as `memctx.train.engines.ray` does. Raises `ConfigError` for
    an algorithm that needs more than one step on rows that stand, see `memctx.train.engines.fits`.
    """

    def __init__(
        self,
        model: str,
        stage: Stage,
        algorithm: Algorithm,
        args: Any,
        tokenizer: Any,
        *,
        tasks: int = 8,
        attention: str = "sdpa",
        **others: Any,
    ) -> None:
        fits(algorithm)
        if args.max_steps <= 0:
            text = f"max_steps = {args.max_steps}: tasks never end here, so say after how many steps to stop"
            raise ConfigError(text, field="max_steps")
        self.algorithm, self.stage, self.tasks = algorithm, replace(stage, layout=algorithm.layout), tasks
        super().__init__(
            model,
            args=args,
            train_dataset=[{"prompt": []}],  # TRL asks for one; the tasks are the stage's
            processing_class=tokenizer,
            rollout_worker=Idle(),
            weight_transfer=Here(),
            **others,
        )
        if self.accelerator.num_processes > 1:
            raise ConfigError(f"{self.accelerator.num_processes} processes: this trainer is one", field="num_processes")
        disable_dropout_in_model(self.model)  # it is trained on the probabilities that it acted with
        self.model.set_attn_implementation(attention)  # TRL's own packs rows as trees, for its own loss
        self.loss_is_scaled_for_ga = True  # parts are summed, not averaged
        pad, device = tokenizer.pad_token_id, str(self.accelerator.device)
        policy = Causal(self.model, pad, temperature=args.temperature, device=device)
        self._learner = Learner(policy, algorithm)  # now: the reference is the model before any checkpoint is loaded

    def rows(self, step: int) -> list[Row]:
        """The rows of a step: the stage is played with the weights as they are."""
        policy = self._learner.policy
        policy.model.eval()
        tasks = range(step * self.tasks, (step + 1) * self.tasks)
        rollouts = self.algorithm.sampling.collect(self.stage, policy, tasks, mixed(self.args.seed, step), version=step)
        self.rollout_worker.metrics_queue.put(scores(rollouts))
        return rows_of(self._learner, rollouts)

    def get_train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """The parts of one batch a step."""
        self._rollout_dataset = Parts(self)
        return DataLoader(self._rollout_dataset, batch_size=None)

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Tensor:
        """The algorithm's loss of a part; the parts of a step add up to that of the whole batch."""
        attend = inputs["attend"]
        place = (attend.cumsum(1) - 1).clamp_min(0)
        logits = model(input_ids=inputs["ids"], attention_mask=attend, position_ids=place).logits
        return loss(self.algorithm, logits / self.args.temperature, inputs)


class Parts(IterableDataset[dict[str, Tensor]]):
    """The batches of a trainer, step by step, each cut into as many parts as it accumulates."""

    wait_s = 0.0  # TRL reads from it how long it waited for rollouts

    def __init__(self, trainer: MemctxTrainer) -> None:
        self.trainer = trainer

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        parts = self.trainer.args.gradient_accumulation_steps
        for step in range(self.trainer.state.global_step, self.trainer.args.max_steps):
            begin = time.time()
            rows = self.trainer.rows(step)
            self.wait_s += time.time() - begin
            for part in range(parts):
                mine = rows[part::parts] or [_weightless(rows[0])]
                yield collate(mine, self.trainer.processing_class.pad_token_id)


def _weightless(row: Row) -> Row:
    """For a part that has no row of its own."""
    return replace(row, weight=torch.zeros_like(row.weight))


class Idle:
    """A rollout worker, as TRL asks for one, that has nothing to do: the trainer plays when it needs rows."""

    def __init__(self) -> None:
        self.rollout_buffer: queue.Queue[Any] = queue.Queue()
        self.metrics_queue: queue.Queue[dict[str, float]] = queue.Queue()

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def update_model_version(self, model_version: int) -> None: ...

    def check_health(self, stale_after_s: float) -> None: ...


class Here:
    """A transfer of weights, as TRL asks for one, from a place to itself."""

    def init_weight_transfer(self) -> None: ...

    def pause(self) -> None: ...

    def send_weights(self, iterator: Iterator[tuple[str, Tensor]]) -> None: ...

    def resume(self) -> None: ...

    def destroy(self) -> None: ...
