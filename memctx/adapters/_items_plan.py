"""LangGraph's operations, checked and put in the order in which they have their effect, before the store is touched."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langgraph.store.base import (
    GetOp,
    InvalidNamespaceError,
    ListNamespacesOp,
    MatchCondition,
    Op,
    PutOp,
    SearchOp,
)

from memctx.adapters._items import Key, Passes, Put, Range
from memctx.adapters._items_filter import counted, matching
from memctx.adapters._items_index import Index
from memctx.errors import ConfigError, FilterError, InvalidMessage, LimitError, ScopeError
from memctx.scope import below, parts, scope

MAX_KEY = 500  # characters
MAX_VALUE = 10_000_000  # characters of an item as JSON
MAX_TTL = 60 * 24 * 365 * 100  # minutes
MAX_NESTED = 100


class NamespaceError(ScopeError, InvalidNamespaceError):
    """A namespace that cannot be one: ours and LangGraph's error at once."""


@dataclass(frozen=True, slots=True)
class Search:
    """A `SearchOp` that was checked. `query`: the place of its vector; None: no search by meaning."""

    within: Range
    passes: Passes
    limit: int
    offset: int
    query: int | None
    refresh: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """A `ListNamespacesOp` that was checked."""

    within: Range
    conditions: tuple[MatchCondition, ...]
    depth: int | None
    limit: int
    offset: int

    def of(self, scopes: Iterable[str], base: int) -> list[tuple[str, ...]]:
        """The namespaces among these scopes, whose first `base` parts are the store's own."""
        found = {parts(text)[base:] for text in scopes}
        chosen = (namespace for namespace in found if all(_matches(each, namespace) for each in self.conditions))
        return sorted({namespace[: self.depth] for namespace in chosen})[self.offset : self.offset + self.limit]


@dataclass(slots=True)
class Batch:
    """What a batch of operations comes to. Reads have the place of their answer; of puts under one key the last counts."""

    size: int = 0
    gets: dict[int, tuple[Key, bool]] = field(default_factory=dict)
    searches: dict[int, Search] = field(default_factory=dict)
    listings: dict[int, Listing] = field(default_factory=dict)
    puts: dict[Key, Put | None] = field(default_factory=dict)  # None: delete
    texts: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)


def planned(ops: Iterable[Op], base: tuple[str, ...], index: Index | None) -> Batch:
    """Check every operation. Raises before anything is done, so a batch has its effect whole or not at all."""
    batch = Batch()
    asked: dict[Key, PutOp] = {}
    for place, op in enumerate(ops):
        batch.size += 1
        if isinstance(op, GetOp):
            batch.gets[place] = ((_scope(base, op.namespace), _key(op.key)), bool(op.refresh_ttl))
        elif isinstance(op, PutOp):
            _check_root(op.namespace)
            asked[_scope(base, op.namespace), _key(op.key)] = op
        elif isinstance(op, SearchOp):
            batch.searches[place] = _search(op, base, index, batch.queries)
        elif isinstance(op, ListNamespacesOp):
            batch.listings[place] = _listing(op, base)
        else:
            raise FilterError(f"operation {type(op).__name__} is not known", field="ops")
    places: dict[str, int] = {}
    batch.puts = {key: None if op.value is None else _put(op, index, places) for key, op in asked.items()}
    batch.texts = list(places)
    return batch


def minutes(ttl: Any) -> float | None:
    """A time to live. Raises `ConfigError` unless it is None or a number of minutes above 0, at most a hundred years."""
    if ttl is None:
        return None
    if not isinstance(ttl, int | float) or isinstance(ttl, bool) or not 0 < ttl <= MAX_TTL:
        raise ConfigError(f"ttl = {ttl!r:.40}: give minutes above 0, at most {MAX_TTL:,}, or None", field="ttl")
    return float(ttl)


def labels(namespace: Any) -> tuple[str, ...]:
    """A namespace as a tuple of texts. Raises `NamespaceError`."""
    if isinstance(namespace, str) or not isinstance(namespace, Sequence):
        raise NamespaceError(f"namespace = {namespace!r:.40}: give a tuple of texts", field="namespace")
    return tuple(namespace)


def _scope(base: tuple[str, ...], namespace: Any) -> str:
    given = labels(namespace)
    if not given:
        raise NamespaceError("a namespace is needed: give at least one label", code="scope_required")
    try:
        return scope(*base, *given)
    except ScopeError as bad:
        raise NamespaceError(str(bad), code=bad.code, **bad.details) from None


def _check_root(namespace: Any) -> None:
    if labels(namespace)[:1] == ("langgraph",):
        raise NamespaceError("a namespace may not begin with 'langgraph': that is LangGraph's own", field="namespace")


def _range(base: tuple[str, ...], prefix: tuple[str, ...]) -> Range:
    return below(_scope((), (*base, *prefix))) if base or prefix else ("", "")


def _key(key: Any) -> str:
    if not isinstance(key, str) or not key or len(key) > MAX_KEY or "\0" in key:
        text = f"key = {key!r:.40}: give a text of 1 to {MAX_KEY} characters, without NUL"
        raise InvalidMessage(text, code="bad_key")
    return key.encode("utf-8", "replace").decode()


def _search(op: SearchOp, base: tuple[str, ...], index: Index | None, queries: list[str]) -> Search:
    if op.query is not None and not isinstance(op.query, str):
        raise FilterError(f"query = {op.query!r:.40}: give a text", field="query")
    query = None
    if index and op.query and op.query.strip():
        if op.query not in queries:
            queries.append(op.query)
        query = queries.index(op.query)
    return Search(
        within=_range(base, labels(op.namespace_prefix)),
        passes=matching(op.filter),
        limit=counted("limit", op.limit),
        offset=counted("offset", op.offset),
        query=query,
        refresh=bool(op.refresh_ttl),
    )


def _listing(op: ListNamespacesOp, base: tuple[str, ...]) -> Listing:
    conditions = tuple(op.match_conditions or ())
    head: tuple[str, ...] = ()
    for each in conditions:
        if each.match_type not in ("prefix", "suffix"):
            raise FilterError(f"match type {each.match_type!r:.40}: use 'prefix' or 'suffix'", field="match_type")
        path = labels(each.path)
        _scope((), path or ("*",))
        if each.match_type == "prefix":
            fixed = path[: path.index("*")] if "*" in path else path
            head = max(head, fixed, key=len)
    depth = op.max_depth
    if depth is not None and not counted("max_depth", depth):
        raise FilterError("max_depth = 0: give at least 1, or None", field="max_depth")
    return Listing(_range(base, head), conditions, depth, counted("limit", op.limit), counted("offset", op.offset))


def _matches(condition: MatchCondition, namespace: tuple[str, ...]) -> bool:
    """Label for label, where `*` stands for any one label."""
    path = condition.path
    if len(namespace) < len(path):
        return False
    side = namespace[: len(path)] if condition.match_type == "prefix" else namespace[len(namespace) - len(path) :]
    return all(wanted in ("*", label) for label, wanted in zip(side, path, strict=True))


def _put(op: PutOp, index: Index | None, places: dict[str, int]) -> Put:
    value = _plain(op.value, 0)
    if not isinstance(value, dict):
        raise InvalidMessage(f"value = {op.value!r:.40}: give a dict", code="not_json")
    if (size := len(json.dumps(value))) > MAX_VALUE:
        raise LimitError(f"an item of {size:,} characters as JSON; the bound is {MAX_VALUE:,}", given=size)
    item = Put(value, minutes(op.ttl))
    if index is None:
        return item
    texts = index.texts(value, op.index)
    return replace(item, texts=tuple((path, places.setdefault(text, len(places))) for path, text in texts))


def _plain(value: Any, depth: int) -> Any:
    """JSON data that comes back as it is, with lists for tuples. Raises `InvalidMessage`."""
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if depth > MAX_NESTED:
        raise InvalidMessage(f"an item nested deeper than {MAX_NESTED}", code="not_json")
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, depth + 1) for inner in value]
    text = f"an item holds a {type(value).__name__}: give JSON data, with texts as keys and finite numbers"
    raise InvalidMessage(text, code="not_json")
