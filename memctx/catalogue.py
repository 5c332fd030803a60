"""The tools a host has, found by what they do.

    catalogue = Catalogue()
    catalogue.sync(tools)                          # any host's tools; again whenever they may have changed
    for found in catalogue.search("remind me at nine", k=5):
        print(found.tool.id, found.score)

Names, descriptions, arguments and servers are ranked on together, with example queries where `learn` was told some.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import is_
from typing import TYPE_CHECKING, Any

from pydantic import Field

from memctx._tool_rank_read import Tool, read
from memctx.component import Settings
from memctx.errors import ConfigError, NotFound

if TYPE_CHECKING:
    from memctx._tool_rank import Ranker
    from memctx._tool_rank_used import Used
    from memctx._tool_rank_words import Floats
    from memctx.embed import Embedder

__all__ = ["Catalogue", "Changes", "Found", "Ranking", "Tool", "shared"]

SHARED = 16  # catalogues that `shared` keeps, the last used
CLOSELY = 4  # tools looked at closely for each that is wanted


class Ranking(Settings):
    """What can be set about a catalogue. `examples`: example queries kept for each tool, the newest."""

    examples: int = Field(default=32, ge=1)
    used: float = 6.0  # what a unanimous vote of near examples adds to a score, which is a log-odds
    prior: float = 3.0  # what a prior of one adds


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
        from memctx._tool_rank import static
        from memctx.embed import embedder as embedder_for

        self.settings = settings or Ranking()
        self._embedder = static() if embedder == "default" else embedder_for(embedder)
        self._lock = threading.RLock()
        self._given: tuple[Any, ...] = ()
        self._read: dict[int, tuple[Tool, ...]] = {}  # by the identity of an object in `_given`
        self._tools: dict[str, Tool] = {}
        self._examples: dict[str, OrderedDict[str, None]] = {}
        self._ranker: Ranker | None = None
        self._ready: _Ready | None = None

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
        tools = list(tools)
        with self._lock:
            read_now = [self._known(place, raw) or tuple(read(raw)) for place, raw in enumerate(tools)]
            found = _by_id(tool for several in read_now for tool in several)
            old = self._tools
            changes = Changes(
                tuple(key for key in found if key not in old),
                tuple(key for key, tool in found.items() if key in old and old[key].digest != tool.digest),
                tuple(key for key in old if key not in found),
            )
            self._tools = found
            self._given = tuple(tools)
            self._read = {id(raw): several for raw, several in zip(tools, read_now, strict=True)}
            if changes or list(old) != list(found):
                self._examples = {key: kept for key, kept in self._examples.items() if key in found}
                self._ranker = None
            self._ready = None
            return changes

    def _known(self, place: int, raw: Any) -> tuple[Tool, ...]:
        """What was read before of this very object, or of an equal one at its place."""
        if id(raw) in self._read:
            return self._read[id(raw)]
        if place < len(self._given) and isinstance(raw, dict):
            old = self._given[place]
            with suppress(RecursionError):
                if isinstance(old, dict) and raw == old:
                    return self._read[id(old)]
        return ()

    def learn(self, query: str, tool_id: str) -> None:
        """Remember that a query was answered by a tool; the newest examples are kept. Raises `NotFound`."""
        with self._lock:
            tool = self.get(tool_id)
            kept = self._examples.setdefault(tool.id, OrderedDict())
            kept.pop(query, None)
            kept[query] = None
            while len(kept) > self.settings.examples:
                kept.popitem(last=False)
            self._ready = None

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
        ready = self._now()
        if not ready.tools or not query.strip():
            return []
        import numpy as np

        extra = self._extra(ready, query, prior)
        allowed = None if only is None else np.array([tool.id in only or tool.name in only for tool in ready.tools])
        also = np.any(list(extra.values()), axis=0) if extra else None
        likely, parts = ready.ranker.scores(query, CLOSELY * k, allowed, also)
        more = {name: values[likely] for name, values in extra.items()}
        scores = parts.sum(axis=1) + sum(more.values())
        best = np.argsort(-scores, kind="stable")[:k].tolist()
        return [
            Found(ready.tools[likely[at]], float(scores[at]), _why(parts[at], more, at) if explain else {})
            for at in best
        ]

    def _extra(self, ready: _Ready, query: str, prior: Mapping[str, float] | None) -> dict[str, Floats]:
        """What is added to the score of each tool, by where it comes from."""
        import numpy as np

        found: dict[str, Floats] = {}
        if ready.used is not None:
            found["used"] = np.float32(self.settings.used) * ready.used.votes(query)
        if prior:
            given = [prior.get(tool.id, prior.get(tool.name, 0.0)) for tool in ready.tools]
            found["prior"] = self.settings.prior * np.array(given, np.float32)
        return found

    def _now(self) -> _Ready:
        """The tools, their ranker and examples, of one moment; made when they are first asked for."""
        ready = self._ready
        if ready is not None:
            return ready
        with self._lock:
            if self._ready is None:
                from memctx._tool_rank import Ranker
                from memctx._tool_rank_used import Used

                tools = list(self._tools.values())
                if self._ranker is None and tools:
                    self._ranker = Ranker(tools, self._embedder)
                places = {tool.id: at for at, tool in enumerate(tools)}
                used = Used(self._examples, places, self._embedder) if self._examples else None
                self._ready = _Ready(tools, self._ranker, used)
            return self._ready


@dataclass(frozen=True, slots=True)
class _Ready:
    tools: list[Tool]
    ranker: Any  # a Ranker, where there are tools
    used: Used | None


def _why(parts: Floats, more: Mapping[str, Floats], at: int) -> dict[str, float]:
    from memctx._tool_rank import NAMES

    return dict(zip(NAMES, parts.tolist(), strict=True)) | {name: float(values[at]) for name, values in more.items()}


def _by_id(tools: Iterable[Tool]) -> dict[str, Tool]:
    found: dict[str, Tool] = {}
    for tool in tools:
        if found.setdefault(tool.id, tool).digest != tool.digest:
            text = f"two tools have the id {tool.id!r:.80} and differ: name their servers, or rename one"
            raise ConfigError(text, code="same_tool", field="tools")
    return found


_shared: OrderedDict[tuple[str | bytes, ...], Catalogue] = OrderedDict()
_shared_lock = threading.Lock()


def shared(tools: Sequence[Any]) -> Catalogue:
    """The process's catalogue of these tools, made once for equal lists; the last used are kept. Do not `sync` it."""
    with _shared_lock:
        for key, known in reversed(_shared.items()):
            if known.holds(tools):
                _shared.move_to_end(key)
                return known
    key = _key(tools)
    with _shared_lock:
        made = _shared.get(key) or Catalogue()
        made.sync(tools)
        _shared[key] = made
        _shared.move_to_end(key)
        while len(_shared) > SHARED:
            _shared.popitem(last=False)
    return made


def _key(tools: Sequence[Any]) -> tuple[str | bytes, ...]:
    """The same for equal lists: of plain data their JSON, which is far cheaper than reading them; else what is read."""
    try:
        return (blake2b(json.dumps(tools).encode(), digest_size=32).digest(),)
    except (TypeError, ValueError, RecursionError):
        return tuple(tool.id + tool.digest for raw in tools for tool in read(raw))
