"""The tools a host has, found by what they do.

    catalogue = Catalogue()
    catalogue.sync(tools)                          # any host's tools; again whenever they may have changed
    for found in catalogue.search("remind me at nine", k=5):
        print(found.tool.id, found.score)

Names, descriptions, arguments and servers are ranked on together, with example queries where `learn` was told some.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_
from typing import TYPE_CHECKING, Any

from memctx._tool_rank_read import Tool, read
from memctx.component import Settings
from memctx.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from memctx._tool_rank import Ranker
    from memctx.embed import Embedder

__all__ = ["Catalogue", "Changes", "Found", "Ranking", "Tool", "shared"]

SHARED = 16  # catalogues that `shared` keeps, the last used


class Ranking(Settings):
    """What can be set about a catalogue. `examples`: example queries kept for each tool, the newest."""

    examples: int = 32
    prior: float = 3.0  # what a prior of one adds to a score, which is a log-odds


@dataclass(frozen=True, slots=True)
class Changes:
    """What a `sync` did: ids."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class Found:
    """One result. `parts` says what the score is made of, where `explain` was asked for."""

    tool: Tool
    score: float
    parts: Mapping[str, float] = field(default_factory=dict)


class Catalogue:
    """An index over tools that follows a host's list of them by content. Any number of threads may share one."""

    def __init__(self, embedder: str | Embedder = "default", *, settings: Ranking | None = None) -> None:
        from memctx.embed import embedder as embedder_for

        self.settings = settings or Ranking()
        self._embedder = embedder_for(embedder)
        self._lock = threading.RLock()
        self._given: tuple[Any, ...] = ()
        self._tools: dict[str, Tool] = {}
        self._examples: dict[str, OrderedDict[str, None]] = {}
        self._ranker: Ranker | None = None

    def __len__(self) -> int:
        return len(self._tools)

    @property
    def names(self) -> tuple[str, ...]:
        """Names as the host gave them, in its order; a name that two servers share is there twice."""
        return tuple(tool.name for tool in self._tools.values())

    def holds(self, tools: Sequence[Any]) -> bool:
        """Whether these very objects were synced last."""
        given = self._given
        return len(given) == len(tools) and all(map(is_, given, tools))

    def sync(self, tools: Sequence[Any]) -> Changes:
        """Follow the host's list; only what is new is read and embedded. The same objects as last time cost nothing.

        A host that changes a tool in place must pass a new object. Raises `ConfigError` for a tool that cannot be read, and
        for two tools of one id that differ.
        """
        if self.holds(tools):
            return Changes()
        with self._lock:
            found = _by_id(tools)
            old = self._tools
            changes = Changes(
                tuple(key for key in found if key not in old),
                tuple(key for key, tool in found.items() if key in old and old[key].digest != tool.digest),
                tuple(key for key in old if key not in found),
            )
            self._tools = found
            self._given = tuple(tools)
            if changes or list(old) != list(found):
                self._examples = {key: kept for key, kept in self._examples.items() if key in found}
                self._ranker = None
            return changes

    def learn(self, query: str, tool_id: str) -> None:
        """Remember that a query was answered by a tool; the newest examples are kept. Raises `NotFound`."""
        with self._lock:
            tool = self.get(tool_id)
            kept = self._examples.setdefault(tool.id, OrderedDict())
            kept.pop(query, None)
            kept[query] = None
            while len(kept) > self.settings.examples:
                kept.popitem(last=False)
            self._ranker = None

    def get(self, key: str) -> Tool:
        """A tool by its id, or by a name that only one tool has. Raises `NotFound`, and `ConfigError` for a shared name."""
        tools = self._tools
        if key in tools:
            return tools[key]
        named = [tool for tool in tools.values() if tool.name == key]
        if len(named) > 1:
            text = f"{key!r} is the name of {len(named)} tools: {', '.join(tool.id for tool in named)}; use an id"
            raise ConfigError(text, code="same_name", field="key")
        if not named:
            raise NotFound(f"no tool {key!r:.80} among {len(tools)}")
        return named[0]

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        only: Collection[str] | None = None,
        prior: Mapping[str, float] | None = None,
        explain: bool = False,
    ) -> list[Found]:
        """The k best tools for a query, best first, equal ones in the host's order.

        `only`: ids or names to choose from. `prior`: ids or names, each with 0 to 1, as a tool graph's probabilities.
        """
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ConfigError(f"k = {k!r}: give a whole number from 1", field="k")
        tools, ranker = self._ready()
        if not tools or not query.strip():
            return []
        import numpy as np

        scores, parts = ranker.scores(query)
        if prior:
            added = np.array([prior.get(tool.id, prior.get(tool.name, 0.0)) for tool in tools])
            parts = {**parts, "prior": self.settings.prior * added}
            scores = scores + parts["prior"]
        if only is not None:
            allowed = np.array([tool.id in only or tool.name in only for tool in tools])
            scores = np.where(allowed, scores, -np.inf)
        best = [int(at) for at in np.argsort(-scores, kind="stable")[:k] if scores[at] > -np.inf]
        why = {at: {name: float(part[at]) for name, part in parts.items()} if explain else {} for at in best}
        return [Found(tools[at], float(scores[at]), why[at]) for at in best]

    def _ready(self) -> tuple[list[Tool], Ranker]:
        """The tools and their ranker, of one moment."""
        with self._lock:
            tools = list(self._tools.values())
            if self._ranker is None:
                from memctx._tool_rank import Ranker

                self._ranker = Ranker(tools, {key: list(kept) for key, kept in self._examples.items()}, self._embedder)
            return tools, self._ranker


def _by_id(tools: Sequence[Any]) -> dict[str, Tool]:
    found: dict[str, Tool] = {}
    for raw in tools:
        for tool in read(raw):
            if found.setdefault(tool.id, tool).digest != tool.digest:
                text = f"two tools have the id {tool.id!r:.80} and differ: name their servers, or rename one"
                raise ConfigError(text, code="same_tool", field="tools")
    return found


_shared: OrderedDict[tuple[str, ...], Catalogue] = OrderedDict()
_shared_lock = threading.Lock()


def shared(tools: Sequence[Any]) -> Catalogue:
    """The process's catalogue of these tools, made once for equal lists; the last used are kept. Do not `sync` it."""
    with _shared_lock:
        for key, known in reversed(_shared.items()):
            if known.holds(tools):
                _shared.move_to_end(key)
                return known
    key = tuple(tool.digest for tool in _by_id(tools).values())
    with _shared_lock:
        made = _shared.get(key) or Catalogue()
        made.sync(tools)
        _shared[key] = made
        _shared.move_to_end(key)
        while len(_shared) > SHARED:
            _shared.popitem(last=False)
    return made
