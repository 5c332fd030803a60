"""The memory of one scope: what a host, a strategy or a model's tool calls. See `memctx.memory`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from memctx.errors import FilterError
from memctx.records import Event, Hit, Kind, Receipt, Record, trust_of
from memctx.stores import _given as given
from memctx.stores import _records as rows
from memctx.stores import _requests as requests
from memctx.stores import _visible as read
from memctx.stores._records import Draft
from memctx.stores._visible import Place, Wanted

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from memctx.memory import Memory

By = Literal["both", "meaning", "words"]
Work = Callable[["Connection", list[bytes]], Any]
Records = list[Record]


class Scoped:
    """Reads and writes inside one scope. Every method has a twin with an `a` before its name."""

    def __init__(self, memory: Memory, place: Place) -> None:
        self.memory = memory
        self.place = place

    @property
    def scope(self) -> str:
        """The scope's canonical text."""
        return self.place.scope

    def during(
        self, thread: str, *, run: str = "", checkpoint: str = "", ancestors: Sequence[str] | None = None
    ) -> Scoped:
        """The same scope, seen from a point of a run: writes are tagged with it.

        With `ancestors`, the checkpoints before this one, a run that was rewound or forked does not see what its thread wrote
        after, or beside, them. Other threads' writes are seen.
        """
        before = None if ancestors is None else tuple(ancestors)
        return Scoped(self.memory, replace(self.place, thread=thread, run=run, checkpoint=checkpoint, ancestors=before))

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(  # noqa: PLR0913 - one keyword a field
        self,
        text: str,
        *,
        kind: Kind = "semantic",
        source: str = "user",
        sources: Sequence[str] = (),
        about: str = "",
        trust: str | int | None = None,
        valid_from: float | None = None,
        valid_to: float | None = None,
        pin: bool = False,
        meta: Mapping[str, Any] | None = None,
        supersedes: int | None = None,
        key: str = "",
        new: bool = False,
    ) -> Record:
        """Remember a text; a current record that says the same is given back instead.

        `source`: who said it ("user", "model", "tool", "host", …), which gives its trust unless `trust` is lower. `sources`: ids
        of what it comes from. `about`: what it is a statement about; it takes the place of what was current about that.
        `supersedes`: the record whose place it takes. `new`: nothing may be current about the same. `key`: a retried write
        with the same key has one effect.
        Raises `FilterError`, `LimitError`; `NotFound` where the record to be superseded is not there, or what was written
        under `key` was forgotten since; `ConflictError` where another took that place, or `key` was for another content.
        """
        item = {name: value for name, value in locals().items() if name != "self"}
        return given.the_one(self.memory.run(*self._writing([item]), writes=True), key)

    async def awrite(self, text: str, **fields: Any) -> Record:
        """As `write`."""
        item = {"text": text, **fields}
        return given.the_one(await self.memory.arun(*self._writing([item]), writes=True), fields.get("key", ""))

    def write_many(self, items: Sequence[str | Mapping[str, Any]]) -> list[Record]:
        """Many writes in one transaction, all or none: texts, or the fields of `write` with `text`, or `{"retract": id}`.

        What was written under an item's `key` before is given back, and left out where it was forgotten since.
        """
        return self.memory.run(*self._writing(items), writes=True) if items else []

    async def awrite_many(self, items: Sequence[str | Mapping[str, Any]]) -> list[Record]:
        """As `write_many`."""
        return await self.memory.arun(*self._writing(items), writes=True) if items else []

    def correct(self, record_id: int, text: str) -> Record:
        """The record never said this, it says `text`: a new record with its validity takes its place, for all times."""
        corrected: Record = self.memory.run(*self._correcting(record_id, text), writes=True)
        return corrected

    async def acorrect(self, record_id: int, text: str) -> Record:
        """As `correct`."""
        return await self.memory.arun(*self._correcting(record_id, text), writes=True)

    def supersede(self, record_id: int, text: str, **fields: Any) -> Record:
        """From now on `text` holds instead; the old record stays true for the time before."""
        return self.write(text, supersedes=record_id, **fields)

    async def asupersede(self, record_id: int, text: str, **fields: Any) -> Record:
        """As `supersede`."""
        return await self.awrite(text, supersedes=record_id, **fields)

    def retract(self, *record_ids: int, why: str = "") -> None:
        """They no longer hold, and nothing takes their place; the history keeps them. `ConflictError` as in `supersede`."""
        self.memory.run(self._retracting(record_ids, why), [], writes=True)

    async def aretract(self, *record_ids: int, why: str = "") -> None:
        """As `retract`."""
        await self.memory.arun(self._retracting(record_ids, why), [], writes=True)

    def forget(self, *record_ids: int) -> int:
        """Delete records with their vectors and history; returns how many there were. What is gone already is no error."""
        return self.memory.run(lambda conn, _: rows.remove(conn, self.place, record_ids), [], writes=True)

    async def aforget(self, *record_ids: int) -> int:
        """As `forget`."""
        return await self.memory.arun(lambda conn, _: rows.remove(conn, self.place, record_ids), [], writes=True)

    def used(self, record_ids: Sequence[int], outcome: float | None = None) -> None:
        """These records were used; `outcome` in -1..1, where the host knows how that ended."""
        self.memory.run(self._using(record_ids, outcome), [], writes=True)

    async def aused(self, record_ids: Sequence[int], outcome: float | None = None) -> None:
        """As `used`."""
        await self.memory.arun(self._using(record_ids, outcome), [], writes=True)

    def _writing(self, items: Sequence[str | Mapping[str, Any]]) -> tuple[Work, list[str]]:
        plain: list[Mapping[str, Any]] = [{"text": item} if isinstance(item, str) else item for item in items]
        drafts = [given.draft(item) for item in plain if "retract" not in item]
        ended = [item["retract"] for item in plain if "retract" in item]

        def work(conn: Connection, vectors: list[bytes]) -> list[Record]:
            if ended:
                self._retracting(ended, "")(conn, [])
            return self._once(conn, drafts, vectors)

        return work, [draft.text for draft in drafts]

    def _once(self, conn: Connection, drafts: list[Draft], vectors: list[bytes]) -> list[Record]:
        """Write what was not written under its key before; what was forgotten since stays so, and is left out."""
        now = self.memory.clock()
        before = requests.answered(conn, self.place, drafts)
        fresh = [(draft, vector) for draft, vector in zip(drafts, vectors, strict=True) if draft.key not in before]
        written = self._write(conn, [draft for draft, _ in fresh], [vector for _, vector in fresh], now)
        new = [(draft, made) for (draft, _), made in zip(fresh, written, strict=True)]
        requests.keep(conn, self.place, new, now)
        there = iter(written)
        found = (read.any_of(conn, self.place, before[d.key]) if d.key in before else next(there) for d in drafts)
        return [each for each in found if each is not None]

    def _write(self, conn: Connection, drafts: list[Draft], vectors: list[bytes], now: float) -> list[Record]:
        written = rows.write(conn, self.place, drafts, vectors, self.memory.embedder.name, now)
        self.memory.quota.keep(conn, self.place, written, now)
        return written

    def _correcting(self, record_id: int, text: str) -> tuple[Work, list[str]]:
        plain = given.draft({"text": text})

        def work(conn: Connection, vectors: list[bytes]) -> Record:
            now = self.memory.clock()
            old = rows.in_force(conn, self.place, record_id, now)
            kept = ("kind", "about", "sources", "trust", "pinned", "meta", "valid_from", "valid_to")
            same: dict[str, Any] = {name: getattr(old, name) for name in kept}
            draft = replace(plain, **same, supersedes=old.id, corrects=True)
            return self._write(conn, [draft], vectors, now)[0]

        return work, [text]

    def _retracting(self, record_ids: Sequence[int], why: str) -> Work:
        def work(conn: Connection, _: list[bytes]) -> None:
            now = self.memory.clock()
            for record_id in record_ids:
                old = rows.in_force(conn, self.place, record_id, now)
                rows.end(conn, self.place, old, "retract", now, max(now, old.valid_from), why=why)

        return work

    def _using(self, record_ids: Sequence[int], outcome: float | None) -> Work:
        if outcome is not None and not -1.0 <= outcome <= 1.0:
            raise FilterError(f"outcome = {outcome!r}: give a number from -1 to 1, or None", field="outcome")
        return lambda conn, _: rows.use(conn, self.place, record_ids, outcome)

    # -- reading -----------------------------------------------------------------------------------------------------

    def search(  # noqa: PLR0913 - one keyword a filter
        self,
        query: str,
        *,
        k: int = 10,
        tokens: int | None = None,
        kinds: Sequence[Kind] = (),
        as_of: float | None = None,
        min_trust: str | int = 0,
        by: By = "both",
        within: Sequence[int] = (),
        explain: bool = False,
    ) -> list[Hit]:
        """The records nearest to `query` by meaning and words, best first: `k` of them, or as many as fit into `tokens`.

        `by`: "meaning" alone (the score is the cosine), "words" alone (BM25), or "both", ranked together.
        `as_of`: what held at that time (seconds since 1970); None: what is current. `min_trust`: a level or a source name.
        `within`: only among these ids, inside the search.
        """
        wanted = Wanted(given.kinds_of(kinds), as_of, trust_of(min_trust))
        given.check_search(query, k, tokens, by)
        from memctx.stores._search import search

        hits = search(self.memory, self.place, wanted, query, k, by, within)
        return given.fitting([hit if explain else replace(hit, parts={}) for hit in hits], tokens)

    async def asearch(self, query: str, **options: Any) -> list[Hit]:
        """As `search`, off the event loop."""
        return await asyncio.to_thread(self.search, query, **options)

    def get(self, record_id: int) -> Record:
        """A record, current or not. Raises `NotFound`."""
        return self.memory.run(lambda conn, _: read.one(conn, self.place, record_id), [], writes=False)

    async def aget(self, record_id: int) -> Record:
        """As `get`."""
        return await self.memory.arun(lambda conn, _: read.one(conn, self.place, record_id), [], writes=False)

    def history(self, record_id: int) -> list[Event]:
        """What happened to a record, oldest first; also of one that was evicted."""
        return self.memory.run(lambda conn, _: read.events(conn, self.place, record_id), [], writes=False)

    async def ahistory(self, record_id: int) -> list[Event]:
        """As `history`."""
        return await self.memory.arun(lambda conn, _: read.events(conn, self.place, record_id), [], writes=False)

    def list(
        self, *, kinds: Sequence[Kind] = (), about: str | None = None, under: str = "", limit: int | None = None
    ) -> Records:
        """What is current, newest first: all, what is about exactly `about`, or what is about something starting with `under`."""
        return self.memory.run(self._listing(kinds, about, under, limit), [], writes=False)

    async def alist(
        self, *, kinds: Sequence[Kind] = (), about: str | None = None, under: str = "", limit: int | None = None
    ) -> Records:
        """As `list`."""
        return await self.memory.arun(self._listing(kinds, about, under, limit), [], writes=False)

    def _listing(self, kinds: Sequence[Kind], about: str | None, under: str, limit: int | None) -> Work:
        wanted = Wanted(given.kinds_of(kinds), about=about, under=under)
        return lambda conn, _: read.listed(conn, self.place, wanted, self.memory.clock(), limit)

    def export(self) -> Iterator[dict[str, Any]]:
        """Everything about this scope and those below it, as JSON data: a dict a row, with its table under `table`."""
        from memctx.stores._erase import export

        return export(self.memory, self.scope)

    def erase(self) -> Receipt:
        """Remove this scope and every scope below it everywhere, look for what is left, and say what was found."""
        from memctx._experience_kept import drop
        from memctx.stores._erase import erase

        drop(self.memory, self.scope)
        return erase(self.memory, self.scope)

    async def aerase(self) -> Receipt:
        """As `erase`."""
        return await asyncio.to_thread(self.erase)
