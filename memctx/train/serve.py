"""Trained policies at work: saved with all that it takes to use them, and loaded as what answers `Generate`.

train(policy, stage, presets.preset("supo"), out="runs/supo")
session = Pipeline([Summarize()]).session(generate=Trained("runs/supo"))
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from memctx.effects import Generate
from memctx.errors import ConfigError, EffectError, require
from memctx.train import codec as codecs
from memctx.train.acting import AGENT, Stage
from memctx.train.codec import Codec, Tape
from memctx.train.draws import mixed
from memctx.train.models import Causal

SCHEMA = 1
CARD = "policy.json"


@dataclass(frozen=True, slots=True)
class Saved:
    """A policy, how it reads and writes, and by module how many tokens a turn of its training had at most."""

    policy: Causal
    codec: Codec
    limits: Mapping[str, int]

    def limit(self, module: str) -> int:
        """Of a module that training did not know: the agent's."""
        return self.limits.get(module, self.limits[AGENT])


def save(policy: Causal, stage: Stage, folder: str | Path) -> None:
    """Write weights, codec and limits into a folder; nothing is pickled."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    policy.save(folder)
    limits = {AGENT: stage.limit(AGENT), **stage.limits}
    card = {"schema": SCHEMA, "temperature": policy.temperature, "limits": limits, "codec": stage.codec.save(folder)}
    (folder / CARD).write_text(json.dumps(card, indent=1), encoding="utf-8")


def load(folder: str | Path, *, device: str = "cpu") -> Saved:
    """What `save` wrote, or the newest checkpoint of a training run. Raises `ConfigError`.

    Adapters (LoRA) load the model they were made for by the name or path that it was loaded from.
    """
    folder = (checkpoints(Path(folder)) or [Path(folder)])[-1]
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        text = f"{folder} holds no trained policy ({CARD}): give the folder that a training run wrote"
        raise ConfigError(text, field="folder") from cause
    if card.get("schema") != SCHEMA:
        raise ConfigError(f"{folder / CARD}: schema {card.get('schema')!r}; known: {SCHEMA}", field="folder")
    codec = codecs.load(card["codec"], folder)
    adapters = (folder / "adapter_config.json").exists()
    maker = ("peft", "AutoPeftModelForCausalLM") if adapters else ("transformers", "AutoModelForCausalLM")
    try:
        model = getattr(require(maker[0], extra="train"), maker[1]).from_pretrained(folder, local_files_only=True)
    except OSError as cause:
        where = f"{folder}, or the model that its adapters were made for" if adapters else folder
        raise ConfigError(f"no weights can be read from {where}: {cause}", field="folder") from cause
    return Saved(Causal(model, codec.pad, temperature=card["temperature"], device=device), codec, card["limits"])


def checkpoints(folder: Path) -> list[Path]:
    """Those of a training run, the oldest first."""
    steps = {path: path.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*")}
    return sorted((path for path, step in steps.items() if step.isdecimal()), key=lambda path: int(steps[path]))


class Trained:
    """Answers `Generate`: `pipeline.session(generate=Trained("runs/supo"))`, or `others={"summarize": Trained(...)}` of a stage.

    The likeliest text; with `sample`, drawn as in training, by `seed` and prompt, so that one prompt has one answer. Safe in
    threads: answers are made one after the other. An async session asks it in a thread. Raises `ConfigError` for a folder
    without a policy, and `EffectError` for a prompt that is longer than the model's context.
    """

    def __init__(self, folder: str | Path, *, sample: bool = False, seed: int = 0, device: str = "cpu") -> None:
        self.saved = load(folder, device=device)
        self.sample, self.seed = sample, seed
        self._busy = threading.Lock()

    def __call__(self, effect: Generate) -> str:
        saved = self.saved
        prompt = Tape(saved.codec).prompt(effect.messages)
        tokens = min(effect.max_tokens, saved.limit(effect.module))
        room = getattr(saved.policy.model.config, "max_position_embeddings", None)
        if room is not None and len(prompt) + tokens > room:
            text = f"{effect.module} asks with {len(prompt)} tokens for {tokens}; the model's context is {room}"
            raise EffectError(text, code="prompt_too_long")
        seeds = [mixed(self.seed, *prompt)] if self.sample else None
        with self._busy:
            (found,) = saved.policy.sample([prompt], tokens=tokens, stop=saved.codec.stop, seeds=seeds)
        return saved.codec.text(found.ids)
