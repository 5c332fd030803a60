"""Kuhn poker: three cards, one chip each in the pot, one bet of one chip. The rewards are chips won.

H. W. Kuhn, "A simplified two-person poker" (1950): with perfect players the first to act loses 1/18 of a chip a hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import ClassVar

from pydantic import Field

from memctx.component import Component
from memctx.train.envs import action

CARDS = "JQK"
CHOICES = {"": ("check", "bet"), "check": ("check", "bet"), "bet": ("call", "fold"), "check bet": ("call", "fold")}
TURNS = {"": 0, "check": 1, "bet": 1, "check bet": 2}  # actions said
BLUFF = (
    1 / 3
)  # of the jacks are opened with a bet; any share from 0 to 1/3 is an equilibrium, with three times it for kings


class Kuhn(Component):
    """Two players, `hands` hands, the first to act changing with each. The seed deals."""

    hands: int = Field(default=1, ge=1)
    players: ClassVar[int] = 2
    rules: ClassVar[str] = (
        "Kuhn poker. The cards are J, Q and K; each player has one and one chip in the pot; the higher card wins. One bet of one "
        "chip may be made, and called or folded to. End your answer with check, bet, call or fold, as the position allows; "
        "anything else loses what is still to play for."
    )

    def start(self, seed: int) -> Table:
        chance = Random(seed)
        return Table(tuple("".join(chance.sample(CARDS, 2)) for _ in range(self.hands)))


@dataclass(frozen=True, slots=True)
class Table:
    """`deals`: the cards of both players, a hand each; `hand`: which is played; `said`: its actions; `chips`: won by player 0."""

    deals: tuple[str, ...]
    hand: int = 0
    said: str = ""
    chips: int = 0

    @property
    def player(self) -> int:
        return (self.hand + TURNS[self.said]) % 2

    @property
    def observation(self) -> str:
        if self.rewards:
            return ""
        many = len(self.deals)
        won = self.chips if self.player == 0 else -self.chips
        before = f"Hand {self.hand + 1} of {many}, {won:+} chips so far.\n" if many > 1 else ""
        return f"{before}Your card: {self.deals[self.hand][self.player]}\nSaid so far: {self.said or '-'}"

    @property
    def actions(self) -> tuple[str, ...]:
        return () if self.rewards else CHOICES[self.said]

    @property
    def rewards(self) -> tuple[float, ...]:
        return (float(self.chips), float(-self.chips)) if self.hand == len(self.deals) else ()

    def after(self, text: str) -> Table:
        move = action(text, self.actions)
        if move is None:
            lost = 2 * (len(self.deals) - self.hand)
            chips = self.chips + (-lost if self.player == 0 else lost)
            return Table(self.deals, len(self.deals), "", chips)
        said = f"{self.said} {move}".strip()
        if said in CHOICES:
            return Table(self.deals, self.hand, said, self.chips)
        return Table(self.deals, self.hand + 1, "", self.chips + won(self.deals[self.hand], said, first=self.hand % 2))


def won(deal: str, said: str, first: int) -> int:
    """Chips that player 0 wins in a finished hand, which player `first` began."""
    if said.endswith("fold"):
        winner = first if said == "bet fold" else 1 - first
        return 1 if winner == 0 else -1
    pot = 2 if said.endswith("call") else 1
    return pot if CARDS.index(deal[0]) > CARDS.index(deal[1]) else -pot


@cache
def optimal(observation: str) -> dict[str, float]:
    """The chance of each legal action in an equilibrium of one hand."""
    card, said = observation.splitlines()[-2][-1], observation.rpartition(": ")[2].removeprefix("-")
    bold = {
        "": {"J": BLUFF, "Q": 0.0, "K": 3 * BLUFF},
        "check": {"J": 1 / 3, "Q": 0.0, "K": 1.0},
        "bet": {"J": 0.0, "Q": 1 / 3, "K": 1.0},
        "check bet": {"J": 0.0, "Q": BLUFF + 1 / 3, "K": 1.0},
    }[said][card]
    first, second = CHOICES[said]
    return {first: 1 - bold, second: bold} if first == "check" else {first: bold, second: 1 - bold}
