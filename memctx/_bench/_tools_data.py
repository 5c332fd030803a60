"""Four public sets of tools, as hosts would give them, and of queries with the tools they need.

ToolBench (real REST endpoints), LiveMCPBench with Docker's MCP registry as distractors, Seal-Tools (synthetic), MetaTool
(plugins; queries that need one and two). A tool is a mapping in MCP's form, so that what reads it reads any host's.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memctx._bench._reading import reading
from memctx.errors import ConfigError

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Query:
    """`gold`: the tools it needs; each is any one of some ids, for tools that several servers have alike."""

    id: str
    text: str
    gold: tuple[frozenset[str], ...]


@dataclass(frozen=True, slots=True)
class ToolSet:
    """A catalogue and its queries; ids are those that `Catalogue` gives."""

    name: str
    tools: list[Raw]
    queries: list[Query]


def load(folder: Path, name: str) -> ToolSet:
    """One of `SETS`. Raises `ConfigError` for a name or a folder that is not known."""
    if name not in SETS:
        raise ConfigError(f"tool set {name!r:.40} is not known; use {', '.join(SETS)}", field="datasets")
    with reading(f"the tool set {name}", folder):
        found = SETS[name](folder)
    if not found.tools or not found.queries:
        raise ConfigError(f"{folder} holds no tools or no queries of the tool set {name}", field="path")
    return found


def toolbench(folder: Path) -> ToolSet:
    tools = [
        _tool(
            one["api_name"],
            one["api_description"],
            (
                (each["name"], each.get("description"))
                for each in one["required_parameters"] + one["optional_parameters"]
            ),
            server=f"{one['category_name']}/{one['tool_name']}",
        )
        for one in _lines(folder / "toolbench_apis.jsonl.gz")
    ]
    queries = [_query(one, ([each] for each in one["gold"])) for one in _lines(folder / "toolbench_queries.jsonl.gz")]
    return ToolSet("toolbench", tools, queries)


def livemcp(folder: Path) -> ToolSet:
    tools = [dict(one) for one in _lines(folder / "livemcp_tools.jsonl.gz")]
    for one in _lines(folder / "mcp_registry_tools.jsonl.gz"):
        listed = one.get("arguments") or ()
        pairs = ((each.get("name", ""), each.get("desc")) for each in listed if isinstance(each, Mapping))
        known = {"inputSchema": one["inputSchema"]} if one.get("inputSchema") else {}
        tools.append(_tool(one["name"], one.get("description"), pairs, server=one["server"]) | known)
    queries = (_query(one, one["gold"]) for one in _lines(folder / "livemcp_queries.jsonl.gz"))
    return ToolSet("livemcp", tools, [query for query in queries if query.gold])


def sealtools(folder: Path) -> ToolSet:
    tools = [
        _tool(
            one["api_name"],
            one["api_description"],
            ((name, each.get("description")) for name, each in one["parameters"].items()),
            category=one["field"],
        )
        for one in _lines(folder / "sealtools_tools.jsonl.gz")
    ]
    known = {one["name"] for one in tools}
    lines = _lines(folder / "sealtools_queries.jsonl.gz")
    queries = (_query(one, ([each["api"]] for each in one["calling"] if each["api"] in known)) for one in lines)
    return ToolSet("sealtools", tools, [query for query in queries if query.gold])


def metatool(folder: Path) -> ToolSet:
    plugins = json.loads((folder / "metatool_plugins.json").read_text(encoding="utf-8"))
    tools = [_tool(name, description, ()) for name, description in plugins.items()]
    queries = [
        _query(one, ([each] for each in one["gold"] if each in plugins))
        for file in ("metatool_single_queries.jsonl.gz", "metatool_multi_queries.jsonl")
        for one in _lines(folder / file)
    ]
    return ToolSet("metatool", tools, [query for query in queries if query.gold])


SETS: dict[str, Callable[[Path], ToolSet]] = {
    "toolbench": toolbench,
    "livemcp": livemcp,
    "sealtools": sealtools,
    "metatool": metatool,
}


def _lines(path: Path) -> Iterator[Any]:
    packed = path.read_bytes()
    text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode("utf-8")
    yield from (json.loads(line) for line in text.split("\n") if line)


def _tool(name: str, description: str | None, arguments: Iterable[tuple[str, str | None]], **known: str) -> Raw:
    properties = {each: {"description": told or ""} for each, told in arguments}
    schema = {"type": "object", "properties": properties}
    return {"name": name, "description": description or "", "inputSchema": schema, **known}


def _query(one: Raw, gold: Iterable[Iterable[str]]) -> Query:
    groups = dict.fromkeys(frozenset(each) for each in gold)
    return Query(str(one["id"]), one["query"], tuple(group for group in groups if group))
