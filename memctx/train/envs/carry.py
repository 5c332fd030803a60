"""Carry: a key is shown, the context is rewritten, the key is asked for. Only what the player wrote meanwhile is left of it.

Run it behind a pipeline that drops what is older than the player's last words, such as `internal_state` with an empty tag:
then the note is sampled in one segment and read in another, and credit across segments teaches to write it.

Keys are no digits: what stands in the place of dropped steps has some, always the same, and a small policy confuses them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from pydantic import Field

from memctx.component import Component

KEYS = "♠♥♦♣♤♡♢♧★☆"


class Carry(Component):
    """One player; the key is one of the first `keys` of `KEYS`. Reward 1 for an answer that is the key, else 0.

    An empty answer loses at once: no context is rewritten on nothing, and the key would stay in sight.

    `reminded`: share of tasks, easier ones to begin with, in which the question shows the key again.
    """

    keys: int = Field(default=4, ge=2, le=len(KEYS))
    reminded: float = Field(default=0.0, ge=0, le=1)
    players: ClassVar[int] = 1
    rules: ClassVar[str] = (
        "A key is shown once. Write down what you need to know: only your last words stay. Then name the key."
    )

    def start(self, seed: int) -> Place:
        """Two turns: the note and the answer, after a first one that opens the talk."""
        chance = Random(seed)
        return Place(chance.choice(KEYS[: self.keys]), chance.random() < self.reminded)


@dataclass(frozen=True, slots=True)
class Place:
    """`said`: what the player has answered so far."""

    key: str
    reminded: bool = False
    said: tuple[str, ...] = ()
    player: int = 0
    actions: tuple[str, ...] = ()

    @property
    def observation(self) -> str:
        question = f"key {self.key}?" if self.reminded else "key?"
        return ("ready?", f"key {self.key}", question, "")[len(self.said)]

    @property
    def rewards(self) -> tuple[float, ...]:
        if not all(text.strip() for text in self.said):
            return (0.0,)
        return (float(self.said[-1].strip() == self.key),) if len(self.said) == 3 else ()

    def after(self, text: str) -> Place:
        return replace(self, said=(*self.said, text))
