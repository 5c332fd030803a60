"""Every example runs to its end, offline, from a plain checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.py"))
NETWORK = ("BASE_URL", "API_KEY", "PROXY")


@cache
def run(path: Path, root: Path) -> subprocess.CompletedProcess[str]:
    """The example's run, with nothing in the environment that names a real model."""
    plain = {name: value for name, value in os.environ.items() if not name.upper().endswith(NETWORK)}
    command = [sys.executable, "-W", "error", str(path)]
    env = {**plain, "PYTHONPATH": str(root)}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=env)


def test_there_are_examples() -> None:
    assert {"openai_loop.py", "anthropic_loop.py"} <= {path.name for path in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path, root: Path) -> None:
    done = run(path, root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("name", ["openai_loop", "anthropic_loop"])
def test_the_loops_stay_in_budget_and_reopen(name: str, root: Path) -> None:
    said = run(root / "examples" / f"{name}.py", root).stdout
    peak, decisions = map(int, re.findall(r"largest request: (\d+) tokens; (\d+) decisions", said)[0])
    assert 0 < peak <= 16_000
    assert decisions > 0
    assert re.search(r"reopen \{'handle': '\w+'\}: \d{4,} characters", said), said
    assert "I have read them all." in said


def test_the_window_shows_few_tools_and_finds_the_rest(root: Path) -> None:
    said = run(root / "examples" / "tool_window.py", root).stdout
    shown = [int(count) for count in re.findall(r"request with (\d+) tools", said)]
    tools, largest = map(int, re.findall(r"all \d+ tools are (\d+) tokens; the largest request had (\d+)", said)[0])
    assert max(shown) <= 10
    assert "search_tools" in said
    assert 'comb {"arguments": [10, 3]}: 120' in said
    assert largest < tools / 2
