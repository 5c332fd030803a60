"""Policies: what is trained. A policy gives logits, and samples many prompts at once.

`Causal` wraps a Hugging Face causal LM, whole or with LoRA; `tiny` makes one from nothing, small enough to learn in seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from memctx.errors import ConfigError, require

if TYPE_CHECKING:
    from memctx.train.codec import Codec


@dataclass(frozen=True, slots=True)
class Sampled:
    """`ids` up to and with what ended the turn; `logp` of each under the policy that drew it; `entropy` at each."""

    ids: list[int]
    logp: list[float]
    entropy: list[float]


class Policy(Protocol):
    """`temperature` is part of the policy: what it samples at, and what its logits are divided by."""

    temperature: float

    def logits(self, ids: Tensor, attend: Tensor) -> Tensor:
        """(B, L, V), over the temperature."""
        ...

    def sample(
        self, prompts: Sequence[Sequence[int]], *, tokens: int, stop: Collection[int], seeds: Sequence[int]
    ) -> list[Sampled]:
        """At most `tokens` a prompt. Each prompt has a seed of its own, so who is beside it changes nothing."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained."""
        ...


class Causal:
    """A causal LM of `transformers`. `pad`: the id that fills up; `device`: where it runs.

    `bf16`: it computes in bfloat16 with weights as they are: kept in float32 they learn at small rates too. Dropout stays
    off: a policy is trained on the probabilities it acted with.
    """

    def __init__(
        self, model: Any, pad: int, *, temperature: float = 1.0, device: str = "cpu", bf16: bool = False
    ) -> None:
        if temperature <= 0:
            text = f"temperature = {temperature}: at 0 all rollouts of a group are equal and teach nothing; use 1.0"
            raise ConfigError(text, field="temperature")
        self.model = model.to(device).eval()
        self.pad = pad
        self.temperature = temperature
        self.device = device
        self.bf16 = bf16

    def _call(self, **inputs: Any) -> Any:
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bf16):
            return self.model(**inputs)

    def parameters(self) -> Iterator[nn.Parameter]:
        return (each for each in self.model.parameters() if each.requires_grad)

    def logits(self, ids: Tensor, attend: Tensor) -> Tensor:
        ids, attend = ids.to(self.device), attend.to(self.device)
        place = (attend.cumsum(1) - 1).clamp_min(0)
        found: Tensor = self._call(input_ids=ids, attention_mask=attend, position_ids=place).logits
        return found / self.temperature

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[Sequence[int]], *, tokens: int, stop: Collection[int], seeds: Sequence[int]
    ) -> list[Sampled]:
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self.pad, dtype=torch.long)
        attend = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):  # padded on the left, so that all go on from the same place
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            attend[row, width - len(prompt) :] = 1
        ids, attend = ids.to(self.device), attend.to(self.device)
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        found = [Sampled([], [], []) for _ in prompts]
        open_rows = list(range(len(prompts)))
        cache = None
        for _ in range(tokens):
            place = (attend.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]
            out = self._call(
                input_ids=ids, attention_mask=attend, position_ids=place, past_key_values=cache, use_cache=True
            )
            cache = out.past_key_values
            scores = torch.log_softmax((out.logits[:, -1].float() / self.temperature).cpu(), -1)
            picked = [_draw(scores[row], draws[row]) if row in open_rows else self.pad for row in range(len(prompts))]
            for row in open_rows:
                found[row].ids.append(picked[row])
                found[row].logp.append(float(scores[row, picked[row]]))
                found[row].entropy.append(float(-(scores[row].exp() * scores[row]).nansum()))
            open_rows = [row for row in open_rows if picked[row] not in stop]
            if not open_rows:
                break
            ids = torch.tensor(picked, device=self.device)[:, None]
            attend = torch.cat([attend, torch.ones_like(ids)], dim=1)
        return found

    def save(self, folder: Path) -> None:
        """Weights as safetensors and the configuration as JSON."""
        self.model.save_pretrained(folder, safe_serialization=True)


def _draw(scores: Tensor, generator: torch.Generator) -> int:
    return int(torch.multinomial(scores.exp(), 1, generator=generator))


def tiny(
    codec: Codec,
    *,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    context: int = 512,
    seed: int = 0,
    temperature: float = 1.0,
) -> Causal:
    """A transformer from nothing: about 130,000 weights at the defaults with bytes."""
    transformers = require("transformers", extra="train")
    config = transformers.LlamaConfig(
        vocab_size=codec.size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        pad_token_id=codec.pad,
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.LlamaForCausalLM(config)
    return Causal(model, codec.pad, temperature=temperature)


def lora(model: Any, rank: int = 16, alpha: int = 32, targets: Sequence[str] | None = None) -> Any:
    """The model with low-rank adapters, which alone are trained. `targets`: names of modules; None: what peft knows."""
    peft = require("peft", extra="train")
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, task_type="CAUSAL_LM")
    return peft.get_peft_model(model, config)
