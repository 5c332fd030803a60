"""A session with a memory: its plan is kept, workers on one thread lose nothing, and what left the view comes back."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from memctx.component import Component
from memctx.edits import Clear, Insert, Note
from memctx.effects import Asks, Later, Recall, Remember
from memctx.errors import BudgetError, ConfigError, NotFound
from memctx.memory import Memory
from memctx.messages import Message
from memctx.pipeline import Pipeline
from memctx.scoped import Scoped
from memctx.session import Session
from memctx.stores.exact import ExactIndex
from memctx.strategies import Context, Proposal, nothing
from memctx.strategies.clear import ClearResults
from memctx.strategies.offload import Offload
from memctx.strategies.recall import RecallMemory
from memctx.testing.strategies import run

Messages = list[dict[str, Any]]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path / "memory.db", embedder=letters, index=ExactIndex(26)) as opened:
        yield opened


def letters(texts: Any) -> Any:
    """Vectors by letters: quick, and like for texts that are alike."""
    return [[1.0 + text.lower().count(chr(97 + n)) for n in range(26)] for text in texts]


@pytest.fixture
def ana(memory: Memory) -> Scoped:
    return memory.at("acme", "ana")


def clearing(**settings: Any) -> Pipeline:
    return Pipeline([ClearResults(keep=1, high=1)], budget=2_000, **settings)


class Failing(Component):
    """Its after-hook fails."""

    def propose(self, ctx: Context) -> Proposal:
        yield from nothing()
        return []

    def observe(self, ctx: Context, reply: Message | None) -> Asks:
        yield Later(self._late())
        raise RuntimeError("hook broke")

    def _late(self) -> Asks:
        yield Remember(({"text": ""},))


class Counts(Component):
    """Counts the replies it is shown, in its memo."""

    def propose(self, ctx: Context) -> Proposal:
        yield from nothing()
        return []

    def observe(self, ctx: Context, reply: Message | None) -> Asks:
        yield from nothing()
        ctx.memo.setdefault("seen", []).append((reply.text, reply.id) if reply else None)


# -- the plan


def test_a_plan_is_kept_and_a_new_session_shows_the_same_view(ana: Scoped) -> None:
    history = run(20)
    first = clearing().session("t", memory=ana).view(history)
    assert first.handles
    again = clearing().session("t", memory=ana)
    second = again.view(history)
    assert second.messages == first.messages
    assert second.plan == first.plan
    assert again.reopen(first.handles[0])


def test_a_plan_is_saved_only_when_it_changed(ana: Scoped) -> None:
    session, history = clearing().session("t", memory=ana), run(20)
    session.view(history)
    version = kept(ana)[0]
    session.view(history)
    session.view([*history, {"role": "user", "content": "go on"}])
    assert kept(ana)[0] == version


def test_a_plan_that_the_host_keeps_is_not_kept_twice(ana: Scoped) -> None:
    view = clearing().session("t", memory=ana).view(run(20), plan={"version": 0, "edits": [], "notes": {}, "serial": 0})
    assert view.handles
    assert ana.memory.store.plan(ana.scope, "t") is None


def test_threads_and_scopes_have_plans_of_their_own(memory: Memory, ana: Scoped) -> None:
    clearing().session("t", memory=ana).view(run(20))
    fresh = clearing().session().view(run(5)).plan
    assert clearing().session("u", memory=ana).view(run(5)).plan == fresh
    assert clearing().session("t", memory=memory.at("acme", "bob")).view(run(5)).plan == fresh
    assert kept(ana)[1] != fresh.to_dict()


def test_a_session_with_a_memory_needs_a_thread(ana: Scoped) -> None:
    with pytest.raises(ConfigError, match="thread"):
        clearing().session(memory=ana)
    assert clearing().session(memory=ana.during("from-the-host")).thread == "from-the-host"


def test_concurrency_of_two_workers_on_one_thread_loses_no_edit(ana: Scoped) -> None:
    one, two = clearing().session("t", memory=ana), clearing().session("t", memory=ana)
    history = run(16)
    two.view(history[:6])  # reads the plan there is: none
    shown = one.view(history)
    assert shown.handles
    later = run(24)
    view = two.view(later)
    assert set(shown.handles) < set(view.handles)  # the other's edits are in force, and its own came after them
    assert [e for e in view.plan.edits if e in shown.plan.edits] == list(shown.plan.edits)
    assert len({*view.handles}) == len(view.handles)
    assert kept(ana)[1] == view.plan.to_dict()
    back = one.view(run(26))
    assert set(view.handles) <= set(back.handles)
    for handle in back.handles:
        assert one.reopen(handle)


def test_concurrency_of_workers_in_turn_keeps_every_edit_shown(ana: Scoped) -> None:
    workers = [clearing().session("t", memory=ana) for _ in range(3)]
    shown: set[tuple[str, str]] = set()
    for steps in range(6, 30):
        view = workers[steps % 3].view(run(steps))
        now = {(edit.target, edit.handle) for edit in view.plan.edits if isinstance(edit, Clear)}
        saved = {(e["target"], e["handle"]) for e in kept(ana)[1]["edits"] if e["kind"] == "clear"}
        assert shown <= saved
        shown |= now
        assert now <= saved
    assert shown


async def test_concurrency_of_tasks_on_one_thread_loses_no_edit(ana: Scoped) -> None:
    workers = [clearing().session("t", memory=ana) for _ in range(4)]
    views = await asyncio.gather(*(worker.aview(run(20 + n)) for n, worker in enumerate(workers)))
    saved = {edit["handle"] for edit in kept(ana)[1]["edits"]}
    for view in views:
        assert set(view.handles) <= saved


def test_erasure_takes_the_plan_of_a_session_under_way(ana: Scoped) -> None:
    """What recalled notes hold is not saved again after the scope was erased."""
    ana.write("canary-4711 lives in Bern")
    session = Pipeline([RecallMemory(), ClearResults(keep=1, high=1)], budget=3_000).session("t", memory=ana)
    history: Messages = [{"role": "user", "content": "where does canary-4711 live?"}, *run(12)[2:]]
    session.view(history[:1])
    assert "canary" in str(kept(ana)[1])
    ana.erase()
    view = session.view([*history, {"role": "user", "content": "and now?"}])
    assert view.handles
    assert "canary" not in str(kept(ana)[1])
    assert not [edit for edit in view.plan.edits if isinstance(edit, Insert)]


def test_a_store_that_fails_costs_a_warning_and_no_call(ana: Scoped) -> None:
    session = clearing().session("t", memory=ana)
    ana.memory.store.close()
    with pytest.warns(UserWarning, match="was not read"):
        view = session.view(run(20))
    assert view.handles
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.view(run(30))


def kept(ana: Scoped) -> tuple[int, dict[str, Any]]:
    found = ana.memory.store.plan(ana.scope, "t")
    assert found is not None
    return found


# -- spans


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_was_offloaded_comes_back_when_the_history_lost_it(ana: Scoped, asynchronous: bool) -> None:
    pipeline = Pipeline([Offload(over=50, preview=80, store=True)], budget=4_000, edit_when="always")
    session, history = pipeline.session("t", memory=ana), run(4, rows=40)
    view = await session.aview(history) if asynchronous else session.view(history)
    assert view.handles
    other = Pipeline().session("t", memory=ana)
    other.view(history[:2])  # the host kept only the beginning
    for handle in view.handles:
        whole = session.reopen(handle)
        assert whole in [message["content"] for message in history]
        assert (await other.areopen(handle) if asynchronous else other.reopen(handle)) == whole
    with pytest.raises(NotFound):
        await other.areopen("r99") if asynchronous else other.reopen("r99")


def test_spans_of_another_thread_are_not_found(ana: Scoped) -> None:
    pipeline = Pipeline([Offload(over=50, store=True)], budget=4_000, edit_when="always")
    handle = pipeline.session("t", memory=ana).view(run(4, rows=40)).handles[0]
    with pytest.raises(NotFound):
        Pipeline().session("u", memory=ana).reopen(handle)


# -- what comes after a call


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_hook_that_fails_is_one_warning(ana: Scoped, asynchronous: bool) -> None:
    session = Pipeline([Failing()]).session("t", memory=ana)
    session.view(run(2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            if asynchronous:
                await session.aobserve()
                await session.aclose()
            else:
                session.observe()
                session.close()
    said = sorted(str(each.message) for each in caught)
    assert len(said) == 2
    assert "hook broke" in said[1]
    assert "_late" in said[0]


def test_a_reply_is_named_as_it_will_be_in_the_history(ana: Scoped) -> None:
    session, history = Pipeline([Counts()]).session("t", memory=ana), run(1)
    for said in ("done", "done", "then this"):
        session.view(history)
        reply = {"role": "assistant", "content": said}
        session.observe(reply)
        history += [reply, {"role": "user", "content": "more"}]
    session.view(history)
    (seen,) = [memo["seen"] for memo in session.memos.values()]
    ids = [message.id for message in session.transcript.messages if message.role == "assistant" and not message.calls]
    assert [name for _, name in seen] == ids


@pytest.mark.parametrize(
    "reply",
    [
        None,
        7,
        "text",
        {},
        [],
        {"role": "user", "content": "no answer"},
        {"role": "assistant", "content": None},
        run(1)[2],
    ],
)
def test_what_is_no_answer_is_passed_over(ana: Scoped, reply: Any) -> None:
    session = Pipeline([Counts()]).session("t", memory=ana)
    session.view(run(1))
    session.observe(reply)
    assert [memo["seen"] for memo in session.memos.values()] == [[None]]


def test_handlers_that_are_given_come_before_the_memory(ana: Scoped) -> None:
    asked: list[Recall] = []

    def recall(effect: Recall) -> list[Any]:
        asked.append(effect)
        return []

    Pipeline([RecallMemory()]).session("t", memory=ana, recall=recall).view([{"role": "user", "content": "who?"}])
    assert [effect.query for effect in asked] == ["who?"]


# -- what a memory put into the view never stops a call


class Notes(Component):
    """Inserts a large text after the newest message, once."""

    every_call: ClassVar[bool] = True

    def propose(self, ctx: Context) -> Proposal:
        yield from nothing()
        last = ctx.transcript.messages[-1].id
        if ctx.plan.edits:
            return []
        return [Insert(last, "note " * 300), Note("n", 1)]


def test_inserted_text_gives_way_before_a_call_fails() -> None:
    session = Pipeline([Notes()], budget=1_000).session()
    history: Messages = [{"role": "user", "content": "go " * 100}]
    assert session.view(history).tokens > 350
    history += [{"role": "assistant", "content": "ok"}, {"role": "user", "content": "on " * 700}]
    view = session.view(history)
    assert view.tokens <= 1_000
    assert not [edit for edit in view.plan.edits if isinstance(edit, Insert)]
    with pytest.raises(BudgetError):
        session.view([*history, {"role": "user", "content": "more " * 2_000}])


def test_a_session_without_a_memory_is_as_before() -> None:
    session: Session = clearing().session()
    session.view(run(20))
    session.observe({"role": "assistant", "content": "hi"})
    session.close()
    assert session.memory is None
