"""The shelf of a scope, in step with the store: read once, then only what the outbox names."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from memctx import _experience_rows as rows
from memctx._experience_items import Experience, Retrieved
from memctx._experience_near import Text, Vector
from memctx._experience_shelf import Entry, Shelf, Situation, advice_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from memctx.memory import Memory

SCOPES = 64  # shelves of a memory that are kept; the least recently used goes
ANSWERS = 4_096  # of a shelf that are kept while it does not change


class Kept:
    """One shelf, and the answers it gave since it last changed. Whoever reads or follows holds `lock`.

    `version`: the last line of the outbox that changed it.
    """

    def __init__(self, memory: Memory, scope: str) -> None:
        self.lock = threading.RLock()
        self.scope = scope
        self.version = 0
        self.runs = rows.Runs()
        self.answers: OrderedDict[object, list[Retrieved]] = OrderedDict()
        self.loads = 0  # how often everything was read
        self._embedder = memory.embedder
        self._applied = -1
        self.shelf = Shelf(self._embedder.dim)

    def follow(self, conn: Connection, memory: Memory) -> None:
        """Bring the shelf to what this transaction sees."""
        oldest, newest, new = rows.lines(conn, self.scope, max(self._applied, 0))
        if self._applied < oldest - 1 or memory.embedder is not self._embedder:
            self._embedder = memory.embedder
            self._load(conn, newest)
        elif new:
            self._apply(conn, [line[2] for line in new if line[1] != "erase"])
            if any(op == "erase" for _, op, _ in new) and not self._there(conn):
                self._load(conn, newest)
            self._changed(conn, new[-1][0])
        self._applied = max(self._applied, newest)

    def keep(self, asked: object, answer: list[Retrieved]) -> None:
        """An answer, until the shelf changes."""
        self.answers[asked] = answer
        while len(self.answers) > ANSWERS:
            self.answers.popitem(last=False)

    def _load(self, conn: Connection, newest: int) -> None:
        self.shelf = Shelf(self._embedder.dim)
        self.loads += 1
        entries = self._entries(rows.read(conn, self.scope, self._embedder.name))
        while page := list(islice(entries, rows.PAGE)):
            self.shelf.put(page)
        self._changed(conn, newest)

    def _apply(self, conn: Connection, ids: list[int]) -> None:
        changed = list(dict.fromkeys(each for each in ids if each))
        found = list(self._entries(rows.read_some(conn, self.scope, self._embedder.name, changed)))
        self.shelf.drop(set(changed) - {entry.experience.id for entry in found})
        self.shelf.put(found)

    def _changed(self, conn: Connection, line: int) -> None:
        self.version = line
        self.runs = rows.runs(conn, self.scope)
        self.shelf.base = self.runs.base
        self.answers.clear()

    def _there(self, conn: Connection) -> bool:
        """Whether an experience is still in the store: an erasure takes all of a scope or none."""
        one = next(iter(self.shelf.slots), None)
        return one is None or bool(rows.named(conn, self.scope, [one]))

    def _entries(self, found: Iterable[tuple[Experience, bytes | None]]) -> Iterator[Entry]:
        for item, held in found:
            vectors = np.frombuffer(held, "<f4").astype(np.float32) if held else self._embedded(item)
            dim = self._embedder.dim
            yield entry(item, vectors[:dim], vectors[dim:])

    def _embedded(self, item: Experience) -> Vector:
        """The vectors of a situation that the store has none of: memory was embedded again by another embedder."""
        texts = situation(item)
        return situation_vectors(dict(zip(texts, self._embedder.embed(texts), strict=True)), item, self._embedder.dim)


def situation(item: Experience) -> list[str]:
    """The texts of its situation that are named."""
    return [text for text in (item.observation, item.task) if text]


def situation_vectors(known: Mapping[str, Vector], item: Experience, dim: int) -> Vector:
    """Of the observation and of the task, one after the other; zeros for what is not named."""
    nothing = np.zeros(dim, np.float32)
    return np.concatenate([known.get(item.observation, nothing), known.get(item.task, nothing)])


def entry(item: Experience, observed: Vector, tasked: Vector) -> Entry:
    """An experience with what it is compared by."""
    at = Situation(
        Text.of(item.observation, observed) if item.observation else None,
        Text.of(item.task, tasked) if item.task else None,
    )
    return Entry(item, at, advice_of(item.advice))


_kept: WeakKeyDictionary[Memory, OrderedDict[str, Kept]] = WeakKeyDictionary()
_lock = threading.Lock()


def kept(memory: Memory, scope: str) -> Kept:
    """The one shelf that all libraries of this memory and scope share."""
    with _lock:
        shelves = _kept.setdefault(memory, OrderedDict())
        found = shelves[scope] if scope in shelves else shelves.setdefault(scope, Kept(memory, scope))
        shelves.move_to_end(scope)
        while len(shelves) > SCOPES:
            shelves.popitem(last=False)
        return found


def drop(memory: Memory, scope: str) -> None:
    """Let go of what is held of a scope and all below it: it is erased, or may be."""
    with _lock:
        shelves = _kept.get(memory, OrderedDict())
        for each in [name for name in shelves if name.startswith(scope)]:
            del shelves[each]
