"""A large catalogue of real tools in OpenAI's form, and requests with the tools that serve them, from `../shared/data/tools`."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

FOLDS = 3
DATA = Path(__file__).parents[2] / "shared" / "data" / "tools"
LONGEST_NAME = 64


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks. `needs`: the same in pieces, as an agent would search for it. `gold`: sets of names, one of each serves."""

    source: str
    text: str
    needs: tuple[str, ...]
    gold: tuple[frozenset[str], ...]


@dataclass(frozen=True, slots=True)
class Draw:
    """A catalogue, requests of one fold, and those of the other folds, to learn from."""

    tools: list[dict[str, Any]]
    requests: list[Request]
    others: list[Request]


class Tools:
    """The host's tools by the id they have in the data; provider names are unique and allowed everywhere.

    `origin`: by id, what the data say of where a tool comes from: its server, and the server's description or category.
    """

    def __init__(self, folder: Path = DATA) -> None:
        self.by_id: dict[str, dict[str, Any]] = {}
        self.origin: dict[str, dict[str, str]] = {}
        self._names: set[str] = set()
        for row in (*_rows(folder, "livemcp_tools"), *_rows(folder, "mcp_registry_tools")):
            self._put(row["id"], row["server"], row["name"], row.get("description"), row.get("inputSchema"))
            self.origin[row["id"]] = {
                key: row[key] for key in ("server", "server_description", "category") if row.get(key)
            }
        for row in _rows(folder, "toolbench_apis"):
            given = [*row["required_parameters"], *row["optional_parameters"]]
            schema = _schema({each["name"]: str(each.get("description", "")) for each in given})
            self._put(row["id"], "", f"{row['tool_name']}_{row['api_name']}", row["api_description"], schema)
            self.origin[row["id"]] = {"server": f"{row['category_name']}/{row['tool_name']}"}
        for row in _rows(folder, "sealtools_tools"):
            schema = _schema({name: each.get("description", "") for name, each in row["parameters"].items()})
            self._put(row["api_name"], "", row["api_name"], row["api_description"], schema)
            self.origin[row["api_name"]] = {"category": row["field"]}

    def _put(self, key: str, server: str, name: str, description: str | None, schema: Any) -> None:
        plain = _plain(name)
        if plain in self._names:
            plain = _plain(f"{server}_{name}")
        number = 1
        while plain in self._names:
            number += 1
            plain = f"{plain[: LONGEST_NAME - 4]}_{number}"
        self._names.add(plain)
        function = {"name": plain, "description": description or "", "parameters": schema or _schema({})}
        self.by_id[key] = {"type": "function", "function": function}

    def named(self, keys: Any) -> frozenset[str]:
        return frozenset(self.by_id[key]["function"]["name"] for key in keys if key in self.by_id)


def fold(text: str) -> int:
    """The fold of a request, the same everywhere."""
    return zlib.crc32(text.encode()) % FOLDS


def load(count: int, requests: int, left_out: int, seed: int, folder: Path = DATA) -> Draw:
    """`count` tools, those that serve the requests among them, and `requests` requests of the fold `left_out`, shuffled.

    A third of each source, as far as its fold reaches; the larger sources make up for a smaller one.
    """
    tools, draw = Tools(folder), Random(seed)
    every = [list(_requests(folder, source, tools)) for source in ("livemcp", "sealtools", "toolbench")]
    chosen: list[Request] = []
    new = [[each for each in found if fold(each.text) == left_out] for found in every]
    for place, found in enumerate(sorted(new, key=len)):
        share = round((requests - len(chosen)) / (len(new) - place))
        chosen += draw.sample(found, min(share, len(found)))
    draw.shuffle(chosen)
    needed = {name for each in chosen for names in each.gold for name in names}
    rows = [{**tool, **tools.origin[key]} for key, tool in tools.by_id.items()]
    draw.shuffle(rows)
    rows.sort(key=lambda tool: tool["function"]["name"] not in needed)
    rows = rows[:count]
    draw.shuffle(rows)
    return Draw(rows, chosen, [each for found in every for each in found if fold(each.text) != left_out])


def _requests(folder: Path, source: str, tools: Tools) -> Iterator[Request]:
    for row in _rows(folder, f"{source}_queries"):
        if source == "livemcp":
            text, steps = row["Question"], str(row["Annotator Metadata"].get("Steps", ""))
            needs, gold = re.split(r"\s*\n\s*", steps.strip()), row["gold"]
        elif source == "sealtools":
            text, gold = row["query"], [[call["api"]] for call in row["calling"]]
            needs = sentences(text)
        else:
            text, gold = row["query"], [[key] for key in row["gold"]]
            needs = sentences(text)
        sets = tuple(names for keys in gold if (names := tools.named(keys)))
        if sets:
            yield Request(source, text, tuple(filter(None, needs)), sets)


def sentences(text: str) -> list[str]:
    return [part for part in re.split(r"(?<=[.?!])\s+", text.strip()) if part]


def _rows(folder: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _plain(name: str) -> str:
    return (re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_") or "tool")[:LONGEST_NAME]


def _schema(properties: dict[str, str]) -> dict[str, Any]:
    described = {name: {"type": "string", "description": text} for name, text in properties.items()}
    return {"type": "object", "properties": described}
