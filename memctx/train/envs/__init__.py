"""Environments: text in, text out, seeded, verifiable.

This file says what one is; every other file here is one; a leading _ marks a helper.
An environment is a frozen `Component` with `start`. Its positions are values: `after` gives the next one and changes nothing,
so a run can branch, and (seed, answers) brings any position back. Code decides the rewards, never a model.
One player or several who take turns; a player sees `observation` and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar, Protocol


class State(Protocol):
    """A position."""

    @property
    def player(self) -> int:
        """Who is to move, from 0; of no meaning once it is over."""
        ...

    @property
    def observation(self) -> str:
        """What the player to move reads, hidden things left out."""
        ...

    @property
    def actions(self) -> tuple[str, ...]:
        """What may be answered; empty where any text may be, or where it is over."""
        ...

    @property
    def rewards(self) -> tuple[float, ...]:
        """One a player when it is over; empty while it goes on."""
        ...

    def after(self, text: str) -> State:
        """The position after the player to move answered `text`.

        What cannot be read as an action loses, or where any text may be said costs a turn.
        """
        ...


class Env(Protocol):
    """A kind of game or task."""

    players: ClassVar[int]
    """How many take part; every one of them has a reward."""

    rules: ClassVar[str]
    """What a model is told once, before the first observation."""

    def start(self, seed: int) -> State:
        """The first position; `seed` decides all that is left to chance."""
        ...


def position(env: Env, seed: int, answers: Iterable[str]) -> State:
    """The position that `answers` lead to from the start."""
    state = env.start(seed)
    for text in answers:
        state = state.after(text)
    return state


def action(text: str, legal: tuple[str, ...]) -> str | None:
    """The last word of an answer if it is a legal action: reasoning may come before it, marks may stand around it."""
    if text in legal:
        return text
    words = re.findall(r"\w+", text.lower())
    return words[-1] if words and words[-1] in legal else None
