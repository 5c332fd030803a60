"""Wason's 2-4-6 task: find the rule that triples obey by asking about triples. WILT (2024) in its smallest form.

Confirming a guess teaches little; what tells rules apart is a triple that one obeys and another does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from pydantic import Field

from memctx.component import Component

RULES: dict[str, Callable[[int, int, int], bool]] = {
    "rising": lambda a, b, c: a < b < c,
    "falling": lambda a, b, c: a > b > c,
    "even": lambda a, b, c: a % 2 == b % 2 == c % 2 == 0,
    "equal": lambda a, b, c: a == b == c,
    "steps": lambda a, b, c: b - a == c - b,
    "small": lambda a, b, c: a + b + c < 10,
}


class Wason(Component):
    """One player, at most `tests` triples, then the name of a rule: 1 if it is the hidden one. The seed hides it."""

    tests: int = Field(default=6, ge=1)
    players: ClassVar[int] = 1
    rules: ClassVar[str] = (
        "A rule for three numbers is hidden; 2 4 6 obeys it or not, as you will be told. Ask with three numbers, such as 1 2 3, or end "
        f"with the rule's name: {', '.join(RULES)}. Only one name may be given."
    )

    def start(self, seed: int) -> Asking:
        return Asking(Random(seed).choice(list(RULES)), self.tests)


@dataclass(frozen=True, slots=True)
class Asking:
    """`asked`: the triples so far; `named`: the rule that was given, once it was."""

    rule: str
    left: int
    asked: tuple[tuple[int, int, int], ...] = ((2, 4, 6),)
    named: str | None = None
    player: int = 0
    actions: tuple[str, ...] = ()

    @property
    def observation(self) -> str:
        numbers = self.asked[-1]
        told = "yes" if RULES[self.rule](*numbers) else "no"
        return f"{' '.join(map(str, numbers))}: {told}. {self.left} more tests."

    @property
    def rewards(self) -> tuple[float, ...]:
        return () if self.named is None else (float(self.named == self.rule),)

    def after(self, text: str) -> Asking:
        named = [name for name in RULES if re.search(rf"\b{name}\b", text)]
        numbers = [int(each) for each in re.findall(r"-?\d{1,4}", text)[:3]]
        if len(named) == 1 or len(numbers) < 3 or not self.left:
            return replace(self, named=named[0] if len(named) == 1 else "")
        a, b, c = numbers
        return replace(self, asked=(*self.asked, (a, b, c)), left=self.left - 1)
