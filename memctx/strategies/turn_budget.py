"""Tell the agent how many turns are left, let it ask for more, and tell it to finish at the limit.

Follows More with Less (arXiv 2510.16786): a limit at a percentile of past runs saves most of the cost of long runs, and
one that starts low and grows on demand saves more. The paper's wording was not to be had, so the rhythm is ours: a
reminder each time half of the turns left are gone, so few are inserted, and those inserted never change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator

from memctx.component import Component
from memctx.edits import Edit, Insert, Note
from memctx.errors import ConfigError
from memctx.messages import Step
from memctx.strategies import Context, Proposal, nothing

KEY = "turn_budget"
PHRASE = "MORE TURNS:"
ASKED = re.compile(rf"^\W*{PHRASE}\W*(\w.{{7,}})", re.MULTILINE)  # the phrase alone is no reason
STRONG = 0.2  # share of the limit from which on the reminder is stronger
WORN = 0.5  # share of the newest turns that must have done something new to count as progress


class TurnBudget(Component):
    """At most `limit` model calls; `extend` lists the higher limits that may be granted, one after the other.

    `remind_from` is the share of the limit used up at the first reminder. More turns are granted when the agent writes
    "MORE TURNS: <reason>", or, with `progress` > 0, when at the limit at least half of that many newest turns made a
    new call and got a new result. The strategy instructs and never stops a run: that is the host's.
    """

    every_call: ClassVar[bool] = True

    limit: int = Field(default=50, ge=1)
    extend: tuple[int, ...] = (75, 100)
    remind_from: float = Field(default=0.5, ge=0, lt=1)
    progress: int = Field(default=0, ge=0)

    @field_validator("extend")
    @classmethod
    def _rising(cls, extend: tuple[int, ...]) -> tuple[int, ...]:
        if any(b <= a for a, b in pairwise(extend)):
            raise ValueError("give rising numbers of turns")
        return extend

    @classmethod
    def fitted(cls, lengths: Iterable[int], percentiles: Sequence[float] = (50, 75, 90), **fields: Any) -> Self:
        """A budget from the lengths of past runs in turns: the first percentile is the limit, the rest extend it."""
        found = sorted(set(calibrate(lengths, percentiles).values()))
        return cls(limit=found[0], extend=tuple(found[1:]), **fields)

    def propose(self, ctx: Context) -> Proposal:
        """A reminder where one is due, an extension where one is earned. Both are remembered in the plan."""
        yield from nothing()
        steps, used = ctx.transcript.steps, ctx.transcript.calls_made
        newest = steps[-1] if steps else None
        if newest is None or not _awaits_reply(newest):
            return []
        state = _state(ctx)
        level, said = state["level"], state["said"]
        limits = (self.limit, *(more for more in self.extend if more > self.limit))
        granted = level + 1 < len(limits) and used > state["granted"] and self._earned(ctx, limits[level], said)
        level = min(level + granted, len(limits) - 1)
        if not granted and not any(said < point <= used for point in self._points(limits[level], used)):
            return []
        text = _reminder(used, limits[level], granted, level + 1 < len(limits))
        note = {"level": level, "said": used, "granted": used if granted else state["granted"]}
        edits: list[Edit] = [Insert(newest.messages[-1].id, text), Note(KEY, note)]
        return edits

    def _points(self, limit: int, used: int) -> set[int]:
        """Turns after which a reminder is due: half of the rest each time; past the limit after 1, 3, 7, ... more."""
        points, left = {limit}, limit - int(limit * self.remind_from)
        while left >= 1:
            points.add(limit - left)
            left //= 2
        over = 1
        while limit + over <= used:
            points.add(limit + over)
            over = 2 * over + 1
        return points - {0}

    def _earned(self, ctx: Context, limit: int, said: int) -> bool:
        """Whether the newest turn asks with a reason, after a reminder told it how, or works fully near the limit."""
        steps, used = ctx.transcript.steps, ctx.transcript.calls_made
        turn = next((step for step in reversed(steps) if step.role == "assistant"), None)
        if said and turn and any(ASKED.search(head.text) for head in turn.heads):
            return True
        return bool(self.progress) and used >= limit - 1 and _progress(steps, self.progress)


def calibrate(lengths: Iterable[int], percentiles: Sequence[float] = (50, 75, 90, 100)) -> dict[float, int]:
    """Percentile -> the smallest length in turns that at least so many percent of the runs did not exceed."""
    known = sorted(lengths)
    if not known or known[0] < 1:
        raise ConfigError("lengths: give the number of turns, at least 1, of at least one past run", field="lengths")
    if any(not 0 < percentile <= 100 for percentile in percentiles):
        raise ConfigError(f"percentiles = {tuple(percentiles)}: give numbers above 0, up to 100", field="percentiles")
    return {p: known[max(0, int(-(-len(known) * p // 100)) - 1)] for p in percentiles}


def _awaits_reply(step: Step) -> bool:
    """Whether a model call comes next: the newest step is the user's, or all its calls are answered."""
    return step.role == "user" or bool(step.results and not step.pending)


def _state(ctx: Context) -> dict[str, int]:
    held = ctx.plan.notes.get(KEY)
    empty = {"level": 0, "said": 0, "granted": 0}
    return {**empty, **held} if isinstance(held, dict) else empty


def _progress(steps: Sequence[Step], turns: int) -> bool:
    """Whether enough of the newest turns made a call not made before and got a result not seen before."""
    calls: set[tuple[str, str]] = set()
    results: set[str] = set()
    fresh: list[bool] = []
    for step in steps:
        if step.role != "assistant":
            continue
        made = {(call.name, call.arguments) for call in step.calls} - calls
        got = {result.text for result in step.results} - results
        fresh.append(bool(made and got))
        calls |= made
        results |= got
    newest = fresh[-turns:]
    return bool(newest) and sum(newest) >= WORN * len(newest)


def _reminder(used: int, limit: int, granted: bool, more: bool) -> str:
    left = limit - used
    parts = [f"[turn budget] {'Granted. ' if granted else ''}{max(left, 0)} of {limit} turns left."]
    if left <= 1:
        parts = [f"[turn budget] {'This is the last turn' if left == 1 else 'No turns left'} of {limit}."]
        parts.append("Finish now: give your final answer or result with what you have, and start nothing new.")
    elif left <= STRONG * limit:
        parts.append("Stop exploring. Do only what the result still needs, and finish before the turns run out.")
    else:
        parts.append("Plan for that.")
    if more:
        parts.append(f'If you need more turns, write on a line of its own "{PHRASE} <why, and for what>".')
    return " ".join(parts)
