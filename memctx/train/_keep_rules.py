"""The hand-written rules at work on a recorded run: what they value depends on what they cleared before, so each setting is played.

The same rule of clearing as `ClearResults(keep=0, below=...)`, with the features a strategy would give the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memctx._index import Index
from memctx.edits import Clear
from memctx.messages import Message, Transcript
from memctx.plan import Plan
from memctx.policies.rules import Rules
from memctx.strategies import Context

Floats = NDArray[np.float64]
GRID = (0.04, 0.07, 0.1, 0.13, 0.16, 0.19, 0.22, 0.25, 0.28, 0.32, 0.36, 0.41, 0.47, 0.54, 0.62, 0.72, 0.85, 0.95)
MARK = 5  # tokens of what stands for a cleared result; a result no longer than that stays
LOSS = 2_000.0


@dataclass(frozen=True, slots=True)
class Call:
    """A model call: how many messages stand before it, which of the results are older than the newest step's, and for each
    need of the call the results that could serve it (none: it is served in any case)."""

    before: int
    older: tuple[int, ...]
    needs: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Played:
    """A run read once: `results` in order, with the `sizes` of their texts in tokens."""

    transcript: Transcript
    results: Sequence[Message]
    sizes: Sequence[int]
    calls: Sequence[Call]
    count: Callable[[str], int]


def play(run: Played, by_tokens: bool) -> Floats:
    """(len(GRID), 2): tokens of older results in all views, and needs served, by setting. `by_tokens`: worth is weighed."""
    words: dict[str, frozenset[str]] = {}
    return np.array([_play(run, below, by_tokens, words) for below in GRID], np.float64).reshape(-1, 2)


def _play(run: Played, below: float, by_tokens: bool, words: dict[str, frozenset[str]]) -> tuple[int, int]:
    heard, cleared = _Heard(), dict[str, Clear]()
    index, rules, gone = Index(words=words), Rules(), set[int]()
    shown = served = 0
    for number, call in enumerate(run.calls):
        heard.messages = run.transcript.messages[: call.before]
        heard.position = run.transcript.position
        ctx = _context(heard, Plan(version=number), cleared, run.count)
        ctx.memo["index"] = index
        index = Index.of(ctx)
        open_ = [row for row in call.older if row not in gone and run.sizes[row] > MARK]
        worths = rules.score([index.features(ctx, run.results[row]) for row in open_])
        for row, worth in zip(open_, worths, strict=True):
            if (worth * LOSS / (worth * LOSS + run.sizes[row]) if by_tokens else worth) < below:
                gone.add(row)
                cleared[run.results[row].id] = Clear(run.results[row].id, "", "r1")
        shown += sum(MARK if row in gone else run.sizes[row] for row in call.older)
        served += sum(not need or any(row not in gone for row in need) for need in call.needs)
    return shown, served


@dataclass(slots=True)
class _Heard:
    """As much of a transcript as stood before a call."""

    messages: Sequence[Message] = ()
    position: dict[str, int] | None = None
    by_id: dict[str, Message] | None = None

    def find(self, message_id: str) -> Message | None:
        if self.by_id is None or len(self.by_id) < len(self.messages):
            self.by_id = {message.id: message for message in self.messages}
        return self.by_id.get(message_id)


def _context(heard: _Heard, plan: Plan, cleared: dict[str, Clear], count: Callable[[str], int]) -> Context:
    return Context(
        transcript=heard,  # type: ignore[arg-type]  # what an index reads of one
        plan=plan,
        limit=0,
        tokens=0,
        tools=(),
        protected=lambda message: False,
        shown=lambda step: True,
        cleared=cleared.get,
        count=count,
    )
