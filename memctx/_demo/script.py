"""What the scripted model does, and what it is asked: made from the files that are on this machine.

The calls are run once here, beforehand, only to find questions whose answer lies long back when they are asked. The
agent runs them again for itself, and its model sees only the view it is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from random import Random

from memctx._demo.tools import Library

FOLDERS = ("asyncio", "email", "http", "multiprocessing", "unittest", "importlib", "xml", "urllib", "logging", "json")
FILES = (
    "argparse.py", "typing.py", "subprocess.py", "tarfile.py", "inspect.py", "socket.py", "pickle.py", "doctest.py",
    "dataclasses.py", "statistics.py", "threading.py", "shutil.py", "difflib.py", "ast.py", "ipaddress.py", "enum.py",
    "mailbox.py", "optparse.py", "locale.py", "os.py", "traceback.py", "uuid.py", "weakref.py", "tempfile.py",
)  # fmt: skip
LENGTHS = (260, 400, 130, 480, 330, 200, 430)  # lines read at a time: results of 500 to 6,000 tokens
OUTLINE = r"^(class|def|async def|[A-Z][A-Z_]{3,} =|__version__ =)"
CALLS_A_TURN = 4
KINDS = (
    ("line", "read_file"), ("size", "list_dir"), ("value", "read_file"), ("line", "grep"), ("version", "grep"),
    ("line", "read_file"), ("value", "grep"),
)  # fmt: skip
SMALLEST = 1_500  # characters a result must have to be part of the script
LAG = 35  # calls that lie at least between seeing a fact and being asked for it

DEFINED = re.compile(r"^(?:[^\s:]+:)?(\d+)[:\t]\s*(?:async def|def|class) ([A-Za-z]\w{5,})\b", re.MULTILINE)
LITERAL = r"\d{2,}|'[^'\\]{2,}'|\"[^\"\\]{2,}\""
CONSTANT = re.compile(rf"^(?:[^\s:]+:)?\d+[:\t]([A-Z][A-Z_]{{4,}}) = ({LITERAL})\s*$", re.MULTILINE)
VERSION = re.compile(r"^([\w/]+\.py):\d+:__version__ = (['\"][\d.]+['\"])\s*$", re.MULTILINE)
SIZE = re.compile(r"^(\S+\.py)  (\d+) bytes$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of the script."""

    tool: str
    arguments: dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about what; `pattern`, whose one group is the answer wherever it stands; the last call that showed it."""

    kind: str
    about: str
    text: str
    answer: str
    pattern: str
    source: Call
    lag: int = 0  # calls between that one and the question


@dataclass(frozen=True, slots=True)
class Turn:
    """A user message, the calls the model makes for it, and a question to answer at its end."""

    text: str
    calls: tuple[Call, ...]
    question: Question | None = None


def write_script(library: Library, calls: int) -> list[Turn]:
    """Turns with `calls` tool calls in all, at most what the files give; the later ones end with a question."""
    tried = ((call, library.call(call.tool, call.arguments)) for call in _exploration(library))
    large = islice(((call, result) for call, result in tried if len(result) >= SMALLEST), calls)
    plan, results = map(list, zip(*large, strict=True))
    facts = [(index, fact) for index, result in enumerate(results) for fact in _facts(result, plan[index])]
    everything, kinds, asked = "\n".join(results), cycle(KINDS), set[str]()
    turns: list[Turn] = []
    for start in range(0, len(plan), CALLS_A_TURN):
        part = tuple(plan[start : start + CALLS_A_TURN])
        done = start + len(part)
        question = _choose(next(kinds), _long_back(facts, done, min(LAG, calls // 4)), asked, everything)
        places = ", ".join(dict.fromkeys(str(call.arguments["path"]) for call in part))
        text = f"Read on in {places}."
        if question:
            asked.add(question.pattern)
            text += f" Then tell me: {question.text}"
        turns.append(Turn(text, part, question))
    return turns


def _exploration(library: Library) -> Iterator[Call]:
    """One topic after the other: its list of files where that is long, its outline, and parts of its largest files."""
    lengths = cycle(LENGTHS)
    yield Call("list_dir", {"path": "."})
    yield Call("grep", {"pattern": "^__(version|author|all)__ = ", "path": "."})
    for topic in _topics(library):
        files = sorted(library.files(topic), key=lambda file: (-file.stat().st_size, file))
        if len(files) >= 20:
            yield Call("list_dir", {"path": topic})
        yield Call("grep", {"pattern": OUTLINE, "path": topic})
        for file in files[:3]:
            start, path = 1, file.relative_to(library.root).as_posix()
            for lines in islice(lengths, 4 if len(files) == 1 else 1):
                yield Call("read_file", {"path": path, "start": start, "lines": lines})
                start += lines


def _topics(library: Library) -> Iterator[str]:
    """Folders and files in turn, those that are there; some were packages in one Python and modules in another."""
    for place in range(max(len(FOLDERS), len(FILES))):
        for names in (FOLDERS, FILES):
            if place < len(names) and (library.root / names[place]).exists():
                yield names[place]


def _facts(result: str, source: Call) -> Iterator[Question]:
    """Every fact a result states, as a question."""
    for line, name in DEFINED.findall(result):
        pattern = rf"(\d+)[:\s]\s*(?:async def|def|class) {name}\b"
        yield Question("line", name, f"on which line is {name} defined?", line, pattern, source)
    for name, value in CONSTANT.findall(result):
        pattern = rf"\b{name} = (\S[^\n]*?)\s*(?:\n|$)"
        yield Question("value", name, f"what is the value of {name}?", value, pattern, source)
    for file, value in VERSION.findall(result):
        pattern = rf"{re.escape(file)}:\d+:__version__ = (\S+)"
        yield Question("version", file, f"which __version__ does {file} state?", value, pattern, source)
    for file, size in SIZE.findall(result):
        pattern = rf"(?<!\S){re.escape(file)}\s+(\d+) bytes"
        yield Question("size", file, f"how many bytes has {file}?", size, pattern, source)


def _long_back(facts: Iterable[tuple[int, Question]], done: int, lag: int) -> list[Question]:
    """Facts last shown at least `lag` calls before call `done`."""
    latest = {fact.pattern: (index, fact) for index, fact in facts if index < done}
    return [replace(fact, lag=done - index) for index, fact in latest.values() if done - index >= lag]


def _choose(kind: tuple[str, str], facts: list[Question], asked: set[str], everything: str) -> Question | None:
    """One of `kind`, by what is asked and by tool, if there is one; its answer must be the only one in all results."""
    fresh = [fact for fact in facts if fact.pattern not in asked]
    Random(len(fresh)).shuffle(fresh)
    fresh.sort(key=lambda fact: (fact.kind, fact.source.tool) != kind)
    return next((fact for fact in fresh if set(re.findall(fact.pattern, everything)) == {fact.answer}), None)
