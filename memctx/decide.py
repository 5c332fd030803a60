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
            place = edit.at if isinstance(edit, Offer) else edit.after if isinstance(edit, Insert) else ""
            ok = place in transcript.position or (not place and isinstance(edit, Offer | Note))
        if ok:
            kept.append(edit)
    return kept


def deep_enough(
    priced: list[Priced], before: list[int], need: int, limit: int, growth: float, outlook: Outlook
) -> list[Priced]:
    """The first edits, in the order given, that save `need` tokens, and more where a deeper cut is cheaper a call.

    After a cut to L tokens, broken at token `at`, the view grows by `growth` a call until `limit`, where it is cut again:
    a call then costs write * (L - at) / calls between cuts + read * (L + limit) / 2, and the risk of what was cut.
    `before[i]`: tokens of the request before edit i. All edits, if they cannot save `need`.
    """
    price, best, least = outlook.price, len(priced), float("inf")
    saved, at, risk = 0, outlook.total, 0.0
    for count, item in enumerate(priced, 1):
        saved += item.saved
        at = min(at, before[count - 1])
        risk += getattr(item.edit, "risk", 0.0) * (price.write * item.saved + price.read * outlook.total)
        left = outlook.total - saved
        if saved < need or left >= limit:
            continue
        calls = max(1.0, (limit - left) / max(1.0, growth))
        cost = (price.write * max(0, left - at) + risk) / calls + price.read * (left + limit) / 2
        if cost < least:
            best, least = count, cost
    return priced[:best]


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
