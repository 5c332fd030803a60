"""Rollouts: recorded runs, cut where the context was rewritten.

A rollout is one attempt at a task. A segment is one training sequence: a prompt and what followed it, for as long as the
context only grew. A turn is one policy call. The ids a policy sampled are kept and never tokenised again, so a context is
trained on exactly as it acted (`Recorder`). A token is trained in the segment that sampled it and is context in every other.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntFlag
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from memctx.errors import ConfigError

Ids = NDArray[np.int32]
Floats = NDArray[np.float32]
Status = Literal["finished", "truncated", "error"]
Source = Literal["policy", "replay", "branch"]


class Role(IntFlag):
    """What a token of a response is; several may hold. Only `SAMPLED` ones are trained."""

    CONTEXT = 0
    SAMPLED = 1
    FORMAT = 2
    THINK = 4
    ACTION = 8
    SUBGOAL = 16
    SWITCH = 32
    SUMMARY = 64
    MEMORY_OP = 128
    OMIT = 256
    ANSWER = 512


@dataclass(slots=True, eq=False)
class Segment:
    """A prompt of P ids and a response of N: `roles` (N,) of `Role`, `logp` (N,) of the sampler, 0 where not sampled.

    Observations that came between two turns of the segment stand in the response with role `CONTEXT`.
    """

    prompt: Ids
    response: Ids
    roles: Ids
    logp: Floats
    version: int = 0  # of the policy that sampled

    def __post_init__(self) -> None:
        sizes = {"response": len(self.response), "roles": len(self.roles), "logp": len(self.logp)}
        if len(set(sizes.values())) != 1:
            raise ConfigError(
                f"a segment's arrays differ in length: {sizes}; give one of each a token", field="segment"
            )

    @property
    def ids(self) -> Ids:
        """Prompt and response."""
        return np.concatenate([self.prompt, self.response])

    @property
    def mask(self) -> NDArray[np.bool_]:
        """(N,): which response tokens the policy sampled here."""
        sampled: NDArray[np.bool_] = (self.roles & Role.SAMPLED) != 0
        return sampled


@dataclass(slots=True)
class Turn:
    """One policy call: number `t` of its rollout, by `module`, at `span` [start, end) of its segment's response.

    `reward` by name; `anchor`: a key shared by turns that saw the same state; `parent`: the turn it branched from;
    `probe`: measurements such as the entropy at its start or the probability of the gold answer.
    """

    t: int
    segment: int
    span: tuple[int, int]
    module: str = "agent"
    reward: dict[str, float] = field(default_factory=dict)
    anchor: str = ""
    parent: int | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    text: str = ""
    observation: str = ""
    probe: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Rollout:
    """One attempt at the task `group`. `outcome` by name. `messages`: the host's own, for reading and for `memctx replay`."""

    id: str
    group: str
    status: Status = "finished"
    source: Source = "policy"
    outcome: dict[str, float] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> Rollout:
        """One whose rewards can be written without touching this one's. The tokens, which nobody changes, are shared."""
        turns = [replace(turn, reward=dict(turn.reward), probe=dict(turn.probe)) for turn in self.turns]
        return replace(self, outcome=dict(self.outcome), turns=turns, meta=dict(self.meta))

    def check(self) -> None:
        """Raises `ConfigError` where a turn names tokens that its segment has not, or did not sample."""
        for turn in self.turns:
            start, end = turn.span
            inside = 0 <= turn.segment < len(self.segments) and 0 <= start < end
            if not inside or end > len(self.segments[turn.segment].response):
                text = f"rollout {self.id!r}, turn {turn.t}: no tokens {turn.span} in segment {turn.segment}"
                raise ConfigError(text, field="turns")
            if not self.segments[turn.segment].mask[start:end].all():
                text = f"rollout {self.id!r}, turn {turn.t}: tokens {turn.span} were not all sampled there"
                raise ConfigError(text, field="turns")


class Recorder:
    """Writes a rollout while it acts. A new segment begins exactly where a prompt departs from the ids already held.

    `fresh`: with each turn, whatever it holds. `version`: of the policy that acts.
    """

    def __init__(self, id: str, group: str, version: int = 0, *, fresh: bool = False) -> None:
        self.rollout = Rollout(id, group)
        self.version = version
        self.fresh = fresh
        self._held: list[int] = []  # ids of the open segment, prompt and response
        self._prompt = 0
        self._roles: list[int] = []
        self._logp: list[float] = []

    def turn(
        self,
        prompt: Sequence[int],
        sampled: Sequence[int],
        logp: Sequence[float],
        *,
        module: str = "agent",
        roles: Sequence[int] | None = None,
        **facts: Any,
    ) -> Turn:
        """The policy saw `prompt` and sampled `sampled`; `facts` are fields of `Turn`. Raises `ConfigError`."""
        marks = [int(Role.SAMPLED)] * len(sampled) if roles is None else [int(role) | Role.SAMPLED for role in roles]
        if not sampled or not len(sampled) == len(logp) == len(marks):
            text = f"turn {len(self.rollout.turns)}: {len(sampled)} ids, {len(logp)} log-probs, {len(marks)} roles"
            raise ConfigError(f"{text}; give one of each a sampled token, at least one", field="sampled")
        if not self._extends(prompt):
            self._begin(prompt)
        self._put(prompt[len(self._held) :], Role.CONTEXT)
        start = len(self._held) - self._prompt
        self._held += map(int, sampled)
        self._roles += marks
        self._logp += map(float, logp)
        span = (start, start + len(sampled))
        turn = Turn(len(self.rollout.turns), len(self.rollout.segments), span, module, **facts)
        self.rollout.turns.append(turn)
        return turn

    def finish(self, outcome: Mapping[str, float] | None = None, status: Status = "finished") -> Rollout:
        """The rollout, whole."""
        self._end()
        self.rollout.status = status
        self.rollout.outcome.update(outcome or {})
        return self.rollout

    def fork(self, id: str) -> Recorder:
        """Another that goes on from here under its own id; turns and segments so far are in both."""
        other = Recorder(id, self.rollout.group, self.version, fresh=self.fresh)
        other.rollout.source = "branch"
        other.rollout.turns = copy.deepcopy(self.rollout.turns)
        other.rollout.meta = copy.deepcopy(self.rollout.meta)
        other.rollout.segments = list(self.rollout.segments)
        other._held, other._prompt = list(self._held), self._prompt
        other._roles, other._logp = list(self._roles), list(self._logp)
        return other

    def _extends(self, prompt: Sequence[int]) -> bool:
        held = self._held
        return bool(held) and not self.fresh and len(prompt) >= len(held) and list(prompt[: len(held)]) == held

    def _begin(self, prompt: Sequence[int]) -> None:
        self._end()
        self._held = list(map(int, prompt))
        self._prompt = len(prompt)

    def _put(self, ids: Sequence[int], role: Role) -> None:
        self._held += map(int, ids)
        self._roles += [int(role)] * len(ids)
        self._logp += [0.0] * len(ids)

    def _end(self) -> None:
        if self._roles:
            ids = np.array(self._held, np.int32)
            arrays = np.array(self._roles, np.int32), np.array(self._logp, np.float32)
            self.rollout.segments.append(Segment(ids[: self._prompt], ids[self._prompt :], *arrays, self.version))
        self._held, self._prompt, self._roles, self._logp = [], 0, [], []
