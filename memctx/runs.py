"""Recorded runs from files: what `replay`, the benchmarks and trainers read.

`load` yields runs one at a time, so a large JSONL file never stands in memory whole. Every family is converted to
OpenAI chat messages; `FORMATS` lists them. A file that cannot be read raises one error that names file, line and
remedy.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from memctx._runs import anthropic, functions, intercode, langchain, openai, sweagent, tau2
from memctx._runs.model import At, Run, reward_of
from memctx.errors import ConfigError, InvalidMessage

__all__ = ["FORMATS", "Run", "load", "load_dir"]

# Order matters: the particular before the general.
FAMILIES: tuple[ModuleType, ...] = (tau2, langchain, anthropic, openai, sweagent, functions, intercode)
FORMATS: dict[str, ModuleType] = {family.NAME: family for family in FAMILIES}
SUFFIXES = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz")


def load(path: str | os.PathLike[str], format: str = "auto") -> Iterator[Run]:
    """The runs of one JSON or JSONL file (`.gz` too), in file order.

    `format` is a name in `FORMATS`, or "auto" to look at each record's keys. A file may hold one run (an object, a bare
    list of messages, or one message a line) or many. Raises ConfigError for a file that cannot be read or a format that
    is not known, InvalidMessage for a record that breaks its format.
    """
    if format != "auto" and format not in FORMATS:
        raise ConfigError(f"format {format!r} is not known; use auto, {', '.join(FORMATS)}", code="unknown_format")
    return _load(Path(path), format)


def load_dir(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The run files among `paths`: a file as it is, a folder as its run files, sorted, not descending.

    In a folder, a file whose first record is no run is left out. Raises ConfigError when nothing is left.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += [p for p in sorted(path.iterdir()) if p.name.endswith(SUFFIXES) and _holds_runs(p)]
        else:
            found.append(path)
    if not found:
        raise ConfigError(f"no recorded runs found; give files or a folder of {', '.join(SUFFIXES)}", code="no_runs")
    return found


def _holds_runs(path: Path) -> bool:
    try:
        return next(load(path), None) is not None
    except (ConfigError, InvalidMessage):
        return False


def _load(path: Path, format: str) -> Iterator[Run]:
    stem = path.name.split(".")[0]
    count = 0
    for line, value in _messages_joined(_records(path)):
        at = At(str(path), line, stem)
        for record in _runs_in(value, at):
            count += 1
            run: Run = _family(record, format, at).convert(record, At(str(path), count, stem) if line == 1 else at)
            yield replace(run, reward=reward_of(record))
    if not count:
        raise ConfigError(f"{path} holds no run; it is empty", code="empty_file", file=str(path))


def _family(record: dict[str, Any], format: str, at: At) -> ModuleType:
    if format != "auto":
        return FORMATS[format]
    for family in FAMILIES:
        matches: Callable[[dict[str, Any]], bool] = family.matches
        if matches(record):
            return family
    keys = ", ".join(list(record)[:8]) or "none"
    raise at.bad(f"no known format has the keys {keys}; known: {', '.join(FORMATS)}", code="unknown_format")


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and "messages" not in value and ("role" in value or "lc" in value or "type" in value)


def _runs_in(value: Any, at: At) -> Iterator[dict[str, Any]]:
    """A record is a run, a bare list of messages, or a list of runs."""
    if isinstance(value, dict):
        yield value
    elif isinstance(value, list) and (not value or all(_is_message(item) for item in value)):
        yield {"messages": value}
    elif isinstance(value, list):
        for item in value:
            yield from _runs_in(item, at)
    else:
        raise at.bad(f"expected an object or a list of messages, got {type(value).__name__}")


def _messages_joined(records: Iterator[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """A file with one message a line is one run."""
    first = next(records, None)
    if first is None:
        return
    if _is_message(first[1]):
        yield 1, [first[1], *(value for _, value in records)]
        return
    yield first
    yield from records


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, JSON value) for each value of the file; a .json file that is one value gives line 1."""
    if ".jsonl" in path.name or ".ndjson" in path.name:
        yield from _lines(path, _read(path))
        return
    text = "".join(_read(path))
    if not text.strip():
        return
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if "\n" not in text.strip() or not text.lstrip().startswith("{") or "Extra data" not in error.msg:
            raise _not_json(path, error.lineno, error.msg) from error
    except RecursionError as error:
        raise _not_json(path, 1, "nested too deep") from error
    else:
        yield 1, value
        return
    yield from _lines(path, iter(text.splitlines()))


def _lines(path: Path, lines: Iterator[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise _not_json(path, number, error.msg) from error
        except RecursionError as error:
            raise _not_json(path, number, "nested too deep") from error


def _read(path: Path) -> Iterator[str]:
    try:
        opening = gzip.open if path.suffix == ".gz" else open
        with opening(path, "rt", encoding="utf-8-sig") as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise _unreadable(path, "it is not UTF-8 text; save it as UTF-8, or as .gz if it is compressed") from error
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, f"{getattr(error, 'strerror', None) or error}; check the path and the file") from error


def _unreadable(path: Path, why: str) -> ConfigError:
    return ConfigError(f"cannot read {path}: {why}", code="unreadable_file", file=str(path))


def _not_json(path: Path, line: int, why: str) -> ConfigError:
    text = f"{path}, line {line}: not JSON ({why}); each run file is JSON or one JSON value a line"
    return ConfigError(text, code="not_json", file=str(path), line=line)
