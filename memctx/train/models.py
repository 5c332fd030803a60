"""Policies: what is trained. A policy gives logits, and samples many prompts at once.

`Causal` wraps a Hugging Face causal LM, whole or with LoRA; `tiny` makes one from nothing, small enough to learn in seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
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
        self, prompts: Sequence[Sequence[int]], *, tokens: int, stop: Collection[int], seeds: Sequence[int] | None
    ) -> list[Sampled]:
        """As `Policy.sample`; without `seeds` the likeliest token is taken each time. A prompt that is done leaves the batch."""
        ids, attend = self._aligned(prompts)
        chances = [Random(seed) for seed in seeds or ()]
        found = [Sampled([], [], []) for _ in prompts]
        rows, cache = list(range(len(prompts))), None
        for _ in range(tokens):
            place = (attend.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]
            inputs = {"input_ids": ids, "attention_mask": attend, "position_ids": place, "logits_to_keep": 1}
            out = self._call(**inputs, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            scores = torch.log_softmax(out.logits[:, -1].float() / self.temperature, -1)
            picked = _drawn(scores, [chances[row].random() for row in rows]) if seeds else scores.argmax(-1)
            logp, entropy = scores.gather(1, picked[:, None])[:, 0], -(scores.exp() * scores).nansum(-1)
            drawn = picked.tolist()
            for row, token, chance, spread in zip(rows, drawn, logp.tolist(), entropy.tolist(), strict=True):
                found[row].ids.append(token)
                found[row].logp.append(chance)
                found[row].entropy.append(spread)
            going = [at for at, token in enumerate(drawn) if token not in stop]
            if not going:
                break
            if len(going) < len(rows):
                kept = torch.tensor(going, device=self.device)
                cache.batch_select_indices(kept)
                rows, attend, picked = [rows[each] for each in going], attend[kept], picked[kept]
            ids = picked[:, None]
            attend = torch.cat([attend, torch.ones_like(ids)], dim=1)
        return found

    def _aligned(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """(B, L) ids, and 1 where they are no padding; padded on the left, so that all go on from the same place."""
        width = max(map(len, prompts))
        ids = [[self.pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        attend = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        return torch.tensor(ids, device=self.device), torch.tensor(attend, device=self.device)

    def save(self, folder: Path) -> None:
        """Weights as safetensors and the configuration as JSON."""
        self.model.save_pretrained(folder, safe_serialization=True)


def _drawn(scores: Tensor, points: Sequence[float]) -> Tensor:
    """(B,): of log-probs (B, V), the id at whose stretch of the summed probabilities each point of [0, 1) lies."""
    ends = scores.double().exp().cumsum(-1)
    point = torch.tensor(points, dtype=torch.float64, device=scores.device)[:, None] * ends[:, -1:]
    return torch.searchsorted(ends, point, right=True)[:, 0]


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
