"""The rows of a host's items: documents of kind `item`, each under a scope and a key, with vectors of their texts.

Every function works inside one transaction of the store, and every statement has the range of scopes in it. An item that
expired is never returned, whether or not it was swept away yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, insert, or_, select, update

from memctx.stores._rows import inserting
from memctx.stores._tables import document, item_vector

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = "item"
CHUNK = 500  # keys in one statement
SWEPT = 1_000  # expired items that a sweep deletes at once

Key = tuple[str, str]  # scope, name
Range = tuple[str, str]  # scopes from the first to before the second; two empty texts: all
Passes = Callable[[Mapping[str, Any]], bool] | None


@dataclass(frozen=True, slots=True)
class Put:
    """An item to keep. `ttl`: minutes; `texts`: what to find it by, as (path, place of its vector)."""

    value: Mapping[str, Any]
    ttl: float | None
    texts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """An item as it is kept. `created`, `updated`: seconds since 1970; `ttl`: minutes."""

    id: int
    scope: str
    key: str
    value: dict[str, Any]
    ttl: float | None
    created: float
    updated: float


@dataclass(frozen=True, slots=True)
class Near:
    """A query's vector, of length one, and whose vectors it can be compared with."""

    embedder: str
    vector: NDArray[np.float32]


_SHOWN = (
    document.c.id, document.c.scope, document.c.name, document.c.data, document.c.created, document.c.updated,
)  # fmt: skip


def there(within: Range, now: float) -> ColumnElement[bool]:
    """Items in a range of scopes that have not expired."""
    alive = or_(document.c.expires.is_(None), document.c.expires > now)
    return and_(document.c.kind == KIND, alive, *_inside(document.c.scope, within))


def get(conn: Connection, keys: Iterable[Key], now: float) -> dict[Key, Kept]:
    """The items under these keys."""
    found: dict[Key, Kept] = {}
    for scope, names in _by_scope(keys).items():
        for some in _chunks(names):
            where = and_(there(("", ""), now), document.c.scope == scope, document.c.name.in_(some))
            found.update(((row.scope, row.name), _kept(row)) for row in conn.execute(select(*_SHOWN).where(where)))
    return found


def search(
    conn: Connection, within: Range, now: float, passes: Passes, limit: int, offset: int
) -> list[tuple[Kept, float | None]]:
    """Items in the order in which they were first put."""
    if passes is None:
        query = select(*_SHOWN).where(there(within, now)).order_by(document.c.id).limit(limit).offset(offset)
        return [(_kept(row), None) for row in conn.execute(query)]
    return [(item, None) for item in islice(_passing(conn, within, now, passes), offset, offset + limit)]


def ranked(
    conn: Connection, within: Range, now: float, passes: Passes, near: Near, limit: int, offset: int
) -> list[tuple[Kept, float | None]]:
    """Items by the best of their vectors, then those without a vector in the order put."""
    allowed = None
    if passes is not None:
        allowed = {item.id: item for item in _passing(conn, within, now, passes)}
    best = _best(conn, within, now, near, allowed)
    chosen = best[offset : offset + limit]
    items = _by_id(conn, [number for number, _ in chosen]) if allowed is None else allowed
    found: list[tuple[Kept, float | None]] = [(items[number], score) for number, score in chosen]
    if len(found) < limit:
        skip = max(offset - len(best), 0)
        found += [(item, None) for item in _unranked(conn, within, now, near, allowed, skip, limit - len(found))]
    return found


def namespaces(conn: Connection, within: Range, now: float) -> list[str]:
    """The scopes that have an item, each once."""
    return list(conn.scalars(select(document.c.scope).where(there(within, now)).distinct()))


def put(conn: Connection, puts: Mapping[Key, Put], vectors: Sequence[bytes], embedder: str, now: float) -> None:
    """Keep items: a new one, or a new value for the one there, which keeps its place and its time of creation."""
    _drop_expired(conn, puts, now)
    insertion = inserting(conn, document)
    changed = {name: insertion.excluded[name] for name in ("data", "updated", "expires")}
    statement = insertion.on_conflict_do_update(
        index_elements=["scope", "kind", "name"], set_={**changed, "version": document.c.version + 1}
    ).returning(document.c.id, document.c.scope, document.c.name)
    for some in _chunks(list(puts)):
        rows = [_row(key, puts[key], now) for key in some]
        ids = {(row.scope, row.name): row.id for row in conn.execute(statement, rows)}
        conn.execute(delete(item_vector).where(item_vector.c.document.in_(ids.values())))
        made = [
            {"document": ids[key], "path": path, "embedder": embedder, "scope": key[0], "vector": vectors[place]}
            for key in some
            for path, place in puts[key].texts
        ]
        if made:
            conn.execute(insert(item_vector), made)


def remove(conn: Connection, keys: Iterable[Key]) -> None:
    """Delete items; what is not there is no error."""
    for scope, names in _by_scope(keys).items():
        for some in _chunks(names):
            mine = and_(document.c.scope == scope, document.c.kind == KIND, document.c.name.in_(some))
            conn.execute(delete(document).where(mine))


def touch(conn: Connection, items: Iterable[Kept], now: float) -> None:
    """Start the time to live of these items again, where they have one and are still there."""
    later = [{"item": item.id, "at": _expiry(item.ttl, now)} for item in items if item.ttl is not None]
    if later:
        alive = and_(document.c.id == bindparam("item"), document.c.expires > now)
        conn.execute(update(document).where(alive).values(expires=bindparam("at")), later)


def sweep(conn: Connection, within: Range, now: float) -> int:
    """Delete some expired items, oldest first; returns how many."""
    old = and_(document.c.kind == KIND, document.c.expires <= now, *_inside(document.c.scope, within))
    some = select(document.c.id).where(old).order_by(document.c.expires).limit(SWEPT)
    return conn.execute(delete(document).where(document.c.id.in_(some))).rowcount


def _passing(conn: Connection, within: Range, now: float, passes: Callable[[Any], bool]) -> Iterator[Kept]:
    with conn.execute(select(*_SHOWN).where(there(within, now)).order_by(document.c.id)) as rows:
        yield from (_kept(row) for row in rows if passes(row.data["value"]))


def _kept(row: Any) -> Kept:
    return Kept(row.id, row.scope, row.name, row.data["value"], row.data["ttl"], row.created, row.updated)


def _inside(column: ColumnElement[str], within: Range) -> tuple[ColumnElement[bool], ...]:
    return (column >= within[0], column < within[1]) if within[1] else ()


def _expiry(ttl: float | None, now: float) -> float | None:
    return None if ttl is None else now + 60 * ttl


def _row(key: Key, item: Put, now: float) -> dict[str, Any]:
    data = {"value": item.value, "ttl": item.ttl}
    times = {"created": now, "updated": now, "expires": _expiry(item.ttl, now)}
    return {"scope": key[0], "kind": KIND, "name": key[1], "data": data, "version": 1, **times}


def _drop_expired(conn: Connection, keys: Iterable[Key], now: float) -> None:
    """What expired under these keys is gone: a new item does not take over its place."""
    for scope, names in _by_scope(keys).items():
        for some in _chunks(names):
            mine = and_(document.c.scope == scope, document.c.kind == KIND, document.c.name.in_(some))
            conn.execute(delete(document).where(mine, document.c.expires <= now))


def _best(
    conn: Connection, within: Range, now: float, near: Near, allowed: Mapping[int, Any] | None
) -> list[tuple[int, float]]:
    """(item, score), best first; of an item's vectors the nearest counts, and of equals the one put first."""
    import numpy as np

    of_mine = and_(item_vector.c.embedder == near.embedder, *_inside(item_vector.c.scope, within))
    gone = select(document.c.id).where(document.c.kind == KIND, document.c.expires <= now)  # few: quicker than a join
    pairs = select(item_vector.c.document, item_vector.c.vector).where(of_mine, item_vector.c.document.not_in(gone))
    rows = [row for row in conn.execute(pairs).all() if allowed is None or row[0] in allowed]
    if not rows:
        return []
    ids = np.fromiter((row[0] for row in rows), np.int64, len(rows))
    scores = np.frombuffer(b"".join(row[1] for row in rows), "<f4").reshape(len(rows), -1) @ near.vector
    order = np.lexsort((ids, -scores))
    _, first = np.unique(ids[order], return_index=True)
    return [(int(ids[place]), float(scores[place])) for place in order[np.sort(first)]]


def _unranked(
    conn: Connection, within: Range, now: float, near: Near, allowed: Mapping[int, Any] | None, skip: int, most: int
) -> list[Kept]:
    of_mine = and_(item_vector.c.embedder == near.embedder, *_inside(item_vector.c.scope, within))
    having = select(item_vector.c.document).where(of_mine)
    if allowed is not None:
        have = set(conn.scalars(having))
        return list(islice((item for number, item in allowed.items() if number not in have), skip, skip + most))
    query = select(*_SHOWN).where(there(within, now), document.c.id.not_in(having)).order_by(document.c.id)
    return [_kept(row) for row in conn.execute(query.limit(most).offset(skip))]


def _by_id(conn: Connection, ids: Sequence[int]) -> dict[int, Kept]:
    found: dict[int, Kept] = {}
    for some in _chunks(ids):
        found.update((row.id, _kept(row)) for row in conn.execute(select(*_SHOWN).where(document.c.id.in_(some))))
    return found


def _by_scope(keys: Iterable[Key]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for scope, name in keys:
        grouped.setdefault(scope, []).append(name)
    return grouped


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))
