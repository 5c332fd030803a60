"""What a tool graph keeps: edges with counts and a bounded sample of states. Learning is a sum, so order does not matter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

START = ""  # comes before the first tool of a run; no tool can be called so
PAST = 2  # tools before `u` that an edge remembers
STATE = 1_200  # characters of a state that are kept


@dataclass(frozen=True, slots=True)
class Visit:
    """One call of a run: the tool, and a summary of the dialogue just before it."""

    tool: str
    state: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """The dialogue at an edge: how many runs were there in this state, and when last (seconds since 1970)."""

    text: str
    count: float = 1.0
    seen: float = 0.0


@dataclass(frozen=True, slots=True)
class Edge:
    """`v` was called after `u`, with `past` before `u` (oldest first, at most two, fewer at the start of a run).

    `count`: how often; `bonus`: the sum of 1 / length of those runs; both fall with time where there is a half-life, and are
    as of `updated` (seconds since 1970).
    """

    u: str
    v: str
    count: float
    bonus: float
    states: tuple[State, ...] = ()
    updated: float = 0.0
    past: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[tuple[str, ...], str, str]:
        return self.past, self.u, self.v


Key = tuple[tuple[str, ...], str, str]


class Edges:
    """The edges of one graph by (past, u, v)."""

    def __init__(self, states: int, half_life: float | None) -> None:
        self._by_key: dict[Key, Edge] = {}
        self._states = states
        self._half_life = half_life
        self.version = 0

    def learn(self, visits: Sequence[Visit], now: float) -> list[Edge]:
        """Add one run; returns the changed edges."""
        run = [visit for visit in visits if visit.tool]
        changed: dict[Key, None] = {}
        trail = [START, *(visit.tool for visit in run)]
        for at, visit in enumerate(run):
            key = (tuple(trail[max(0, at - PAST) : at]), trail[at], visit.tool)
            self._by_key[key] = self._grown(self._by_key.get(key), key, visit.state, 1 / len(run), now)
            changed[key] = None
        self.version += bool(changed)
        return [self._by_key[key] for key in changed]

    def put(self, edges: Iterable[Edge]) -> None:
        self._by_key.update((edge.key, edge) for edge in edges)
        self.version += 1

    def all(self) -> list[Edge]:
        return [self._by_key[key] for key in sorted(self._by_key)]

    def tools(self) -> list[str]:
        return sorted({edge.v for edge in self._by_key.values()})

    def _grown(self, old: Edge | None, key: Key, state: str, bonus: float, now: float) -> Edge:
        past, u, v = key
        old = old or Edge(u, v, 0.0, 0.0, past=past, updated=now)
        left = self._left(now - old.updated)
        states = tuple(replace(each, count=each.count * left) for each in old.states) if left < 1 else old.states
        states = self._with(states, state[:STATE].strip(), now) if state.strip() and self._states else states
        latest = max(now, old.updated)
        return Edge(u, v, old.count * left + 1, old.bonus * left + bonus, states, latest, past)

    def _left(self, seconds: float) -> float:
        """What is left of a count after so long."""
        return 1.0 if self._half_life is None or seconds <= 0 else float(0.5 ** (seconds / self._half_life))

    def _with(self, states: tuple[State, ...], text: str, now: float) -> tuple[State, ...]:
        """One more state; equal ones are merged, and the sample is the texts with the smallest digests, whatever came first."""
        by_text = {each.text: each for each in states}
        old = by_text.get(text, State(text, 0.0))
        by_text[text] = State(text, old.count + 1, max(old.seen, now))
        return tuple(by_text[text] for text in sorted(by_text, key=_place)[: self._states])


def _place(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
