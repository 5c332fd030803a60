"""Asking a policy which tool results are worth least, and recording what was chosen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from memctx._index import Index
from memctx.component import Component, load
from memctx.edits import Clear, Edit, marker
from memctx.errors import ConfigError
from memctx.messages import Message
from memctx.policies import Policy
from memctx.strategies import Context
from memctx.strategies._pending import Pending
from memctx.strategies._results import Found, smaller

RECENCY: dict[str, Any] = {"use": "rules", "order": "recency"}


def checked_policy(value: Any) -> Any:
    """A policy field as plain data, a name or a table. Raises `ConfigError` or `NotFound` if there is none."""
    if isinstance(value, Component):
        value = value.dump()
    policy(value)
    return value


def policy(value: str | dict[str, Any]) -> Policy:
    """The policy that a field names."""
    found: Policy = load("policies", {"use": value} if isinstance(value, str) else value)
    if not callable(getattr(found, "score", None)):
        raise ConfigError(f"policy = {value!r:.40}: it has no score()", field="policy")
    return found


def ranked(ctx: Context, found: Sequence[Found], chosen: str | dict[str, Any], who: str) -> list[tuple[float, Found]]:
    """(worth, result), the least worth first; equals stand oldest first. The question and the answer are recorded."""
    if not found:
        return []
    index = Index.of(ctx)
    features = [index.features(ctx, item.message) for item in found]
    scores = [min(1.0, max(0.0, float(score))) for score in policy(chosen).score(features)]
    if len(scores) != len(found):
        raise ConfigError(f"the policy gave {len(scores)} scores for {len(found)} results", field="policy")
    order = sorted(range(len(found)), key=lambda place: (scores[place], place))
    targets = [item.message.id for item in found]
    vectors = [item.vector() for item in features]
    ctx.record({"strategy": who, "targets": targets, "features": vectors, "scores": scores, "order": order})
    return [(scores[place], found[place]) for place in order]


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
    for worth, item in ranked(ctx, [item for item in found if item.message.id not in done], RECENCY, who):
        placeholder(ctx, pending, item.message, body, worth)
    return list[Edit](pending.clears.values())


def shortened(ctx: Context, message: Message, body: str, risk: float) -> Clear | None:
    """A Clear that shows `body` and a marker in place of a result, or None where that is no shorter."""
    handle = ctx.handle()
    content = f"{body}\n{marker(handle)}" if body else marker(handle)
    if not smaller(ctx, content, message):
        return None
    return Clear(message.id, content, handle, risk=round(risk, 4))
