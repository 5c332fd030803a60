"""What is done to memory's rows, inside one transaction of the store. Every statement has the scope in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, and_, insert, select, text, update
from sqlalchemy import delete as delete_from

from memctx.errors import ConflictError
from memctx.records import Kind, Record
from memctx.stores._tables import embedding, ending, history, outbox, record
from memctx.stores._visible import CHUNK, SHOWN, Place, Wanted, fetch, listed, made, one, visible

Same = tuple[str, str, str]  # kind, about, digest


@dataclass(frozen=True, slots=True)
class Draft:
    """A record before it has an id.

    `supersedes`: the record whose place it takes; `corrects`: as if that had never stood; `new`: nothing may be current.
    """

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
    key: str = ""
    new: bool = False

    @property
    def same(self) -> Same:
        """Equal for drafts that say the same of the same thing."""
        return self.kind, self.about, digest(self.text)


def digest(text: str) -> str:
    """Equal for texts that differ in case, white space or the full stop at the end."""
    plain = " ".join(text.casefold().split())
    return hashlib.sha256((plain.rstrip(".!") or plain).encode("utf-8", "surrogatepass")).hexdigest()


def write(
    conn: Connection, place: Place, drafts: Sequence[Draft], vectors: Sequence[bytes], embedder: str, now: float
) -> list[Record]:
    """Insert what is new. A repeat of a current record changes nothing but its history and gives that record."""
    known = _repeated(conn, place, drafts, now)
    fresh: dict[Same, tuple[Draft, bytes]] = {}
    for draft, vector in zip(drafts, vectors, strict=True):
        if draft.same not in known or draft.supersedes is not None:
            fresh.setdefault(draft.same, (draft, vector))
    new = put(
        conn, place, [draft for draft, _ in fresh.values()], [vector for _, vector in fresh.values()], embedder, now
    )
    log(conn, place, "repeat", [known[draft.same].id for draft in drafts if draft.same not in fresh], now)
    for (draft, _), made_now in zip(fresh.values(), new, strict=True):
        _take_places(conn, place, draft, made_now, now)
    both = {**known, **dict(zip(fresh, new, strict=True))}
    return [both[draft.same] for draft in drafts]


def put(
    conn: Connection, place: Place, drafts: Sequence[Draft], vectors: Sequence[bytes], embedder: str, now: float
) -> list[Record]:
    """Insert records with their vectors, whatever is there already."""
    new = _insert(conn, place, drafts, now)
    _index(conn, place.scope, "add", [each.id for each in new], embedder, vectors)
    return new


def tell(conn: Connection, scope: str, ids: Sequence[int]) -> None:
    """Have every process read these records again."""
    _index(conn, scope, "add", ids, "", ())


def _repeated(conn: Connection, place: Place, drafts: Sequence[Draft], now: float) -> dict[Same, Record]:
    digests = list({draft.same[2] for draft in drafts})
    found: dict[Same, Record] = {}
    where = visible(place, Wanted(), now)
    for start in range(0, len(digests), CHUNK):
        query = select(record.c.digest, *SHOWN).where(where, record.c.digest.in_(digests[start : start + CHUNK]))
        rows = conn.execute(query.order_by(record.c.id))
        found.update(((row.kind, row.about, row.digest), made(row)) for row in rows)
    return found


def _insert(conn: Connection, place: Place, drafts: Sequence[Draft], now: float) -> list[Record]:
    rows = [
        {
            "scope": place.scope,
            "kind": draft.kind,
            "text": draft.text,
            "about": draft.about,
            "digest": draft.same[2],
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
    made_rows = conn.execute(insert(record).returning(*SHOWN, sort_by_parameter_order=True), rows)
    return [made(row) for row in made_rows]


def _take_places(conn: Connection, place: Place, draft: Draft, new: Record, now: float) -> None:
    """End what the new record takes the place of: the one named, and whatever else is current about the same thing."""
    old: dict[int, Record] = {}
    if draft.supersedes is not None:
        old[draft.supersedes] = in_force(conn, place, draft.supersedes, now)
    if draft.about:
        same = listed(conn, place, Wanted(kinds=(draft.kind,), about=draft.about), now, None)
        old.update((each.id, each) for each in same if each.id != new.id)
    if draft.new and old:
        text = f"something is current about {draft.about!r:.60} already (record {min(old)}): read it, or supersede it"
        raise ConflictError(text, expected=None, actual=min(old))
    for before in old.values():
        op = "correct" if draft.corrects else "supersede"
        until = before.valid_from if draft.corrects else max(before.valid_from, new.valid_from)
        end(conn, place, before, op, now, until, by=new.id)


def in_force(conn: Connection, place: Place, record_id: int, now: float) -> Record:
    """A record that nothing has ended here. Raises `NotFound`, and `ConflictError` where someone else was first."""
    found = fetch(conn, place, Wanted(), now, [record_id]).get(record_id)
    if found is None:
        ended = one(conn, place, record_id)
        if ended.ended is not None:
            text = (
                f"record {record_id} is no longer current (record {ended.superseded_by} took its place): read it again"
            )
            raise ConflictError(text, expected=record_id, actual=ended.superseded_by)
        return ended
    return found


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
    mine = and_(record.c.scope == place.scope, record.c.id == old.id)
    changed = {"valid_to": until, "ended": now, "superseded_by": by, "version": record.c.version + 1}
    conn.execute(update(record).where(mine).values(**changed))
    who = {"scope": place.scope, "thread": place.thread, "checkpoint": place.checkpoint}
    conn.execute(insert(ending).values(record=old.id, until=until, by=by, **who))
    if old.kind == "experience":
        tell(conn, place.scope, [old.id])
    log(conn, place, op, [old.id], now, was=old.text, why=why)


def use(conn: Connection, place: Place, ids: Sequence[int], outcome: float | None) -> None:
    """Count a use, and how it ended where that is known."""
    counted = {"uses": record.c.uses + 1}
    if outcome is not None:
        counted |= {"helped": record.c.helped + outcome, "outcomes": record.c.outcomes + 1}
    for start in range(0, len(ids), CHUNK):
        mine = and_(record.c.scope == place.scope, record.c.id.in_(ids[start : start + CHUNK]))
        conn.execute(update(record).where(mine).values(**counted))
        tell(conn, place.scope, list(conn.scalars(select(record.c.id).where(mine, record.c.kind == "experience"))))


def remove(conn: Connection, place: Place, ids: Iterable[int]) -> int:
    """Delete records, their vectors and their history; returns how many there were."""
    gone = list(ids)
    count = 0
    for start in range(0, len(gone), CHUNK):
        some = gone[start : start + CHUNK]
        conn.execute(delete_from(embedding).where(embedding.c.scope == place.scope, embedding.c.record.in_(some)))
        conn.execute(delete_from(ending).where(ending.c.scope == place.scope, ending.c.record.in_(some)))
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
        in_order(conn)
        conn.execute(insert(outbox), [{"scope": scope, "op": op, "record": i} for i in ids])


def in_order(conn: Connection) -> None:
    """Lines of the outbox become visible in the order of their numbers: PostgreSQL gives a number before the commit."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(hashtext('memctx.outbox'))"))


def log(
    conn: Connection, place: Place, op: str, ids: Sequence[int], now: float, *, was: str | None = None, why: str = ""
) -> None:
    """Lines of history."""
    if ids:
        line = {"scope": place.scope, "op": op, "text": was, "why": why, "at": now, **place.tags()}
        conn.execute(insert(history), [{**line, "record": i} for i in ids])
