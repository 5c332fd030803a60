"""Rules: hand-written worth of a tool result. No weights, no state; the baseline that a learned policy must beat."""

from __future__ import annotations

from typing import Literal

from memctx.component import Component
from memctx.policies import Features

FADE = 0.9  # worth of a result falls to this share with each newer step that has results


class Rules(Component):
    """`order` is "usefulness", or "recency" for the plain age order that most libraries use.

    Usefulness asks two things: does the result alone hold identifiers that nothing used yet, and was it referred to
    since? A report of an error is soon spent, and old results fade slowly.
    """

    order: Literal["usefulness", "recency"] = "usefulness"

    def score(self, features: list[Features]) -> list[float]:
        """Worth of keeping each result as it is, 0 to 1."""
        return [recency(found) if self.order == "recency" else usefulness(found) for found in features]


def recency(found: Features) -> float:
    return float(FADE ** max(0, found.age))


def usefulness(found: Features) -> float:
    """Weights chosen by hand: half the worth lies in identifiers that stand nowhere else, a third in past use."""
    waiting = found.unique / (found.unique + 5)
    referred = found.referred / (found.referred + 2)
    worth = 0.5 * waiting + 0.3 * referred + 0.2
    return worth * (0.25 + 0.75 * recency(found)) * (0.5 if found.error else 1.0)
