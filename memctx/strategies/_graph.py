"""What strategies that use a tool graph share: the graph, the calls so far, and the state of the dialogue."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from memctx.effects import Asks, Graph
from memctx.errors import EffectError
from memctx.strategies import Context

if TYPE_CHECKING:
    from memctx.graphs.tool_graph import ToolGraph

FILE = ".graphml"
PATH = 64  # newest calls that a suggestion may look at

_read: dict[tuple[str, float], ToolGraph] = {}  # by path and time of change


def graph_of(ctx: Context, source: str) -> Asks:
    """The `ToolGraph` named by `source`: a name in the session's memory, or a `.graphml` file. Read once a session.

    None for an empty name, and where the session has no memory. Raises `ConfigError`, `EffectError`.
    """
    if "graph" not in ctx.memo:
        ctx.memo["graph"] = _from_file(Path(source)) if source.endswith(FILE) else (yield from _from_memory(source))
    return ctx.memo["graph"]


def _from_memory(name: str) -> Asks:
    if not name:
        return None
    try:
        return (yield Graph(name))
    except EffectError as cause:
        if cause.code != "no_handler":
            raise
        return None


def _from_file(path: Path) -> ToolGraph:
    from memctx.graphs._graphml import read

    key = (str(path), path.stat().st_mtime if path.exists() else 0.0)
    graph = _read.get(key)
    if graph is None:
        graph = read(path)
        _read.clear()
        _read[key] = graph
    return graph


def path_of(ctx: Context) -> tuple[str, ...]:
    """The tools called so far, the newest last; at most 64."""
    calls = (call.name for step in reversed(ctx.transcript.steps) for call in reversed(step.calls))
    return tuple(islice(calls, PATH))[::-1]


def state_of(ctx: Context) -> str:
    """A summary of the dialogue, made without a model."""
    from memctx.graphs.tool_graph import summarise

    return summarise(ctx.transcript.messages)
