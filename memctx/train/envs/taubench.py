"""Tau-bench: a shop's or an airline's tools over its database, from the benchmark's JSON (arXiv 2406.12045, data MIT).

The reward is the paper's: 1 if the database is at the end as the gold actions leave it and all that had to be told was told,
else 0. Other than there nobody plays the user: the player is given the user's whole wish at once, and what it says is answered
with a yes. What the tools do is written from their schemas and held to recorded runs, since their code is not in the data.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from memctx.component import Component
from memctx.errors import ConfigError
from memctx.train.envs import _taubench_airline, _taubench_retail
from memctx.train.envs._json import calls
from memctx.train.envs._taubench import Desk, Refused, Row, Tool, problem

TOOLS: Mapping[str, Mapping[str, Tool]] = {"retail": _taubench_retail.TOOLS, "airline": _taubench_airline.TOOLS}
DONE = re.compile(r"\bDONE\b")
YES = "User: Yes, please go on. (Say DONE, with all that I asked to be told, once nothing is left to do.)"
FORM = 'a call is one JSON object such as {"name": "think", "arguments": {"thought": "..."}}'
Changed = dict[tuple[str, str], Row]


class TauBench(Component):
    """`path`: folder of v1_retail_db.json.gz and the other files of a domain. Seed n is task n of `split`, over and over.

    Of the tasks those are left out that are solved by doing nothing, unless `idle`. A run has `turns` turns.
    """

    path: str = ""
    domain: Literal["retail", "airline"] = "retail"
    split: Literal["train", "dev", "test"] = "test"
    idle: bool = False
    turns: int = Field(default=30, ge=1)
    players: ClassVar[int] = 1
    rules: ClassVar[str] = (
        f"You serve a user through tools, by a policy. To call a tool, write nothing but the call: {FORM}. Any other text is "
        "said to the user. Say DONE, with all that the user asked to be told, once nothing is left to do."
    )

    def start(self, seed: int) -> Service:
        """Raises `ConfigError` where files are absent, no task is left, or a task needs a tool that is not known."""
        return Service(self, seed % len(self.tasks()))

    def case(self) -> Case:
        """The domain: its policy, tools and tasks of all splits."""
        return _case(self.path, self.domain)

    def tasks(self) -> tuple[Task, ...]:
        """The tasks of the split."""
        found = tuple(
            task for task in self.case().tasks
            if f"-{self.split}-" in task.id and (self.idle or task.outputs or task.gold)
        )  # fmt: skip
        if not found:
            raise ConfigError(f"{self.domain} has no task of split {self.split!r}: take another split", field="split")
        return found

    def expert(self, seed: int) -> list[str]:
        """Answers that get the full reward."""
        task = self.tasks()[seed % len(self.tasks())]
        acts = [json.dumps({"name": each["name"], "arguments": each["kwargs"]}) for each in task.actions]
        ends = any(each["name"] == "transfer_to_human_agents" for each in task.actions)
        return acts if ends else [*acts, " ".join(["DONE", *task.outputs])]


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """`gold`: the rows that the gold actions change, as they leave them; `outputs`: what the user must be told."""

    id: str
    wish: str
    actions: tuple[Row, ...]
    outputs: tuple[str, ...]
    gold: Changed


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A domain, read once."""

    base: Mapping[str, Mapping[str, Row]]
    schemas: Mapping[str, Row]
    tools: Mapping[str, Tool]
    policy: str
    tasks: tuple[Task, ...]

    def call(self, changed: Changed, name: Any, arguments: Any) -> tuple[Changed, str]:
        """The rows that differ after a call, and what it answers."""
        if name not in self.tools:
            return changed, f"Error: no tool {name!r:.40}; known: {', '.join(self.tools)}"
        if wrong := problem(arguments, {**self.schemas[name]["parameters"], "type": "object"}):
            return changed, f"Error: {wrong}"
        desk = Desk(self.base, dict(changed))
        try:
            found = self.tools[name](desk, **arguments)
        except Refused as cause:
            return changed, f"Error: {cause}"
        return desk.changed, found if isinstance(found, str) else json.dumps(found)

    def difference(self, changed: Changed) -> Changed:
        """The rows that are not as they were at first, of those that were written to."""
        return {(table, key): row for (table, key), row in changed.items() if row != self.base[table].get(key)}


@dataclass(frozen=True, slots=True)
class Service:
    """`changed`: the rows that are not as at first; `heard`: what the last turn was answered; `said`: what the user was told."""

    of: TauBench
    number: int
    changed: Changed = field(default_factory=dict, hash=False)
    heard: str = ""
    said: tuple[str, ...] = ()
    turn: int = 0
    done: bool = False
    player: int = 0
    actions: tuple[str, ...] = ()

    @property
    def task(self) -> Task:
        return self.of.tasks()[self.number]

    @property
    def observation(self) -> str:
        if self.rewards:
            return ""
        if self.turn:
            return self.heard
        case = self.of.case()
        tools = "\n".join(json.dumps(schema) for schema in case.schemas.values())
        return f"{case.policy}\n\n# Tools\n{tools}\n\nUser: {self.task.wish}"

    @property
    def rewards(self) -> tuple[float, ...]:
        """A run that used up its turns has failed, as in the benchmark."""
        if not self.done:
            return (0.0,) if self.turn == self.of.turns else ()
        same = _cents(self.of.case().difference(self.changed)) == _cents(self.task.gold)
        return (float(same and all(_told(self.said, each) for each in self.task.outputs)),)

    def after(self, text: str) -> Service:
        """A call is answered by its tool; a text with a brace that is no call by an error, any other by the user."""
        call, turn = next(calls(text), None), self.turn + 1
        if call is not None:
            changed, heard = self.of.case().call(self.changed, call["name"], _arguments(call))
            done = call["name"] == "transfer_to_human_agents"
            return replace(self, changed=changed, heard=heard, turn=turn, done=done)
        if "{" in text:
            return replace(self, heard=f"Error: {FORM}", turn=turn)
        return replace(self, heard=YES, said=(*self.said, text), turn=turn, done=DONE.search(text) is not None)


def _arguments(call: Row) -> Any:
    """A model may write them as JSON text."""
    given = call.get("arguments", {})
    try:
        return json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):
        return given


def _told(said: tuple[str, ...], output: str) -> bool:
    """Whether a word or number was said by itself, as `10.50` for 10.5 too: digits within longer ones do not count."""
    zeros = "0*" if "." in output else r"(\.0+)?"
    wanted = rf"(?<![\w.]){re.escape(output.lower())}{zeros}(?!\w|\.\d)"
    return any(re.search(wanted, each.lower().replace(",", "")) for each in said)


def _cents(value: Any) -> Any:
    """The same with amounts rounded: sums in another order are no other database."""
    if isinstance(value, dict):
        return {key: _cents(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_cents(each) for each in value]
    return round(value, 2) if isinstance(value, float) else value


@lru_cache(maxsize=4)
def _case(path: str, domain: str) -> Case:
    if not path:
        raise ConfigError("taubench needs the folder with tau-bench's JSON, such as v1_retail_db.json.gz", field="path")
    stem = Path(path) / f"v1_{domain}"
    try:
        base = json.loads(gzip.decompress(Path(f"{stem}_db.json.gz").read_bytes()))
        lines = gzip.decompress(Path(f"{stem}_tasks.jsonl.gz").read_bytes()).decode().splitlines()
        listed = [each["function"] for each in json.loads(Path(f"{stem}_tools.json").read_text(encoding="utf-8"))]
        policy = Path(f"{stem}_policy.md").read_text(encoding="utf-8")
    except OSError as cause:
        raise ConfigError(f"path = {path!r}: cannot read tau-bench's {domain} ({cause})", field="path") from cause
    tools = {each["name"]: TOOLS[domain][each["name"]] for each in listed if each["name"] in TOOLS[domain]}
    case = Case(base, {each["name"]: each for each in listed}, tools, policy, ())
    return replace(case, tasks=tuple(_task(case, json.loads(line)) for line in lines))


def _task(case: Case, row: Row) -> Task:
    changed: Changed = {}
    for action in row["actions"]:
        if action["name"] not in case.tools:
            raise ConfigError(f"task {row['id']} needs the tool {action['name']!r}, which is not known", field="path")
        changed, _ = case.call(changed, action["name"], action["kwargs"])
    outputs, gold = tuple(map(str, row["outputs"])), case.difference(changed)
    return Task(row["id"], row["instruction"], tuple(row["actions"]), outputs, gold)
