"""What a tool graph keeps: edges with counts and a bounded sample of states. Learning is a sum, so order does not matter."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

START = ""  # comes before the first tool of a run; no tool can be called so
PAST = 2  # tools before `u` that an edge remembers
STATE = 1_500  # characters of a state that are kept
FADED = 0.01  # an edge that has decayed to this count is let go

Key = tuple[tuple[str, ...], str, str]


@dataclass(frozen=True, slots=True)
class Visit:
    """One call of a run: the tool, and a summary of the dialogue just before it."""

    tool: str
    state: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """The dialogue at an edge: how often it was there in this state, and when last (seconds since 1970)."""

    text: str
    count: float = 1.0
    seen: float = 0.0


@dataclass(frozen=True, slots=True)
class Edge:
    """`v` was called after `u`, with `past` before `u` (oldest first, at most two, fewer at the start of a run).

    `count`: how often; `bonus`: the sum of 1 / length of those runs; both, and the states' counts, fall with time where there is
    a half-life, and are as of `updated` (seconds since 1970).
    """

    u: str
    v: str
    count: float
    bonus: float
    states: tuple[State, ...] = ()
    updated: float = 0.0
    past: tuple[str, ...] = ()

    @property
    def key(self) -> Key:
        return self.past, self.u, self.v


class Edges:
    """The edges of one graph, by the tool they leave."""

    def __init__(self, states: int, capacity: int, half_life: float | None) -> None:
        self.version = 0
        self._out: dict[str, dict[Key, Edge]] = defaultdict(dict)
        self._versions: dict[str, int] = defaultdict(int)
        self._latest = 0.0
        self._count = 0
        self._states, self._capacity, self._half_life = states, capacity, half_life

    def learn(self, visits: Sequence[Visit], now: float) -> list[Edge]:
        """Add one run; returns the changed edges."""
        run = [visit for visit in visits if visit.tool]
        trail = [START, *(visit.tool for visit in run)]
        changed: dict[Key, Edge] = {}
        for at, visit in enumerate(run):
            key = (tuple(trail[max(0, at - PAST) : at]), trail[at], visit.tool)
            old = changed.get(key) or self._out[key[1]].get(key) or Edge(key[1], key[2], 0.0, 0.0, (), now, key[0])
            changed[key] = self._grown(self._faded(old, now), visit.state, 1 / len(run))
        self.put(changed.values())
        return list(changed.values())

    def put(self, edges: Iterable[Edge]) -> None:
        """Set edges; over the capacity, those with the smallest counts are let go."""
        for edge in edges:
            self._count += edge.key not in self._out[edge.u]
            self._out[edge.u][edge.key] = edge
            self._versions[edge.u] += 1
            self._latest = max(self._latest, edge.updated)
        self.version += 1
        if self._count > self._capacity:
            self._shrink()

    def versions(self) -> Mapping[str, int]:
        """For each tool that an edge leaves, a number that grows when what `after` gives for it may be another."""
        return self._versions if self._half_life is None else dict.fromkeys(self._versions, self.version)

    def after(self, tool: str) -> list[Edge]:
        """The edges that leave a tool, all as of the newest run."""
        return [self._faded(edge, self._latest) for edge in self._out.get(tool, {}).values()]

    def all(self) -> list[Edge]:
        """Every edge, by its key."""
        return sorted((edge for out in self._out.values() for edge in out.values()), key=lambda edge: edge.key)

    def _faded(self, edge: Edge, now: float) -> Edge:
        """The edge as of `now`; an older `now` than the edge's own changes nothing."""
        if self._half_life is None or now <= edge.updated:
            return edge
        left = 0.5 ** ((now - edge.updated) / self._half_life)
        states = tuple(replace(state, count=state.count * left) for state in edge.states)
        return replace(edge, count=edge.count * left, bonus=edge.bonus * left, states=states, updated=now)

    def _grown(self, edge: Edge, text: str, bonus: float) -> Edge:
        states = self._with(edge.states, text[:STATE].strip(" "), edge.updated) if text.strip() else edge.states
        return replace(edge, count=edge.count + 1, bonus=edge.bonus + bonus, states=states)

    def _with(self, states: tuple[State, ...], text: str, now: float) -> tuple[State, ...]:
        """One more state. Equal ones are one; what is kept is the sample with the smallest digests, whatever came first."""
        by_text = {state.text: state for state in states if state.count > FADED}
        by_text[text] = State(text, by_text[text].count + 1 if text in by_text else 1.0, now)
        return tuple(by_text[text] for text in sorted(by_text, key=sampled)[: self._states])

    def _shrink(self) -> None:
        """To nine tenths of the capacity, so that this is rare."""
        latest = self._latest
        held = sorted(self.all(), key=lambda edge: (-self._faded(edge, latest).count, edge.key))
        keep = [edge for edge in held if self._faded(edge, latest).count > FADED][: self._capacity * 9 // 10]
        for tool in self._out:
            self._versions[tool] += 1
        self._out.clear()
        for edge in keep:
            self._out[edge.u][edge.key] = edge
        self._count = len(keep)


def sampled(text: str) -> tuple[int, str]:
    """The place of a text in a shuffle that is the same everywhere: the first of them are a fair sample."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass")), text
