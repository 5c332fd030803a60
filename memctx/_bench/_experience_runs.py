"""Recorded runs as steps: what the agent had done and seen, and what it did then; in the normal form of its environment."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from memctx import runs
from memctx._bench._experience_actions import household, shell, sql
from memctx._bench._reading import reading

SHARE = 3  # one task of so many is tested when a folder is split inside
LONGEST = 750  # characters kept of what was done (its end) and of what was seen (its beginning)


@dataclass(frozen=True, slots=True)
class Step:
    """One decision: `did` and `saw` are the agent's last action and what came after it; `form` is what it did then."""

    did: str
    saw: str
    action: str
    form: str
    before: str  # form of the action before it in the run, "" at the first

    @property
    def situation(self) -> str:
        """What an agent can look experiences up with at this step."""
        return f"{self.did[-LONGEST:]}\n{self.saw[:LONGEST]}".strip()


@dataclass(frozen=True, slots=True)
class Story:
    """A run with its reported outcome. `task`: which one it is; `asked`: its text, as the agent saw it."""

    id: str
    task: str
    asked: str
    steps: tuple[Step, ...]
    outcome: float


@dataclass(frozen=True, slots=True)
class Kind:
    """A data set: how its files begin, the normal form of its actions, and from which outcome on a run ended well.

    `spoken`: an action is what the agent says; else it is a call.
    """

    name: str
    files: tuple[str, ...]
    form: Callable[[str], str]
    well: float = 0.5
    spoken: bool = False


def _tool(text: str) -> str:
    """The tool's name."""
    return text.partition(" ")[0]


KINDS = (
    Kind("intercode_sql", ("intercode_sql",), sql, well=1.0),
    Kind("intercode_bash", ("intercode_bash",), shell, well=1.0),
    Kind("alfworld", ("alfworld",), household, spoken=True),
    *(
        Kind(f"tau_{domain}", (f"tau1_{domain}", f"tau2_{domain}"), _tool)
        for domain in ("airline", "retail", "telecom")
    ),
)


def stories(folder: Path, kind: Kind) -> list[Story]:
    """The runs of a kind below `folder` (or its `trajectories`) whose outcome is known and that took an action."""
    inside = folder / "trajectories"
    held = sorted((inside if inside.is_dir() else folder).glob("*.jsonl*"))
    paths = [path for path in held if path.name.startswith(kind.files)]
    with reading(f"runs of {kind.name}", folder):
        found = [story for path in paths for story in _of_file(path, kind)]
    return [story for story in found if story.steps]


def split(train: Path, test: Path, kind: Kind) -> tuple[list[Story], list[Story]]:
    """Runs to learn from and runs to predict; when both are one folder, by a hash of the task, so no task is on both sides."""
    if train.resolve() != test.resolve():
        known = stories(train, kind)
        seen = {story.task for story in known}
        return known, [story for story in stories(test, kind) if story.task not in seen]
    every = stories(train, kind)
    return [s for s in every if not _tested(s.task)], [s for s in every if _tested(s.task)]


def _tested(task: str) -> bool:
    return int(sha256(task.encode()).hexdigest(), 16) % SHARE == 0


def _of_file(path: Path, kind: Kind) -> Iterator[Story]:
    for record, run in zip(_records(path), runs.load(path), strict=True):
        if run.reward is not None:
            task = record["id"] if "turn_history" in record else record.get("task_id", record["id"])
            asked, steps = _told(run.messages, kind, _asked(record))
            yield Story(run.id, str(task), asked, tuple(steps), run.reward)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    opening = gzip.open if path.suffix == ".gz" else open
    with opening(path, "rt", encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines if line.strip())


def _asked(record: dict[str, Any]) -> str:
    """The task's own text where the first message holds more than that: MINT puts a worked example before it."""
    task = record.get("task")
    return str(task["prompt"]) if isinstance(task, dict) and "prompt" in task else ""


def _told(messages: Sequence[dict[str, Any]], kind: Kind, first: str) -> tuple[str, list[Step]]:
    """What the user asks, and the steps. What a simulated user does on its own side is neither done nor seen.

    `first`: what to take as the first thing the user says, "" to take it as it is.
    """
    asked = did = saw = before = ""
    steps: list[Step] = []
    for message in messages:
        text = _text(message.get("content"))
        if message["role"] == "assistant" and message.get("name") != "user":
            actions = [text] if kind.spoken else [_call(call) for call in message.get("tool_calls") or []]
            steps += [
                Step(did, saw, action, kind.form(action), before) for action in actions
            ]  # made together, none saw another
            before = steps[-1].form if actions else before
            did = "\n".join(actions) or text
        elif message["role"] in ("user", "tool") and text:
            saw = text if asked else first or text
            asked = asked or saw
    return asked, steps


def _call(call: dict[str, Any]) -> str:
    """A call as text: a shell's or database's command alone, else the tool's name and its arguments."""
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    try:
        command = json.loads(arguments).get("command")
    except (ValueError, AttributeError):
        command = None
    return command if name in ("sql", "bash") and isinstance(command, str) else f"{name} {arguments}"


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content or ""
