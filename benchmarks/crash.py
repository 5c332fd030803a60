"""kill -9 in the middle of memory's work: is what was acknowledged still there, and does the index agree with the rows?

    python benchmarks/crash.py [--trials 1000] [--seed 0] [--json]

A child writes, forgets, corrects and saves the index of one memory (a SQLite file and FAISS files) and says on a pipe what
was acknowledged; it is killed at a random moment. Then another child opens the same files and looks: every acknowledged
write is there and found, every acknowledged forgetting holds, the index equals the rows. The same files serve the next
trial, so damage adds up.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from memctx.memory import Memory

WIDTH = 16
FRESH = 50  # trials on one file, then a new one: opening must stay quick


def toy(texts: list[str]) -> Any:
    """Vectors that tell texts apart, without a model."""
    rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=WIDTH) for text in texts]
    made = np.array(rows, np.float32).reshape(len(texts), WIDTH)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def work(file: Path, say: Callable[[str], None], seed: int) -> None:
    """Write, forget, correct and save without end; `say` each thing once it was acknowledged."""
    chance, mine = random.Random(seed), list[tuple[int, str]]()
    memory = Memory(file, embedder=toy)
    scope = memory.at("acme", "ana")
    number = seed * 1_000_000
    while True:
        fresh = [f"fact {number + i} of trial {seed}" for i in range(chance.randint(1, 5))]
        number += len(fresh)
        written = scope.write_many(fresh)
        for record in written:
            say(f"+{record.id} {record.text}")
            mine.append((record.id, record.text))
        if chance.random() < 0.3:
            memory.save()
        if chance.random() < 0.2:
            gone, text = mine.pop(chance.randrange(len(mine)))
            say(f"?{gone} {text}")  # from here on either is right
            scope.forget(gone)
            say(f"-{gone} {text}")
        if chance.random() < 0.2:
            scope.search(fresh[0], k=3)


def look(file: Path, there: dict[int, str], gone: set[int]) -> list[str]:
    """What is wrong with the files a killed child left."""
    wrong: list[str] = []
    with Memory(file, embedder=toy) as memory:
        scope = memory.at("acme", "ana")
        held = {record.id: record.text for record in scope.list()}
        wrong += [f"lost {i}: {text}" for i, text in there.items() if held.get(i) != text]
        wrong += [f"{i} came back" for i in gone if i in held]
        for record_id in list(there)[-3:]:
            found = [hit.record.id for hit in scope.search(there[record_id], k=1, by="meaning")]
            if found != [record_id]:
                wrong.append(f"a search for {record_id} found {found}")
        wrong += memory.verify()
    return wrong


def report(file: Path, there: dict[int, str], gone: set[int], say: Callable[[str], None]) -> None:
    """What `look` finds, as JSON."""
    say(json.dumps(look(file, there, gone)))


def forked(job: Callable[[Callable[[str], None]], None]) -> tuple[int, int]:
    """Run `job(say)` in a forked child; returns its process id and the end of the pipe to read."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            job(lambda line: _all(writing, f"{line}\n".encode()))
        finally:
            os._exit(0)
    os.close(writing)
    return child, reading


def _all(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data) :]


def killed(file: Path, seed: int) -> list[str]:
    """What a child had acknowledged when it was killed, line by line."""
    chance = random.Random(~seed)
    child, pipe = forked(lambda say: work(file, say, seed))
    with os.fdopen(pipe, "r", encoding="utf-8") as lines:
        said = [lines.readline() for _ in range(chance.randint(1, 40))]
        time.sleep(chance.random() * 0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        said += lines.read().splitlines(keepends=True)
    return [line.rstrip("\n") for line in said if line.endswith("\n")]


def trials(count: int, seed: int) -> tuple[int, list[str]]:
    """(acknowledged writes, what was wrong) over `count` kills."""
    writes, wrong = 0, list[str]()
    there, gone = dict[int, str](), set[int]()
    with tempfile.TemporaryDirectory() as folder:
        for number in track(range(count), "kill -9", disable=not sys.stderr.isatty()):
            if number % FRESH == 0:
                there, gone = {}, set()
            file = Path(folder) / f"{number // FRESH}.db"
            for line in killed(file, seed + number + 1):
                record_id, _, text = line[1:].partition(" ")
                if line[0] == "+":
                    there[int(record_id)], writes = text, writes + 1
                else:
                    there.pop(int(record_id), None)
                if line[0] == "-":
                    gone.add(int(record_id))
            child, pipe = forked(partial(report, file, there, gone))
            with os.fdopen(pipe, "r", encoding="utf-8") as lines:
                answer = lines.read()
            os.waitpid(child, 0)
            wrong += [f"trial {number}: {each}" for each in (json.loads(answer) if answer else ["nobody could look"])]
    return writes, wrong


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_args(arguments)
    writes, wrong = trials(given.trials, given.seed)
    found = {"trials": given.trials, "acknowledged": writes, "wrong": len(wrong), "first": wrong[:10]}
    if given.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    sys.stdout.write(f"{given.trials} kills, {writes} acknowledged writes, {len(wrong)} things wrong\n")
    sys.stdout.writelines(f"  {each}\n" for each in wrong[:10])


if __name__ == "__main__":
    main()
