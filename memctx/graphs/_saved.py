"""A tool graph in the store: under a name in a scope of memory, exported and erased with it.

SQL is the truth. `learn` reads and writes only the edges that a run touches, in one transaction that no other writer comes
between, so processes that learn at once lose nothing. `load` brings the vectors of their texts along: nothing is embedded again.
Every function has a twin with an `a` before its name.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from memctx import component
from memctx.errors import ConfigError
from memctx.graphs import _rows as rows
from memctx.graphs._plain import spoken
from memctx.graphs.tool_graph import Edge, ToolGraph, Visit

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from memctx.embed import Embedder
    from memctx.memory import Memory
    from memctx.scoped import Scoped
    from memctx.stores import Vectors

    Work = Callable[[Connection, list[bytes]], Any]

LONGEST = 120  # characters of a graph's name
TRIMMED = 64  # learned runs between looks at the capacity
WARM = "a run begins"  # any text: the first suggestion reads every vector

BATCH = 10_000  # texts looked up at once

_shared: WeakKeyDictionary[Memory, WeakValueDictionary[tuple[str, str], ToolGraph]] = WeakKeyDictionary()


def learn(memory: Scoped, name: str, visits: Sequence[Visit], reward: float = 1.0) -> list[Edge]:
    """Add a finished run to the graph kept under `name`, or to a new one; returns the edges it changed, as they now are.

    A run with a reward below the graph's `success` changes nothing. Raises `ConfigError` for what is no name.
    """
    changed: list[Edge] = memory.memory.run(*_learning(memory, name, visits, reward), writes=True)
    return changed


async def alearn(memory: Scoped, name: str, visits: Sequence[Visit], reward: float = 1.0) -> list[Edge]:
    """As `learn`."""
    changed: list[Edge] = await memory.memory.arun(*_learning(memory, name, visits, reward), writes=True)
    return changed


def save(graph: ToolGraph, memory: Scoped, name: str) -> int:
    """Keep a graph and its settings under `name`, in place of what was there; returns how many edges that changed.

    Only edges that differ from what is kept are written.
    """
    count: int = memory.memory.run(*_saving(graph, memory, name), writes=True)
    return count


async def asave(graph: ToolGraph, memory: Scoped, name: str) -> int:
    """As `save`."""
    count: int = await memory.memory.arun(*_saving(graph, memory, name), writes=True)
    return count


def load(memory: Scoped, name: str) -> ToolGraph:
    """A graph of one's own with what is kept under `name`; an empty one where nothing is."""
    return _new(memory, memory.memory.store.read(partial(_news, _place(memory, name), None)))


async def aload(memory: Scoped, name: str) -> ToolGraph:
    """As `load`."""
    return _new(memory, await memory.memory.store.aread(partial(_news, _place(memory, name), None)))


def shared(memory: Scoped, name: str) -> ToolGraph:
    """As `load`, for reading only: one graph for all who ask, while any of them has it; only what is new is read."""
    place = _place(memory, name)
    graph = _held(memory, place)
    news = memory.memory.store.read(partial(_news, place, graph.embedder if graph else None))
    return _caught_up(memory, place, graph, news)


async def ashared(memory: Scoped, name: str) -> ToolGraph:
    """As `shared`."""
    place = _place(memory, name)
    graph = _held(memory, place)
    news = await memory.memory.store.aread(partial(_news, place, graph.embedder if graph else None))
    return await asyncio.to_thread(_caught_up, memory, place, graph, news)


# -- inside a transaction ------------------------------------------------------------------------------------------------


def _learning(memory: Scoped, name: str, visits: Sequence[Visit], reward: float) -> tuple[Work, list[str]]:
    place, touched = _place(memory, name), ToolGraph().learn(visits)
    texts = _texts(touched)

    def work(conn: Connection, vectors: list[bytes]) -> list[Edge]:
        now = memory.memory.clock()
        head = rows.head(conn, place)
        graph = component.load("graphs", head.settings) if head else ToolGraph()
        graph.put(kept.edge for kept in rows.touched(conn, place, touched))
        changed: list[Edge] = graph.learn(visits, reward=reward, now=now)
        if changed:
            rows.write(conn, place, changed, dict(zip(texts, vectors, strict=True)), now)
            rows.settle(conn, place, graph.dump(), now)
            if head and head.version % TRIMMED == 0:
                _trim(conn, place, graph)
        return changed

    return work, texts


def _trim(conn: Connection, place: rows.Place, settings: ToolGraph) -> None:
    """Delete the edges that a graph of this capacity lets go."""
    if rows.count(conn, place) <= settings.capacity:
        return
    kept, whole = rows.edges(conn, place), component.load("graphs", settings.dump())
    whole.put(each.edge for each in kept)
    held = {edge.key for edge in whole.edges()}
    rows.remove(conn, place, [each for each in kept if each.edge.key not in held])


def _saving(graph: ToolGraph, memory: Scoped, name: str) -> tuple[Work, list[str]]:
    place, edges = _place(memory, name), list(graph.edges())
    texts = _texts(edges)

    def work(conn: Connection, vectors: list[bytes]) -> int:
        now = memory.memory.clock()
        there = {kept.row: kept for kept in rows.edges(conn, place)}
        wanted = {place.row(edge): edge for edge in edges}
        gone = [kept for row, kept in there.items() if row not in wanted]
        changed = [edge for row, edge in wanted.items() if row not in there or there[row].edge != edge]
        rows.remove(conn, place, gone)
        rows.write(conn, place, changed, dict(zip(texts, vectors, strict=True)), now)
        rows.settle(conn, place, graph.dump(), now)
        return len(gone) + len(changed)

    return work, texts


def _news(place: rows.Place, seen: Seen | None, conn: Connection) -> News:
    """What a reader that has `seen` some of it must still read; all of it where edges went away."""
    head = rows.head(conn, place) or rows.Head(0, 0, ToolGraph().dump())
    if seen is not None and (seen.head.id, seen.head.version) == (head.id, head.version):
        return News(head, seen.versions, [], {}, whole=False)
    now = rows.versions(conn, place)
    new = None if seen is None else seen.missing(head, now)
    kept = rows.edges(conn, place, new)
    return News(head, now, [each.edge for each in kept], rows.vectors(conn, place, kept), whole=new is None)


# -- outside -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class News:
    """Edges with the vectors of their texts; `versions` of all rows, as of `head`. `whole`: there are no others."""

    head: rows.Head
    versions: rows.Versions
    edges: list[Edge]
    vectors: dict[str, bytes]
    whole: bool


class Seen:
    """What a loaded graph has seen of the store; and its embedder, which looks texts up and has the others made."""

    def __init__(self, other: Embedder, news: News) -> None:
        self.name, self.dim, self.batch = other.name, other.dim, BATCH
        self.head, self.versions, self.vectors = news.head, news.versions, news.vectors
        self.lock = threading.Lock()
        self._other = other

    def missing(self, head: rows.Head, now: rows.Versions) -> list[int] | None:
        """The rows that are new or changed; None where it is another graph, or edges of it went away."""
        same = (head.id, head.settings) == (self.head.id, self.head.settings) and self.versions.keys() <= now.keys()
        return [row for row, version in now.items() if self.versions.get(row) != version] if same else None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, rows of length one. Raises `EmbeddingError`."""
        import numpy as np

        found = np.empty((len(texts), self.dim), np.float32)
        known = [self.vectors.get(text) for text in texts]
        for place, vector in enumerate(known):
            if vector is not None:
                found[place] = np.frombuffer(vector, "<f4")
        missing = [place for place, vector in enumerate(known) if vector is None]
        if missing:
            found[missing] = self._other.embed([texts[place] for place in missing])
        return found


def _new(memory: Scoped, news: News) -> ToolGraph:
    graph: ToolGraph = component.load("graphs", {**news.head.settings, "embedder": Seen(memory.memory.embedder, news)})
    graph.put(news.edges)
    return graph


def _held(memory: Scoped, place: rows.Place) -> ToolGraph | None:
    graphs = _shared.get(memory.memory)
    graph = graphs.get((place.scope, place.name)) if graphs is not None else None
    return graph if graph is not None and graph.embedder.name == memory.memory.embedder.name else None


def _caught_up(memory: Scoped, place: rows.Place, graph: ToolGraph | None, news: News) -> ToolGraph:
    """The shared graph with what is new; its vectors are read here, where nobody waits on an event loop."""
    if graph is None or news.whole:
        graph = _new(memory, news)
        _shared.setdefault(memory.memory, WeakValueDictionary())[place.scope, place.name] = graph
    elif not news.edges or not _put(graph, news):
        return graph
    graph.suggest((), WARM)
    graph.served(WARM)
    return graph


def _put(graph: ToolGraph, news: News) -> bool:
    """Put what is new into a graph; False where another reader was here with later news."""
    seen: Seen = graph.embedder
    with seen.lock:
        if news.head.version <= seen.head.version:
            return False
        seen.vectors.update(news.vectors)
        graph.put(news.edges)
        seen.head, seen.versions = news.head, news.versions
    return True


def _place(memory: Scoped, name: str) -> rows.Place:
    if not (isinstance(name, str) and name.strip() == name != "" and name.isprintable() and len(name) <= LONGEST):
        text = f"graph = {name!r:.40}: give a name of 1 to {LONGEST} printable characters, no space at the ends"
        raise ConfigError(text, field="graph")
    if "/" in name:
        raise ConfigError(f"graph = {name!r:.40}: a name has no '/' in it", field="graph")
    return rows.Place(memory.scope, name, rows.maker(memory.memory.embedder.name))


def _texts(edges: Iterable[Edge]) -> list[str]:
    return sorted({text for edge in edges for text in spoken(edge)})
