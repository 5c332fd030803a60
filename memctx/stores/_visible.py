"""Which records a call may see, and how they are read. Every statement has the scope in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, and_, func, not_, or_, select

from memctx.errors import NotFound
from memctx.records import Event, Kind, Record
from memctx.stores._tables import ending, history, record

CHUNK = 500  # ids in one statement: databases bound the number of parameters
SHOWN = [c for c in record.c if c.name not in ("scope", "digest")]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call stands: its scope, and the point of a run that it writes from and reads at.

    `ancestors`: the checkpoints of `thread` before this one. Of that thread only what they and this one wrote is seen; None:
    all of it.
    """

    scope: str
    thread: str = ""
    run: str = ""
    checkpoint: str = ""
    ancestors: tuple[str, ...] | None = None

    def tags(self) -> dict[str, str]:
        return {"thread": self.thread, "run": self.run, "checkpoint": self.checkpoint}

    def seen(self, thread: ColumnElement[str], checkpoint: ColumnElement[str]) -> ColumnElement[bool] | None:
        """Whether a write made there is in this run's past; None where every write is."""
        if self.ancestors is None:
            return None
        return or_(thread != self.thread, checkpoint.in_(("", self.checkpoint, *self.ancestors)))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records a read may return. `as_of`: seconds since 1970; None: what is current."""

    kinds: tuple[Kind, ...] = ()
    as_of: float | None = None
    min_trust: int = 0
    about: str | None = None  # exactly that
    under: str | None = None  # what it is about starts with that


def visible(place: Place, wanted: Wanted, now: float, *, by_id: bool = False) -> ColumnElement[bool]:
    """The records of a scope that hold at a time, for a run at its place. `by_id`: the ids are known; look those up."""
    if wanted.as_of is None:  # a clock that was set back must not hide what was just written
        begun = or_(record.c.valid_from <= now, record.c.valid_from <= record.c.created)
        over = or_(_ended(place, None), and_(record.c.ended.is_(None), record.c.valid_to <= now))
    else:
        begun = record.c.valid_from <= wanted.as_of
        over = or_(_ended(place, wanted.as_of), and_(record.c.ended.is_(None), record.c.valid_to <= wanted.as_of))
    scope = record.c.scope + "" if by_id else record.c.scope  # else SQLite would read the whole scope by its index
    clauses = [scope == place.scope, begun, not_(func.coalesce(over, False))]
    if wanted.kinds:
        clauses.append(record.c.kind.in_(wanted.kinds))
    if wanted.min_trust:
        clauses.append(record.c.trust >= wanted.min_trust)
    if wanted.about is not None:
        clauses.append(record.c.about == wanted.about)
    if wanted.under:
        clauses.append(func.substr(record.c.about, 1, len(wanted.under)) == wanted.under)
    seen = place.seen(record.c.thread, record.c.checkpoint)
    return and_(*clauses) if seen is None else and_(*clauses, seen)


def _ended(place: Place, by: float | None) -> ColumnElement[bool]:
    """Whether a record was ended in this run's past; with `by`, with effect at or before that time."""
    seen = place.seen(ending.c.thread, ending.c.checkpoint)
    if seen is None and by is None:
        return record.c.ended.is_not(None)
    clauses = [ending.c.record == record.c.id]
    if seen is not None:
        clauses.append(seen)
    if by is not None:
        clauses.append(ending.c.until <= by)
    return select(ending.c.seq).where(*clauses).exists()


def fetch(conn: Connection, place: Place, wanted: Wanted, now: float, ids: Sequence[int]) -> dict[int, Record]:
    """Those of `ids` that may be seen."""
    rows = some_of(conn, place, wanted, now, ids, SHOWN)
    return {row.id: _here(made(row), place, wanted) for row in rows}


def some_of(
    conn: Connection, place: Place, wanted: Wanted, now: float, ids: Sequence[int], columns: Sequence[Column[Any]]
) -> Iterator[Row[Any]]:
    """Some columns of those of `ids` that may be seen."""
    where = visible(place, wanted, now, by_id=True)
    for start in range(0, len(ids), CHUNK):
        yield from conn.execute(select(*columns).where(where, record.c.id.in_(ids[start : start + CHUNK]))).all()


def _here(found: Record, place: Place, wanted: Wanted) -> Record:
    """A record as a run sees it that does not see who ended it."""
    if place.ancestors is None or wanted.as_of is not None or found.ended is None:
        return found
    return replace(found, ended=None, superseded_by=None, valid_to=None)


def ids_of(conn: Connection, place: Place, wanted: Wanted, now: float) -> list[int]:
    """The ids of all that may be seen."""
    return list(conn.scalars(select(record.c.id).where(visible(place, wanted, now))))


def listed(conn: Connection, place: Place, wanted: Wanted, now: float, limit: int | None) -> list[Record]:
    """Records, the newest first."""
    query = select(*SHOWN).where(visible(place, wanted, now)).order_by(record.c.id.desc()).limit(limit)
    return [_here(made(row), place, wanted) for row in conn.execute(query)]


def one(conn: Connection, place: Place, record_id: int) -> Record:
    """A record of the scope, current or not. Raises `NotFound`, the same for one that another scope has."""
    found = any_of(conn, place, record_id)
    if found is None:
        raise NotFound(f"no record {record_id!r:.40} in this scope")
    return found


def any_of(conn: Connection, place: Place, record_id: int) -> Record | None:
    """A record of the scope, or None."""
    row = conn.execute(select(*SHOWN).where(record.c.scope == place.scope, record.c.id == record_id)).first()
    return None if row is None else made(row)


def neighbours(conn: Connection, place: Place, ids: Sequence[int]) -> dict[int, list[int]]:
    """The ids written directly before and after each of `ids` in the same thread and of the same kind."""
    chosen = list(ids)[:CHUNK]
    other = record.alias()
    same = and_(other.c.scope == place.scope, other.c.thread == record.c.thread, other.c.kind == record.c.kind)
    before = select(func.max(other.c.id)).where(same, other.c.id < record.c.id).scalar_subquery()
    after = select(func.min(other.c.id)).where(same, other.c.id > record.c.id).scalar_subquery()
    chosen_rows = and_(record.c.scope + "" == place.scope, record.c.id.in_(chosen), record.c.thread != "")
    rows = conn.execute(select(record.c.id, before, after).where(chosen_rows))
    return {row[0]: [near for near in row[1:] if near is not None] for row in rows}


def events(conn: Connection, place: Place, record_id: int) -> list[Event]:
    """What happened to a record, oldest first. That it was written, the record itself says."""
    mine = and_(history.c.scope == place.scope, history.c.record == record_id)
    rows = conn.execute(select(history).where(mine).order_by(history.c.seq))
    later = [Event(**{k: v for k, v in row._mapping.items() if k != "scope"}) for row in rows]
    found = any_of(conn, place, record_id)
    if found is None:
        return later
    return [Event(0, found.id, "write", None, "", found.created, found.thread, found.run, found.checkpoint), *later]


def made(row: Row[Any]) -> Record:
    """A record from its row."""
    values = {column.name: getattr(row, column.name) for column in SHOWN}
    return Record(**{**values, "sources": tuple(values["sources"])})
