"""What the core of training costs: advantages and loss with its gradient, beside a forward pass on the same tokens.

    python -m benchmarks.throughput [--rollouts 64 --segments 8 --tokens 4096]

The forward pass is of a transformer of 135 million weights (the shape of SmolLM2-135M, random), timed on one segment and
multiplied by their number: its cost a token grows with the segment, not with their count.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
import transformers

from memctx.train.advantages import Term, advantages
from memctx.train.batch import collate
from memctx.train.losses import PolicyLoss, spread
from memctx.train.rollouts import Role, Rollout, Segment, Turn


def rollouts(count: int, segments: int, tokens: int) -> list[Rollout]:
    """Each segment is half prompt, half one sampled turn."""
    rng, half = np.random.default_rng(0), tokens // 2
    made = []
    for number in range(count):
        parts, turns = [], []
        for place in range(segments):
            ids = rng.integers(0, 49_152, tokens).astype(np.int32)
            roles = np.full(tokens - half, int(Role.SAMPLED), np.int32)
            parts.append(Segment(ids[:half], ids[half:], roles, rng.normal(-1, 0.1, tokens - half).astype(np.float32)))
            turns.append(Turn(place, place, (0, tokens - half), reward={"step": float(rng.random())}))
        made.append(
            Rollout(str(number), str(number // 8), outcome={"task": float(number % 2)}, turns=turns, segments=parts)
        )
    return made


def core(made: list[Rollout], spec: PolicyLoss) -> dict[str, float]:
    """Seconds of collating, of advantages, and of the loss with its gradient towards the log-probs."""
    begin = time.perf_counter()
    batch = collate(made)
    collated = time.perf_counter()
    terms = [Term(weight=0.5), Term("sum", "togo", group="prompt+turn", weight=0.5)]
    advantage = spread(batch.rows, advantages(batch.table, terms)).float()
    paid = time.perf_counter()
    logp = (batch.rows.sampler + 0.01).requires_grad_()
    spec.of(logp, batch, advantage).value.backward()  # type: ignore[no-untyped-call]  # torch
    done = time.perf_counter()
    return {"collate_s": collated - begin, "advantages_s": paid - collated, "loss_s": done - paid}


def forward(tokens: int) -> float:
    """Seconds of one forward pass over one segment, the better of two."""
    sizes: dict[str, Any] = {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
    }
    config = transformers.LlamaConfig(
        vocab_size=49_152, num_key_value_heads=3, max_position_embeddings=8_192, tie_word_embeddings=True, **sizes
    )
    model: Any = transformers.LlamaForCausalLM(config)
    ids = torch.randint(0, 49_152, (1, tokens))
    best = float("inf")
    with torch.no_grad():
        for _ in range(2):
            begin = time.perf_counter()
            model(ids, logits_to_keep=1)
            best = min(best, time.perf_counter() - begin)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rollouts", 64), ("segments", 8), ("tokens", 4096)):
        parser.add_argument(f"--{name}", type=int, default=default)
    wanted = parser.parse_args()
    found = core(rollouts(wanted.rollouts, wanted.segments, wanted.tokens), PolicyLoss(ratio="turn"))
    whole = forward(wanted.tokens) * wanted.rollouts * wanted.segments
    share = (found["advantages_s"] + found["loss_s"]) / whole
    print(
        json.dumps({**{k: round(v, 2) for k, v in found.items()}, "forward_s": round(whole), "share": round(share, 5)})
    )


if __name__ == "__main__":
    main()
