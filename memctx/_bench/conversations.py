"""Public sets of long conversations as records and questions, each question with the records that hold its evidence.

LoCoMo (arXiv 2402.17753) and BEAM: one record a turn. RealMem: one record a session, and a question sees only the sessions
before it. A question without evidence that resolves to records is left out. Nothing else is taken from the answers.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from memctx.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Entry:
    """One record: its `key` in the data set, its text, the `thread` in which it was said, and who said it."""

    key: str
    text: str
    thread: str
    source: str = "user"


@dataclass(frozen=True, slots=True)
class Question:
    """`gold`: keys of the entries that hold the evidence. `seen`: how many entries there were when it was asked."""

    text: str
    gold: frozenset[str]
    seen: int


@dataclass(frozen=True, slots=True)
class Case:
    """One conversation: entries in the order they were written, questions in the order they are asked."""

    name: str
    entries: tuple[Entry, ...]
    questions: tuple[Question, ...]


def load(dataset: str, path: Path) -> list[Case]:
    """The conversations of a file. Raises `ConfigError` for another data set, or a file that is not in its format."""
    if dataset not in DATASETS:
        raise ConfigError(f"dataset {dataset!r} is not known; use one of {', '.join(DATASETS)}", field="dataset")
    try:
        return [DATASETS[dataset](value) for value in _values(path)]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as cause:
        raise ConfigError(f"cannot read {path}: {cause}", code="unreadable_file") from cause
    except (KeyError, TypeError, AttributeError, IndexError) as cause:
        text = f"{path} is not in the format of {dataset}: {type(cause).__name__} {cause}"
        raise ConfigError(text, code="wrong_format") from cause


def _values(path: Path) -> Iterator[Any]:
    """The objects of a JSON list or of JSON lines, gzipped or not."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        if ".jsonl" in path.name:
            yield from (json.loads(line) for line in file if line.strip())
        else:
            yield from json.load(file)


def _case(name: str, entries: list[Entry], questions: Iterator[Question]) -> Case:
    return Case(name, tuple(entries), tuple(question for question in questions if question.gold))


def _locomo(value: Any) -> Case:
    talk = value["conversation"]
    sessions = (name for name in talk if name.startswith("session_") and not name.endswith("_date_time"))
    entries: list[Entry] = []
    for name in sorted(sessions, key=lambda name: int(name.removeprefix("session_"))):
        date = talk[f"{name}_date_time"]
        for turn in talk[name]:
            said = f"{date} {turn['speaker']}: {turn['text']} {turn.get('blip_caption') or ''}".rstrip()
            entries.append(Entry(turn["dia_id"], said, name))
    known = {entry.key for entry in entries}
    gold = (frozenset(" ".join(q["evidence"]).replace(";", " ").split()) & known for q in value["qa"])
    asked = (Question(q["question"], found, len(entries)) for q, found in zip(value["qa"], gold, strict=True))
    return _case(value["sample_id"], entries, asked)


def _beam(value: Any) -> Case:
    entries: list[Entry] = []
    for number, batch in enumerate(value["chat"]):
        for group in batch["turns"]:
            for turn in group:
                said = f"{turn.get('time_anchor') or ''} {turn['role']}: {turn['content']}".lstrip()
                source = "user" if turn["role"] == "user" else "assistant"
                entries.append(Entry(str(turn["id"]), said, f"batch {number}", source))
    known = {entry.key for entry in entries}
    asked = [q for questions in value["probing_questions"].values() for q in questions]
    found = (frozenset(map(str, _leaves(q.get("source_chat_ids")))) & known for q in asked)
    questions = (Question(q["question"], gold, len(entries)) for q, gold in zip(asked, found, strict=True))
    return _case(value["id"], entries, questions)


def _leaves(value: Any) -> Iterator[Any]:
    """What lies in nested lists and dicts."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None:
        yield value


def _realmem(value: Any) -> Case:
    entries: list[Entry] = []
    questions: list[Question] = []
    for session in value["dialogues"]:
        known = {entry.key for entry in entries}
        turns = session["dialogue_turns"]
        for turn, answer in pairwise(turns):
            if turn.get("is_query"):
                gold = known & set(answer.get("memory_session_uuids") or ())
                questions.append(Question(turn["content"], frozenset(gold), len(entries)))
        said = "\n".join(f"{turn['speaker']}: {turn['content']}" for turn in turns)
        entries.append(
            Entry(session["session_uuid"], f"{session['current_time']} {said}", session["session_identifier"])
        )
    return _case(value["id"], entries, iter(questions))


DATASETS: dict[str, Callable[[Any], Case]] = {"locomo": _locomo, "beam": _beam, "realmem": _realmem}
