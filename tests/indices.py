"""Trials that a vector index must survive, small in the tests and long in `benchmarks/indices.py`: crashes, damage, tenants."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memctx.scope import scope
from memctx.stores import Batch, _faiss_files
from memctx.stores.exact import ExactIndex
from memctx.stores.faiss import FaissIndex
from memctx.testing._vectors import unit

DIM = 16
ROUNDS = 4  # saves of one crash trial
POINTS = ("open", "write", "fsync", "replace", "unlink")  # what changes a disk
SCOPES = [scope("acme", f"user {number}") for number in range(12)]


def state(seed: int, upto: int) -> dict[str, dict[int, int]]:
    """scope -> id -> seed of its vector, after so many rounds of adding, replacing, removing and dropping."""
    rows: dict[str, dict[int, int]] = {}
    for turn in range(upto):
        chance = random.Random(f"{seed} {turn}")
        for name in chance.sample(SCOPES, 5):
            mine = rows.setdefault(name, {})
            mine.update(dict.fromkeys(chance.sample(range(1, 60), 12), seed + turn))
            for gone in chance.sample(sorted(mine), 4):
                del mine[gone]
        rows.pop(chance.choice(SCOPES), None)
    return rows


def batches(rows: dict[str, dict[int, int]]) -> list[Batch]:
    """A state as rows; a vector is made of its id and seed."""
    made = []
    for name, mine in rows.items():
        if mine:
            vectors = [np.random.default_rng([each, seed]).standard_normal(DIM) for each, seed in mine.items()]
            made.append(Batch(name, np.array(list(mine)), np.asarray(vectors, np.float32)))
    return made


def bring(index: FaissIndex, seed: int, turn: int) -> None:
    """Change an index from one state to the next by the calls that a feeder makes."""
    before, after = state(seed, turn), state(seed, turn + 1)
    for name in before:
        if name not in after:
            index.drop(name)
        else:
            index.remove(name, sorted(set(before[name]) - set(after[name])))
    changed = {
        name: {each: made for each, made in mine.items() if before.get(name, {}).get(each) != made}
        for name, mine in after.items()
    }
    for batch in batches(changed):
        index.add(batch)
    index.applied = turn + 1


def dying(at: int) -> None:
    """From now on this process dies at its write call number `at`, half of a write done."""
    done = [0]

    def wrapped(name: str, call: Any) -> Any:
        def point(*given: Any, **named: Any) -> Any:
            if name == "open" and not given[1] & os.O_CREAT:
                return call(*given, **named)
            done[0] += 1
            if done[0] == at:
                if name == "write":
                    call(given[0], given[1][: len(given[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return None if name == "fsync" else call(*given, **named)  # the death of a process loses no written page

        return point

    for name in POINTS:
        setattr(os, name, wrapped(name, getattr(os, name)))


def saving(folder: Path, seed: int, at: int, said: int) -> None:
    """Rounds of changes and saves, each one acknowledged by a byte, until the process dies."""
    _faiss_files.LARGE = 20 * DIM * 4  # so that scopes have files of their own, which a generation keeps or replaces
    index = FaissIndex(DIM, folder)
    dying(at)
    for turn in range(ROUNDS):
        bring(index, seed, turn)
        index.save()
        with os.fdopen(os.dup(said), "wb", buffering=0) as stream:  # not by os.write, which is counted
            stream.write(b".")


@dataclass(frozen=True, slots=True)
class Crash:
    """How one trial ended: the rounds that were acknowledged, and what the index held when it was opened again."""

    acknowledged: int
    applied: int
    damaged: str
    problems: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whole and nothing acknowledged lost, or empty and saying so before anything was acknowledged."""
        whole = not self.problems and not self.damaged and self.applied >= self.acknowledged
        return whole or (not self.acknowledged and not self.applied and not self.problems)


def crash(folder: Path, seed: int, at: int) -> tuple[Crash, bool]:
    """Kill a process at a write call of its saves; (what was found, whether it died rather than came to the end)."""
    shutil.rmtree(folder, ignore_errors=True)
    heard, said = os.pipe()
    child = os.fork()
    if not child:
        os.close(heard)
        saving(folder, seed, at, said)
        os._exit(0)
    os.close(said)
    _, status = os.waitpid(child, 0)
    with os.fdopen(heard, "rb") as stream:
        acknowledged = len(stream.read())
    index = FaissIndex(DIM, folder)
    problems = tuple(index.verify(batches(state(seed, index.applied))))
    return Crash(acknowledged, index.applied, index.damaged, problems), os.WIFSIGNALED(status)


def crashes(folder: Path, trials: int) -> Iterator[Crash]:
    """Trials at every write call in turn, then with other rows."""
    done, seed, at = 0, 0, 1
    while done < trials:
        found, died = crash(folder, seed, at)
        if died:
            done, at = done + 1, at + 1
            yield found
        else:
            seed, at = seed + 1, 1


def bitten(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Damaged bytes: a bit flipped, a page zeroed, or an end missing."""
    kind = chance.choice(["bit flip", "zeroed page", "truncation"])
    at = chance.randrange(len(data))
    if kind == "bit flip":
        return kind, data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
    if kind == "zeroed page":
        page = at // 4096 * 4096
        return kind, data[:page] + bytes(len(data[page : page + 4096])) + data[page + 4096 :]
    return kind, data[:at]


def damages(folder: Path, trials: int, kind: Any, rows: int) -> Iterator[tuple[str, str]]:
    """(damage, outcome) of a saved index: `noticed`, `same` (it changed nothing) or `silently wrong`."""
    vectors, queries = unit(rows, DIM), unit(20, DIM, seed=1)
    made = FaissIndex(DIM, folder, kind=kind)
    made.add(Batch(SCOPES[0], np.arange(1, rows + 1), vectors))
    made.add(Batch(SCOPES[1], np.arange(1, 6), vectors[:5]))
    made.applied = 7
    made.settle()
    made.save()
    whole = made.search(queries, 10, SCOPES[0])
    files = {path: path.read_bytes() for path in made.files()}
    chance = random.Random(rows)
    for _ in range(trials):
        path = chance.choice(list(files))
        name, damaged = bitten(files[path], chance)
        path.write_bytes(damaged)
        index = FaissIndex(DIM, folder, kind=kind)
        if index.damaged:
            assert index.applied == index.count() == 0
            yield name, "noticed"
        else:
            answer = index.search(queries, 10, SCOPES[0])
            right = np.array_equal(answer[0], whole[0]) and np.array_equal(answer[1], whole[1]) and index.applied == 7
            yield name, "same" if right and damaged == files[path] else "silently wrong"
        for path in folder.iterdir():
            path.unlink()
        for path, data in files.items():
            path.write_bytes(data)


@dataclass(frozen=True, slots=True)
class Tenancy:
    """What a thousand tenants with adversarial neighbours saw."""

    scopes: int
    leaked: int
    recall: float
    files: int


def tenants(index: Any, scopes: int, rows: int, dim: int, save: Callable[[Any], Any] = lambda index: index) -> Tenancy:
    """Each tenant asks for what its neighbours have nearer: they hold the query itself, and its near twins."""
    exact, names = (
        ExactIndex(dim),
        [scope(f"tenant {number}"[: 8 + number % 5], str(number)) for number in range(scopes)],
    )
    for place, name in enumerate(names):
        query = unit(1, dim, seed=(place + 1) % scopes)  # what the next tenant will ask for
        twins = query + 0.01 * unit(rows // 2, dim, seed=10_000 + place)
        vectors = np.concatenate([query, twins, unit(rows - 1 - rows // 2, dim, seed=20_000 + place)])
        for each in (index, exact):
            each.add(Batch(name, np.arange(1, rows + 1) + place * rows, vectors))
    index = save(index)  # or something else between writing and asking
    leaked, hits = 0, 0
    for place, name in enumerate(names):
        query = unit(1, dim, seed=place)
        ids, true = index.search(query, 10, name)[0][0], exact.search(query, 10, name)[0][0]
        leaked += int(((ids > 0) & ((ids - 1) // rows != place)).sum())
        hits += len(set(ids.tolist()) & set(true.tolist()) - {-1})
    return Tenancy(
        scopes, leaked, hits / (scopes * min(10, rows)), len(index.files()) if hasattr(index, "files") else 0
    )
