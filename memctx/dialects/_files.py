"""Paths and texts of the file dialect. What is said to the model is said in the words of the SDK's own tool."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from memctx.errors import FilterError, LimitError, NotFound
from memctx.records import Record

ROOT = "/memories"
PATH_BYTES = 1_024
MAX_LINES = 999_999
NAMED = 100  # lines that are named where a text stands more than once
_WIDTH = len(str(MAX_LINES))


def parse(path: str) -> str:
    """The canonical form of a path in /memories. Raises `FilterError` for one that leads out of it, however it is written."""
    plain = unicodedata.normalize("NFC", path)
    if plain != ROOT and not plain.startswith(f"{ROOT}/"):
        raise FilterError(f"Path must start with {ROOT}, got: {path}", field="path")
    names = [name for name in plain.split("/") if name not in ("", ".")]
    if any(".." in (name, _decoded(name)) or "/" in _decoded(name) or "\\" in name for name in names):
        raise FilterError(f"Path {path} would escape {ROOT} directory", field="path")
    if not plain.isprintable():
        raise FilterError(f"Path {path!r} has characters that cannot be shown. Use plain names.", field="path")
    if len(plain.encode("utf-8", "replace")) > PATH_BYTES:
        raise LimitError(f"The path is longer than {PATH_BYTES} bytes. Use a shorter one.")
    return "/" + "/".join(names)


def _decoded(name: str) -> str:
    """A name without any layers of percent signs."""
    while (plain := unquote(name)) != name:
        name = plain
    return name


def above(path: str) -> Iterator[str]:
    """The directories that a path lies in, below /memories."""
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(3, len(parts)))


def shown(record: Record) -> str:
    """The content of a file: its record's text after the first line, which is the path."""
    return record.text.removeprefix(f"{record.about}\n")


def fits(path: str, content: str, max_bytes: int) -> None:
    """Raises `LimitError` for a content that is too large."""
    size = len(content.encode("utf-8", "replace"))
    if size > max_bytes:
        raise LimitError(
            f"File {path} would have {size} bytes; the limit is {max_bytes}. Write less, or split the file."
        )
    if content.count("\n") >= MAX_LINES:
        raise LimitError(f"File {path} exceeds maximum line limit of {MAX_LINES:,} lines.")


def numbered(name: str, content: str, view_range: Any) -> str:
    """A file with line numbers; `view_range` [first, last], both included, -1 for the end."""
    lines, first = content.split("\n"), 0
    if view_range:
        start, end = _range(view_range)
        first = max(1, start) - 1
        lines = lines[first : len(lines) if end == -1 else end]
    return f"Here's the content of {name} with line numbers:\n" + "\n".join(_lines(lines, first))


def _range(given: Any) -> tuple[int, int]:
    if isinstance(given, list | tuple) and len(given) == 2 and all(map(_whole, given)):
        return given[0], given[1]
    raise FilterError(f"Invalid `view_range` parameter: {given!r:.40}. Give two line numbers.", field="view_range")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _lines(lines: list[str], first: int) -> Iterator[str]:
    return (f"{number:>{_WIDTH}}\t{line}" for number, line in enumerate(lines, first + 1))


def listing(path: str, files: Mapping[str, str]) -> str:
    """A directory two levels deep, without hidden names; the size of a directory is that of what is in it."""
    sizes: dict[str, int] = {}
    whole = 0
    for each, content in files.items():
        size = len(content.encode("utf-8", "replace"))
        whole += size
        names = each.removeprefix(f"{path}/").split("/")
        for depth in (1, 2):
            if any(name.startswith(".") for name in names[:depth]) or depth > len(names):
                break
            entry = "/".join(names[:depth]) + ("/" if depth < len(names) else "")
            sizes[entry] = sizes.get(entry, 0) + size
    entries = sorted(sizes, key=lambda entry: entry.rstrip("/").split("/"))
    head = f"Here're the files and directories up to 2 levels deep in {path}, excluding hidden items:"
    return "\n".join([head, f"{_size(whole)}\t{path}", *(f"{_size(sizes[each])}\t{path}/{each}" for each in entries)])


def _size(count: int) -> str:
    size, unit = float(count), "B"
    for larger in "KMG":
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{int(size)}{unit}" if size == int(size) else f"{size:.1f}{unit}"


def only_place(content: str, old: str, name: str) -> int:
    """Where the one occurrence of `old` starts. Raises `NotFound` for none, `FilterError` for several."""
    at = content.find(old) if old else -1
    if at < 0:
        raise NotFound(f"No replacement was performed, old_str `{old}` did not appear verbatim in {name}.")
    if content.find(old, at + len(old)) < 0:
        return at
    lines: list[str] = []
    line, last = 1, 0
    while at >= 0 and len(lines) < NAMED:
        line, last = line + content.count("\n", last, at), at
        lines.append(str(line))
        at = content.find(old, at + 1)
    text = f"No replacement was performed. Multiple occurrences of old_str `{old}` in lines: {', '.join(lines)}."
    raise FilterError(f"{text} Please ensure it is unique", field="old_str")


def around(content: str, line: int) -> str:
    """The lines from two before to two after the one with index `line`."""
    lines, first = content.split("\n"), max(0, line - 2)
    return "\n".join(_lines(lines[first : line + 3], first))


def inserted(content: str, line: Any, new: str) -> str:
    """The content with a text after its first `line` lines. Raises `FilterError`."""
    lines = content.split("\n")
    if not lines[-1]:
        lines.pop()
    if not _whole(line) or not 0 <= line <= len(lines):
        text = f"Invalid `insert_line` parameter: {line!r:.40}. It should be within the range [0, {len(lines)}]."
        raise FilterError(text, field="insert_line")
    lines.insert(line, new.rstrip("\n"))
    whole = "\n".join(lines)
    return whole if whole.endswith("\n") else f"{whole}\n"
