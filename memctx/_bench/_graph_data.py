"""Recorded runs for `memctx bench graph`: the calls of each run, and what stood before each."""

from __future__ import annotations

import ast
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memctx._bench._reading import reading
from memctx.errors import InvalidMessage
from memctx.graphs._visits import visits
from memctx.graphs.tool_graph import Visit, summarise
from memctx.runs import load


@dataclass(frozen=True)
class Recorded:
    """One run: the task it belongs to, its calls, the tools it could call with what each does, and how it ended."""

    task: str
    visits: tuple[Visit, ...]
    tools: Mapping[str, str]
    reward: float = 1.0


@dataclass
class _Dialogue:
    """Messages so far and the calls seen in them."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    visits: list[Visit] = field(default_factory=list)

    def say(self, role: str, text: str) -> None:
        self.messages.append({"role": role, "content": text})

    def call(self, *calls: tuple[str, str]) -> None:
        """Calls of one message: (tool, arguments as JSON). None of them knows what the others return."""
        state = summarise(self.messages)
        self.visits += [Visit(tool, state) for tool, _ in calls]
        made = [{"type": "function", "function": {"name": tool, "arguments": given}} for tool, given in calls]
        self.messages.append({"role": "assistant", "content": None, "tool_calls": made})


def read(folder: Path, dataset: str) -> list[Recorded]:
    """The runs of a set that have a call. `folder` as `shared/data`; a file that is not there gives no runs. Raises `ConfigError`."""
    with reading(f"runs of {dataset}", folder):
        return [run for run in DATASETS[dataset](folder) if run.visits]


def _tau(folder: Path, pattern: str) -> Iterator[Recorded]:
    for file in sorted((folder / "trajectories").glob(pattern)):
        for record, run in zip(_records(file), load(file), strict=True):
            domain = str(record["domain"])
            version = "tau2" if file.name.startswith("tau2") else "v1"
            tools = _documents(_json(folder / "taubench" / f"{version}_{domain}_tools.json"))
            if "solo" in str(record.get("agent")):  # the agent acts on the user's phone itself
                tools |= _documents(_json(folder / "taubench" / f"{version}_{domain}_user_tools.json"))
            reward = float(record.get("reward") or 0.0)
            yield Recorded(f"{domain}/{record['task_id']}", tuple(visits(run.messages)), tools, reward)


def _complexfunc(folder: Path) -> Iterator[Recorded]:
    tools = _documents(_json(folder / "trajectories" / "complexfuncbench_tools.json"))
    for record in _records(folder / "trajectories" / "complexfuncbench.jsonl.gz"):
        talk = _Dialogue()
        talk.say("user", record["input"])
        for call in record["output"]:
            talk.call((call["name"], json.dumps(call["arguments"])))
            talk.say("tool", json.dumps(call.get("response")))
        yield Recorded(str(record["id"]), tuple(talk.visits), tools)


BFCL_TOOLKITS = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "TwitterAPI": "posting_api",
    "VehicleControlAPI": "vehicle_control",
}


def _bfcl(folder: Path) -> Iterator[Recorded]:
    documents = _json(folder / "bfcl" / "func_docs.json") or {}
    by_class = {name: _documents(documents.get(toolkit)) for name, toolkit in BFCL_TOOLKITS.items()}
    for file in sorted((folder / "bfcl").glob("multi_turn_*.jsonl.gz")):
        for record in _records(file):
            talk = _Dialogue()
            for asked, calls in zip(record["question"], record["ground_truth"], strict=True):
                for message in asked:
                    talk.say(message["role"], message["content"])
                for call in calls:
                    talk.call(_parsed(call))
            tools = {name: text for each in record["involved_classes"] for name, text in by_class[each].items()}
            kept = {name: text for name, text in tools.items() if name not in record.get("excluded_function", [])}
            yield Recorded(str(record["id"]).rpartition("_")[2], tuple(talk.visits), kept)


def _parsed(call: str) -> tuple[str, str]:
    """`mv(source='a')` as ("mv", '{"source": "a"}')."""
    made = ast.parse(call, mode="eval").body
    if not isinstance(made, ast.Call):
        raise InvalidMessage(f"{call!r:.80} is no call", code="bad_run")
    given = {keyword.arg or "": ast.unparse(keyword.value) for keyword in made.keywords}
    given |= {str(at): ast.unparse(value) for at, value in enumerate(made.args)}
    return ast.unparse(made.func), json.dumps(given)


def _ultratool(folder: Path) -> Iterator[Recorded]:
    described = _json(folder / "toolgraphs" / "ultratool_tool_desc.json") or {"nodes": []}
    tools = {node["id"]: f"{node['id']} {node['desc']}" for node in described["nodes"]}
    for record in _records(folder / "toolgraphs" / "ultratool_tasks.jsonl.gz"):
        talk = _Dialogue()
        talk.say("user", record["user_request"])
        for node in record["task_nodes"]:
            talk.call((node["task"], "{}"))
        yield Recorded(str(record["id"]), tuple(talk.visits), tools)


def held_out(task: str) -> bool:
    """A third of the tasks, by hash: the test side where one folder is both."""
    return zlib.crc32(task.encode()) % 3 == 0


DATASETS: dict[str, Callable[[Path], Iterator[Recorded]]] = {
    "tau2": lambda folder: _tau(folder, "tau2_*.jsonl.gz"),
    "tau1": lambda folder: _tau(folder, "tau1_*.jsonl.gz"),
    "complexfuncbench": _complexfunc,
    "bfcl": _bfcl,
    "ultratool": _ultratool,
}


def _documents(tools: Any) -> dict[str, str]:
    from memctx._tools import definitions

    return {tool["name"]: f"{tool['name']} {tool.get('description', '')}" for tool in definitions(tools or [])}


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _records(file: Path) -> Iterator[dict[str, Any]]:
    if file.exists():
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
