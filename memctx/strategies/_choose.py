"""Asking a policy which tool results are worth least, and recording what was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memctx._index import Index
from memctx.component import Component, load
from memctx.edits import Clear, Edit, marker
from memctx.errors import ConfigError
from memctx.messages import Message
from memctx.policies import Learned, Policy
from memctx.strategies import Context
from memctx.strategies._pending import Pending
from memctx.strategies._results import Found, smaller

if TYPE_CHECKING:
    from memctx.policies._features import Rows

MARK = 8  # tokens of a handle's mark, about
RECENCY: dict[str, Any] = {"use": "rules", "order": "recency"}


def checked_policy(value: Any) -> Any:
    """A policy field as plain data, a name or a table. Raises `ConfigError` or `NotFound` if there is none."""
    if isinstance(value, Component):
        value = value.dump()
    policy(value)
    return value


def checked_learned(value: str) -> str:
    """As `checked_policy`, for a field that takes learned policies only; "" is none."""
    if value and not callable(getattr(policy(value), "needs", None)):
        raise ConfigError(
            f"policy = {value!r:.40}: give a learned one, 'default' or a folder of weights", field="policy"
        )
    return value


def policy(value: str | dict[str, Any]) -> Policy | Learned:
    """The policy that a field names: a component ("rules"), a folder of weights, "default", or a table."""
    return _named(value) if isinstance(value, str) else _usable(load("policies", value), value)


@lru_cache(maxsize=32)
def _named(value: str) -> Policy | Learned:
    if value == "default":
        return _usable(load("policies", {"use": "mlp"}), value)
    if "/" in value or "\\" in value or Path(value).is_dir():
        from memctx.policies._weights import card  # NumPy: only where weights are read

        return _usable(load("policies", {"use": card(value)["kind"], "dir": value}), value)
    return _usable(load("policies", {"use": value}), value)


def _usable(found: Any, value: Any) -> Policy | Learned:
    if not callable(getattr(found, "score", None)) and not callable(getattr(found, "needs", None)):
        raise ConfigError(f"policy = {value!r:.40}: it has no score() and no needs()", field="policy")
    usable: Policy | Learned = found
    return usable


@dataclass(frozen=True, slots=True)
class Judged:
    """A result, its worth (what orders results), and the chance that a later step needs it (what losing it risks)."""

    worth: float
    risk: float
    found: Found


def ranked(
    ctx: Context, found: Sequence[Found], chosen: str | dict[str, Any], who: str, shadow: bool = False
) -> list[Judged]:
    """The results, the least worth first; equals stand oldest first. The question and the answer are recorded.

    With `shadow` the chosen policy is asked and recorded; the order is that of the rules.
    """
    if not found:
        return []
    if shadow:
        _judged(ctx, found, chosen, who, {"shadow": True})
        chosen = "rules"
    return _judged(ctx, found, chosen, who, {})


def _judged(
    ctx: Context, found: Sequence[Found], chosen: str | dict[str, Any], who: str, facts: dict[str, Any]
) -> list[Judged]:
    asked: Any = policy(chosen)
    if callable(
        getattr(asked, "needs", None)
    ):  # its rows can be made again from the transcript, so they are not recorded
        rows = rows_of(ctx, [item.message for item in found])
        scores, risks = asked.worth(rows).tolist(), asked.needs(rows)[:, 0].tolist()
        facts = {**facts, "policy": asked.name, "risks": risks}
    else:
        index = Index.of(ctx)
        features = [index.features(ctx, item.message) for item in found]
        scores = [min(1.0, max(0.0, float(score))) for score in asked.score(features)]
        risks, facts = scores, {**facts, "features": [item.vector() for item in features]}
    if len(scores) != len(found):
        raise ConfigError(f"the policy gave {len(scores)} scores for {len(found)} results", field="policy")
    order = sorted(range(len(found)), key=lambda place: (scores[place], place))
    targets = [item.message.id for item in found]
    ctx.record({"strategy": who, "targets": targets, "scores": scores, "order": order, **facts})
    return [Judged(scores[place], risks[place], found[place]) for place in order]


def rows_of(ctx: Context, messages: Sequence[Message]) -> Any:
    """(n, columns): what a learned policy reads of these results. The history is read once, as it grows."""
    rows = ctx.memo.get("rows") or ctx.memo.setdefault("rows", new_rows())
    rows.read(ctx.transcript.messages)
    return rows.matrix([rows.ids[message.id] for message in messages])


def new_rows() -> Rows:
    """Rows of a thread not yet read; NumPy is imported only where a learned policy asks."""
    from memctx.policies._features import Rows

    return Rows()


def actions(
    ctx: Context, rows: Rows, results: Sequence[Message], shorts: Sequence[str], chosen: str, loss: float
) -> list[tuple[str, float]]:
    """("keep", "skim" or "clear", chance that what goes is needed) a result: whichever costs the fewest tokens.

    Each costs the tokens it leaves in the view, and `loss` times the chance.
    """
    asked: Any = policy(chosen)
    chances = asked.needs(rows.matrix([rows.ids[message.id] for message in results])).tolist()
    out: list[tuple[str, float]] = []
    for message, short, (needed, beyond) in zip(results, shorts, chances, strict=True):
        sizes = (
            ("keep", ctx.count(message.text), 0.0),
            ("skim", ctx.count(short) + MARK, beyond),
            ("clear", MARK, needed),
        )
        name, _, risk = min(sizes, key=lambda way: way[1] + loss * way[2])
        out.append((name, risk))
    return out


def placeholder(ctx: Context, pending: Pending, message: Message, body: str, worth: float) -> Clear | None:
    """The Clear that stands for a result: the one that waits or a new one; None where it saves nothing."""
    known = pending.clears.get(message.id)
    risk = round(worth, 2)
    if known is not None and known.risk != risk:
        known = pending.clears[message.id] = replace(known, risk=risk)
    if known is not None or message.id in pending.refused:
        return known
    clear = shortened(ctx, message, body, risk)
    if clear is None:
        pending.refused.add(message.id)
    else:
        pending.add(clear)
    return clear


def all_to_placeholders(ctx: Context, pending: Pending, found: Iterable[Found], body: str, who: str) -> list[Edit]:
    """Clears of these results and of those that wait, oldest first; worth is by recency."""
    done = pending.clears.keys() | pending.refused
    for item in ranked(ctx, [item for item in found if item.message.id not in done], RECENCY, who):
        placeholder(ctx, pending, item.found.message, body, item.risk)
    return list[Edit](pending.clears.values())


def shortened(ctx: Context, message: Message, body: str, risk: float) -> Clear | None:
    """A Clear that shows `body` and a marker in place of a result, or None where that is no shorter."""
    handle = ctx.handle()
    content = f"{body}\n{marker(handle)}" if body else marker(handle)
    if not smaller(ctx, content, message):
        return None
    return Clear(message.id, content, handle, risk=round(risk, 4))
