"""Notice when a thread drifts from its goal, and quote the goal and the rules at the tail when it leaves its usual band.

Follows Drift No More? (arXiv 2510.07777): drift settles at a level, D' = D - rate (D - level) + noise - relief of a reminder.
Measured as the KL of the model's answer in view of the thread from the same model's in view of the goal, what is pinned and
the newest turns; where no log-probabilities are to be had, as the distance of the answer's embedding from the goal's.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import astuple, dataclass
from math import sqrt
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from memctx.component import Component
from memctx.edits import Insert, Note, Replace
from memctx.effects import Effect, Embed, Logprobs
from memctx.errors import ConfigError, EffectError
from memctx.messages import Message
from memctx.strategies import Context, Proposal
from memctx.strategies._equilibrium import Equilibrium, divergence, fit
from memctx.strategies._head import head
from memctx.strategies._summary import fitting, rules
from memctx.strategies._turns import awaits_reply

KEY = "drift"
KEPT = 64  # values and reminders kept in the plan
OPENING = "[drift] A reminder: the last turns have moved away from what was asked."
Said = tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class _Measured:
    """The drift of turn `turn`, whose message is `at`; whether a reminder came after it."""

    turn: int
    at: str
    drift: float
    reminded: bool = False


@dataclass(frozen=True, slots=True)
class _State:
    """What the plan keeps: the newest measurements, all `by` "logprobs" or all by "embed", and the band once it is known."""

    by: str = ""
    values: tuple[_Measured, ...] = ()
    band: float | None = None

    @classmethod
    def of(cls, ctx: Context) -> _State:
        """As the plan holds it, but for turns that a rewound thread has no more."""
        held = ctx.plan.notes.get(KEY)
        if not isinstance(held, dict):
            return cls()
        values = (_Measured(*value) for value in held["values"])
        return cls(held["by"], tuple(value for value in values if value.at in ctx.transcript.position), held["band"])

    def plain(self) -> dict[str, Any]:
        return {"by": self.by, "values": [list(astuple(value)) for value in self.values], "band": self.band}


class DriftMonitor(Component):
    """Measures each turn's drift; above level + 2 noise a reminder of at most `max_tokens` tokens is inserted at the tail.

    `level` and `noise` may be fitted on earlier runs (`fitted`); without them the first `warmup` turns of the thread decide.
    `turns`: the newest ones that the reference sees. `k`: log-probabilities of a token. `rest`: turns between two reminders.
    Measuring takes two calls of `logprobs` a turn, or one of `embed`; without either nothing is proposed.
    """

    every_call: ClassVar[bool] = True

    level: float | None = None
    noise: float | None = Field(default=None, ge=0)
    warmup: int = Field(default=12, ge=5, le=KEPT)
    turns: int = Field(default=4, ge=1)
    k: int = Field(default=20, ge=2)
    rest: int = Field(default=4, ge=1)
    max_tokens: int = Field(default=400, ge=32)

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.level is None) != (self.noise is None):
            raise ValueError("give level and noise together, or neither")
        return self

    @classmethod
    def fitted(cls, runs: Sequence[Sequence[float]], **fields: Any) -> Self:
        """A monitor whose band comes from the drift of earlier runs. See `memctx.strategies._equilibrium.fit`."""
        found = fit(runs)
        if found is None:
            raise ConfigError("too few values to fit: give runs with at least four steps in all", field="runs")
        return cls(level=found.level, noise=found.noise, **fields)

    def propose(self, ctx: Context) -> Proposal:
        """A Note of the newest turn's drift, and a reminder where it is due."""
        steps, turn, state = ctx.transcript.steps, ctx.transcript.calls_made, _State.of(ctx)
        if not turn or not awaits_reply(steps) or (state.values and state.values[-1].turn == turn):
            return []
        newest = max(i for i, step in enumerate(steps) if step.role == "assistant")
        by, drift = yield from self._measure(ctx, newest, state.by)
        if drift is None:
            return []
        band = self._band(state)
        rested = all(turn - value.turn >= self.rest for value in state.values if value.reminded)
        due = band is not None and drift > band and rested
        ctx.record({"strategy": self.name, "turn": turn, "by": by, "drift": drift, "band": band})
        measured = _Measured(turn, steps[newest].messages[0].id, drift, due)
        note = Note(KEY, _State(by, (*state.values, measured)[-KEPT:], band).plain())
        return [*([Insert(steps[-1].messages[-1].id, self._reminder(ctx))] if due else []), note]

    def _band(self, state: _State) -> float | None:
        """What drift should stay under; None before it is known."""
        if self.level is not None and self.noise is not None:
            return Equilibrium(0.0, self.level, self.noise).band
        if state.band is not None or len(state.values) < self.warmup:
            return state.band
        found = fit(_runs(state.values))
        return None if found is None else found.band

    def _measure(self, ctx: Context, newest: int, by: str) -> Generator[Effect, Any, tuple[str, float | None]]:
        """(what was measured with, drift of what step `newest` says); None where nobody measured."""
        said = "\n".join(_line(ctx, message) for message in ctx.transcript.steps[newest].heads)
        if by != "embed":
            try:
                shown = yield Logprobs(self._context(ctx, newest, whole=True), said, self.k)
                reference = yield Logprobs(self._context(ctx, newest, whole=False), said, self.k)
                return "logprobs", divergence(shown, reference)
            except (EffectError, ValueError) as cause:
                if by or getattr(cause, "code", "") != "no_handler":
                    return by, None
        try:
            goal, answer = yield Embed(("\n".join((_goal(ctx), *_rules(ctx))), said))
            return "embed", _distance(goal, answer)
        except EffectError:
            return by, None

    def _context(self, ctx: Context, end: int, whole: bool) -> Said:
        """The thread before step `end` as the view shows it, or of that what is protected and the newest turns."""
        steps, position = ctx.transcript.steps, ctx.transcript.position
        spoke = [i for i in range(end) if steps[i].role == "assistant"]
        first = 0 if whole or len(spoke) <= self.turns else spoke[-self.turns]
        stands = {
            position[e.first]: e.content for e in ctx.plan.edits if isinstance(e, Replace) and e.first in position
        }
        said: list[dict[str, Any]] = []
        for index in range(end):
            if index >= first and index in stands:
                said.append({"role": "user", "content": stands[index]})
            for message in steps[index].messages:
                if ctx.protected(message) or (index >= first and ctx.shown(index)):
                    role = "user" if message.role == "tool" else message.role
                    said.append({"role": role, "content": _line(ctx, message)})
        return tuple(said)

    def _reminder(self, ctx: Context) -> str:
        """The goal, cut to half of the room, and the rules that fit in the rest; word for word."""
        goal = head(_goal(ctx), self.max_tokens // 2, ctx.count)
        text = f"{OPENING}\nThe task, word for word:\n{goal}"
        kept, _ = fitting(_rules(ctx), ctx.count, self.max_tokens - ctx.count(text) - 16)
        return "\n".join([text, *(["Rules, word for word:"] if kept else []), *(f"- {rule}" for rule in kept)])


def _runs(values: Sequence[_Measured]) -> list[list[float]]:
    """The drift of turns that follow each other."""
    runs: list[list[float]] = []
    for place, value in enumerate(values):
        if not place or value.turn != values[place - 1].turn + 1:
            runs.append([])
        runs[-1].append(value.drift)
    return runs


def _goal(ctx: Context) -> str:
    return next((step.heads[0].text for step in ctx.transcript.steps if step.role == "user"), "")


def _rules(ctx: Context) -> list[str]:
    """Sentences that state a rule in system text and in what the user said last and first, and what else is pinned, whole."""
    said = [
        m for step in ctx.transcript.steps if step.role in ("system", "user") for m in step.heads if ctx.protected(m)
    ]
    users = [message for message in said if message.role == "user"]
    ends = {message.id for message in (*users[:1], *users[-1:])}
    stated = rules(message.text for message in said if message.role == "system" or message.id in ends)
    return [*stated, *(message.text.strip() for message in users if message.id not in ends)]


def _line(ctx: Context, message: Message) -> str:
    """A message as text: what the view shows of it, and its calls."""
    clear = ctx.cleared(message.id)
    text = message.text if clear is None else clear.content
    source = f"[result of {message.tool}] " if message.role == "tool" else ""
    return "\n".join(filter(None, (source + text, *(f"[call {call.name}] {call.arguments}" for call in message.calls))))


def _distance(goal: Sequence[float], answer: Sequence[float]) -> float:
    """One minus the cosine; 1 where one of them is nothing. A plain number, whatever the vectors are made of."""
    sizes = sqrt(sum(a * a for a in goal)) * sqrt(sum(b * b for b in answer))
    return float(1 - sum(a * b for a, b in zip(goal, answer, strict=True)) / sizes) if sizes else 1.0
