"""Replay: a recorded run, and at each of its model calls the choice of which older tool results stay in view.

The run goes on as recorded whatever is chosen; what is gone stays gone. Paid at the end: the share of grounded arguments that stood in
view when they were used, less `rate` times the money of all requests over the same with no edit, less 1 for each pin lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field

from memctx._replay import calls_of
from memctx.component import Component
from memctx.errors import ConfigError
from memctx.grounding import grounded, view_text
from memctx.pricing import PRICES, Ledger
from memctx.runs import Run, load, load_dir
from memctx.tokens import counter

MARK = 5  # tokens of what stands for a cleared result
OVERHEAD = 4  # tokens around a message
SHOWN = 160  # characters of a result that are shown to the player


def _known(price: str) -> str:
    if price not in PRICES:
        raise ConfigError(f"price {price!r} is not known; use one of {', '.join(PRICES)}", field="price")
    return price


class Replay(Component):
    """Runs of `paths`, one a seed; without paths a short one that is part of this file. `pins`: texts that must stay in view."""

    paths: tuple[str, ...] = ()
    price: Annotated[str, AfterValidator(_known)] = "none"
    rate: float = Field(default=0.5, ge=0)
    pins: tuple[str, ...] = ()
    players: ClassVar[int] = 1
    rules: ClassVar[str] = (
        "Before each call of a recorded agent you say which older tool results stay in its view. Answer with their numbers, such as "
        "'keep 0 2', or 'keep' for none. Those not named are gone for good. Keep what later calls will copy from; tokens cost."
    )

    def start(self, seed: int) -> Keeping:
        """The first call of run number `seed` that has an older result; without one, the run is over at once."""
        tapes = _tapes(self.paths)
        tape = tapes[Random(seed).randrange(len(tapes))]
        return Keeping(self, tape).onward()


@dataclass(frozen=True, slots=True, eq=False)
class Tape:
    """A run, read once. `calls`: index of each model call; `needs`: call -> texts it draws on; `results`: index of each result."""

    texts: tuple[str, ...]
    tokens: tuple[int, ...]
    calls: tuple[int, ...]
    needs: dict[int, tuple[str, ...]]
    results: tuple[int, ...]
    steps: tuple[int, ...]  # by result: the model call that it answers

    @classmethod
    def of(cls, run: Run) -> Tape:
        texts = tuple(view_text([message]) for message in run.messages)
        count = counter()
        needs: dict[int, tuple[str, ...]] = {}
        for need in grounded(run.messages):
            needs[need.call_index] = (*needs.get(need.call_index, ()), need.text)
        results, steps, step = [], [], 0
        for place, message in enumerate(run.messages):
            step = place if message.get("role") == "assistant" else step
            if message.get("role") in ("tool", "function"):
                results.append(place)
                steps.append(step)
        calls = tuple(call.before for call in calls_of(run))
        return cls(
            texts, tuple(count.text(text) + OVERHEAD for text in texts), calls, needs, tuple(results), tuple(steps)
        )

    def older(self, call: int) -> list[int]:
        """Numbers of the results before a call, but for those of the newest step."""
        before = [number for number, place in enumerate(self.results) if place < call]
        return [number for number in before if self.steps[number] < self.steps[before[-1]]]


@dataclass(frozen=True, slots=True)
class Keeping:
    """Before call number `turn` of the run. `gone`: by call, the results that no longer stand in its view."""

    of: Replay
    tape: Tape
    turn: int = 0
    gone: tuple[frozenset[int], ...] = ()
    player: int = 0
    actions: tuple[str, ...] = ()

    @property
    def open(self) -> tuple[int, ...]:
        """The results that may go at this call."""
        if self.turn == len(self.tape.calls):
            return ()
        gone = self.gone[-1] if self.gone else frozenset[int]()
        return tuple(number for number in self.tape.older(self.tape.calls[self.turn]) if number not in gone)

    @property
    def observation(self) -> str:
        lines = [f"call {self.turn + 1} of at most {len(self.tape.calls)}"]
        for number in self.open:
            place = self.tape.results[number]
            text = " ".join(self.tape.texts[place].split())[:SHOWN]
            lines.append(f"{number}: {self.tape.tokens[place]} tokens: {text}")
        return "\n".join(lines)

    @property
    def rewards(self) -> tuple[float, ...]:
        if self.turn < len(self.tape.calls):
            return ()
        return (paid(self.of, self.tape, self.gone),)

    def after(self, text: str) -> Keeping:
        """Only what is named stays. An answer without the word "keep" keeps nothing."""
        said = text.lower().rpartition("keep")
        named = {int(number) for number in re.findall(r"\d{1,6}", said[2])} if said[1] else set[int]()
        return self._with(frozenset(number for number in self.open if number not in named)).onward()

    def onward(self) -> Keeping:
        """On to the next call where there is something to choose."""
        state = self
        while state.turn < len(state.tape.calls) and not state.open:
            state = state._with(frozenset())
        return state

    def _with(self, cleared: frozenset[int]) -> Keeping:
        gone = (self.gone[-1] if self.gone else frozenset[int]()) | cleared
        return replace(self, turn=self.turn + 1, gone=(*self.gone, gone))


def paid(env: Replay, tape: Tape, gone: tuple[frozenset[int], ...]) -> float:
    """Grounding kept, less money at the price shape, less pins lost. `gone`: by call."""
    kept = wanted = 0
    whole, edited = Ledger(PRICES[env.price]), Ledger(PRICES[env.price])
    for call, hidden in zip(tape.calls, gone, strict=True):
        away = {tape.results[number] for number in hidden}
        seen = [text for place, text in enumerate(tape.texts[:call]) if place not in away]
        needs = tape.needs.get(call, ())
        wanted += len(needs)
        kept += sum(any(need in text for text in seen) for need in needs)
        whole.charge(tape.tokens[:call], tuple(range(call)))
        sizes = [min(MARK + OVERHEAD, size) if place in away else size for place, size in enumerate(tape.tokens[:call])]
        edited.charge(sizes, tuple((place, place in away) for place in range(call)))
    last = gone[-1] if gone else frozenset[int]()
    hidden_text = [tape.texts[tape.results[number]] for number in last]
    lost = sum(any(pin in text for text in hidden_text) for pin in env.pins)
    return (kept / wanted if wanted else 1.0) - env.rate * (edited.money / whole.money if whole.money else 1.0) - lost


@lru_cache(maxsize=8)
def _tapes(paths: tuple[str, ...]) -> tuple[Tape, ...]:
    runs = [run for path in load_dir(paths) for run in load(path)] if paths else [Run("short", _SHORT)]
    return tuple(Tape.of(run) for run in runs)


def _called(number: int, name: str, arguments: str, result: str) -> list[dict[str, Any]]:
    call = {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
    head = {"role": "assistant", "content": None, "tool_calls": [call]}
    return [head, {"role": "tool", "tool_call_id": f"c{number}", "content": result}]


_SHORT: list[dict[str, Any]] = [
    {"role": "user", "content": "Move my newest booking to Friday and tell me the weather there."},
    *_called(1, "find_user", '{"name": "Ana"}', '{"user_id": "ana_88", "bookings": ["BK-4411", "BK-4502"]}'),
    *_called(2, "weather", '{"place": "Oslo"}', "Sunny, 21 degrees, wind from the west, no rain until Sunday. " * 8),
    *_called(3, "get_booking", '{"id": "BK-4502"}', '{"id": "BK-4502", "day": "Monday", "room": "R-207"}'),
    *_called(4, "move_booking", '{"id": "BK-4502", "room": "R-207", "user": "ana_88"}', '{"status": "moved"}'),
    {"role": "assistant", "content": "Your booking is moved to Friday, and it will be sunny."},
]
