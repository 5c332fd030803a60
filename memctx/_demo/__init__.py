"""The demo: one scripted agent over real files, under several ways of managing its context."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from memctx.errors import require

if TYPE_CHECKING:
    from memctx._demo.agent import Outcome


def compare(calls: int, watch: Callable[[str, int, int], None]) -> list[Outcome]:
    """Run the agent's script of `calls` tool calls under each way; `watch(way, turns done, turns)` is told of progress.

    Raises `MissingDependency` without LangChain.
    """
    require("langchain.agents", extra="langgraph")
    from memctx._demo.agent import run, ways
    from memctx._demo.script import write_script
    from memctx._demo.tools import Library

    library = Library(Path(sysconfig.get_path("stdlib")))
    turns = write_script(library, calls)
    found: list[Outcome] = []
    for way in ways():
        watch(way.name, 0, len(turns))
        found.append(run(way, library, turns, lambda done, name=way.name: watch(name, done, len(turns))))  # type: ignore[misc]
    return found
