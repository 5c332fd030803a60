"""Trained policies at work: saved and loaded as they were, and at the place of a chat model under an agent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch")

from memctx import Pipeline
from memctx.effects import Generate
from memctx.errors import ConfigError, EffectError
from memctx.strategies.summarize import Summarize
from memctx.train import presets, serve
from memctx.train.acting import Stage
from memctx.train.algorithm import Algorithm
from memctx.train.codec import Bytes, ChatML, Codec, Symbols, Tape
from memctx.train.envs.bandit import Bandit
from memctx.train.learner import Learner
from memctx.train.models import Causal, lora, tiny
from memctx.train.rollouts import Recorder, Rollout
from memctx.train.serve import Trained
from memctx.train.trainer import train

NOTES = "K71\nK820\nK93"
CODES = Symbols("K0123456789\n")  # all that it reads of a prompt
DIGITS = Symbols("0123?")


def words() -> ChatML:
    """A tokenizer of a few words, made here."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    known = ["<unk>", "<|im_start|>", "<|im_end|>", "user", "assistant", "system", "tool", "how", "well", "key"]
    make: Any = PreTrainedTokenizerFast
    inner = Tokenizer(WordLevel({word: place for place, word in enumerate(known)}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    marks = {"unk_token": "<unk>", "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}
    return ChatML(make(tokenizer_object=inner, **marks))


def asks(text: str = "how well?", max_tokens: int = 12, module: str = "summarize") -> Generate:
    return Generate(({"role": "user", "content": text},), max_tokens, module)


def saved(folder: Path, codec: Codec, **limits: int) -> Causal:
    policy = tiny(codec, width=32, layers=1, context=128, seed=3)
    serve.save(policy, Stage(Bandit(), Pipeline(), codec, tokens=8, limits=limits), folder)
    return policy


@pytest.mark.parametrize("make", [Bytes, words, lambda: DIGITS], ids=["bytes", "chatml", "symbols"])
def test_a_saved_policy_says_what_it_said(make: Callable[[], Codec], tmp_path: Path) -> None:
    codec = make()
    policy = saved(tmp_path, codec)
    prompt = [*codec.head("user"), *codec.body("how well?"), *codec.tail(), *codec.head("assistant")]
    (said,) = policy.sample([prompt], tokens=8, stop=codec.stop, seeds=None)
    assert Trained(tmp_path)(asks()) == codec.text(said.ids)
    assert len(said.ids) > 1
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pt", ".bin", ".pkl")]


def test_limits_are_those_of_training(tmp_path: Path) -> None:
    saved(tmp_path, Bytes(), summarize=5)
    found = serve.load(tmp_path)
    assert (found.limit("summarize"), found.limit("agent"), found.limit("chunked")) == (5, 8, 8)
    assert len(Trained(tmp_path)(asks()).encode()) <= 15  # five ids, each at most a replacement character
    assert len(Trained(tmp_path)(asks(max_tokens=1)).encode()) <= 3


def test_drawn_answers_depend_on_seed_and_prompt_alone(tmp_path: Path) -> None:
    saved(tmp_path, Bytes())
    one, two, other = (
        Trained(tmp_path, sample=True),
        Trained(tmp_path, sample=True),
        Trained(tmp_path, sample=True, seed=1),
    )
    assert one(asks()) == one(asks()) == two(asks()) != other(asks())
    with ThreadPoolExecutor(4) as pool:
        texts = [f"how {n}" for n in range(12)]
        assert list(pool.map(lambda text: one(asks(text)), texts)) == [two(asks(text)) for text in texts]


def test_a_training_run_can_be_served_from_its_folder(tmp_path: Path) -> None:
    policy = tiny(DIGITS, width=32, layers=1, context=64)
    bandit = Stage(Bandit(turns=2), Pipeline(), DIGITS, tokens=1, turns=2)
    train(policy, bandit, Algorithm(), steps=2, tasks=2, lr=1e-2, out=tmp_path, evaluate_tasks=1)
    assert serve.checkpoints(tmp_path)
    loaded = serve.load(tmp_path).policy.model.state_dict()
    assert all((loaded[name] == value).all() for name, value in policy.model.state_dict().items())


def test_the_newest_checkpoint_is_the_one_of_most_steps_and_foreign_folders_are_none(tmp_path: Path) -> None:
    for name in ("checkpoint-9", "checkpoint-10", "checkpoint-best", "checkpoint-10-old", "checkpoint.11.new"):
        (tmp_path / name).mkdir()
    assert [path.name for path in serve.checkpoints(tmp_path)] == ["checkpoint-9", "checkpoint-10"]


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft reads an old name
def test_adapters_are_served_upon_the_model_they_were_made_for(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    saved(tmp_path / "base", DIGITS)
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    policy = Causal(lora(base, rank=2, targets=["q_proj"]), DIGITS.pad)
    for name, value in policy.model.named_parameters():
        if "lora_B" in name:
            value.data.fill_(0.5)
    serve.save(policy, Stage(Bandit(), Pipeline(), DIGITS, tokens=8), tmp_path / "run")
    prompt = [*DIGITS.head("user"), *DIGITS.body("?"), *DIGITS.tail(), *DIGITS.head("assistant")]
    (said,) = policy.sample([prompt], tokens=8, stop=DIGITS.stop, seeds=None)
    assert Trained(tmp_path / "run")(asks("?")) == DIGITS.text(said.ids)


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.json"):
        Trained(tmp_path)
    saved(tmp_path, Bytes())
    with pytest.raises(EffectError, match="context is 128"):
        Trained(tmp_path)(asks("x" * 130))
    card = json.loads((tmp_path / serve.CARD).read_text())
    (tmp_path / "model.safetensors").rename(tmp_path / "aside")
    with pytest.raises(ConfigError, match="no weights"):
        Trained(tmp_path)
    for wrong in ({"schema": 9}, {"codec": {"use": "runes"}}):
        (tmp_path / serve.CARD).write_text(json.dumps({**card, **wrong}))
        with pytest.raises(ConfigError, match=r"schema|runes"):
            Trained(tmp_path)


# Under an agent -----------------------------------------------------------------------------------------------------


def pipeline() -> Pipeline:
    summarize = Summarize(at=0.5, keep=2, min_tokens=200, max_source_tokens=256)
    return Pipeline([summarize], budget=2_000, edit_when="budget")


def walked(generate: Any, *, wait: bool = False) -> list[str]:
    """A real LangGraph agent walks twelve steps; the texts of all that its model was shown."""
    from langchain.agents import create_agent
    from langchain_core.messages import HumanMessage

    from memctx.adapters.langchain import ContextMiddleware
    from tests.scripted import Scripted, walk

    model = Scripted()
    agent: Any = create_agent(model, [walk], middleware=[ContextMiddleware(pipeline(), generate=generate)])
    state, config = {"messages": [HumanMessage("walk 12")]}, {"recursion_limit": 200}
    done = asyncio.run(agent.ainvoke(state, config)) if wait else agent.invoke(state, config)
    assert done["messages"][-1].content == "all done now"
    return ["\n".join(str(message.content) for message in messages) for messages, _ in model.seen]


def taught(prompts: list[list[int]], folder: Path) -> None:
    """A tiny transformer that learns to answer these prompts with `NOTES`, as RISE teaches a good answer."""
    policy, algorithm = tiny(CODES, width=32, layers=1, context=1_024), presets.preset("rise")
    learner = Learner(policy, algorithm, lr=1e-2)
    said, rollouts = [*CODES.body(NOTES), *CODES.tail()], list[Rollout]()
    for number, prompt in enumerate(prompts):
        recorder = Recorder(str(number), str(number))
        recorder.turn(prompt, said, [0.0] * len(said), module="summarize")
        rollouts.append(recorder.finish({"task": 1.0}))
    ready = learner.ready(rollouts)
    losses = [learner.update(ready, None)["loss"] for _ in range(60)]
    assert losses[-1] < 1
    serve.save(policy, Stage(Bandit(), Pipeline(), CODES, limits={"summarize": 40}), folder)


def test_a_trained_summariser_serves_a_langgraph_agent(tmp_path: Path) -> None:
    """One argument: `generate=Trained(folder)`. Nothing else in the agent knows that the model is a trained one."""
    pytest.importorskip("langchain")
    prompts = list[list[int]]()

    def teacher(effect: Generate) -> str:
        prompts.append(Tape(CODES).prompt(effect.messages))
        return NOTES

    assert any(NOTES in text for text in walked(teacher))
    taught(prompts, tmp_path)
    assert all(NOTES not in text for text in walked(lambda effect: "no"))
    for wait in (False, True):
        assert any(NOTES in text for text in walked(Trained(tmp_path), wait=wait))
