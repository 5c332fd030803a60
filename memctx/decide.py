"""Deciding: which proposed edits are accepted, when, and how deep.

Forced by the budget, edits are taken in the strategies' own order until the view is down to the low mark, so that the
next forced edit is far. Unforced, an edit must pay: once the cache is broken at some place, everything after it is
written again anyway, so the choice is only *where* to break it; each place is priced with all edits behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from memctx.edits import Clear, Drop, Edit, Insert, Note, Offer, Replace
from memctx.messages import Message, Transcript
from memctx.pricing import Outlook


@dataclass(frozen=True, slots=True)
class Priced:
    """A proposed edit with the step it breaks the prefix at, and the tokens it takes out of the view."""

    edit: Edit
    step: int
    saved: int


@dataclass(slots=True)
class Decision:
    """What was decided before call number `call` (0-based), and why.

    Tokens of the view `before` and `after`; `expected` and `observed` savings in units of one uncached input token,
    against leaving this edit out; `observed` grows as calls come.
    """

    call: int
    strategy: str
    edits: int
    forced: bool
    before: int
    after: int
    expected: float
    calls_left: float
    cost_now: float
    rate_at: float
    observed: float = 0.0


def allowed(proposed: Iterable[Edit], transcript: Transcript, protected: Callable[[Message], bool]) -> list[Edit]:
    """Those that name what exists and touch nothing protected. Spans are kept: the renderer shows protected steps in them."""
    kept: list[Edit] = []
    for edit in proposed:
        if isinstance(edit, Clear):
            target = transcript.find(edit.target)
            ok = target is not None and not protected(target) and (bool(edit.call) or not target.sealed)
        elif isinstance(edit, Drop | Replace):
            ok = edit.first in transcript.position and edit.last in transcript.position
        else:
            ok = isinstance(edit, Offer | Note) or (isinstance(edit, Insert) and edit.after in transcript.position)
        if ok:
            kept.append(edit)
    return kept


def enough(priced: list[Priced], need: int) -> list[Priced]:
    """The first edits, in the order given, that together save `need` tokens; all of them if they cannot."""
    taken: list[Priced] = []
    saved = 0
    for item in priced:
        if saved >= need:
            break
        taken.append(item)
        saved += item.saved
    return taken


def best_break(priced: list[Priced], before: Callable[[int], int], outlook: Outlook) -> tuple[list[Priced], float]:
    """The edits behind the place where breaking the prefix pays most, and that worth; ([], 0) where it pays nowhere.

    `before(step)`: tokens of the request before a step. An edit at risk is charged for the call that would fetch it back.
    """
    best: list[Priced] = []
    worth = 0.0
    saved, risk = 0, 0.0
    ordered = sorted(priced, key=lambda item: -item.step)
    for count, item in enumerate(ordered, 1):
        saved += item.saved
        size = outlook.price.write * item.saved + outlook.price.read * outlook.total
        risk += getattr(item.edit, "risk", 0.0) * size
        if count < len(ordered) and ordered[count].step == item.step:
            continue
        value = outlook.worth(before(item.step), saved) - risk
        if value > worth:
            best, worth = ordered[:count], value
    return best, worth
