"""Bounded growth: how many records a scope may have of each kind, and which leave first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, and_, case, func, select

from memctx.errors import ConfigError
from memctx.records import Record
from memctx.stores._records import log, remove
from memctx.stores._tables import record
from memctx.stores._visible import Place

EVERY = 64  # of so many records one has its scope counted
OFTEN = 1_000  # quotas below are looked at with every write


@dataclass(frozen=True, slots=True)
class Quota:
    """Records of each kind that one scope may have. Over it, the least useful twentieth is evicted, with a line of history.

    Least useful: first what something took the place of, then by outcomes reported (worst mean first), then by uses, then by
    age. Pinned records stay.
    """

    core: int = 100
    semantic: int = 100_000
    episodic: int = 1_000_000
    experience: int = 100_000

    def __post_init__(self) -> None:
        for name in ("core", "semantic", "episodic", "experience"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(
                    f"quota.{name} = {value!r}: give a number of records, 1 or more", field=f"quota.{name}"
                )

    def keep(self, conn: Connection, place: Place, written: Iterable[Record], now: float) -> list[int]:
        """Evict what is over the quota; returns the ids that went. A large quota is looked at now and then, not each time."""
        due = {each.kind for each in written if each.id % EVERY == 0 or getattr(self, each.kind) < OFTEN}
        gone: list[int] = []
        for kind in sorted(due):
            limit = int(getattr(self, kind))
            mine = and_(record.c.scope == place.scope, record.c.kind == kind)
            over = (conn.scalar(select(func.count()).where(mine)) or 0) - limit
            if over > 0:
                gone += _least_useful(conn, mine, over + limit // 20)
        if gone:
            remove(conn, place, gone)
            log(conn, place, "evict", gone, now, why="over the quota")
        return gone


def _least_useful(conn: Connection, mine: object, count: int) -> list[int]:
    mean = case((record.c.outcomes > 0, record.c.helped / record.c.outcomes), else_=0.0)
    order = (record.c.ended.is_(None), mean, record.c.uses, record.c.id)
    query = select(record.c.id).where(mine, record.c.pinned.is_(False)).order_by(*order).limit(count)  # type: ignore[arg-type]
    return list(conn.scalars(query))
