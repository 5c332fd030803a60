"""Policies: what a strategy asks when it must choose.

This file says what one is; every other file here is one; a leading _ marks a helper.
A policy maps features to scores. Rules read a few counts (`Features`); a learned policy reads a row of numbers a result
(`memctx.policies._features`). The decision is recorded either way, so it can be trained on later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Features:
    """What is known of one tool result when a choice falls. Counts are whole numbers; nothing looks ahead.

    `age`: newer steps with results. `tokens`: its size now. `words`: identifiers in it. `unique`: of those, how many
    stand nowhere else in the view. `referred`: of those, how many a later call or answer used. `error`: it reports one.
    """

    age: int
    tokens: int
    words: int
    unique: int
    referred: int
    error: bool

    def vector(self) -> tuple[float, ...]:
        """The same, as floats for a learned policy, in the order of the fields."""
        return (self.age, self.tokens, self.words, self.unique, self.referred, float(self.error))


class Policy(Protocol):
    """One file, one frozen component."""

    @property
    def name(self) -> str: ...

    def score(self, features: list[Features]) -> list[float]:
        """Worth of keeping each result as it is, 0 to 1: about the chance that a later step needs it."""
        ...


class Learned(Protocol):
    """A policy that reads rows instead: what `linear` and `mlp` are."""

    @property
    def name(self) -> str: ...

    def needs(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, len(COLUMNS)) -> (n, 2) chances: a later step needs the result; it needs what a skim of it would lose."""
        ...

    def worth(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n,) 0 to 1: worth of keeping each result as it is, what a loss costs weighed against its tokens."""
        ...
