"""For the tests of training: rollouts made up, of a few tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memctx.train.rollouts import Recorder, Rollout

VOCABULARY = 9


def rollout(
    number: int,
    *,
    group: str = "task",
    turns: int = 3,
    rewrite: Sequence[int] = (),
    tokens: int = 4,
    outcome: float | None = None,
    rewards: Sequence[float] = (),
    seed: int = 0,
    **facts: object,
) -> Rollout:
    """One of `turns` turns of `tokens` sampled ids; before each turn in `rewrite` the context is written anew."""
    rng = np.random.default_rng([seed, number])
    recorder = Recorder(f"{group}-{number}", group)
    held = rng.integers(0, VOCABULARY, 3).tolist()
    for t in range(turns):
        if t in rewrite:
            held = rng.integers(0, VOCABULARY, 4).tolist()
        sampled = rng.integers(0, VOCABULARY, tokens).tolist()
        turn = recorder.turn(held, sampled, [-2.0] * tokens, **facts)  # type: ignore[arg-type]  # facts of a turn
        if rewards:
            turn.reward["step"] = rewards[t]
        held = held + sampled + rng.integers(0, VOCABULARY, 2).tolist()
    return recorder.finish({} if outcome is None else {"task": outcome})
