"""Engines of others give the loss that our trainer gives, and refuse rows that do not fit together."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch")

import torch

from memctx import Pipeline
from memctx.errors import ConfigError, TrainingError
from memctx.replay import replay
from memctx.strategies.internal_state import InternalState
from memctx.train import presets
from memctx.train.acting import Stage
from memctx.train.codec import ChatML
from memctx.train.engines import check, collate, loss, rows_of
from memctx.train.envs.carry import KEYS, Carry
from memctx.train.learner import Learner
from memctx.train.losses import logprobs
from memctx.train.models import Causal, tiny
from memctx.train.regularisers import KL, Entropy
from memctx.train.sampling import Group, ReplayInject
from memctx.train.trainer import train

WORDS = [
    "<pad>",
    "<|im_start|>",
    "<|im_end|>",
    "\n",
    "system",
    "user",
    "assistant",
    *KEYS[:4],
    "?",
    "key",
    "ready",
    "tool",
]


def tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="\n"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|\n|\S"), "isolated")
    found = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, pad_token="<pad>", eos_token="<|im_end|>", unk_token="\n", padding_side="left"
    )
    found.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    return found


def stage(codec: Any) -> Stage:
    return Stage(Carry(keys=4), Pipeline([InternalState(tag="")], edit_when="always"), codec, tokens=1, turns=3)


def policy(codec: Any, seed: int = 0) -> Causal:
    return tiny(codec, width=16, layers=1, heads=2, context=128, seed=seed)


def slope(parameter: Any) -> torch.Tensor:
    assert parameter.grad is not None
    found: torch.Tensor = parameter.grad.clone()
    return found


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "supo", "trloo", "rloo"])
def test_parts_of_a_batch_add_up_to_the_trainers_loss_and_gradient(name: str) -> None:
    codec = ChatML(tokenizer())
    algorithm = replace(presets.preset(name), sampling=Group(4), entropy=Entropy(0.01), kl=KL(coef=0.05))
    ours, theirs = Learner(policy(codec), algorithm), Learner(policy(codec), algorithm)
    with torch.no_grad():  # away from the reference, so that KL says something
        for learner in (ours, theirs):
            next(iter(learner.policy.parameters())).mul_(1.1)
    rollouts = Group(4).collect(stage(codec), ours.policy, range(4), 7)
    if all(len({run.outcome["task"] for run in rollouts if run.group == group}) < 2 for group in "0123"):
        rollouts[0].outcome["task"] = 1.0 - rollouts[0].outcome["task"]
    facts = ours.update(ours.ready(rollouts), None)
    wanted = [slope(each) for each in ours.policy.parameters()]

    rows, total = rows_of(theirs, rollouts), 0.0
    for part in range(3):
        batch = collate(rows[part::3], codec.pad)
        value = loss(algorithm, theirs.policy.logits(batch["ids"], batch["attend"]), batch)
        value.backward()  # type: ignore[no-untyped-call]
        total += float(value.detach())
    torch.nn.utils.clip_grad_norm_(list(theirs.policy.parameters()), theirs.norm)
    assert total == pytest.approx(facts["loss"], abs=1e-6)
    assert any(bool(each.abs().max() > 1e-6) for each in wanted)
    for mine, other in zip(wanted, theirs.policy.parameters(), strict=True):
        assert torch.allclose(mine, slope(other), atol=1e-6)


@pytest.mark.parametrize("name", ["grpo", "dr_grpo", "memagent"])
def test_rollouts_without_a_turn_of_the_modules_that_learn_count_for_nobody(name: str) -> None:
    codec = ChatML(tokenizer())
    algorithm = replace(presets.preset(name), train_modules=frozenset({"summarize"}), kl=None)
    ours, theirs = Learner(policy(codec), algorithm), Learner(policy(codec), algorithm)
    rollouts = Group(2).collect(stage(codec), ours.policy, range(2), 7)
    for number, run in enumerate(rollouts):
        run.outcome["task"] = float(number % 2)
        for turn in run.turns[:1] if number else ():
            turn.module = "summarize"
    wanted = ours.update(ours.ready(rollouts), None)["loss"]
    batch = collate(rows_of(theirs, rollouts), codec.pad)
    value = loss(algorithm, theirs.policy.logits(batch["ids"], batch["attend"]), batch)
    assert float(value.detach()) == pytest.approx(wanted, abs=1e-6)
    assert abs(wanted) > 1e-4


@pytest.fixture(scope="module")
def rows() -> list[Any]:
    codec = ChatML(tokenizer())
    learner = Learner(policy(codec), presets.preset("grpo"))
    found = rows_of(learner, Group(2).collect(stage(codec), learner.policy, range(2), 3))
    return sorted(found, key=lambda row: -row.segments)  # the first is one of several of its rollout


def test_rows_hold_every_segment_of_a_rollout(rows: list[Any]) -> None:
    assert max(row.segments for row in rows) > 1  # the context was rewritten
    check(rows)


@pytest.mark.parametrize("field", ["turn", "old", "advantage", "weight", "roles"])
def test_mismatched_lengths_are_refused(rows: list[Any], field: str) -> None:
    cut = replace(rows[0], **{field: getattr(rows[0], field)[:-1]})
    with pytest.raises(TrainingError, match=field):
        check([cut, *rows[1:]])


def test_a_rollout_whose_segments_are_missing_or_twice_is_refused(rows: list[Any]) -> None:
    for wrong in (rows[1:], [*rows, rows[0]]):
        with pytest.raises(TrainingError, match="segments"):
            check(wrong)


def test_rows_with_and_without_a_reference_are_refused(rows: list[Any]) -> None:
    bare = [replace(row, reference=None) if row.rollout == rows[0].rollout else row for row in rows]
    with pytest.raises(TrainingError, match="reference"):
        check(bare)


def test_a_rollout_has_one_source_of_advantages(rows: list[Any]) -> None:
    with pytest.raises(TrainingError, match="one source"):
        check([replace(rows[0], source=rows[0].source + 1), *rows[1:]])
    with pytest.raises(TrainingError, match="no rows"):
        check([])


@pytest.mark.parametrize("name", ["turn_ppo", "m_dpo", "epo", "s_ppo", "seeupo"])
def test_what_needs_more_than_one_step_on_rows_is_sent_to_our_trainer(name: str) -> None:
    codec = ChatML(tokenizer())
    learner = Learner(policy(codec), presets.preset(name))
    with pytest.raises(ConfigError, match="use memctx"):
        rows_of(learner, [])


def saved(folder: Path) -> tuple[Any, ChatML]:
    """A model and its tokenizer as a folder, which is what TRL reads."""
    words = tokenizer()
    model = policy(ChatML(words)).model
    model.config.eos_token_id = model.generation_config.eos_token_id = words.eos_token_id
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return words, ChatML(words)


def of_trl(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: Any, algorithm: Any, peft: Any = None, **settings: Any
) -> Any:
    """A trainer of TRL's on the model of `saved`, one of those that this test makes."""
    pytest.importorskip("trl", reason="the engine of TRL needs trl")
    theirs: Any = import_module("trl.experimental.async_grpo.async_grpo_trainer")
    monkeypatch.setattr(theirs, "get_peak_flops_per_device", lambda *_: None)  # it asks for a GPU's name

    from memctx.train.engines.trl import MemctxTrainer

    given: dict[str, Any] = {"learning_rate": 1e-2, "lr_scheduler_type": "constant", "seed": 5, "max_grad_norm": 1.0}
    given |= {"report_to": [], "logging_steps": 1, "use_cpu": True, "bf16": False, "dtype": "float32"}
    args = theirs.AsyncGRPOConfig(str(folder / "trl"), **{"save_strategy": "no", **given, **settings})
    return MemctxTrainer(str(folder / "model"), stage(ChatML(words)), algorithm, args, words, tasks=8, peft_config=peft)


def test_the_reference_stays_though_another_wrapped_the_policy() -> None:
    """As accelerate does: what it puts on a model is bound to that model."""
    acting = policy(ChatML(tokenizer()))
    acting.model.forward = partial(type(acting.model).forward, acting.model)
    learner = Learner(acting, replace(presets.preset("supo"), kl=KL(coef=0.05)))
    assert learner.reference is not None
    with torch.no_grad():
        for each in acting.parameters():
            each.add_(0.1 * torch.randn_like(each))
    ids = torch.arange(2, 12)[None]
    gap = acting.logits(ids, torch.ones_like(ids)) - learner.reference.logits(ids, torch.ones_like(ids))
    assert gap.abs().max() > 0.01


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TRL's and accelerate's own
def test_trl_goes_on_from_a_checkpoint_with_the_reference_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, _ = saved(tmp_path / "model")
    algorithm = replace(
        presets.preset("supo"), sampling=Group(4), entropy=Entropy(0.1), kl=KL(coef=1.0), layout="per_turn"
    )
    whole = of_trl(tmp_path, monkeypatch, words, algorithm, max_steps=2, save_strategy="steps", save_steps=1)
    assert whole.stage.layout == "per_turn"
    whole.train()
    again = of_trl(tmp_path, monkeypatch, words, algorithm, max_steps=2)
    again.train(resume_from_checkpoint=str(tmp_path / "trl" / "checkpoint-1"))
    losses = [[each["loss"] for each in run.state.log_history if "loss" in each] for run in (whole, again)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # TRL's and accelerate's own
def test_trl_trains_on_the_probabilities_that_were_acted_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import LoraConfig

    words, codec = saved(tmp_path / "model")
    adapters = LoraConfig(r=2, lora_dropout=0.5, target_modules=["q_proj"], init_lora_weights=False)
    trainer = of_trl(tmp_path, monkeypatch, words, presets.preset("supo"), adapters, max_steps=1)
    batch = collate(trainer.rows(0), codec.pad)
    trainer.model.train()  # as it is while it learns
    logits = trainer.model(input_ids=batch["ids"], attention_mask=batch["attend"]).logits
    trained = batch["turn"] >= 0
    assert torch.allclose(logprobs(logits, batch["ids"])[trained], batch["old"][trained], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.filterwarnings("ignore")  # TRL's and accelerate's own
def test_two_steps_of_trl_are_two_steps_of_our_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: int
) -> None:
    from transformers import AutoModelForCausalLM

    words, codec = saved(tmp_path / "model")
    algorithm = replace(presets.preset("supo"), sampling=Group(4), entropy=Entropy(0.01))
    trainer = of_trl(tmp_path, monkeypatch, words, algorithm, max_steps=2, gradient_accumulation_steps=parts)
    trainer.train()
    theirs = [each for each in trainer.state.log_history if "loss" in each]

    ours = Causal(AutoModelForCausalLM.from_pretrained(tmp_path / "model"), codec.pad)
    history = train(ours, stage(codec), algorithm, steps=2, tasks=8, seed=5, lr=1e-2)
    assert [each["task"] for each in theirs] == [facts["task"] for facts in history]
    for name in ("loss", "grad_norm"):
        assert [each[name] for each in theirs] == pytest.approx([facts[name] for facts in history], abs=1e-5)
        assert all(abs(each[name]) > 1e-3 for each in theirs)


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    found = pytest.importorskip("ray", reason="the engine of Ray needs ray")
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    found.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield found
    found.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_rollouts_of_ray_are_those_of_one_process(ray: Any) -> None:
    from memctx.train.engines.ray import OnRay

    codec = ChatML(tokenizer())
    here, there = policy(codec), policy(codec)
    algorithm = replace(presets.preset("supo"), sampling=Group(4))
    sampling = OnRay(Group(4), workers=2)
    alone = train(here, stage(codec), algorithm, steps=2, tasks=6, lr=1e-2)
    spread = train(there, stage(codec), replace(algorithm, sampling=sampling), steps=2, tasks=6, lr=1e-2)
    sampling.close()
    assert [facts["loss"] for facts in spread] == pytest.approx([facts["loss"] for facts in alone], abs=1e-5)
    assert [facts["task"] for facts in spread] == [facts["task"] for facts in alone]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_replays_on_ray_are_those_of_one_process(ray: Any, tmp_path: Path) -> None:
    from memctx.train.engines.ray import pool

    file = tmp_path / "runs.jsonl"
    messages: list[dict[str, Any]] = [{"role": "user", "content": "look"}]
    for n in range(6):
        call = {"id": f"c{n}", "type": "function", "function": {"name": "look", "arguments": f'{{"id": "A-{n}00"}}'}}
        messages += [{"role": "assistant", "content": None, "tool_calls": [call]}]
        messages += [{"role": "tool", "tool_call_id": f"c{n}", "content": f"see A-{n + 1}00 " + "and more " * 80}]
    file.write_text("".join(json.dumps({"messages": messages}) + "\n" for _ in range(3)))
    pipelines = {"lean": Pipeline.lean(budget=4_000)}
    (alone,), (spread,) = replay([file], pipelines, jobs=1), replay([file], pipelines, jobs=pool(2))
    assert replace(spread, ms_per_call=0.0) == replace(alone, ms_per_call=0.0)


def test_a_past_of_rollouts_is_kept_around_the_workers_and_not_in_them() -> None:
    pytest.importorskip("ray", reason="the engine of Ray needs ray")
    from memctx.train.engines.ray import OnRay

    with pytest.raises(ConfigError, match=r"ReplayInject\(OnRay") as refused:
        OnRay(ReplayInject(Group(4)))
    assert refused.value.details["field"] == "sampling"
    ReplayInject(OnRay(Group(4)))


def test_ray_that_is_not_started_is_said() -> None:
    ray = pytest.importorskip("ray", reason="the engine of Ray needs ray")
    from memctx.train.engines.ray import OnRay

    ray.shutdown()
    codec = ChatML(tokenizer())
    with pytest.raises(ConfigError, match=r"ray\.init"):
        OnRay().collect(stage(codec), policy(codec), [0], 1)
