"""A retried write has one effect: what it wrote is kept under the caller's key, in the transaction of the write."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, and_, insert, select

from memctx.errors import ConflictError
from memctx.records import Record
from memctx.stores._records import Draft
from memctx.stores._tables import request
from memctx.stores._visible import CHUNK, Place


def answered(conn: Connection, place: Place, drafts: Sequence[Draft]) -> dict[str, int]:
    """The record that was written under each key before. Raises `ConflictError` where it was another content."""
    keyed = {draft.key: draft for draft in drafts if draft.key}
    keys = list(keyed)
    found: dict[str, int] = {}
    for start in range(0, len(keys), CHUNK):
        mine = and_(request.c.scope == place.scope, request.c.key.in_(keys[start : start + CHUNK]))
        for row in conn.execute(select(request).where(mine)):
            asked = _asked(keyed[row.key])
            if row.digest != asked:
                text = f"key {row.key!r:.40} was used for another content: give each write its own key"
                raise ConflictError(text, code="idempotency_conflict", expected=row.digest, actual=asked)
            found[row.key] = row.answer
    return found


def keep(conn: Connection, place: Place, written: Iterable[tuple[Draft, Record]], now: float) -> None:
    """Remember what was written under each key."""
    rows = [
        {"scope": place.scope, "key": draft.key, "digest": _asked(draft), "answer": new.id, "created": now}
        for draft, new in {draft.key: (draft, new) for draft, new in written if draft.key}.values()
    ]
    if rows:
        conn.execute(insert(request), rows)


def _asked(draft: Draft) -> str:
    return hashlib.sha256(repr((draft.kind, draft.about, draft.text, draft.supersedes)).encode()).hexdigest()
