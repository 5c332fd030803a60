"""Experience: what worked and what failed in earlier runs, found again by what an agent has before it now.

    library = Library(memory.at("acme"))
    library.finish(session, 1.0, writer="agent-7")           # the host says how a run ended; nothing is learned without
    for found in library.retrieve("cat: notes.txt: No such file", task="count the words in my notes"): ...

An item counts as useful as far as runs that were shown it went better than runs do. Items are records of memory, so they are
exported, erased and counted as all others; nothing here asks a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from memctx import _experience_given as given
from memctx import _experience_rows as rows
from memctx import _experience_runs as of_runs
from memctx._experience_admit import Rules
from memctx._experience_apply import Change
from memctx._experience_find import Asked, asked, find
from memctx._experience_items import Admission, Experience, Level, Polarity, Refused, Retrieved, StepSeen
from memctx._experience_kept import Kept, kept
from memctx._experience_near import Vector
from memctx._experience_ops import Add, Applied, Edit, Merge, Op, Proposed, Remove, ids_of, parse
from memctx._experience_runs import from_run, steps_of
from memctx._experience_text import playbook
from memctx.errors import FilterError, NotFound
from memctx.records import trust_of
from memctx.stores._visible import Place

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from memctx.scoped import Scoped
    from memctx.session import Session

__all__ = [
    "Add", "Admission", "Applied", "Edit", "Experience", "Level", "Library", "Merge", "Op", "Polarity", "Proposed",
    "Refused", "Remove", "Retrieved", "Rules", "StepSeen", "from_run", "parse", "steps_of",
]  # fmt: skip

T = TypeVar("T")
Work = Callable[["Connection", list[bytes]], T]


class Library:
    """The experience of one scope. Safe under threads; every process that opens the store sees the same.

    Every method that reads or writes has a twin with an `a` before its name.
    """

    def __init__(self, memory: Scoped, rules: Rules | None = None) -> None:
        self.memory = memory.memory
        self.place = Place(memory.scope)
        self.rules = rules or Rules()

    @property
    def _kept(self) -> Kept:
        return kept(self.memory, self.place.scope)

    # -- the host says how a run ended -------------------------------------------------------------------------------

    def finish(
        self,
        run: Session | Sequence[Any],
        outcome: float,
        *,
        writer: str,
        task: str = "",
        shown: Sequence[int] = (),
        name: str = "",
    ) -> Admission:
        """A run ended with `outcome` in -1..1: what it was shown is credited, and what it teaches is admitted.

        `run`: its session, its messages, or its steps. `shown`: ids it was shown; a session knows. `name`: of the run; reported
        again under one name, nothing is done. By default the session's thread, or none.
        """
        return self.memory.run(*self._finishing(run, outcome, writer, task, shown, name), writes=True)

    async def afinish(self, run: Session | Sequence[Any], outcome: float, *, writer: str, **options: Any) -> Admission:
        """As `finish`."""
        chosen = {"task": "", "shown": (), "name": "", **options}
        return await self.memory.arun(*self._finishing(run, outcome, writer, **chosen), writes=True)

    def admit(self, items: Sequence[Experience], *, writer: str, outcome: float, name: str = "") -> Admission:
        """Take in what a run taught, as far as the rules let it. `outcome`: as the host knows it, in -1..1.

        `name`: of the run; admitted again under one name, nothing is done. Raises `FilterError` without an outcome.
        """
        return self.memory.run(*self._admitting(items, writer, outcome, name), writes=True)

    async def aadmit(self, items: Sequence[Experience], *, writer: str, outcome: float, name: str = "") -> Admission:
        """As `admit`."""
        return await self.memory.arun(*self._admitting(items, writer, outcome, name), writes=True)

    def report(self, ids: Sequence[int], outcome: float) -> None:
        """A run that was shown these ended so; also one that was shown none, for the base rate."""
        self.memory.run(*self._reporting(ids, outcome), writes=True)

    async def areport(self, ids: Sequence[int], outcome: float) -> None:
        """As `report`."""
        await self.memory.arun(*self._reporting(ids, outcome), writes=True)

    def _finishing(
        self, run: Any, outcome: float, writer: str, task: str, shown: Sequence[int], name: str
    ) -> tuple[Work[Admission], list[str]]:
        saw = of_runs.seen(run)
        named = name or saw.name
        items = from_run(saw.steps, task or saw.task, given.outcome(outcome), evidence=[named] if named else ())
        return self._admitting(items, writer, outcome, named, [*saw.shown, *shown])

    def _admitting(
        self, items: Sequence[Experience], writer: str, outcome: float, name: str, credit: Sequence[int] | None = None
    ) -> tuple[Work[Admission], list[str]]:
        """`credit`: the run is counted too, and what it was shown."""
        ended = given.outcome(outcome)
        ready = [given.item(item, writer) for item in items]
        key = f"{'admit' if credit is None else 'finish'}/{name}" if name else ""

        def work(change: Change) -> Admission:
            before = change.answered(key)
            if before is not None:
                return before
            if credit is not None:
                change.count(credit, ended)
            done = change.admit(ready, self.rules, ended)
            change.answer(key, done)
            return done

        return self._changing(work, given.texts(ready))

    def _reporting(self, ids: Sequence[int], outcome: float) -> tuple[Work[list[int]], list[str]]:
        ended = given.outcome(outcome)
        return self._changing(lambda change: change.count(ids, ended), [])

    # -- changes -----------------------------------------------------------------------------------------------------

    def apply(
        self, ops: Sequence[Op], *, writer: str, outcome: float | None = None, source: str | int = "model"
    ) -> Applied:
        """Remove, edit, merge, then add, whatever the order given; all or nothing, and the same when done twice.

        `outcome`: of the run that an Add comes from. `source`: who proposes; what is said anew is trusted no more than that.
        Raises `NotFound` naming every id that nobody has, `FilterError` for an Add without an outcome.
        """
        return self.memory.run(*self._applying(ops, writer, outcome, source), writes=True)

    async def aapply(self, ops: Sequence[Op], *, writer: str, **options: Any) -> Applied:
        """As `apply`."""
        chosen = {"outcome": None, "source": "model", **options}
        return await self.memory.arun(*self._applying(ops, writer, **chosen), writes=True)

    def revoke(self, source: str) -> list[int]:
        """Forget everything that comes from a run, message or document, and let nothing more of it in; returns the ids."""
        return self.memory.run(*self._revoking(source), writes=True)

    async def arevoke(self, source: str) -> list[int]:
        """As `revoke`."""
        return await self.memory.arun(*self._revoking(source), writes=True)

    def _revoking(self, source: str) -> tuple[Work[list[int]], list[str]]:
        named = given.source(source)
        return self._changing(lambda change: change.revoke(named), [])

    def _applying(
        self, ops: Sequence[Op], writer: str, outcome: float | None, source: str | int
    ) -> tuple[Work[Applied], list[str]]:
        ids_of(ops)
        trust = trust_of(source)
        ready = [given.op(op, writer) for op in ops]
        added = [op.experience for op in ready if isinstance(op, Add)]
        if added and outcome is None:
            raise FilterError("an Add needs the outcome of its run: give outcome=, in -1..1", field="outcome")
        ended = None if outcome is None else given.outcome(outcome)
        said = [op.advice for op in ready if isinstance(op, Edit | Merge) and op.advice]
        texts = [*given.texts(added), *said]
        return self._changing(lambda change: change.apply(ready, self.rules, ended, trust), texts)

    def _changing(self, work: Callable[[Change], T], texts: Sequence[str]) -> tuple[Work[T], list[str]]:
        needed = list(dict.fromkeys(texts))

        def transaction(conn: Connection, made: list[bytes]) -> T:
            held = self._kept
            with held.lock:
                return work(Change(conn, self.memory, self.place, held, _vectors(needed, made)))

        return transaction, needed

    # -- reading -----------------------------------------------------------------------------------------------------

    def retrieve(
        self,
        observation: str,
        task: str = "",
        k: int = 3,
        *,
        level: Level | None = None,
        polarity: Polarity | None = None,
        min_trust: str | int = 0,
    ) -> list[Retrieved]:
        """The k experiences for what an agent has before it, best first: two thirds of what worked, a third of what failed.

        `polarity` or `level`: only of that. "" for an observation or a task that there is none of.
        """
        what = asked(observation, task, k, level, polarity, min_trust)
        return self.memory.run(self._retrieving(what), what.texts, writes=False)

    async def aretrieve(self, observation: str, task: str = "", k: int = 3, **options: Any) -> list[Retrieved]:
        """As `retrieve`."""
        what = asked(observation, task, k, **{"level": None, "polarity": None, "min_trust": 0, **options})
        return await self.memory.arun(self._retrieving(what), what.texts, writes=False)

    def get(self, experience_id: int) -> Experience:
        """An experience that is current. Raises `NotFound`."""
        return self.memory.run(lambda conn, _: self._one(conn, experience_id), [], writes=False)

    async def aget(self, experience_id: int) -> Experience:
        """As `get`."""
        return await self.memory.arun(lambda conn, _: self._one(conn, experience_id), [], writes=False)

    def playbook(self, tokens: int | None = None) -> str:
        """The whole bank as ACE writes it, `[id] helpful=x harmful=y :: text`; with `tokens`, what helped most of it.

        Lines stand in one order that no change of another line moves, so a prompt keeps its cached beginning.
        """
        return self.memory.run(self._playing(tokens), [], writes=False)

    async def aplaybook(self, tokens: int | None = None) -> str:
        """As `playbook`."""
        return await self.memory.arun(self._playing(tokens), [], writes=False)

    def items(self) -> list[Experience]:
        """All that are current, oldest first."""
        return self.memory.run(self._all, [], writes=False)

    async def aitems(self) -> list[Experience]:
        """As `items`."""
        return await self.memory.arun(self._all, [], writes=False)

    @property
    def version(self) -> int:
        """A number that grows with every change, whoever made it."""
        return self.memory.run(self._version, [], writes=False)

    def _retrieving(self, what: Asked) -> Work[list[Retrieved]]:
        def work(conn: Connection, made: list[bytes]) -> list[Retrieved]:
            return find(conn, self.memory, self._kept, what, _vectors(what.texts, made), self.rules.share)

        return work

    def _one(self, conn: Connection, experience_id: int) -> Experience:
        found = rows.named(conn, self.place.scope, [experience_id]).get(experience_id)
        if found is None or not found[0].current:
            raise NotFound(f"no experience {experience_id!r:.40} in this scope")
        return found[1]

    def _all(self, conn: Connection, _: object) -> list[Experience]:
        return [item for item, _ in rows.read(conn, self.place.scope, self.memory.embedder.name)]

    def _playing(self, tokens: int | None) -> Work[str]:
        from memctx.tokens import counter

        return lambda conn, _: playbook(self._all(conn, None), tokens, counter().text)

    def _version(self, conn: Connection, _: object) -> int:
        held = self._kept
        with held.lock:
            held.follow(conn, self.memory)
            return held.version


def _vectors(texts: Sequence[str], made: Sequence[bytes]) -> dict[str, Vector]:
    return {text: np.frombuffer(raw, "<f4").astype(np.float32) for text, raw in zip(texts, made, strict=True)}
