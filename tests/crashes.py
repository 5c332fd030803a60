"""Kill -9 of a program that writes to a store, at its every write to disk or at any moment, and what is there afterwards.

    python tests/crashes.py PLACE --points A:B:STEP | --random N
    python tests/crashes.py --server N          kill every process of a PostgreSQL instead, under a child that writes

PLACE is a folder for SQLite files, or the URL of an empty database. Run as a program of its own: it forks, and a fork wants
no threads. Prints one JSON object. `--points` needs strace, which ends the child at its A-th, A+STEP-th … write.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Connection, delete, func, insert, select

from memctx.errors import StoreError
from memctx.stores import _rows
from memctx.stores._tables import span, trace
from memctx.stores.sql import SqlStore
from tests.postgres import database, server

SCOPE, THREAD = "acme/ana/", "thread"
KEPT = 3  # spans that stay; older ones are deleted
WRITES = "write,pwrite64,fsync,fdatasync,ftruncate,unlink,rename"


@dataclass
class Report:
    """`lost`: acknowledged steps that were gone; `wrong`: sentences about rows that no sequence of steps explains."""

    killed: int = 0
    acknowledged: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)


def step(number: int) -> Callable[[Connection], None]:
    """One transaction over three tables: the plan goes to version `number`, a span comes, one goes, a trace is added."""

    def work(conn: Connection) -> None:
        text = f"{number} " * 700
        _rows.save_document(SCOPE, "plan", THREAD, {"step": number, "text": text}, number - 1)(conn)
        _rows.put_span(SCOPE, THREAD, str(number), text)(conn)
        conn.execute(delete(span).where(span.c.handle == str(number - KEPT)))
        conn.execute(insert(trace).values(scope=SCOPE, thread=THREAD, at=0.0, data={"step": number}))

    return work


def child(place: str, told: int, steps: int) -> None:
    """Write, and say so on the pipe only after the store did."""
    store = SqlStore(place)
    plan = store.plan(SCOPE, THREAD)
    first = 1 + (plan[0] if plan else 0)
    for number in range(first, first + steps):
        store.write(step(number))
        os.write(told, b"%d\n" % number)
        if number % 5 == 0:
            store.scrub()
    store.close()


def left_behind(place: str) -> tuple[int, list[str]]:
    """(last whole step, what is wrong) after opening the store again."""
    with SqlStore(place) as store:
        wrong = store.verify()

        def rows(conn: Connection) -> tuple[set[str], int, int]:
            spans = set(conn.execute(select(span.c.handle)).scalars())
            traces = conn.execute(select(func.count(), func.count(trace.c.seq.distinct())).select_from(trace)).one()
            return spans, traces[0], traces[1]

        plan = store.plan(SCOPE, THREAD) or (0, {"step": 0})
        spans, traces, numbers = store.read(rows)
        last = plan[0]
        if plan[1]["step"] != last or traces != last or numbers != last:
            wrong.append(f"version {last}, but step {plan[1]['step']} and {traces} traces")
        if spans != {str(number) for number in range(max(1, last - KEPT + 1), last + 1)}:
            wrong.append(f"version {last}, but spans {sorted(spans)}")
        for handle in spans:
            if store.span(SCOPE, THREAD, handle) != f"{handle} " * 700:
                wrong.append(f"span {handle} has another text")
        return last, wrong


def forked(place: str, steps: int) -> tuple[int, BinaryIO, int]:
    """(pid, acknowledgements a line each, go): a child that waits for a byte on `go`, then writes."""
    told, tell = os.pipe()
    wait, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go)
            os.read(wait, 1)
            child(place, tell, steps)
            os._exit(0)
        except StoreError as error:
            os._exit(0 if error.code in {"store_unreachable", "store_failed"} else 1)  # its server was killed
        finally:
            os._exit(1)
    os.close(tell)
    os.close(wait)
    return pid, os.fdopen(told, "rb"), go


def acknowledged(told: BinaryIO, before: bytes = b"") -> int:
    """The last step that the child, now dead, said is durable."""
    with told:
        lines = (before + told.read()).split(b"\n")[:-1]
    return int(lines[-1]) if lines else 0


def examine(place: str, said: int, report: Report, killed: bool = True) -> None:
    last, wrong = left_behind(place)
    report.killed += killed
    report.acknowledged += said
    report.lost += max(0, said - last)
    report.wrong += wrong


def at_point(place: str, point: int, steps: int, report: Report) -> bool:
    """Kill a child of so many transactions at its `point`-th write; False if it has fewer."""
    pid, told, go = forked(place, steps)
    inject = f"inject={WRITES}:signal=KILL:when={point}"
    options = ["-f", "-o", "/dev/null", "-p", str(pid), "-e", f"trace={WRITES}", "-e", inject]
    with subprocess.Popen(["strace", *options], stderr=subprocess.PIPE) as tracer:
        assert tracer.stderr is not None
        tracer.stderr.readline()  # attached
        os.close(go)
        killed = os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    examine(place, acknowledged(told), report, killed)
    return killed


def at_random(place: str, report: Report) -> None:
    """Kill a child at any moment: while it makes its file, or within a few steps after any of the first ones."""
    pid, told, go = forked(place, 1000)
    os.close(go)
    steps = random.randrange(25)
    before = b"".join(told.readline() for _ in range(steps))
    time.sleep(random.uniform(0, 0.005 if steps else 0.1))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    examine(place, acknowledged(told, before), report)


def of_the_server(trials: int, report: Report) -> None:
    """Kill every process of a server at any moment while a child writes."""
    with server() as running, database(running.url("postgres"), "memctx_crash") as place:
        SqlStore(place).close()
        for _ in range(trials):
            pid, told, go = forked(place, 1_000_000)
            os.close(go)
            time.sleep(random.uniform(0.05, 0.5))
            running.kill()
            os.waitpid(pid, 0)
            running.start()
            examine(place, acknowledged(told), report)


def places(place: str) -> Iterator[str]:
    """A new file for each trial in a folder, or always the one database."""
    for number in count():
        if "://" in place:
            yield place
            continue
        folder = Path(place) / str(number)
        folder.mkdir()
        yield str(folder / "store.db")
        shutil.rmtree(folder)


def may_trace() -> bool:
    """Whether strace is there and may be used."""
    with suppress(OSError):
        return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", nargs="?", default="")
    parser.add_argument("--points", help="A:B or A:B:STEP, the first write being 1")
    parser.add_argument("--steps", type=int, default=12, help="transactions of a child that --points kills")
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--server", type=int, default=0)
    given = parser.parse_args()
    report, fresh = Report(), places(given.place)
    if given.points:
        for point in range(*map(int, given.points.split(":"))):
            if not at_point(next(fresh), point, given.steps, report):
                break
    for _ in range(given.random):
        at_random(next(fresh), report)
    if given.server:
        of_the_server(given.server, report)
    json.dump(asdict(report), sys.stdout)


if __name__ == "__main__":
    main()
