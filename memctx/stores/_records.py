"""Memory's rows: what is done to them, inside one transaction of the store. Every statement has the scope in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, not_, or_, select, update
from sqlalchemy import delete as delete_from

from memctx.errors import NotFound
from memctx.records import Event, Kind, Record
from memctx.stores._tables import embedding, history, outbox, record

CHUNK = 500  # ids in one statement: databases bound the number of parameters
_SHOWN = [c for c in record.c if c.name not in ("scope", "digest", "ended_thread", "ended_checkpoint")]


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
class Draft:
    """A record before it has an id. `supersedes`: the record whose place it takes; `corrects`: as if that had never stood."""

    text: str
    kind: Kind
    about: str
    sources: tuple[str, ...]
    trust: int
    valid_from: float | None
    valid_to: float | None
    pinned: bool
    meta: Mapping[str, Any] = field(default_factory=dict)
    supersedes: int | None = None
    corrects: bool = False

    @property
    def digest(self) -> str:
        return digest(self.text)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records a read may return. `as_of`: seconds since 1970; None: what is current."""

    kinds: tuple[Kind, ...] = ()
    as_of: float | None = None
    min_trust: int = 0


def digest(text: str) -> str:
    """Equal for texts that differ in case, white space or the full stop at the end."""
    return hashlib.sha256(" ".join(text.casefold().split()).rstrip(".!").encode("utf-8", "surrogatepass")).hexdigest()


def visible(place: Place, wanted: Wanted, now: float) -> ColumnElement[bool]:
    """The records of a scope that hold at a time, for a run at its place."""
    ended: ColumnElement[bool] = record.c.ended.is_not(None)
    seen_end = place.seen(record.c.ended_thread, record.c.ended_checkpoint)
    if seen_end is not None:
        ended = and_(ended, seen_end)
    over: ColumnElement[bool]
    if wanted.as_of is None:  # a clock that was set back must not hide what was just written
        begun = or_(record.c.valid_from <= now, record.c.valid_from <= record.c.created)
        over = or_(ended, and_(record.c.ended.is_(None), record.c.valid_to <= now))
    else:
        begun = record.c.valid_from <= wanted.as_of
        over = and_(record.c.valid_to <= wanted.as_of, or_(record.c.ended.is_(None), ended))
    clauses = [record.c.scope == place.scope, begun, not_(func.coalesce(over, False))]
    if wanted.kinds:
        clauses.append(record.c.kind.in_(wanted.kinds))
    if wanted.min_trust:
        clauses.append(record.c.trust >= wanted.min_trust)
    seen = place.seen(record.c.thread, record.c.checkpoint)
    return and_(*clauses) if seen is None else and_(*clauses, seen)


def fetch(conn: Connection, place: Place, wanted: Wanted, now: float, ids: Sequence[int]) -> dict[int, Record]:
    """Those of `ids` that may be seen."""
    where = visible(place, wanted, now)
    found: dict[int, Record] = {}
    for start in range(0, len(ids), CHUNK):
        rows = conn.execute(select(*_SHOWN).where(where, record.c.id.in_(ids[start : start + CHUNK])))
        found.update((row.id, made(row)) for row in rows)
    return found


def ids_of(conn: Connection, place: Place, wanted: Wanted, now: float) -> list[int]:
    """The ids of all that may be seen."""
    return list(conn.scalars(select(record.c.id).where(visible(place, wanted, now))))


def listed(
    conn: Connection, place: Place, wanted: Wanted, now: float, limit: int | None, newest: bool = True
) -> list[Record]:
    """Records in the order written, or the newest first."""
    order = record.c.id.desc() if newest else record.c.id
    rows = conn.execute(select(*_SHOWN).where(visible(place, wanted, now)).order_by(order).limit(limit))
    return [made(row) for row in rows]


def one(conn: Connection, place: Place, record_id: int) -> Record:
    """A record of the scope, current or not. Raises `NotFound`, the same for one that another scope has."""
    row = conn.execute(select(*_SHOWN).where(record.c.scope == place.scope, record.c.id == record_id)).first()
    if row is None:
        raise NotFound(f"no record {record_id!r:.40} in this scope")
    return made(row)


def neighbours(conn: Connection, place: Place, ids: Sequence[int]) -> dict[int, list[int]]:
    """The ids written directly before and after each of `ids` in the same thread and of the same kind."""
    chosen = list(ids)[:CHUNK]
    other = record.alias()
    same = and_(other.c.scope == place.scope, other.c.thread == record.c.thread, other.c.kind == record.c.kind)
    before = select(func.max(other.c.id)).where(same, other.c.id < record.c.id).scalar_subquery()
    after = select(func.min(other.c.id)).where(same, other.c.id > record.c.id).scalar_subquery()
    chosen_rows = and_(record.c.scope == place.scope, record.c.id.in_(chosen), record.c.thread != "")
    rows = conn.execute(select(record.c.id, before, after).where(chosen_rows))
    return {row[0]: [near for near in row[1:] if near is not None] for row in rows}


def write(
    conn: Connection, place: Place, drafts: Sequence[Draft], vectors: Sequence[bytes], embedder: str, now: float
) -> list[Record]:
    """Insert what is new. A repeat of a current record changes nothing but its history and gives that record."""
    known = _repeated(conn, place, drafts, now)
    fresh: dict[tuple[Kind, str], tuple[Draft, bytes]] = {}
    for draft, vector in zip(drafts, vectors, strict=True):
        key = (draft.kind, draft.digest)
        if key not in known or draft.supersedes is not None:
            fresh.setdefault(key, (draft, vector))
    made_now = _insert(conn, place, [draft for draft, _ in fresh.values()], now)
    ids = [one_made.id for one_made in made_now]
    vectors_of = [vector for _, vector in fresh.values()]
    _index(conn, place.scope, "add", ids, embedder, vectors_of)
    log(conn, place, "write", ids, now)
    repeated = [known[key] for draft in drafts if (key := (draft.kind, draft.digest)) in known and key not in fresh]
    log(conn, place, "repeat", [each.id for each in repeated], now)
    for (draft, _), new in zip(fresh.values(), made_now, strict=True):
        _take_places(conn, place, draft, new, now)
    both = {**known, **dict(zip(fresh, made_now, strict=True))}
    return [both[draft.kind, draft.digest] for draft in drafts]


def _repeated(conn: Connection, place: Place, drafts: Sequence[Draft], now: float) -> dict[tuple[Kind, str], Record]:
    digests = list({draft.digest for draft in drafts})
    found: dict[tuple[Kind, str], Record] = {}
    where = visible(place, Wanted(), now)
    for start in range(0, len(digests), CHUNK):
        query = select(record.c.digest, *_SHOWN).where(where, record.c.digest.in_(digests[start : start + CHUNK]))
        found.update(((row.kind, row.digest), made(row)) for row in conn.execute(query.order_by(record.c.id)))
    return found


def _insert(conn: Connection, place: Place, drafts: Sequence[Draft], now: float) -> list[Record]:
    rows = [
        {
            "scope": place.scope,
            "kind": draft.kind,
            "text": draft.text,
            "about": draft.about,
            "digest": draft.digest,
            "sources": list(draft.sources),
            "trust": draft.trust,
            "valid_from": now if draft.valid_from is None else draft.valid_from,
            "valid_to": draft.valid_to,
            "pinned": draft.pinned,
            "meta": dict(draft.meta),
            "created": now,
            **place.tags(),
        }
        for draft in drafts
    ]
    if not rows:
        return []
    made_rows = conn.execute(insert(record).returning(*_SHOWN, sort_by_parameter_order=True), rows)
    return [made(row) for row in made_rows]


def _take_places(conn: Connection, place: Place, draft: Draft, new: Record, now: float) -> None:
    """End what the new record takes the place of: the one named, and whatever else is current about the same thing."""
    where = visible(place, Wanted(kinds=(draft.kind,)), now)
    old: dict[int, Record] = {}
    if draft.supersedes is not None:
        old[draft.supersedes] = one(conn, place, draft.supersedes)
    if draft.about:
        same = conn.execute(select(*_SHOWN).where(where, record.c.about == draft.about, record.c.id != new.id))
        old.update((row.id, made(row)) for row in same)
    for before in old.values():
        if before.id != new.id:
            op = "correct" if draft.corrects else "supersede"
            until = before.valid_from if draft.corrects else max(before.valid_from, new.valid_from)
            end(conn, place, before, op, now, until, by=new.id)


def end(
    conn: Connection,
    place: Place,
    old: Record,
    op: str,
    now: float,
    until: float,
    *,
    by: int | None = None,
    why: str = "",
) -> None:
    """A record holds only until `until`: another took its place, or it was taken back."""
    changed = {"valid_to": until, "ended": now, "superseded_by": by, "version": record.c.version + 1}
    ended_by = {"ended_thread": place.thread, "ended_checkpoint": place.checkpoint}
    mine = and_(record.c.scope == place.scope, record.c.id == old.id)
    conn.execute(update(record).where(mine).values(**changed, **ended_by))
    log(conn, place, op, [old.id], now, text=old.text, why=why)


def remove(conn: Connection, place: Place, ids: Iterable[int]) -> int:
    """Delete records, their vectors and their history; returns how many there were."""
    gone = list(ids)
    count = 0
    for start in range(0, len(gone), CHUNK):
        some = gone[start : start + CHUNK]
        conn.execute(delete_from(embedding).where(embedding.c.scope == place.scope, embedding.c.record.in_(some)))
        conn.execute(delete_from(history).where(history.c.scope == place.scope, history.c.record.in_(some)))
        count += conn.execute(delete_from(record).where(record.c.scope == place.scope, record.c.id.in_(some))).rowcount
    _index(conn, place.scope, "remove", gone, "", ())
    return count


def _index(conn: Connection, scope: str, op: str, ids: Sequence[int], embedder: str, vectors: Sequence[bytes]) -> None:
    if vectors:
        rows = [
            {"record": i, "embedder": embedder, "scope": scope, "vector": v} for i, v in zip(ids, vectors, strict=True)
        ]
        conn.execute(insert(embedding), rows)
    if ids:
        conn.execute(insert(outbox), [{"scope": scope, "op": op, "record": i} for i in ids])


def log(
    conn: Connection, place: Place, op: str, ids: Sequence[int], now: float, *, text: str | None = None, why: str = ""
) -> None:
    """Lines of history."""
    if ids:
        line = {"scope": place.scope, "op": op, "text": text, "why": why, "at": now, **place.tags()}
        conn.execute(insert(history), [{**line, "record": i} for i in ids])


def events(conn: Connection, place: Place, record_id: int) -> list[Event]:
    """What happened to a record, oldest first."""
    mine = and_(history.c.scope == place.scope, history.c.record == record_id)
    rows = conn.execute(select(history).where(mine).order_by(history.c.seq))
    return [Event(**{k: v for k, v in row._mapping.items() if k != "scope"}) for row in rows]


def made(row: Row[Any]) -> Record:
    """A record from its row."""
    values = {column.name: getattr(row, column.name) for column in _SHOWN}
    return Record(**{**values, "sources": tuple(values["sources"])})
