"""A tool graph as a GraphML file: for other programs to draw, and to be read back whole."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree.ElementTree import ParseError

import networkx as nx  # type: ignore[import-untyped]

from memctx import component
from memctx.errors import ConfigError
from memctx.graphs._plain import edge_of, label, plain
from memctx.graphs.tool_graph import ToolGraph


def write(graph: ToolGraph, path: Path) -> None:
    """A node a tool with its `label`, an edge with `weight`, `count`, `bonus` and, as JSON, all of it. Raises `ConfigError`."""
    try:
        nx.write_graphml(_drawn(graph), path)
    except OSError as cause:
        raise ConfigError(f"cannot write {path}: {cause.strerror}", field="path", path=str(path)) from cause


def read(path: Path) -> ToolGraph:
    """The graph that `write` wrote. Raises `ConfigError` for a file that cannot be read, or that another program wrote."""
    try:
        found = nx.read_graphml(path, force_multigraph=True)
        graph: ToolGraph = component.load("graphs", json.loads(found.graph["settings"]))
        graph.put(edge_of(json.loads(data["edge"])) for _, _, data in found.edges(data=True))
    except OSError as cause:
        raise ConfigError(f"cannot read {path}: {cause.strerror}", field="graph", path=str(path)) from cause
    except (ParseError, nx.NetworkXError, KeyError, TypeError, ValueError) as cause:
        text = f"{path} is no tool graph: give a file that `memctx tools graph --graphml` wrote"
        raise ConfigError(text, field="graph", path=str(path)) from cause
    return graph


def _drawn(graph: ToolGraph) -> nx.MultiDiGraph[str]:
    """Node names are numbers: a tool's may hold what XML cannot."""
    edges = list(graph.edges())
    tools = sorted({tool for edge in edges for tool in (edge.u, edge.v)})
    numbers = {tool: f"n{place}" for place, tool in enumerate(tools)}
    drawn: nx.MultiDiGraph[str] = nx.MultiDiGraph(settings=json.dumps(graph.dump()))
    for tool, number in numbers.items():
        drawn.add_node(number, label=label(tool))
    for edge in edges:
        facts = {"weight": edge.count + edge.bonus, "count": edge.count, "bonus": edge.bonus}
        drawn.add_edge(numbers[edge.u], numbers[edge.v], **facts, edge=json.dumps(plain(edge)))
    return drawn
