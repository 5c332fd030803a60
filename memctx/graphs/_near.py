"""Which tools were called in a state like this one: every kept state votes for its tool, the more the nearer it is."""

from __future__ import annotations

import heapq
import math
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memctx.graphs._edges import PAST, START, Edge, Edges, State, sampled
from memctx.graphs._state import parts
from memctx.stores._terms import terms

Vector = NDArray[np.float32]
Numbers = NDArray[np.float64]

# How much a likeness counts in the exponent of a vote; fitted by benchmarks/fit_tool_graph.py.
ASKED, WORDS, RESULT, SAME_KIND = 10.0, 7.2, 1.6, 1.2
AFTER = (2.4, 0.5, 1.3)  # for the same last tool, the same last two, the same last three
NEAREST = ASKED + WORDS + RESULT + SAME_KIND + sum(AFTER)
BUCKETS = 256  # terms are hashed into so many
MOST = 2_048  # states of one block
ROWS = 8_192  # vectors of states that are kept


class Block:
    """States as rows of one matrix, with what came before each and the tool that was called then."""

    def __init__(self, held: Sequence[tuple[Edge, State]], vectors: Vector) -> None:
        self._vectors = vectors
        self._counts = np.array([state.count for _, state in held])
        self._tools = list(dict.fromkeys(edge.v for edge, _ in held))
        place = {tool: at for at, tool in enumerate(self._tools)}
        self._owner = np.array([place[edge.v] for edge, _ in held], np.int64)
        self._place: Mapping[str, int] = {}  # where the votes went last, so that places are looked up once
        self._at = np.empty(0, np.int64)
        self._ends: dict[tuple[str, ...], int] = {}  # the last one, two and three tools before a state, numbered
        self._before = np.array([[self._number(end) for end in _ends(edge)] for edge, _ in held], np.int64)

    def vote(
        self, state: Vector, trail: tuple[str, ...], place: Mapping[str, int], votes: Numbers, others: bool
    ) -> None:
        """Add to the votes for each tool, at its place; `others`: only those of states that come after another tool."""
        if not self._tools:
            return
        ends = [self._ends.get(trail[-length:], -1) for length in range(1, PAST + 2)]
        same = self._before == np.array(ends)
        weights = self._counts * np.exp(self._vectors @ state + same @ np.array(AFTER) - NEAREST)
        if others:
            weights[same[:, 0]] = 0.0
        if self._place is not place:
            self._place, self._at = place, np.array([place[tool] for tool in self._tools])
        votes[self._at] += np.bincount(self._owner, weights, len(self._tools))

    def _number(self, end: tuple[str, ...]) -> int:
        return self._ends.setdefault(end, len(self._ends))


def _ends(edge: Edge) -> list[tuple[str, ...]]:
    trail = (*edge.past, edge.u)
    return [trail[-length:] for length in range(1, PAST + 2)]


class Near:
    """Votes of the states after the same tool, and of a fair sample of all others: at most `MOST` of each."""

    def __init__(self, edges: Edges, embedder: Any) -> None:
        self._edges, self._given = edges, embedder
        self._embedder: Any = None
        self._rows: OrderedDict[str, Vector] = OrderedDict()
        self._after: dict[str, tuple[int, Block]] = {}
        self._sample: tuple[int, Block] | None = None

    def votes(self, path: Sequence[str], state: str, place: Mapping[str, int]) -> Numbers:
        """Votes for each tool, at its place; one for a state as near as can be that was seen once."""
        trail = (START, *path)[-PAST - 1 :]
        vector = self.vectors([state])[0]
        votes = np.zeros(len(place))
        self._block(trail[-1]).vote(vector, trail, place, votes, others=False)
        self._others().vote(vector, trail, place, votes, others=True)
        return votes

    def vectors(self, states: Sequence[str]) -> Vector:
        """A row for each state: the products of two rows are the weighted likeness of what is asked and of the results."""
        missing = [text for text in dict.fromkeys(states) if text not in self._rows]
        made = dict(zip(missing, self._made(missing), strict=True)) if missing else {}
        rows = [made[text] if text in made else self._rows[text] for text in states]
        self._rows.update(made)
        while len(self._rows) > ROWS:
            self._rows.popitem(last=False)
        return np.stack(rows)

    def _made(self, states: Sequence[str]) -> Vector:
        if self._embedder is None:
            from memctx.embed import embedder

            self._embedder = embedder(self._given)
        split = [parts(state) for state in states]
        texts = [text or "nothing" for pair in split for text in pair]
        both = self._embedder.embed(texts).reshape(len(states), 2, -1)
        silent = np.array([not result for _, result in split])
        both[silent, 1] = 0.0
        kind = np.stack([silent, ~silent], axis=1) * math.sqrt(SAME_KIND)
        words = np.stack([_hashed(asked) for asked, _ in split]) * math.sqrt(WORDS)
        weighted = [both[:, 0] * math.sqrt(ASKED), words, both[:, 1] * math.sqrt(RESULT), kind]
        return np.concatenate(weighted, axis=1).astype(np.float32)

    def _block(self, tool: str) -> Block:
        version = self._edges.versions().get(tool, 0)
        kept = self._after.get(tool)
        if kept is None or kept[0] != version:
            kept = self._after[tool] = version, self._built(self._edges.after(tool))
        return kept[1]

    def _others(self) -> Block:
        if self._sample is None or self._sample[0] != self._edges.version:
            everywhere = (edge for tool in self._edges.versions() for edge in self._edges.after(tool))
            self._sample = self._edges.version, self._built(everywhere)
        return self._sample[1]

    def _built(self, edges: Iterable[Edge]) -> Block:
        """A block of the `MOST` states that come first in the shuffle."""
        every = ((edge, state) for edge in edges for state in edge.states)
        held = heapq.nsmallest(MOST, every, key=lambda pair: (sampled(pair[1].text), pair[0].key))
        return Block(held, self.vectors([state.text for _, state in held]) if held else np.empty((0, 0), np.float32))


def _hashed(text: str) -> Vector:
    """The terms of a text as one row of length one: each counts once for its first use, less for more."""
    row = np.zeros(BUCKETS, np.float32)
    for term, count in Counter(terms(text)).items():
        bucket, sign = _bucket(term)
        row[bucket] += sign * (1 + math.log(count))
    return row / max(float(np.linalg.norm(row)), 1e-9)


@lru_cache(maxsize=50_000)
def _bucket(term: str) -> tuple[int, int]:
    number = zlib.crc32(term.encode("utf-8", "replace"))
    return number % BUCKETS, 1 if number >> 16 & 1 else -1
