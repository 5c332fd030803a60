"""Kill -9: what was acknowledged is there, nothing is half there. Erasure: what was deleted is in no file.

Short here; `benchmarks/stores.py` runs the same for thousands of kills.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert

from memctx.stores._tables import history, record, span, trace
from memctx.stores.sql import SqlStore
from memctx.testing.stores import ANA, BEN
from tests import crashes

SECRETS = 1000


def killed(root: Path, *arguments: str) -> dict[str, Any]:
    """The report of `tests/crashes.py`, run as a program."""
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(root)]))
    command = [sys.executable, str(root / "tests" / "crashes.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["lost"] == 0
    assert report["wrong"] == []
    return report


@pytest.mark.skipif(not crashes.may_trace(), reason="needs strace")
def test_crash_at_a_write_to_disk_loses_nothing(root: Path, tmp_path: Path) -> None:
    """From the first, which makes the file, in steps through a run of several transactions and checkpoints."""
    report = killed(root, str(tmp_path), "--points", "1:1000:19")
    assert report["killed"] >= 10
    assert report["acknowledged"] >= 20


def test_crash_at_any_moment_loses_nothing(root: Path, tmp_path: Path) -> None:
    report = killed(root, str(tmp_path), "--random", "15")
    assert report["killed"] == 15
    assert report["acknowledged"] >= 5


def test_crash_of_a_client_of_postgres_loses_nothing(root: Path, postgres_url: str) -> None:
    report = killed(root, postgres_url, "--random", "8")
    assert report["killed"] == 8
    assert report["acknowledged"] >= 5


@pytest.mark.slow
def test_crash_of_every_process_of_postgres_loses_nothing(root: Path) -> None:
    if os.environ.get("MEMCTX_TEST_POSTGRES"):
        pytest.skip("would kill a server that is not the test's own")
    assert killed(root, "--server", "1")["killed"] == 1


@pytest.mark.parametrize(
    "harm", [delete(trace), delete(span), insert(trace).values(scope=ANA, thread="", at=0.0, data={})]
)
def test_crash_reports_see_what_they_should(tmp_path: Path, harm: Any) -> None:
    place = str(tmp_path / "store.db")
    with SqlStore(place) as store:
        for number in (1, 2):
            store.write(crashes.step(number))
        assert crashes.left_behind(place) == (2, [])
        store.write(lambda conn: conn.execute(harm))
    last, wrong = crashes.left_behind(place)
    assert last == 2
    assert wrong


def canaries(count: int) -> list[str]:
    """Texts that are found again byte for byte, of many lengths."""
    dice = random.Random(7)
    return [f"canary-{dice.getrandbits(64):016x}-{number}" for number in range(count)]


def found(words: Iterable[str], files: Iterable[Path]) -> int:
    """How many of the words are in the bytes of any of the files."""
    held = {word for path in files for word in re.findall(rb"canary-[0-9a-f]{16}-\d+", path.read_bytes())}
    return sum(word.encode() in held for word in words)


def test_erasure_leaves_no_deleted_text_in_any_file(tmp_path: Path) -> None:
    """1,000 secrets among rows that stay, in every kind of row, updated and moved between pages, then deleted."""
    words = canaries(2 * SECRETS)
    secrets, kept = words[:SECRETS], words[SECRETS:]
    dice = random.Random(11)

    def fill(batch: Iterable[int], conn: Connection) -> None:
        for number in batch:
            for where, word in ((ANA, secrets[number]), (BEN, kept[number])):
                text = f"{word} " * dice.choice((1, 5, 40, 200))
                at = {"scope": where, "thread": f"{word[-4:]}{number}"}
                row = {
                    "kind": "semantic",
                    "digest": word,
                    "sources": [word],
                    "trust": 2,
                    "valid_from": 0.0,
                    "created": 0.0,
                }
                mine = (record.c.scope == where, record.c.digest == word)
                conn.execute(insert(record).values(scope=where, text=text, meta={"word": word}, **row))
                conn.execute(insert(history).values(scope=where, record=number, op="write", text=text, at=0.0))
                conn.execute(insert(span).values(**at, handle=word, content=text, created=0.0))
                conn.execute(insert(trace).values(**at, at=0.0, data={"word": word}))
                conn.execute(record.update().where(*mine).values(text=text + " again " * (number % 50)))

    tables = (record, history, span, trace)
    path = tmp_path / "store.db"
    with SqlStore(path) as store:
        for first in range(0, SECRETS, 100):
            store.write(partial(fill, range(first, first + 100)))
        files = [path, *tmp_path.glob("store.db-*")]
        assert found(secrets, files) == SECRETS, "the search does not find what is there"
        store.write(lambda conn: [conn.execute(delete(table).where(table.c.scope == ANA)) for table in tables])
        named = store.scrub()
        assert {each.name for each in named} >= {"store.db", "store.db-wal"}
        assert found(secrets, [*named, *tmp_path.iterdir()]) == 0
        assert found(kept, named) == SECRETS
        assert store.verify() == []
    assert found(secrets, tmp_path.iterdir()) == 0
