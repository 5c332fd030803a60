"""What a caller of memory gives, checked and made into what the rows take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from memctx.errors import FilterError, LimitError, NotFound
from memctx.records import KINDS, Hit, Kind, Record, trust_of
from memctx.stores._records import Draft

MAX_TEXT = 1_000_000  # characters of one record
MAX_K = 10_000
WAYS = ("both", "meaning", "words")


def draft(item: Mapping[str, Any]) -> Draft:
    """A record to be, from the fields of `Scoped.write`. Raises `FilterError`, `LimitError`."""
    known = {
        "text", "kind", "source", "sources", "about", "trust", "valid_from", "valid_to", "pin", "meta", "supersedes", "key", "new",
    }  # fmt: skip
    if unknown := item.keys() - known:
        raise FilterError(
            f"unknown field {min(unknown)!r} of a record; known: {', '.join(sorted(known))}", field=min(unknown)
        )
    text = item.get("text")
    if not isinstance(text, str) or not text.strip():
        raise FilterError(f"text = {text!r:.40}: give a text that says something", field="text")
    if len(text) > MAX_TEXT:
        raise LimitError(
            f"a text of {len(text)} characters; the bound is {MAX_TEXT}: offload it, and remember what it says"
        )
    least = trust_of(item.get("source", "user"))
    given = item.get("trust")
    return Draft(
        text=_clean(text),
        kind=kinds_of((item.get("kind", "semantic"),))[0],
        about=_clean(str(item.get("about") or "")),
        sources=tuple(_clean(str(each)) for each in item.get("sources") or ()),
        trust=least if given is None else min(least, trust_of(given)),
        valid_from=item.get("valid_from"),
        valid_to=item.get("valid_to"),
        pinned=bool(item.get("pin")),
        meta=_cleaned(dict(item.get("meta") or {})),
        supersedes=item.get("supersedes"),
        key=_clean(str(item.get("key") or "")),
        new=bool(item.get("new")),
    )


def _clean(text: str) -> str:
    """What every database can hold: a lone surrogate or a NUL becomes U+FFFD."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _cleaned(meta: Any) -> Any:
    try:
        return _storable(json.loads(json.dumps(meta, allow_nan=False)))
    except (TypeError, ValueError) as cause:
        raise FilterError(f"meta holds what JSON cannot carry ({cause}): use only JSON values", field="meta") from cause


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, list):
        return [_storable(each) for each in value]
    return {_clean(key): _storable(each) for key, each in value.items()} if isinstance(value, dict) else value


def the_one(found: list[Record], key: str) -> Record:
    """What a single write gave. Raises `NotFound` where it was forgotten since."""
    if not found:
        raise NotFound(f"what was written under key {key!r:.40} was forgotten since: use another key", code="forgotten")
    return found[0]


def kinds_of(kinds: Sequence[Any]) -> tuple[Kind, ...]:
    """Kinds by name. Raises `FilterError`."""
    given: tuple[Any, ...] = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    for kind in given:
        if kind not in KINDS:
            raise FilterError(f"kind {kind!r:.40} is not known: use {', '.join(KINDS)}", field="kind")
    return given


def check_search(query: Any, k: Any, tokens: Any, by: Any) -> None:
    """Raise `FilterError` for a query, a number or a way that a search cannot take."""
    if not isinstance(query, str):
        raise FilterError(f"query = {query!r:.40}: give a text", field="query")
    if by not in WAYS:
        raise FilterError(f"by = {by!r:.40}: use {', '.join(WAYS)}", field="by")
    for name, value, top in (("k", k, MAX_K), ("tokens", tokens, None)):
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        if value is not None and (not whole or (top is not None and value > top)):
            raise FilterError(f"{name} = {value!r:.40}: give a number from 1{f' to {top}' if top else ''}", field=name)


def fitting(hits: list[Hit], tokens: int | None) -> list[Hit]:
    """The hits from the first on whose texts fit into `tokens`, those that do not fit passed over."""
    if tokens is None:
        return hits
    from memctx.tokens import counter

    count, left, kept = counter().text, tokens, list[Hit]()
    for hit in hits:
        size = count(hit.record.text)
        if size <= left:
            left -= size
            kept.append(hit)
    return kept
