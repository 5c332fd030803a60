"""What every store keeps to. Give the fixture `opened` a function that opens the same place each time, and subclass `StoreTests`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, update

from memctx.errors import ConfigError, ConflictError, NotFound, StoreError
from memctx.scope import scope
from memctx.stores._tables import document, trace
from memctx.stores.sql import SqlStore

ANA, BEN = scope("acme", "ana"), scope("acme", "ben")
Opened = Callable[[], SqlStore]
TEXTS = (
    "", "a", "é, 漢字, 😀", "a\x00b", "\x00", "\x01", '\x01"a"', "\ud800 alone", "'; drop table span; --", "%_\\", "a\r\nb\n",
    "x" * 1_000_000,
)  # fmt: skip


def count_up(store: SqlStore, thread: str, times: int) -> None:
    """Add one to a number in a plan, `times` times, and again whenever someone else was first."""
    while times:
        version, data = store.plan(ANA, thread) or (0, {"number": 0})
        try:
            store.save_plan(ANA, thread, {"number": data["number"] + 1}, version)
        except ConflictError:
            continue
        times -= 1


async def acount_up(store: SqlStore, thread: str, times: int) -> None:
    """The same in an event loop."""
    while times:
        version, data = await store.aplan(ANA, thread) or (0, {"number": 0})
        try:
            await store.asave_plan(ANA, thread, {"number": data["number"] + 1}, version)
        except ConflictError:
            continue
        times -= 1


def together(*works: Callable[[], Any]) -> None:
    """Run each in a thread of its own at once; the first error is raised here. Two minutes count as a hang."""
    failed: list[BaseException] = []
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], Any]) -> None:
        try:
            barrier.wait()
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
    assert not any(each.is_alive() for each in threads), "a thread hangs"
    if failed:
        raise failed[0]


def two_traces(conn: Connection) -> None:
    """A transaction of several statements: both rows are there, or none."""
    for number in (1, 2):
        conn.execute(insert(trace).values(scope=ANA, thread="t", at=0.0, data={"number": number}))
        conn.execute(select(trace.c.seq)).all()


def traces(conn: Connection) -> int:
    return len(conn.execute(select(trace.c.seq)).all())


class StoreTests:
    """Subclass and override `opened`."""

    @pytest.fixture
    def opened(self) -> Opened:
        raise NotImplementedError

    @pytest.fixture
    def store(self, opened: Opened) -> Any:
        with opened() as store:
            yield store

    def test_a_plan_comes_back_with_its_version(self, store: SqlStore) -> None:
        data = {"edits": [{"use": "Clear", "text": "é\x00\ud800", "big": 2**70}], "none": None}
        assert store.plan(ANA, "t") is None
        assert store.save_plan(ANA, "t", data, expected=0) == 1
        assert store.save_plan(ANA, "t", {**data, "more": 1.5}, expected=1) == 2
        assert store.plan(ANA, "t") == (2, {**data, "more": 1.5})

    @pytest.mark.parametrize("expected", [0, 1, 3])
    def test_a_plan_of_another_version_is_not_overwritten(self, store: SqlStore, expected: int) -> None:
        for version in (0, 1):
            store.save_plan(ANA, "t", {"by": "first"}, version)
        with pytest.raises(ConflictError) as caught:
            store.save_plan(ANA, "t", {"by": "second"}, expected)
        assert (caught.value.expected, caught.value.actual) == (expected, 2)
        assert store.plan(ANA, "t") == (2, {"by": "first"})

    @pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
    def test_a_span_comes_back_to_the_character(self, store: SqlStore, text: str) -> None:
        store.put_span(ANA, "t", "h", "before")
        store.put_span(ANA, "t", "h", text)
        assert store.span(ANA, "t", "h") == text

    def test_nothing_is_seen_from_another_scope_or_thread(self, store: SqlStore) -> None:
        store.put_span(ANA, "t", "h", "secret")
        store.save_plan(ANA, "t", {}, 0)
        for where, thread in ((BEN, "t"), (ANA, "T"), (scope("acme"), "t"), (ANA + "t/", ""), ("%", "t")):
            assert store.plan(where, thread) is None
            with pytest.raises(NotFound):
                store.span(where, thread, "h")

    def test_what_cannot_be_stored_is_refused_and_changes_nothing(self, store: SqlStore) -> None:
        for bad in ({"x": float("nan")}, {"x": object()}, {"x": b"bytes"}):
            with pytest.raises(ConfigError):
                store.save_plan(ANA, "t", bad, 0)
        assert store.plan(ANA, "t") is None

    def test_an_error_in_the_work_undoes_all_of_it(self, store: SqlStore) -> None:
        def work(conn: Connection) -> None:
            two_traces(conn)
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            store.write(work)
        assert store.read(traces) == 0

    def test_a_reader_cannot_write(self, store: SqlStore) -> None:
        with pytest.raises(ConfigError, match="write"):
            store.read(two_traces)
        assert store.read(traces) == 0
        store.write(two_traces)
        assert store.read(traces) == 2

    def test_a_work_function_may_not_call_its_store(self, store: SqlStore) -> None:
        with pytest.raises(ConfigError, match="connection"):
            store.write(lambda _: store.plan(ANA, "t"))

    async def test_async_callers_get_the_same(self, store: SqlStore) -> None:
        assert await store.asave_plan(ANA, "t", {"a": 1}, 0) == 1
        assert await store.aplan(ANA, "t") == store.plan(ANA, "t") == (1, {"a": 1})
        with pytest.raises(ConflictError):
            await store.asave_plan(ANA, "t", {}, 0)
        await store.aput_span(ANA, "t", "h", "a\x00")
        assert await store.aspan(ANA, "t", "h") == store.span(ANA, "t", "h") == "a\x00"
        with pytest.raises(NotFound):
            await store.aspan(ANA, "t", "other")
        await store.atrace(ANA, "t", {"a": 1})
        with pytest.raises(ConfigError, match="write"):
            await store.aread(two_traces)
        assert await store.aread(traces) == 1
        assert await store.averify() == []
        await store.ascrub()

    async def test_concurrency_of_many_tasks(self, store: SqlStore) -> None:
        await asyncio.gather(*(store.awrite(two_traces) for _ in range(40)), *(store.aread(traces) for _ in range(40)))
        assert store.read(traces) == 80

    async def test_a_cancelled_write_is_whole_or_absent_and_holds_nothing(self, store: SqlStore) -> None:
        await store.awrite(two_traces)
        there, cut = 2, 0
        for pause in range(60):
            task = asyncio.ensure_future(store.awrite(two_traces))
            for _ in range(pause % 30):
                await asyncio.sleep(0 if pause < 30 else 0.0003)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                cut += 1
            now = store.read(traces)  # at once, in the same thread: what is still open would block it
            assert now in {there, there + 2}
            there = now
        assert cut, "nothing was cancelled"
        store.write(two_traces)

    def test_concurrency_of_threads_and_event_loops(self, opened: Opened, store: SqlStore) -> None:
        """Ten threads, two loops of three tasks, a second store on the same place: no update is lost, nothing hangs."""
        other, each = opened(), 3

        async def tasks() -> None:
            await asyncio.gather(*(acount_up(store, "t", each) for _ in range(3)))

        threads = [lambda of=of: count_up(of, "t", each) for of in [store, other] * 5]
        together(*threads, lambda: asyncio.run(tasks()), lambda: asyncio.run(tasks()))
        assert store.plan(ANA, "t") == (16 * each, {"number": 16 * each})
        other.close()

    def test_concurrency_of_reading_then_writing(self, store: SqlStore) -> None:
        """What a transaction read is still true when it writes: nothing is lost without any version."""
        store.save_plan(ANA, "t", {"number": 0}, 0)
        where = (document.c.scope == ANA, document.c.name == "t")

        def add(conn: Connection) -> None:
            number = conn.execute(select(document.c.data).where(*where)).scalar_one()["number"]
            conn.execute(update(document).where(*where).values(data={"number": number + 1}))

        together(*([lambda: [store.write(add) for _ in range(5)]] * 4))
        assert store.plan(ANA, "t") == (1, {"number": 20})

    def test_a_closed_store_says_so_and_closes_twice(self, opened: Opened) -> None:
        store = opened()
        store.close()
        store.close()
        calls: list[Callable[[], Any]] = [
            lambda: store.plan(ANA, "t"), lambda: store.put_span(ANA, "t", "h", ""), store.scrub, store.verify,
            store.__enter__, lambda: asyncio.run(store.aplan(ANA, "t")),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(StoreError) as caught:
                call()
            assert caught.value.code == "store_closed"

    async def test_it_closes_in_a_loop(self, opened: Opened) -> None:
        async with opened() as store:
            await store.aput_span(ANA, "t", "h", "x")
        await store.aclose()
        with pytest.raises(StoreError):
            await store.aspan(ANA, "t", "h")

    def test_it_outlives_the_loops_that_used_it(self, store: SqlStore) -> None:
        for number in range(4):
            asyncio.run(store.aput_span(ANA, "t", str(number), str(number)))
            assert asyncio.run(store.aspan(ANA, "t", str(number))) == str(number)

    def test_a_sound_store_has_no_problems(self, store: SqlStore) -> None:
        store.save_plan(ANA, "t", {}, 0)
        assert store.verify() == []
        store.scrub()
        assert store.plan(ANA, "t") == (1, {})
