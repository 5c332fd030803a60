"""What changes a library, inside one transaction of the store: deterministic, and the same when it is done twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from memctx import _experience_rows as rows
from memctx._experience_admit import Rules, judge
from memctx._experience_items import Admission, Experience
from memctx._experience_kept import Kept, entry, situation_vectors
from memctx._experience_near import Vector
from memctx._experience_ops import Add, Applied, Edit, Merge, Op, Remove, ids_of
from memctx._experience_shelf import Entry
from memctx.errors import NotFound
from memctx.records import Record
from memctx.stores import _records
from memctx.stores._visible import Place

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from memctx.memory import Memory

Vectors = Mapping[str, Vector]  # of each text that the caller gave


class Change:
    """One transaction: the rows, and the shelf as it stood before."""

    def __init__(self, conn: Connection, memory: Memory, place: Place, kept: Kept, vectors: Vectors) -> None:
        self.conn = conn
        self.memory = memory
        self.place = place
        self.kept = kept
        self.vectors = vectors
        self.now = memory.clock()
        _records.in_order(conn)
        kept.follow(conn, memory)

    # -- outcomes ----------------------------------------------------------------------------------------------------

    def count(self, ids: Sequence[int], outcome: float) -> list[int]:
        """A run ended so; those of `ids` that are there were shown in it, each once however often. Returns those."""
        shown = sorted(rows.named(self.conn, self.place.scope, list(dict.fromkeys(ids))))
        _records.use(self.conn, self.place, shown, outcome)
        seen = rows.runs(self.conn, self.place.scope)
        new = replace(seen, count=seen.count + 1, success=seen.success + (outcome + 1) / 2)
        rows.save_runs(self.conn, self.place.scope, new, self.now)
        return shown

    def admit(
        self,
        items: Sequence[Experience],
        rules: Rules,
        outcome: float,
        *,
        gone: Sequence[int] = (),
        edited: Sequence[Entry] = (),
    ) -> Admission:
        """Add what the rules let in, raise and evict as they say."""
        entries = [self._entry(item) for item in items]
        verdict = judge(self.kept.shelf, entries, rules, outcome, self.kept.runs.revoked, gone=gone, edited=edited)
        old = rows.named(self.conn, self.place.scope, list(verdict.raised))
        for each, score in verdict.raised.items():
            rows.change(self.conn, self.place, old[each][0], self.now, meta={**old[each][0].meta, "score": score})
        self._evict(verdict.evict)
        added = [made.experience for made in verdict.add]
        drafts = [rows.draft(item, outcome) for item in added]
        both = [(_bytes(self.vectors[item.advice]), _bytes(self._situation(item))) for item in added]
        new = rows.put(self.conn, self.place, drafts, both, self.memory.embedder.name, self.now)
        self.memory.quota.keep(self.conn, self.place, new, self.now)
        return Admission(
            tuple(each.id for each in new), tuple(verdict.raised), tuple(verdict.evict), tuple(verdict.refused)
        )

    def answered(self, key: str) -> Admission | None:
        """What a report under this key did; None where there was none, or it has no key."""
        before = rows.answered(self.conn, self.place.scope, key) if key else None
        if before is None:
            return None
        added, raised, evicted = map(tuple, before)
        return Admission(added, raised, evicted, again=True)

    def answer(self, key: str, done: Admission) -> None:
        """Remember what a report did."""
        if key:
            rows.answer(self.conn, self.place.scope, key, [done.added, done.raised, done.evicted], self.now)

    def _evict(self, ids: Sequence[int]) -> None:
        if ids:
            _records.remove(self.conn, self.place, ids)
            _records.log(self.conn, self.place, "evict", ids, self.now, why="made room for a new experience")

    def _situation(self, item: Experience) -> Vector:
        return situation_vectors(self.vectors, item, self.memory.embedder.dim)

    def _entry(self, item: Experience) -> Entry:
        both, dim = self._situation(item), self.memory.embedder.dim
        return entry(item, both[:dim], both[dim:])

    # -- operations --------------------------------------------------------------------------------------------------

    def apply(self, ops: Sequence[Op], rules: Rules, outcome: float | None, trust: int) -> Applied:
        """Remove, edit, merge, add, in this order. Raises `NotFound` naming the ids nobody has; then nothing was done."""
        ids = ids_of(ops)
        known = rows.named(self.conn, self.place.scope, ids)
        if unknown := [each for each in ids if each not in known]:
            text = f"no experience {', '.join(map(str, unknown))} in this scope; nothing was changed"
            raise NotFound(text, ids=unknown)
        alive = {each: found for each, (found, _) in known.items() if found.current}
        removed = [op for op in ops if isinstance(op, Remove) and self._remove(op, alive)]
        edited = [op for op in last_words(ops) if self._edit(op, alive, trust)]
        merged = [op for op in ops if isinstance(op, Merge) and self._merge(op, alive, trust)]
        done: list[Op] = [*removed, *edited, *merged]
        added = [op.experience for op in ops if isinstance(op, Add)]
        now_said = [self._as_edited(alive[op.id]) for op in edited if op.id in alive]
        gone = [each for each in ids if each not in alive]
        admission = Admission()
        if added and outcome is not None:
            admission = self.admit(added, rules, outcome, gone=gone, edited=now_said)
        return Applied(
            tuple(op.id for op in removed),
            tuple(op.id for op in edited),
            tuple(each for op in merged for each in op.ids[:1]),
            tuple(op for op in ops if not isinstance(op, Add) and op not in done),
            admission,
        )

    def _remove(self, op: Remove, alive: dict[int, Record]) -> bool:
        old = alive.pop(op.id, None)
        if old is not None:
            _records.end(self.conn, self.place, old, "retract", self.now, max(self.now, old.valid_from), why=op.why)
        return old is not None

    def _edit(self, op: Edit, alive: dict[int, Record], trust: int) -> bool:
        old = alive.get(op.id)
        if old is None or old.text == op.advice:
            return False
        self._change(old, alive, text=op.advice, trust=min(old.trust, trust))
        return True

    def _merge(self, op: Merge, alive: dict[int, Record], trust: int) -> bool:
        """The first that is there takes over from the others."""
        there = [alive[each] for each in dict.fromkeys(op.ids) if each in alive]
        if len(there) < 2:
            return False
        first, others = there[0], there[1:]
        text = op.advice or first.text
        self._change(
            first,
            alive,
            text=text,
            trust=min([each.trust for each in there] + ([trust] if text != first.text else [])),
            uses=sum(each.uses for each in there),
            helped=sum(each.helped for each in there),
            outcomes=sum(each.outcomes for each in there),
            sources=list(dict.fromkeys(source for each in there for source in each.sources)),
            meta={**first.meta, "score": max(each.meta["score"] for each in there)},
        )
        for other in others:
            del alive[other.id]
            until = max(self.now, other.valid_from)
            _records.end(self.conn, self.place, other, "supersede", self.now, until, by=first.id)
        return True

    def _change(self, old: Record, alive: dict[int, Record], **values: object) -> None:
        rows.change(self.conn, self.place, old, self.now, **values)
        if values["text"] != old.text:
            vector = _bytes(self.vectors[str(values["text"])])
            rows.change_vector(self.conn, self.place, old.id, self.memory.embedder.name, vector)
        if "sources" in values:
            values["sources"] = tuple(values["sources"])  # type: ignore[arg-type]
        alive[old.id] = replace(old, **values)  # type: ignore[arg-type]

    def _as_edited(self, now: Record) -> Entry:
        item = rows.experience(now)
        assert item is not None  # noqa: S101 - `named` gave it
        return entry(item, *[np.zeros(self.memory.embedder.dim, np.float32)] * 2)

    # -- taking back -------------------------------------------------------------------------------------------------

    def revoke(self, source: str) -> list[int]:
        """Delete everything that comes from `source`, and let nothing more of it in. Returns the ids that went."""
        ids = rows.from_source(self.conn, self.place.scope, source)
        _records.remove(self.conn, self.place, ids)
        seen = rows.runs(self.conn, self.place.scope)
        rows.save_runs(self.conn, self.place.scope, replace(seen, revoked=seen.revoked | {source}), self.now)
        return ids


def last_words(ops: Sequence[Op]) -> list[Edit]:
    """The edits that count: the last of each experience, and none of one that a merge says anew."""
    reworded = {each for op in ops if isinstance(op, Merge) and op.advice for each in op.ids}
    return list({op.id: op for op in ops if isinstance(op, Edit) and op.id not in reworded}.values())


def _bytes(vector: Vector) -> bytes:
    return vector.astype("<f4").tobytes()
