"""Filters over a host's items: what a key, an operator and a value may be, and which items they let through.

A filter is data: it is never turned into SQL, so every database gives the same answer. The answers are those of LangGraph's
`InMemoryStore` wherever that one has an answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from operator import ge, gt, le, lt
from typing import Any

from memctx.errors import FilterError, LimitError

MAX_DEPTH = 16
MAX_PARTS = 1_000  # keys and values of one filter
MAX_COUNT = 1_000_000_000  # for limit and offset

_ORDER: Mapping[str, Callable[[Any, Any], bool]] = {"$gt": gt, "$gte": ge, "$lt": lt, "$lte": le}
_OPERATORS = ("$eq", "$ne", *_ORDER)


def matching(given: Mapping[str, Any] | None) -> Callable[[Mapping[str, Any]], bool] | None:
    """Whether an item's value passes the filter; None where everything does.

    A key is a key of the value, whatever is in it. Its condition is a JSON value, a dict of operators (`$eq`, `$ne`, `$gt`,
    `$gte`, `$lt`, `$lte`; all must hold), or a dict of conditions on what is inside. Numbers are ordered with numbers (true is
    1), texts with texts by code point; anything else is not in order, and does not pass. Raises `FilterError`, `LimitError`.
    """
    if not given:
        return None
    if not isinstance(given, Mapping):
        raise FilterError(f"filter = {given!r:.40}: give a dict of key and condition", field="filter")
    left = [MAX_PARTS]
    for key, condition in given.items():
        _check_key(key)
        _check(condition, left, 1)
    conditions = dict(given)

    def passes(value: Mapping[str, Any]) -> bool:
        return all(_holds(value.get(key), condition) for key, condition in conditions.items())

    return passes


def counted(name: str, value: Any) -> int:
    """A limit or an offset. Raises `FilterError` unless it is a whole number from 0 to a thousand million."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise FilterError(f"{name} = {value!r:.40}: give a whole number from 0 to {MAX_COUNT:,}", field=name)
    return value


def _check_key(key: Any) -> None:
    if not isinstance(key, str):
        raise FilterError(f"filter key {key!r:.40}: keys are texts", field="filter")


def _check(condition: Any, left: list[int], depth: int) -> None:
    left[0] -= 1
    if left[0] < 0:
        raise LimitError(f"a filter of more than {MAX_PARTS} parts: ask for less at once")
    if depth > MAX_DEPTH:
        raise FilterError(f"a filter nested deeper than {MAX_DEPTH}", field="filter")
    if isinstance(condition, Mapping):
        for key in condition:
            _check_key(key)
        if any(key.startswith("$") for key in condition):
            _check_operators(condition)
        for value in condition.values():
            _check(value, left, depth + 1)
    elif isinstance(condition, list | tuple):
        for value in condition:
            _check(value, left, depth + 1)
    else:
        _check_plain(condition)


def _check_operators(condition: Mapping[str, Any]) -> None:
    for name, value in condition.items():
        if name not in _OPERATORS:
            text = f"filter operator {name!r:.40} is not known: use {', '.join(_OPERATORS)}"
            raise FilterError(text, field="filter", operator=name[:40])
        if name in _ORDER and not isinstance(value, int | float | str):
            raise FilterError(f"{name} {value!r:.40}: only numbers and texts are in order", field="filter")


def _check_plain(value: Any) -> None:
    if value is None or isinstance(value, str | bool):
        return
    try:
        if isinstance(value, int | float) and math.isfinite(float(value)):
            return
    except OverflowError:
        pass
    kind = type(value).__name__
    raise FilterError(f"a filter value of type {kind}: give JSON data with finite numbers", field="filter", kind=kind)


def _holds(value: Any, condition: Any) -> bool:
    if isinstance(condition, Mapping):
        if any(key.startswith("$") for key in condition):
            return all(_compared(value, name, wanted) for name, wanted in condition.items())
        return isinstance(value, Mapping) and all(_holds(value.get(key), inner) for key, inner in condition.items())
    if isinstance(condition, list | tuple):
        return _all_hold(value, condition)
    return bool(value == condition)


def _all_hold(value: Any, conditions: Sequence[Any]) -> bool:
    if not isinstance(value, list) or len(value) != len(conditions):
        return False
    return all(_holds(each, condition) for each, condition in zip(value, conditions, strict=True))


def _compared(value: Any, name: str, wanted: Any) -> bool:
    wanted = list(wanted) if isinstance(wanted, tuple) else wanted
    if name == "$eq":
        return bool(value == wanted)
    if name == "$ne":
        return bool(value != wanted)
    same_kind = any(isinstance(value, kind) and isinstance(wanted, kind) for kind in ((int, float), str))
    return same_kind and _ORDER[name](value, wanted)
