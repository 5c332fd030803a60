"""The rows of a saved tool graph. Every function works inside one transaction of the store, and every statement has the scope in it.

A `document` of kind `tool_graph` under the graph's name holds its settings; its version grows with every change. A `document` of
kind `tool_edge` an edge, named by graph and digest of its ends; each text in its states has a vector in `item_vector`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select

from memctx.graphs._plain import edge_of, plain, spoken
from memctx.graphs.tool_graph import Edge
from memctx.stores._rows import inserting
from memctx.stores._tables import document, item_vector

GRAPH, EDGE = "tool_graph", "tool_edge"
Versions = dict[int, int]  # of rows, by id
CHUNK = 500  # rows in one statement
LONGEST = 120  # characters of an embedder's name in the store


@dataclass(frozen=True, slots=True)
class Place:
    """Where a graph is kept, and whose vectors its states have."""

    scope: str
    name: str
    embedder: str

    def of(self, kind: str) -> ColumnElement[bool]:
        return and_(document.c.scope == self.scope, document.c.kind == kind)

    @property
    def prefix(self) -> str:
        return f"{self.name}/"

    def row(self, edge: Edge) -> str:
        """The name of an edge's row: tool names may be long, and hold anything."""
        return self.prefix + _digest(json.dumps([edge.past, edge.u, edge.v]))


@dataclass(frozen=True, slots=True)
class Kept:
    """An edge as it is kept: the id and name of its row."""

    id: int
    row: str
    edge: Edge


@dataclass(frozen=True, slots=True)
class Head:
    """A graph's own row. Its id is never another's, so id and version together say what a reader has seen."""

    id: int
    version: int
    settings: dict[str, Any]


def maker(embedder: str) -> str:
    """The name vectors of states go by: not the embedder's own, under which a host's items are searched."""
    name = f"graph:{embedder}"
    return name if len(name) <= LONGEST else f"graph:{_digest(embedder)}"


def head(conn: Connection, place: Place) -> Head | None:
    """What says which graph this is, and as of when; None where there is none."""
    query = select(document.c.id, document.c.version, document.c.data)
    row = conn.execute(query.where(place.of(GRAPH), document.c.name == place.name)).one_or_none()
    return None if row is None else Head(row.id, row.version, row.data)


def versions(conn: Connection, place: Place) -> Versions:
    """The version of every edge's row."""
    rows = conn.execute(select(document.c.id, document.c.version).where(_edges_of(place)))
    return {row.id: row.version for row in rows}


def count(conn: Connection, place: Place) -> int:
    """How many edges are kept."""
    return conn.scalar(select(func.count()).select_from(document).where(_edges_of(place))) or 0


def touched(conn: Connection, place: Place, wanted: Iterable[Edge]) -> Iterator[Kept]:
    """Those of these edges that are kept."""
    names = sorted(map(place.row, wanted))
    return (kept for some in _chunks(names) for kept in _kept(conn, place.of(EDGE), document.c.name.in_(some)))


def edges(conn: Connection, place: Place, ids: Collection[int] | None = None) -> list[Kept]:
    """The edges of the graph; those with these row ids, where given."""
    if ids is None:
        return list(_kept(conn, _edges_of(place)))
    return [kept for some in _chunks(sorted(ids)) for kept in _kept(conn, place.of(EDGE), document.c.id.in_(some))]


def vectors(conn: Connection, place: Place, kept: Sequence[Kept]) -> dict[str, bytes]:
    """The vectors of these edges' texts, by text; one may have none."""
    texts = {_digest(text): text for each in kept for text in spoken(each.edge)}
    mine = and_(item_vector.c.scope == place.scope, item_vector.c.embedder == place.embedder)
    query = select(item_vector.c.path, item_vector.c.vector).where(mine)
    found: dict[str, bytes] = {}
    for some in _chunks([each.id for each in kept]):
        rows = conn.execute(query.where(item_vector.c.document.in_(some)))
        found.update((texts[row.path], row.vector) for row in rows if row.path in texts)
    return found


def write(conn: Connection, place: Place, changed: Sequence[Edge], made: Mapping[str, bytes], now: float) -> None:
    """Keep these edges, new or in place of what is kept, and the vectors in `made`, by text, of texts that have none."""
    ids: dict[str, int] = {}
    for some in _chunks(changed):
        rows = [{**_row(place, EDGE, place.row(edge), now), "data": plain(edge)} for edge in some]
        ids.update((row.name, row.id) for row in _put(conn, rows))
    paths = _paths(conn, place, ids.values())
    fresh, gone = [], list[tuple[int, str]]()
    for edge in changed:
        number = ids[place.row(edge)]
        texts = {_digest(text): text for text in spoken(edge)}
        gone += [(number, path) for path in paths.get(number, set()) - texts.keys()]
        fresh += [
            {"document": number, "path": path, "embedder": place.embedder, "scope": place.scope, "vector": made[text]}
            for path, text in texts.items()
            if path not in paths.get(number, set()) and text in made
        ]
    for number, path in gone:
        conn.execute(delete(item_vector).where(item_vector.c.document == number, item_vector.c.path == path))
    if fresh:
        conn.execute(insert(item_vector), fresh)


def settle(conn: Connection, place: Place, settings: Mapping[str, Any], now: float) -> None:
    """Keep the graph's settings; its version grows."""
    _put(conn, [{**_row(place, GRAPH, place.name, now), "data": dict(settings)}])


def remove(conn: Connection, place: Place, kept: Iterable[Kept]) -> None:
    """Delete edges with their vectors."""
    for some in _chunks([each.id for each in kept]):
        conn.execute(delete(document).where(place.of(EDGE), document.c.id.in_(some)))


def _edges_of(place: Place) -> ColumnElement[bool]:
    return and_(place.of(EDGE), func.substr(document.c.name, 1, len(place.prefix)) == place.prefix)


def _kept(conn: Connection, *where: ColumnElement[bool]) -> Iterator[Kept]:
    query = select(document.c.id, document.c.name, document.c.data).where(*where)
    return (Kept(row.id, row.name, edge_of(row.data)) for row in conn.execute(query))


def _put(conn: Connection, rows: list[dict[str, Any]]) -> Iterator[Any]:
    statement = inserting(conn, document)
    changes = {"data": statement.excluded.data, "updated": statement.excluded.updated}
    keys = ["scope", "kind", "name"]
    statement = statement.on_conflict_do_update(
        index_elements=keys, set_={**changes, "version": document.c.version + 1}
    ).returning(document.c.id, document.c.name)
    return iter(conn.execute(statement, rows).all())


def _paths(conn: Connection, place: Place, ids: Collection[int]) -> dict[int, set[str]]:
    """Which texts of these edges have a vector of the embedder; those of another embedder are deleted."""
    found: dict[int, set[str]] = {}
    for some in _chunks(list(ids)):
        mine = and_(item_vector.c.scope == place.scope, item_vector.c.document.in_(some))
        conn.execute(delete(item_vector).where(mine, item_vector.c.embedder != place.embedder))
        for row in conn.execute(select(item_vector.c.document, item_vector.c.path).where(mine)):
            found.setdefault(row.document, set()).add(row.path)
    return found


def _row(place: Place, kind: str, name: str, now: float) -> dict[str, Any]:
    return {"scope": place.scope, "kind": kind, "name": name, "version": 1, "created": now, "updated": now}


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))
