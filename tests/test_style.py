"""The style numbers of the package: short functions, short files, few branches. Docstrings count as lines."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LONGEST_FUNCTION = 80
P95_FUNCTION = 40
LONGEST_FILE = 300
BRANCHES = 10


class Function(NamedTuple):
    lines: int
    where: str


def functions(source: str, file: str) -> Iterator[Function]:
    """Every function and method of a source text, nested ones too, with its length in lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield Function(lines, f"{file}:{node.lineno} {node.name}")


def quantile(values: list[int], share: float) -> int:
    """The smallest value that at least `share` of all values do not exceed."""
    rank = -(-len(values) * share // 1)
    return sorted(values)[max(int(rank) - 1, 0)]


def over(found: list[Function], limit: int) -> str:
    """The offenders, longest first, one a line."""
    return "\n".join(f"  {f.lines:4} lines  {f.where}" for f in sorted(found, reverse=True) if f.lines > limit)


def package(root: Path) -> dict[str, str]:
    """Path from the root -> text, for every source file of the package."""
    return {str(p.relative_to(root)): p.read_text(encoding="utf-8") for p in sorted((root / "memctx").rglob("*.py"))}


def test_functions_are_short(root: Path) -> None:
    found = [f for file, text in package(root).items() for f in functions(text, file)]
    assert found
    long = over(found, LONGEST_FUNCTION)
    assert not long, f"functions above {LONGEST_FUNCTION} lines:\n{long}"
    p95 = quantile([f.lines for f in found], 0.95)
    listing = over(found, P95_FUNCTION)
    assert p95 <= P95_FUNCTION, f"95 % of functions must have at most {P95_FUNCTION} lines, now {p95}:\n{listing}"


def test_files_are_short(root: Path) -> None:
    sizes = {file: len(text.splitlines()) for file, text in package(root).items()}
    long = "\n".join(f"  {lines:4} lines  {file}" for file, lines in sizes.items() if lines > LONGEST_FILE)
    assert not long, f"files above {LONGEST_FILE} lines:\n{long}"


def complex_functions(folder: Path) -> list[str]:
    """What ruff's McCabe rule says about a folder, no exemption by comment accepted."""
    limit = f"lint.mccabe.max-complexity={BRANCHES}"
    options = ["--isolated", "--no-cache", "--ignore-noqa", "--select=C901", "--output-format=json", "--config", limit]
    command = [sys.executable, "-m", "ruff", "check", *options, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return [f"{Path(f['filename']).name}:{f['location']['row']} {f['message']}" for f in json.loads(done.stdout)]


def test_functions_branch_little(root: Path) -> None:
    found = complex_functions(root / "memctx")
    assert not found, "\n".join(found)


def test_the_measures_see_what_they_should(tmp_path: Path) -> None:
    body = "\n".join(f"    if x == {i}:\n        return {i}" for i in range(BRANCHES))
    source = f"def branchy(x):  # noqa: C901\n{body}\n"
    (tmp_path / "sample.py").write_text(source, encoding="utf-8")
    assert [f.lines for f in functions(source, "sample.py")] == [2 * BRANCHES + 1]
    assert len(complex_functions(tmp_path)) == 1
    assert quantile([*range(1, 101)], 0.95) == 95
    assert quantile([7], 0.95) == 7
