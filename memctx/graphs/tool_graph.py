"""`tool_graph`: which tool comes next, learned from runs that ended well.

A directed multigraph over tools. An edge `u -> v` says that `v` was called after `u`; for each longer past of `u` there is a parallel
edge. It holds how often that was so, a bonus for short runs, and compact summaries of the dialogue at that point. A suggestion
mixes what usually follows with what was done in a state like this one. No model is needed.

    graph = ToolGraph()
    graph.learn([Visit("find_user", "the user wants to cancel an order"), Visit("cancel_order", "...")])
    graph.suggest(["find_user"], "the user asks for a refund")        # [Suggestion("cancel_order", 0.83), ...]

Source of the idea: SIT-Graph / H-EPM (arXiv 2512.07287): counts, a bonus of 1/length, states on edges.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import Field, PrivateAttr

from memctx.component import Component
from memctx.errors import ConfigError
from memctx.graphs._edges import START, Edge, Edges, State, Visit
from memctx.graphs._rank import Facts, Ranker, Suggestion
from memctx.graphs._state import summarise

__all__ = ["START", "Edge", "Facts", "State", "Suggestion", "ToolGraph", "Visit", "summarise"]


class ToolGraph(Component):
    """Learns from finished runs, suggests the next tools, keeps everything in memory; `edges` and `put` save and load it.

    With no half-life, learning is a sum: the same runs in any order, at once or one by one, give the same graph. Threads may
    share one graph.
    """

    embedder: Any = Field(default="default", exclude=True, description="of states and tools; see memctx.embed")
    half_life: float | None = Field(default=None, gt=0, description="seconds after which a count is half; None: never")
    states: int = Field(
        default=32, ge=0, description="kept on an edge; of more, a sample that no order of runs changes"
    )
    capacity: int = Field(default=100_000, ge=1, description="edges; over it the smallest are let go")
    success: float = Field(default=0.5, description="the least reward of a run that is learned from")
    gate: float = Field(
        default=0.9, ge=0, le=1, description="so sure without the state, it is not looked at; 1: always"
    )

    _edges: Edges = PrivateAttr()
    _ranker: Ranker = PrivateAttr()
    _lock: Any = PrivateAttr(default_factory=threading.RLock)

    def model_post_init(self, _: Any) -> None:
        self._edges = Edges(self.states, self.capacity, self.half_life)
        self._ranker = Ranker(self._edges, self.embedder)

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._edges.version

    @property
    def tools(self) -> list[str]:
        """The tools that were called in a learned run, sorted."""
        with self._lock:
            return sorted({edge.v for edge in self._edges.all()})

    def learn(self, visits: Sequence[Visit], *, reward: float = 1.0, now: float | None = None) -> list[Edge]:
        """Take in a finished run; returns the edges it changed. A run with `reward` below `success` changes nothing.

        `now`: seconds since 1970, by default the clock; only a half-life looks at it. Visits of no tool ("") are left out.
        Raises `ConfigError` for a reward that is NaN.
        """
        if math.isnan(reward):
            raise ConfigError("reward = nan: give the outcome as a number", field="reward")
        if reward < self.success:
            return []
        with self._lock:
            return self._edges.learn(visits, time.time() if now is None else now)

    def describe(self, documents: Mapping[str, str]) -> None:
        """What tools do (name and description, say). They need not have been called: a likeness to the state counts as well."""
        with self._lock:
            self._ranker.describe(documents)

    def suggest(
        self,
        path: Sequence[str],
        state: str = "",
        *,
        available: Collection[str] | None = None,
        k: int = 2,
        explain: bool = False,
    ) -> list[Suggestion]:
        """The `k` tools most likely to be called next, best first; a score is a probability.

        `path`: the tools called so far in this run. `state`: a summary of the dialogue, as `summarise` gives it. `available`: only
        these are suggested; None: every tool learned or described. `explain` fills `Suggestion.parts`.
        """
        with self._lock:
            return self._ranker.suggest([tool for tool in path if tool], state, available, k, self.gate, explain)

    def served(self, request: str, *, available: Collection[str] | None = None, k: int = 16) -> list[Suggestion]:
        """The `k` tools that served requests like this one, in whichever step, best first.

        A score is the share of the requests nearest to it that needed the tool, the nearer ones counting more. `request`: as
        `summarise` gives it. `available`: as for `suggest`.
        """
        with self._lock:
            return self._ranker.served(request, available, k)

    def facts(self, path: Sequence[str], state: str = "", *, available: Collection[str] | None = None) -> Facts:
        """What a suggestion is made of: for every tool that may come next, what is known of it before it is weighted."""
        with self._lock:
            return self._ranker.facts([tool for tool in path if tool], state, available, self.gate)

    def edges(self) -> Iterator[Edge]:
        """Every edge, sorted by (past, u, v), as it was when asked."""
        with self._lock:
            return iter(self._edges.all())

    def put(self, edges: Iterable[Edge]) -> None:
        """Set these edges, as `edges` or `learn` gave them; one that is there is replaced."""
        with self._lock:
            self._edges.put(edges)

    @property
    def graph(self) -> Any:
        """A `networkx.MultiDiGraph` for drawing: nodes are tools and START, an edge is keyed by its past and has its facts."""
        import networkx as nx  # type: ignore[import-untyped]  # a fifth of a second

        with self._lock:
            drawn = nx.MultiDiGraph()
            for edge in self._edges.all():
                facts = {"count": edge.count, "bonus": edge.bonus, "states": edge.states, "updated": edge.updated}
                drawn.add_edge(edge.u, edge.v, key=edge.past, **facts)
            return drawn
