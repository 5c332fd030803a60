"""Durable writes a second, against sqlite3 itself; and kills, long.

    python -m benchmarks.stores [--batches 300] [--rows 100] [--rounds 5] [--json]
    python -m benchmarks.stores --crash 1000            kill -9 of a writer on SQLite: half at its every write, half at any moment
    python -m benchmarks.stores --postgres-crash 30     kill -9 of every process of a PostgreSQL under a writer
    python -m benchmarks.stores --concurrency 1000      8 processes count up one plan, SQLite

Writes: memory records in transactions of `--rows`, each durable (WAL, synchronous=FULL) before the next. `raw` is
`sqlite3.executemany` with the same pragmas, tables, indexes and rows, values made ready before the clock starts; the two
take turns in one process. The median round counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import JSON, Connection, insert

from memctx.stores._engine import PRAGMAS
from memctx.stores._tables import record
from memctx.stores.sql import SqlStore
from memctx.testing.stores import ANA, count_up

ROOT = Path(__file__).resolve().parent.parent
COUNTERS = 8
Row = dict[str, Any]


def rows(batch: int, count: int) -> list[Row]:
    """Records as memory writes them."""
    fixed: Row = {
        "kind": "semantic",
        "sources": ["m-1", "m-2"],
        "trust": 2,
        "valid_from": 1.0,
        "meta": {},
        "created": 1.0,
    }
    fixed |= {"scope": ANA, "digest": "d" * 64, "about": "e" * 64}
    names = set(record.c.keys())
    return [
        {name: value for name, value in fixed.items() if name in names}
        | {"text": f"Fact {batch}-{number}: the shelf of part {number} is in hall {batch}, checked by hand on Tuesday."}
        for number in range(count)
    ]


def plain(row: Row) -> tuple[Any, ...]:
    """A row as sqlite3 takes it, defaults filled in, in the order of the columns without the id."""
    values = []
    for column in list(record.c)[1:]:
        default = getattr(column.default, "arg", None)
        value = row.get(column.name, default)
        values.append(json.dumps(value) if isinstance(column.type, JSON) else value)
    return tuple(values)


def ours(path: Path, batches: list[list[Row]]) -> float:
    """Seconds for all batches through `SqlStore.write`."""
    with SqlStore(path) as store:
        start = time.perf_counter()
        for batch in batches:
            store.write(partial(_insert, batch))
        return time.perf_counter() - start


def ours_async(path: Path, batches: list[list[Row]]) -> float:
    """The same through `awrite`."""

    async def write() -> float:
        async with SqlStore(path) as store:
            await store.aread(lambda _: None)
            start = time.perf_counter()
            for batch in batches:
                await store.awrite(partial(_insert, batch))
            return time.perf_counter() - start

    return asyncio.run(write())


def _insert(batch: list[Row], conn: Connection) -> None:
    conn.execute(insert(record), batch)


def raw(path: Path, batches: list[list[Row]]) -> float:
    """Seconds for the same through sqlite3 alone."""
    SqlStore(path).close()
    names = [column.name for column in record.c][1:]
    statement = f"INSERT INTO record ({','.join(names)}) VALUES ({','.join('?' * len(names))})"
    ready = [[plain(row) for row in batch] for batch in batches]
    conn = sqlite3.connect(path, isolation_level=None)
    for name, value in PRAGMAS.items():
        conn.execute(f"PRAGMA {name}={value}")
    start = time.perf_counter()
    for batch in ready:
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany(statement, batch)
        conn.execute("COMMIT")
    seconds = time.perf_counter() - start
    conn.close()
    return seconds


def writes(count: int, size: int, rounds: int) -> dict[str, float]:
    """Rows a second by method, the median of the rounds, and the shares of raw."""
    batches = [rows(number, size) for number in range(count)]
    ways: dict[str, Callable[[Path, list[list[Row]]], float]] = {"raw": raw, "memctx": ours, "memctx async": ours_async}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as folder:
                took[name].append(way(Path(folder) / "store.db", batches))
    rate = {name: count * size / median(seconds) for name, seconds in took.items()}
    shares = {f"{name} / raw": rate[name] / rate["raw"] for name in ways if name != "raw"}
    return {name: round(value, 3) for name, value in {**rate, **shares}.items()}


def crashes(*options: str) -> dict[str, Any]:
    """One run of `tests/crashes.py`, with its seconds."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)])}
    with tempfile.TemporaryDirectory() as folder:
        place = [] if "--server" in options else [folder]
        command = [sys.executable, str(ROOT / "tests" / "crashes.py"), *place, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return {**json.loads(done.stdout), "seconds": round(time.perf_counter() - start, 1)}


def counted(times: int) -> dict[str, Any]:
    """Processes that each add one to the same plan, so many times."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        start = time.perf_counter()
        with multiprocessing.get_context("spawn").Pool(COUNTERS) as pool:
            pool.starmap(_count, [(path, times)] * COUNTERS, chunksize=1)
        seconds = time.perf_counter() - start
        with SqlStore(path) as store:
            plan = store.plan(ANA, "t")
    wanted = COUNTERS * times
    return {"updates": wanted, "lost": wanted - (plan[0] if plan else 0), "seconds": round(seconds, 1)}


def _count(path: Path, times: int) -> None:
    with SqlStore(path) as store:
        count_up(store, "t", times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--crash", type=int, default=0)
    parser.add_argument("--postgres-crash", type=int, default=0)
    parser.add_argument("--concurrency", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    if given.crash:
        half = str(given.crash // 2 + 1)
        found["crash at every write"] = crashes("--points", f"1:{half}", "--steps", half)
        found["crash at any moment"] = crashes("--random", str(given.crash - int(half) + 1))
    if given.postgres_crash:
        found["crash of PostgreSQL"] = crashes("--server", str(given.postgres_crash))
    if given.concurrency:
        found["concurrency"] = counted(given.concurrency)
    if not found:
        found["durable rows a second"] = writes(given.batches, given.rows, given.rounds)
    for name, figures in found.items():
        print(json.dumps({"measure": name, **figures}) if given.json else f"{name}: {figures}")


if __name__ == "__main__":
    main()
