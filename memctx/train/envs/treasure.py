"""Treasure: follow signs from room to room to a chest; a key that one early room showed opens it.

Every room has scribbles that mean nothing and, at the end, a sign. Eleven rooms are a text of about eight windows of 32
symbols, and what opens the chest is read in the first. Signs, keys and scribbles are symbols of their own: a transformer made
from nothing learns this world with `Symbols(ALPHABET)`, which leaves all other characters out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar, Self

from pydantic import Field, model_validator

from memctx.component import Component

SIGNS, KEYS, SCRIBBLES = "↑→↓←", "♠♥♦♣", "○●□■△▲"
ALPHABET = SIGNS + KEYS + SCRIBBLES + "▸?"


class Treasure(Component):
    """One player. A hunt has `fewest` to `rooms` rooms; the key is in one of the first `early`. `noise`: scribbles a room.
    `short`: share of hunts, the easiest, that begin at the chest.

    Reward 1 for the right key at the chest. A wrong turn loses: reward `way` times the share of turns that were right.
    """

    rooms: int = Field(default=11, ge=0)
    fewest: int = Field(default=1, ge=0)
    early: int = Field(default=1, ge=1)
    noise: int = Field(default=14, ge=0)
    short: float = Field(default=0.0, ge=0, le=1)
    way: float = Field(default=0.0, ge=0, lt=1)
    players: ClassVar[int] = 1
    rules: ClassVar[str] = (
        "Each room has a sign: answer where it points. One room shows the key of the chest. At the chest, answer the key."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.fewest > self.rooms:
            raise ValueError(f"fewest={self.fewest} is above rooms={self.rooms}")
        return self

    def start(self, seed: int) -> Hunt:
        """The first sign."""
        chance = Random(seed)
        rooms = 0 if chance.random() < self.short else chance.randint(self.fewest, self.rooms)
        key, place = chance.choice(KEYS), min(rooms, 1 + chance.randrange(self.early))
        signs = chance.choices(SIGNS, k=rooms)
        texts = []
        for number, shown in enumerate([*(f"▸{sign}" for sign in signs), "?"]):
            scribbles = chance.choices(SCRIBBLES, k=self.noise if number or not rooms else 0)
            if number == place:
                scribbles.insert(chance.randint(0, len(scribbles)), key)
            texts.append("".join(scribbles) + shown)
        return Hunt(tuple(texts), (*signs, key), self.way)


@dataclass(frozen=True, slots=True)
class Hunt:
    """`texts[i]` is what the player reads before turn i, `right[i]` the right answer to it."""

    texts: tuple[str, ...]
    right: tuple[str, ...]
    way: float = 0.0
    turn: int = 0
    lost: bool = False
    player: int = 0
    actions: tuple[str, ...] = ()

    @property
    def observation(self) -> str:
        return "" if self.rewards else self.texts[self.turn]

    @property
    def rewards(self) -> tuple[float, ...]:
        if self.lost:
            return (self.way * self.turn / len(self.right),)
        return (1.0,) if self.turn == len(self.right) else ()

    def after(self, text: str) -> Hunt:
        """The last sign or key of the answer counts."""
        said = [symbol for symbol in text if symbol in SIGNS + KEYS]
        if not said or said[-1] != self.right[self.turn]:
            return replace(self, lost=True)
        return replace(self, turn=self.turn + 1)
