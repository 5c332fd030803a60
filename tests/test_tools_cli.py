"""`memctx tools graph`: what it prints and writes, and that an error is one line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from memctx import cli
from memctx.graphs import _graphml


class Ran(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def graph_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `memctx tools graph` in this process."""

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["memctx", "tools", "graph", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    return run


def record(*tools: str, **outcome: Any) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Cancel my order"}]
    for number, name in enumerate(tools):
        function = {"name": name, "arguments": "{}"}
        messages += [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": f"c{number}", "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": f"c{number}", "content": "found"},
        ]
    return {"messages": messages, **outcome}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    records = [record("find", "get", "cancel"), record("find", "get", reward=1.0), record("drop", reward=0.0), record()]
    path = tmp_path / "runs.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_the_top_transitions(graph_: Any, runs: Path) -> None:
    done = graph_(runs)
    assert done.code == 0
    assert done.out.startswith("4 runs, 2 learned, 3 tools, 3 transitions\n")
    rows = [line.split() for line in done.out.splitlines()]
    assert ["find", "get", "2", "100%"] in rows
    assert ["(start)", "find", "2", "100%"] in rows
    assert "drop" not in done.out


def test_json(graph_: Any, runs: Path) -> None:
    told = json.loads(graph_(runs, "--json", "--min-count", 2).out)
    edges = told.pop("edges")
    assert told == {"runs": 4, "learned": 2, "tools": 3, "transitions": 2}
    assert {(edge["from"], edge["to"], edge["count"]) for edge in edges} == {("", "find", 2), ("find", "get", 2)}
    assert set(edges[0]) == {"from", "to", "count", "weight", "share"}


def test_files(graph_: Any, runs: Path, tmp_path: Path) -> None:
    html, graphml = tmp_path / "a.html", tmp_path / "a.graphml"
    done = graph_(runs.parent, "--html", html, "--graphml", graphml, "--min-count", 2)
    assert done.code == 0
    assert f"wrote {html}" in done.out
    assert "cancel" not in html.read_text()
    assert _graphml.read(graphml).tools == ["cancel", "find", "get"]


@pytest.mark.parametrize("flag", ["--html", "--graphml"])
def test_a_place_that_cannot_be_written(graph_: Any, runs: Path, flag: str) -> None:
    said = graph_(runs, flag, runs / "below.html")
    assert said.code == 2
    assert said.err.startswith("memctx: cannot write ")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no run"),
        ("{", "not JSON"),
        ('{"messages": []}', "none of 1 run(s)"),
        ('{"a": 1}', "no known format"),
    ],
)
def test_what_is_no_run_is_one_line(graph_: Any, tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    said = graph_(path)
    assert said.code == 2
    assert says in said.err
    assert said.err.startswith("memctx: ")
    assert said.err.count("\n") == 1


def test_a_broken_run_is_named(graph_: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in (record("find"), {"messages": [{"role": "user"}]})))
    done = graph_(path)
    assert done.code == 2
    assert f"{path}, run 2: message 0" in done.err
    assert done.err.count("\n") == 1
