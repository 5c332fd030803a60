"""Every store through the shared suite, and what SQLite and PostgreSQL alone promise."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, delete, insert, inspect, make_url, text

from memctx import cli
from memctx.errors import ConfigError, StoreError
from memctx.stores import _database, _lock, _schema
from memctx.stores._database import Database
from memctx.stores._tables import embedding, metadata, record
from memctx.stores._where import located
from memctx.stores.sql import SqlStore, upgrade
from memctx.testing.stores import ANA, Opened, StoreTests, count_up, traces, two_traces
from tests.postgres import LOCKED


class TestMemory(StoreTests):
    @pytest.fixture
    def opened(self) -> Iterator[Opened]:
        store = SqlStore()
        yield lambda: store
        store.close()


class TestSqlite(StoreTests):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Opened:
        return lambda: SqlStore(tmp_path / "store.db")


class TestPostgres(StoreTests):
    @pytest.fixture
    def opened(self, postgres_url: str) -> Opened:
        return lambda: SqlStore(postgres_url)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    return str(request.getfixturevalue("postgres_url"))


def code_of(where: str | Path, **options: Any) -> str:
    """What opening a store says."""
    with pytest.raises((ConfigError, StoreError)) as caught:
        SqlStore(where, **options)
    return caught.value.code


# How a database is opened


def test_what_makes_sqlite_durable_is_set_on_every_connection(path: Path) -> None:
    names = ("journal_mode", "synchronous", "secure_delete", "foreign_keys")

    def settings(conn: Connection) -> list[Any]:
        return [conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    with SqlStore(path) as store:
        wanted = ["wal", 2, 1, 1]
        assert store.read(settings) == store.write(settings) == wanted
        assert asyncio.run(store.aread(settings)) == asyncio.run(store.awrite(settings)) == wanted


def test_only_the_owner_may_read_the_files(path: Path) -> None:
    with SqlStore(path) as store:
        store.write(two_traces)
        modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    assert modes == dict.fromkeys(("store.db", "store.db-wal", "store.db-shm", "store.db-lock"), 0o600)


@pytest.mark.parametrize(
    "where",
    [
        "{folder}",
        "{folder}/none/store.db",
        "",
        "file:x.db",
        "a\0b",
        "mysql://h/d",
        "sqlite:///{folder}/x.db?mode=ro",
        "://",
    ],
)
def test_a_place_that_cannot_be_one_is_one_clear_error(tmp_path: Path, where: str) -> None:
    assert code_of(where.format(folder=tmp_path)) == "bad_config"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": float("nan")}, {"pool": 0}])
def test_settings_that_cannot_work_are_refused(path: Path, options: dict[str, Any]) -> None:
    assert code_of(path, **options) == "bad_config"


def test_a_file_that_is_no_database_is_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"not a database, but someone's notes\n" * 1000)
    assert code_of(path) == "store_corrupt"
    assert path.read_bytes().startswith(b"not a database")


def test_a_file_that_may_not_be_written_is_named() -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        SqlStore(path).close()
        path.chmod(0o444)
        Path(folder).chmod(0o755)
        try:
            if user == 0:
                os.seteuid(65534)  # root may write everything
            assert code_of(path) == "bad_config"
        finally:
            os.seteuid(user)


def test_tables_of_someone_else_are_not_taken(place: str) -> None:
    engine = create_engine(located(place).url, poolclass=NullPool)
    with engine.begin() as conn:
        conn.execute(text("CREATE TABLE history (mine INTEGER)"))
    assert code_of(place) == "bad_config"
    with engine.begin() as conn:
        assert conn.execute(text("SELECT count(mine) FROM history")).scalar() == 0


def test_a_schema_that_is_newer_or_older_is_refused_with_the_remedy(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqlStore(place).close()
    with monkeypatch.context() as patch:
        patch.setattr(_schema, "newest", lambda: "0000")
        assert code_of(place) == "schema_too_new"
        with pytest.raises(StoreError, match="upgrade memctx"):
            upgrade(place)
        patch.setattr(_schema, "newest", lambda: "9999")
        assert code_of(place) == "schema_old"
        with pytest.raises(StoreError, match="memctx db upgrade"):
            SqlStore(place)
    SqlStore(place).close()


@pytest.mark.parametrize("name", ["a?b#c%20 é.db", "%s%(x)s.db", "-wal"])
def test_any_name_of_a_file_will_do(tmp_path: Path, name: str) -> None:
    for where in (tmp_path / name, str(tmp_path / name)):
        with SqlStore(where) as store:
            store.write(two_traces)
            assert store.dialect == "sqlite"
    with SqlStore(tmp_path / name) as store:
        assert store.read(traces) == 4
        assert {each.name for each in tmp_path.iterdir()} >= {name, f"{name}-lock"}


def test_migrations_make_what_the_tables_say(place: str) -> None:
    db = Database(located(place), 10, 1)

    def broken(conn: Connection) -> None:
        _schema.upgrade(conn)
        raise KeyError("half-way")

    with pytest.raises(KeyError):
        db.run(broken, write=True)
    assert db.run(lambda conn: inspect(conn).get_table_names(), write=False) == [], "a broken upgrade leaves nothing"
    db.run(_schema.upgrade, write=True)

    def differences(conn: Connection) -> list[Any]:
        options = {"version_table": _schema.version_table.name, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(conn, opts=options), metadata))

    assert db.run(differences, write=False) == []
    db.run(lambda conn: conn.exec_driver_sql("DROP INDEX record_by_scope"), write=True)
    assert db.run(differences, write=False), "a difference is not seen"
    db.close()


def test_the_newest_revision_is_alembics() -> None:
    assert ScriptDirectory(str(_schema.MIGRATIONS)).get_current_head() == _schema.newest()


def test_db_upgrade_on_the_command_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["memctx", "db", "upgrade", str(path), "--json"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert "no store" in capsys.readouterr().err
    SqlStore(path).close()
    with pytest.raises(SystemExit):
        cli.main()
    newest = _schema.newest()
    assert json.loads(capsys.readouterr().out) == {"store": str(path), "before": newest, "after": newest}


def test_a_race_of_old_sqlite_is_warned_of_once_where_no_lock_helps(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_database, "_warned", [])
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    SqlStore(path).close()  # the lock beside the file keeps commits and checkpoints apart
    monkeypatch.setattr(_lock, "fcntl", None)
    with pytest.warns(RuntimeWarning, match=r"3\.51\.3"):
        SqlStore(path).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SqlStore(path).close()
    monkeypatch.setattr(_database, "_warned", [])
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    SqlStore(path).close()


# Faults


def test_another_programs_lock_is_waited_for_and_then_said(path: Path) -> None:
    with SqlStore(path, timeout=0.3) as store:
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        calls: list[Callable[[], None]] = [
            lambda: store.write(two_traces),
            lambda: asyncio.run(store.awrite(two_traces)),
        ]
        for call in calls:
            with pytest.raises(StoreError) as caught:
                call()
            assert caught.value.code == "store_busy"
        assert time.monotonic() - started < 5
        threading.Timer(0.1, lambda: other.execute("COMMIT")).start()
        store.write(two_traces)
        assert store.read(traces) == 2
        other.close()


async def test_a_sync_write_among_the_tasks_of_a_loop_does_not_hang(path: Path) -> None:
    with SqlStore(path, timeout=5) as store:
        task = asyncio.create_task(store.awrite(two_traces))
        for _ in range(5):
            await asyncio.sleep(0)
            store.write(two_traces)
        await task
        assert store.read(traces) == 12


async def test_a_loop_goes_on_while_rows_are_read(path: Path) -> None:
    """What SQLite and a work function take, the loop has for others: here it ends what the work waits for."""
    goes_on = threading.Event()
    with SqlStore(path) as store:
        task = asyncio.create_task(store.aread(lambda conn: goes_on.wait(10) and traces(conn)))
        await asyncio.sleep(0.01)
        goes_on.set()
        assert await task == 0


def test_a_full_disk_stores_nothing_and_says_so(path: Path) -> None:
    def fill(conn: Connection) -> None:
        conn.exec_driver_sql("PRAGMA max_page_count=60")
        for number in range(1000):
            conn.execute(insert(record), {**RECORD, "text": "x" * 4000, "meta": {"number": number}})

    with SqlStore(path) as store:
        with pytest.raises(StoreError) as caught:
            store.write(fill)
        assert caught.value.code == "store_full"
        assert store.read(lambda conn: conn.execute(text("SELECT count(*) FROM record")).scalar()) == 0
        assert store.verify() == []


RECORD = {
    "scope": ANA, "kind": "semantic", "text": "", "digest": "", "about": "", "sources": [], "trust": 2, "valid_from": 0.0,
    "meta": {}, "created": 0.0,
}  # fmt: skip


def test_damage_of_the_file_is_noticed(path: Path) -> None:
    with SqlStore(path) as store:
        for number in range(200):
            store.put_span(ANA, "t", str(number), "x" * 500)
        store.scrub()
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(4, size // 4096, 3):
            file.seek(page * 4096)
            file.write(os.urandom(4096))
    assert problems_of(path)


def problems_of(path: Path) -> list[str]:
    """What a damaged file says of itself, at opening or when asked."""
    try:
        with SqlStore(path) as store:
            return store.verify()
    except StoreError as error:
        return [error.code] if error.code == "store_corrupt" else []


def test_a_vector_in_another_scope_than_its_record_is_found(place: str) -> None:
    def work(conn: Connection) -> None:
        conn.execute(insert(record), RECORD)
        number = conn.execute(text("SELECT id FROM record")).scalar()
        conn.execute(insert(embedding).values(record=number, embedder="e", scope="acme/ben/", vector=b"1234"))

    with SqlStore(place) as store:
        store.write(work)
        assert "another scope" in store.verify()[0]
        store.write(lambda conn: conn.execute(delete(record)))
        assert store.verify() == [], "the vector goes with its record"


def test_a_store_is_not_used_across_a_fork(place: str) -> None:
    code = f"""
import os
from memctx.errors import StoreError
from memctx.stores.sql import SqlStore
store = SqlStore({place!r})
store.save_plan("a/", "t", {{}}, 0)
pid = os.fork()
if pid == 0:
    try:
        store.plan("a/", "t")
    except StoreError as error:
        store.close()
        os._exit(7 if error.code == "forked_store" else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
assert store.save_plan("a/", "t", {{}}, 1) == 2
store.close()
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_belongs_to_a_loop_goes_with_it(place: str) -> None:
    before = set(threading.enumerate())
    with SqlStore(place) as store:
        for _ in range(3):
            asyncio.run(store.awrite(two_traces))
            assert not store._db._loops._here
        for _ in range(3):  # loops that end without a word
            loop = asyncio.new_event_loop()
            loop.run_until_complete(store.awrite(two_traces))
            loop.close()
        assert asyncio.run(store.aread(traces)) == 12
        assert not store._db._loops._here
    assert set(threading.enumerate()) == before


# Processes


def open_and_count(place: str, times: int) -> None:
    """What a process of the tests below does, from an empty place on."""
    with SqlStore(place, timeout=60) as store:
        count_up(store, "t", times)


def test_concurrency_of_processes_from_the_first_moment(place: str) -> None:
    """8 (SQLite) or 4 processes make the schema at once and count up one plan: none fails, no update is lost."""
    processes, times = (4 if "://" in place else 8), 10
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["memctx.stores.sql", "memctx.testing.stores"])
    running = [context.Process(target=open_and_count, args=(place, times)) for _ in range(processes)]
    for each in running:
        each.start()
    for each in running:
        each.join(120)
    assert [each.exitcode for each in running] == [0] * processes
    with SqlStore(place) as store:
        assert store.plan(ANA, "t") == (processes * times, {"number": processes * times})
        assert store.verify() == []


# PostgreSQL


def said_by(error: BaseException | None) -> Iterator[str]:
    """Every text an error shows, those of its causes included."""
    while error is not None:
        yield from (str(error), repr(error), "".join(traceback.format_exception(error)))
        error = error.__cause__ or error.__context__


def test_a_wrong_password_is_never_shown(postgres_url: str) -> None:
    engine = create_engine(postgres_url, poolclass=NullPool)
    with engine.begin() as conn:
        conn.exec_driver_sql(f"DROP ROLE IF EXISTS {LOCKED}")
        conn.exec_driver_sql(f"CREATE ROLE {LOCKED} LOGIN PASSWORD 'right'")
    url = make_url(postgres_url).set(username=LOCKED, password="hunter2-é/@")
    with pytest.raises(StoreError) as caught:
        SqlStore(url.render_as_string(hide_password=False), timeout=5)
    assert caught.value.code == "store_unreachable"
    assert "password authentication failed" in str(caught.value)
    assert not [said for said in said_by(caught.value) if "hunter2" in said]
    assert "hunter2" not in str(caught.value.to_dict())


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@127.0.0.1:1/d", "postgresql://u:hunter2@h:port/d"])
def test_a_server_that_is_not_there_is_one_clear_error(url: str) -> None:
    with pytest.raises((StoreError, ConfigError)) as caught:
        SqlStore(url, timeout=2)
    assert not [said for said in said_by(caught.value) if "hunter2" in said]


def test_a_transaction_is_run_again_whole_while_the_server_asks_for_it(postgres_url: str) -> None:
    raised = "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"
    runs: list[int] = []

    def work(conn: Connection) -> None:
        two_traces(conn)
        runs.append(1)
        if len(runs) < 3:
            conn.exec_driver_sql(raised)

    with SqlStore(postgres_url, timeout=0.5) as store:
        store.write(work)
        assert len(runs) == 3
        runs.clear()
        asyncio.run(store.awrite(work))
        assert len(runs) == 3
        assert store.read(traces) == 4
        with pytest.raises(StoreError) as caught:
            store.write(lambda conn: conn.exec_driver_sql(raised))
        assert caught.value.code == "store_busy"


def test_a_lost_connection_costs_one_call(postgres_url: str) -> None:
    cut = "SELECT pg_terminate_backend(pg_backend_pid())"
    with SqlStore(postgres_url) as store:
        with pytest.raises(StoreError) as caught:
            store.write(lambda conn: conn.exec_driver_sql(cut))
        assert caught.value.code == "store_unreachable"
        store.write(two_traces)
        assert store.read(traces) == 2
