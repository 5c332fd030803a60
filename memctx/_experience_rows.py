"""Experiences as rows of memory: a record of kind "experience" each, and the vector of its situation beside that of its text.

Every function runs inside one transaction of the store and has the scope in it. Whatever changes an experience writes a line
to the outbox, so a library in any process knows what to read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, insert, or_, select, update

from memctx._experience_items import POLARITY, Experience
from memctx.records import Record
from memctx.stores import _given as given
from memctx.stores import _records as rows
from memctx.stores._feed import ENDS
from memctx.stores._records import Draft
from memctx.stores._tables import document, embedding, outbox, record, request
from memctx.stores._visible import CHUNK, SHOWN, Place, made

KIND = "experience"
LARGEST = (1 << 63) - 1  # number that every store can look up
PAGE = 4_096  # rows read at once
_NAMED = select(*SHOWN).where(  # built once: it is asked at every step
    record.c.scope + "" == bindparam("scope"), record.c.id.in_(bindparam("ids", expanding=True))
)


@dataclass(frozen=True, slots=True)
class Runs:
    """Every outcome reported to a library: how many, the sum of their success (0 to 1 each), and sources taken back."""

    count: int = 0
    success: float = 0.0
    revoked: frozenset[str] = field(default_factory=frozenset)

    @property
    def base(self) -> float:
        """The success rate of all runs, near a half while there are few."""
        return (self.success + 1) / (self.count + 2)


def vectors_as(embedder: str) -> str:
    """The name that vectors of situations are kept under."""
    return f"situation/{embedder}"[:120]


def draft(item: Experience, outcome: float) -> Draft:
    """An experience as a record to be. Raises `FilterError`, `LimitError`."""
    meta = {
        "level": item.level,
        "task": item.task,
        "observation": item.observation,
        "score": item.score,
        "writer": item.writer,
        "outcome": outcome,
    }
    return given.draft(
        {"text": item.advice, "kind": KIND, "sources": item.evidence, "source": item.trust, "meta": meta}
    )


def experience(found: Record) -> Experience | None:
    """The experience that a record holds; None for a record that no library wrote."""
    meta = found.meta
    if found.kind != KIND or meta.get("level") not in POLARITY or "outcome" not in meta:
        return None
    return Experience(
        advice=found.text,
        level=meta["level"],
        task=meta["task"],
        observation=meta["observation"],
        score=meta["score"],
        evidence=found.sources,
        writer=meta["writer"],
        trust=found.trust,
        uses=found.uses,
        helped=found.helped,
        outcomes=found.outcomes,
        version=found.version,
        id=found.id,
    )


def read(conn: Connection, scope: str, embedder: str) -> Iterator[tuple[Experience, bytes | None]]:
    """Every current experience with the vector of its situation, if it has one of this embedder."""
    query = _with_vectors(embedder).where(record.c.scope == scope, record.c.kind == KIND, record.c.ended.is_(None))
    for row in conn.execute(query.order_by(record.c.id).execution_options(yield_per=PAGE)):
        yield from _entry(row)


def read_some(
    conn: Connection, scope: str, embedder: str, ids: Sequence[int]
) -> Iterator[tuple[Experience, bytes | None]]:
    """Those of `ids` that are current."""
    mine = and_(record.c.scope + "" == scope, record.c.kind == KIND, record.c.ended.is_(None))
    for start in range(0, len(ids), CHUNK):
        for row in conn.execute(_with_vectors(embedder).where(mine, record.c.id.in_(ids[start : start + CHUNK]))).all():
            yield from _entry(row)


def named(conn: Connection, scope: str, ids: Sequence[int]) -> dict[int, tuple[Record, Experience]]:
    """Records of experiences by id, current or not."""
    found: dict[int, tuple[Record, Experience]] = {}
    ids = [each for each in ids if isinstance(each, int) and 0 < each <= LARGEST]  # a model may name any number
    for start in range(0, len(ids), CHUNK):
        for row in conn.execute(_NAMED, {"scope": scope, "ids": ids[start : start + CHUNK]}):
            held = made(row)
            if (item := experience(held)) is not None:
                found[held.id] = (held, item)
    return found


def put(
    conn: Connection,
    place: Place,
    drafts: Sequence[Draft],
    vectors: Sequence[tuple[bytes, bytes]],
    embedder: str,
    now: float,
) -> list[Record]:
    """Insert experiences, each with the vector of its text and of its situation."""
    new = rows.put(conn, place, drafts, [text for text, _ in vectors], embedder, now)
    situated = [
        {"record": each.id, "embedder": vectors_as(embedder), "scope": place.scope, "vector": vector}
        for each, (_, vector) in zip(new, vectors, strict=True)
    ]
    if situated:
        conn.execute(insert(embedding), situated)
    return new


def change(conn: Connection, place: Place, old: Record, now: float, **values: Any) -> None:
    """Change columns of an experience, in place: its id stays, its history keeps the text as it was."""
    mine = and_(record.c.scope == place.scope, record.c.id == old.id)
    if "text" in values:
        values["digest"] = rows.digest(values["text"])
    conn.execute(update(record).where(mine).values(**values, version=record.c.version + 1))
    rows.log(conn, place, "correct", [old.id], now, was=old.text)
    rows.tell(conn, place.scope, [old.id])


def change_vector(conn: Connection, place: Place, record_id: int, embedder: str, vector: bytes) -> None:
    """Give an experience another vector of its text; those of other embedders are gone, as the text is."""
    mine = and_(embedding.c.scope == place.scope, embedding.c.record == record_id)
    conn.execute(delete(embedding).where(mine, embedding.c.embedder.not_like("situation/%")))
    conn.execute(insert(embedding).values(record=record_id, embedder=embedder, scope=place.scope, vector=vector))


def from_source(conn: Connection, scope: str, source: str) -> list[int]:
    """The experiences that have `source` in their evidence, current or not."""
    query = select(record.c.id, record.c.sources).where(record.c.scope == scope, record.c.kind == KIND)
    return [row.id for row in conn.execute(query.execution_options(yield_per=PAGE)) if source in row.sources]


def runs(conn: Connection, scope: str) -> Runs:
    """What was reported so far."""
    data = conn.scalar(select(document.c.data).where(*_mine(scope)))
    return Runs() if data is None else Runs(data["count"], data["success"], frozenset(data["revoked"]))


def save_runs(conn: Connection, scope: str, new: Runs, now: float) -> None:
    """Keep what was reported, and have every library read it."""
    data = {"count": new.count, "success": new.success, "revoked": sorted(new.revoked)}
    changed = conn.execute(
        update(document).where(*_mine(scope)).values(data=data, updated=now, version=document.c.version + 1)
    )
    if not changed.rowcount:
        conn.execute(insert(document).values(scope=scope, kind=KIND, name="runs", data=data, created=now, updated=now))
    rows.tell(conn, scope, [0])


def answered(conn: Connection, scope: str, key: str) -> Any:
    """What was answered to a report under this key before; None: nothing."""
    return conn.scalar(select(request.c.answer).where(request.c.scope == scope, request.c.key == f"{KIND}/{key}"))


def answer(conn: Connection, scope: str, key: str, what: Any, now: float) -> None:
    """Keep what was answered."""
    conn.execute(insert(request).values(scope=scope, key=f"{KIND}/{key}", digest=KIND, answer=what, created=now))


def lines(conn: Connection, scope: str, after: int) -> tuple[int, int, list[tuple[int, str, int]]]:
    """(oldest, newest) line of the outbox, and (line, op, record) of those after a line that concern the scope."""
    oldest, newest = conn.execute(ENDS).one()
    if (newest or 0) <= after:
        return oldest or 1, newest or 0, []
    mine = or_(outbox.c.scope == scope, outbox.c.op == "erase")
    found = conn.execute(select(outbox.c.seq, outbox.c.op, outbox.c.record).where(outbox.c.seq > after, mine))
    return oldest or 1, newest or 0, sorted((row.seq, row.op, row.record) for row in found)


def _with_vectors(embedder: str) -> Any:
    joined = and_(embedding.c.record == record.c.id, embedding.c.embedder == vectors_as(embedder))
    return select(*SHOWN, embedding.c.vector).select_from(record.outerjoin(embedding, joined))


def _entry(row: Row[Any]) -> Iterator[tuple[Experience, bytes | None]]:
    if (found := experience(made(row))) is not None:
        yield found, row.vector


def _mine(scope: str) -> tuple[Any, ...]:
    return document.c.scope == scope, document.c.kind == KIND, document.c.name == "runs"
