"""A tool graph in the store: under a name in a scope of memory, exported and erased with it.

SQL is the truth. `learn` reads and writes only the edges that a run touches, in one transaction that no other writer comes
between, so processes that learn at once lose nothing. `load` brings the vectors of the states along: nothing is embedded again.
Every function has a twin with an `a` before its name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from memctx import component
from memctx.errors import ConfigError
from memctx.graphs import _rows as rows
from memctx.graphs.tool_graph import Edge, ToolGraph, Visit

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from memctx.embed import Embedder
    from memctx.memory import Memory
    from memctx.scoped import Scoped
    from memctx.stores import Vectors

    Work = Callable[[Connection, list[bytes]], Any]
    Found = tuple[int, dict[str, Any], list[Edge], dict[str, bytes]]

LONGEST = 120  # characters of a graph's name
WARM = "a run begins"  # any text: the first suggestion reads every vector

_shared: WeakKeyDictionary[Memory, WeakValueDictionary[tuple[str, str, int], ToolGraph]] = WeakKeyDictionary()


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
    return _made(memory, memory.memory.store.read(partial(_found, _place(memory, name))))


async def aload(memory: Scoped, name: str) -> ToolGraph:
    """As `load`."""
    return _made(memory, await memory.memory.store.aread(partial(_found, _place(memory, name))))


def shared(memory: Scoped, name: str) -> ToolGraph:
    """As `load`, for reading only: one graph for all who ask, while it is in use and nothing was learned since."""
    place = _place(memory, name)
    return _known(memory, place, memory.memory.store.read(partial(_version, place))) or _keep(
        memory, place, memory.memory.store.read(partial(_found, place))
    )


async def ashared(memory: Scoped, name: str) -> ToolGraph:
    """As `shared`."""
    place, store = _place(memory, name), memory.memory.store
    if (graph := _known(memory, place, await store.aread(partial(_version, place)))) is not None:
        return graph
    found = await store.aread(partial(_found, place))
    return await asyncio.to_thread(_keep, memory, place, found)


# -- inside a transaction ------------------------------------------------------------------------------------------------


def _learning(memory: Scoped, name: str, visits: Sequence[Visit], reward: float) -> tuple[Work, list[str]]:
    place, touched = _place(memory, name), ToolGraph().learn(visits)
    texts = _texts(touched)

    def work(conn: Connection, vectors: list[bytes]) -> list[Edge]:
        now = memory.memory.clock()
        head = rows.head(conn, place)
        graph = component.load("graphs", head[1]) if head else ToolGraph()
        graph.put(kept.edge for kept in rows.edges(conn, place, touched).values())
        changed: list[Edge] = graph.learn(visits, reward=reward, now=now)
        if changed:
            rows.write(conn, place, changed, dict(zip(texts, vectors, strict=True)), now)
            rows.settle(conn, place, graph.dump(), now)
        return changed

    return work, texts


def _saving(graph: ToolGraph, memory: Scoped, name: str) -> tuple[Work, list[str]]:
    place, edges = _place(memory, name), list(graph.edges())
    texts = _texts(edges)

    def work(conn: Connection, vectors: list[bytes]) -> int:
        now = memory.memory.clock()
        there = rows.edges(conn, place)
        wanted = {place.row(edge): edge for edge in edges}
        gone = [kept for row, kept in there.items() if row not in wanted]
        changed = [edge for row, edge in wanted.items() if row not in there or there[row].edge != edge]
        rows.remove(conn, place, gone)
        rows.write(conn, place, changed, dict(zip(texts, vectors, strict=True)), now)
        rows.settle(conn, place, graph.dump(), now)
        return len(gone) + len(changed)

    return work, texts


def _version(place: rows.Place, conn: Connection) -> int:
    head = rows.head(conn, place)
    return head[0] if head else 0


def _found(place: rows.Place, conn: Connection) -> Found:
    """(version, settings, edges, vectors of their states by text)."""
    version, settings = rows.head(conn, place) or (0, ToolGraph().dump())
    kept = rows.edges(conn, place).values()
    return version, settings, [each.edge for each in kept], rows.by_text(kept, rows.vectors(conn, place))


# -- outside -------------------------------------------------------------------------------------------------------------


def _made(memory: Scoped, found: Found) -> ToolGraph:
    _, settings, edges, vectors = found
    graph: ToolGraph = component.load("graphs", {**settings, "embedder": Known(memory.memory.embedder, vectors)})
    graph.put(edges)
    return graph


def _known(memory: Scoped, place: rows.Place, version: int) -> ToolGraph | None:
    graphs = _shared.get(memory.memory)
    return graphs.get((place.scope, place.name, version)) if graphs is not None else None


def _keep(memory: Scoped, place: rows.Place, found: Found) -> ToolGraph:
    graph = _made(memory, found)
    graph.suggest((), WARM)
    _shared.setdefault(memory.memory, WeakValueDictionary())[place.scope, place.name, found[0]] = graph
    return graph


class Known:
    """An embedder that looks texts up first; what it does not know it has the other make."""

    def __init__(self, other: Embedder, vectors: Mapping[str, bytes]) -> None:
        self.name, self.dim, self.batch = other.name, other.dim, 10_000
        self._other, self._vectors = other, vectors

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) float32, rows of length one. Raises `EmbeddingError`."""
        import numpy as np

        found = np.empty((len(texts), self.dim), np.float32)
        missing = [at for at, text in enumerate(texts) if text not in self._vectors]
        for at in set(range(len(texts))).difference(missing):
            found[at] = np.frombuffer(self._vectors[texts[at]], "<f4")
        if missing:
            found[missing] = self._other.embed([texts[at] for at in missing])
        return found


def _place(memory: Scoped, name: str) -> rows.Place:
    if not (isinstance(name, str) and name.strip() == name != "" and name.isprintable() and len(name) <= LONGEST):
        text = f"graph = {name!r:.40}: give a name of 1 to {LONGEST} printable characters, no space at the ends"
        raise ConfigError(text, field="graph")
    if "/" in name:
        raise ConfigError(f"graph = {name!r:.40}: a name has no '/' in it", field="graph")
    made_by = f"graph:{memory.memory.embedder.name}"[
        :LONGEST
    ]  # apart from the vectors of a host's items, which are searched
    return rows.Place(memory.scope, name, made_by)


def _texts(edges: Iterable[Edge]) -> list[str]:
    return sorted({state.text for edge in edges for state in edge.states})
