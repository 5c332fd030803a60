"""A session's plan in the store of its memory, and texts that left its view. The plan is read before the first view, and saved
before a view that it changed is shown.

A plan is saved under the version it was read with. When another worker of the thread was first, its plan is taken over, and
the strategies are asked again under it: what was shown had been saved before, so no edit that a model saw is lost.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING

from memctx.deliberate import deliberate, fit
from memctx.edits import Clear, Drop, Insert, Replace
from memctx.effects import Asks, Stored
from memctx.errors import BudgetError, ConflictError, EffectError, NotFound
from memctx.plan import Plan
from memctx.render import span_steps
from memctx.reopen import as_data

if TYPE_CHECKING:
    from memctx.session import Session

TRIES = 8  # other workers that may come first, one after the other


class Keep:
    """What the store is known to hold: `version` of `plan`, 0 for none. Off without a memory, or where a host keeps the plan."""

    def __init__(self) -> None:
        self.version: int | None = None
        self.plan = Plan()

    def load(self, session: Session) -> Asks:
        """Put the kept plan in force if it was not read yet; whether it is another one than was in force."""
        if self.version is not None:
            return False
        try:
            found = yield Stored("plan", ())
        except EffectError as cause:
            _warn(session, f"the plan of thread {session.thread!r} was not read: {cause}")
            return False
        known = self.plan
        self.version, self.plan = (0, Plan()) if found is None else (found[0], Plan.from_dict(found[1]))
        if found is None and known.version:  # erased meanwhile: what the edits hold must not come back with them
            session.plan = Plan(known.version, (), session.plan.notes, session.plan.serial)
            return True
        if found is None or session.plan == self.plan:
            return False
        session.plan = self.plan
        return True

    def save(self, session: Session) -> Asks:
        """Save the plan in force; False where another worker was first, whose plan is then in force. Never stops a call."""
        if session.plan == self.plan:
            return True
        try:
            self.version = yield Stored("save_plan", (session.plan.to_dict(), self.version or 0))
        except EffectError as cause:
            if not isinstance(cause.__cause__, ConflictError):
                _warn(session, f"the plan of thread {session.thread!r} was not saved: {cause}")
                return True
            self.version = None
            return not (yield from self.load(session))
        self.plan = session.plan
        return True


def decide(session: Session, kept: bool) -> Asks:
    """Deliberate, fit and save, again where another worker's plan came in between. Raises `BudgetError`, `ConflictError`."""
    for _ in range(TRIES):
        before = session.considered, len(session.accounts.decisions)
        yield from deliberate(session)
        _fit(session)
        if not kept or (yield from session.keep.save(session)):
            return
        session.considered = before[0]
        del session.accounts.decisions[before[1] :]
        session.memos.clear()
        session.stand()
        session.accounts.written(session.renderer.update(session.plan, 0, True))
    text = (
        f"{TRIES} other workers changed the plan of thread {session.thread!r} in between: give each thread one worker"
    )
    raise ConflictError(text, expected=session.keep.plan.version, actual=session.plan.version)


def _fit(session: Session) -> None:
    """As `fit`; what was inserted goes before a call fails, for it is the one thing here that nobody said."""
    try:
        fit(session)
    except BudgetError:
        inserted = [edit for edit in session.plan.edits if isinstance(edit, Insert)]
        if not inserted:
            raise
        session.plan = session.plan.without(inserted)
        session.accounts.written(session.renderer.update(session.plan, len(session.transcript.steps), False))
        fit(session)


def reopened(session: Session, handle: str) -> Asks:
    """What a handle stands for: from the history by the plan, else what the store kept under it. Raises `NotFound`."""
    for edit in session.plan.edits:
        if isinstance(edit, Clear | Drop | Replace) and edit.handle == handle:
            if isinstance(edit, Clear) and (message := session.transcript.find(edit.target)) is not None:
                calls = (call.arguments for call in message.calls if call.id == edit.call)
                return next(calls, message.text)
            if isinstance(edit, Drop | Replace) and edit.first in session.transcript.position:
                parts = [m for step in span_steps(session.transcript, edit) for m in step.messages]
                return json.dumps([as_data(raw) for raw in session.transcript.host_objects(parts)], ensure_ascii=False)
    if session.memory is not None:
        try:
            return (yield Stored("span", (handle,)))
        except EffectError as cause:
            if not isinstance(cause.__cause__, NotFound):
                raise
    known = ", ".join(session.renderer.handles()[-5:]) or "none"
    raise NotFound(f"no handle {handle!r:.60} in this thread; the newest are: {known}")


def _warn(session: Session, text: str) -> None:
    if "store" not in session.warned:
        session.warned.add("store")
        warnings.warn(text, stacklevel=2)
