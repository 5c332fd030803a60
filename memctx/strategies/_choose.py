"""Asking a policy which tool results are worth least, and recording what was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memctx._index import Index
from memctx.component import Component, load
from memctx.errors import ConfigError
from memctx.policies import Policy
from memctx.strategies import Context
from memctx.strategies._results import Found


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
