"""Skimming plain text by lines: code, logs, tables, labelled fields, listings and prose, each by its own marks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from memctx._skim.words import ERROR, NUMBERED

LABEL = re.compile(r"[ \t]{0,40}(?:[-*] )?([A-Za-z][\w .-]{0,38}?) ?[:=] {0,4}(\S.*)?$")
DEFINES = re.compile(
    r"\s{0,60}(?:(?:export|public|private|protected|static|async|abstract|final|pub|default) ){0,4}"
    r"(?:def|class|function|func|fn|interface|struct|enum|trait|impl|module|package|type) +[A-Za-z_$]"
)
HEADING = re.compile(r"(#{1,6} |={3,}|\[File: |diff --git |@@ |---? |\+\+\+ )")
TABLE = re.compile(r"\||\t| {3,}\S")
SENTENCE_END = re.compile(r"(?<=[.!?\u3002]) (?=\S)")
DIGITS = re.compile(r"\d+")
WIDTH = 140  # characters kept of one line


def labelled(text: str) -> Iterator[tuple[str, str]]:
    """(label, rest) of every line; the label is empty where a line has none, as in numbered lines of code."""
    for line in text.splitlines():
        found = None if NUMBERED.match(line) else LABEL.match(line[:400])
        if found and found[2] and not found[2].startswith("//"):
            yield found[1], line[found.start(2) :]
        elif line:
            yield "", line


def outline(text: str, limit: int) -> str:
    """The lines that tell what the text is, in order and at most `limit` characters: errors, first and last lines,
    headings, definitions, labelled fields and table rows; of lines alike but for their numbers, the first."""
    lines = [part for line in text.splitlines() for part in _sentences(line)]
    ranked: list[tuple[int, int]] = []
    seen: set[str] = set()
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        shape = DIGITS.sub("0", line[:WIDTH])
        rank = _rank(line, number, len(lines)) + (3 if shape in seen else 0)
        seen.add(shape)
        ranked.append((rank, number))
    return _fill(lines, sorted(ranked), limit)


def _sentences(line: str) -> list[str]:
    """A long line of prose as its sentences, so that the head of each can be kept."""
    return SENTENCE_END.split(line) if len(line) > 2 * WIDTH else [line]


def _fill(lines: list[str], ranked: list[tuple[int, int]], limit: int) -> str:
    kept: dict[int, str] = {}
    left = limit
    for _, number in ranked:
        line = _cut(lines[number])
        if left < len(line):
            break
        kept[number] = line
        left -= len(line) + 1
    return "\n".join(kept[number] for number in sorted(kept))


def _cut(line: str) -> str:
    line = line.rstrip()
    return line if len(line) <= WIDTH else line[:WIDTH].rstrip() + "..."


def _rank(line: str, number: int, count: int) -> int:
    """0 is kept first."""
    head = line[:300]
    if number < 2 or number == count - 1 or ERROR.search(head):
        return 0
    bare = NUMBERED.sub("", head)
    if DEFINES.match(bare) or HEADING.match(bare):
        return 1
    if LABEL.match(bare) or TABLE.search(bare):
        return 2
    return 3
