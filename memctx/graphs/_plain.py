"""An edge as data that JSON carries, its texts, and a tool's name as it may be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from memctx.graphs._state import parts
from memctx.graphs.tool_graph import Edge, State

EDGE, STATE = (tuple(field.name for field in fields(kind)) for kind in (Edge, State))


def plain(edge: Edge) -> dict[str, Any]:
    """The edge as data that `edge_of` turns back; `dataclasses.asdict`, and ten times as fast."""
    states = [{name: getattr(state, name) for name in STATE} for state in edge.states]
    return {**{name: getattr(edge, name) for name in EDGE}, "past": list(edge.past), "states": states}


def edge_of(data: Mapping[str, Any]) -> Edge:
    """The edge that `plain` wrote. Raises `KeyError`, `TypeError` for anything else."""
    states = tuple(State(**state) for state in data["states"])
    return Edge(**{**data, "states": states, "past": tuple(data["past"])})


def spoken(edge: Edge) -> set[str]:
    """The texts of an edge that are embedded: the parts of its states."""
    return {text for state in edge.states for text in parts(state.text) if text}


def label(tool: str) -> str:
    """A tool's name as one printable line; START has one of its own."""
    return (tool if tool.isprintable() else ascii(tool)[1:-1]) or "(start)"
