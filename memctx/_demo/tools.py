"""The agent's three tools over real files: list, search, read. What they return is what is on the disk."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LONGEST = 21_000  # characters a result may have: about 6,000 tokens of numbered source


@dataclass(frozen=True, slots=True)
class Library:
    """Python source under `root`; paths are relative to it."""

    root: Path

    def list_dir(self, path: str) -> str:
        """List the Python files under a folder, with their sizes in bytes."""
        lines = [f"{self._name(file)}  {file.stat().st_size} bytes" for file in self.files(path)]
        return bounded(lines, f"{len(lines)} files under {path}")

    def grep(self, pattern: str, path: str) -> str:
        """Search a file, or the Python files under a folder, for a regular expression. Gives file:line:text."""
        wanted = re.compile(pattern)
        lines = [
            f"{self._name(file)}:{number}:{line}"
            for file in self.files(path)
            for number, line in enumerate(source(file), 1)
            if wanted.search(line)
        ]
        return bounded(lines, f"{len(lines)} matches of {pattern!r} in {path}")

    def read_file(self, path: str, start: int, lines: int) -> str:
        """Read `lines` lines of a file, numbered, from line `start` on."""
        text = source(self.root / path)
        part = [f"{number}\t{line}" for number, line in enumerate(text[start - 1 : start - 1 + lines], start)]
        return bounded(part, f"{path}, {len(text)} lines, from {start}")

    def files(self, path: str) -> list[Path]:
        """The Python files of a folder, at any depth, or the one file."""
        place = self.root / path
        if place.is_file():
            return [place]
        own = {"site-packages", "dist-packages", "test", "tests", "__pycache__"}
        found = place.glob("*.py") if path == "." else place.rglob("*.py")
        return sorted(file for file in found if not own & set(file.relative_to(self.root).parts))

    def functions(self) -> list[Callable[..., str]]:
        """The tools an agent is given."""
        return [self.list_dir, self.grep, self.read_file]

    def call(self, name: str, arguments: dict[str, str | int]) -> str:
        """The result of one call."""
        return str({tool.__name__: tool for tool in self.functions()}[name](**arguments))

    def _name(self, file: Path) -> str:
        return file.relative_to(self.root).as_posix()


def source(file: Path) -> list[str]:
    """The lines of a file; bytes that are no UTF-8 are replaced."""
    return file.read_text(encoding="utf-8", errors="replace").splitlines()


def bounded(lines: list[str], head: str) -> str:
    """A headline and as many lines as fit."""
    room = LONGEST - len(head)
    kept: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            kept.append(f"({len(lines) - len(kept)} more lines not shown)")
            break
        kept.append(line)
    return "\n".join([head, *kept])
