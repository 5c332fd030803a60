"""The command line: what it prints, its exit codes, and that an error is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import memctx
from memctx import cli
from memctx._cli.pipelines import parse
from memctx.errors import ConfigError, NotFound
from memctx.pipeline import Pipeline

ROW = {
    "file", "pipeline", "calls", "recall", "reachable", "share", "peak_tokens", "money", "prefix_rewrites",
    "violations", "ms_per_call",
}  # fmt: skip
ORPHAN = {"role": "tool", "tool_call_id": "c", "content": "x"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
VALID = [
    {"role": "user", "content": "go"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    ORPHAN,
    {"role": "assistant", "content": "done"},
]


class Ran:
    """What a command left behind."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def memctx_(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command line in this process."""

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["memctx", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        told = capsys.readouterr()
        return Ran(int(left.value.code or 0), told.out, told.err)

    return run


def written(path: Path, value: Any) -> Path:
    """A JSON file, or for .jsonl one value a line."""
    lines = [json.dumps(item) for item in value] if path.suffix == ".jsonl" else [json.dumps(value)]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_version_and_help(memctx_: Any) -> None:
    assert memctx_("--version").out == f"memctx {memctx.__version__}\n"
    for command in ("check", "replay", "demo"):
        told = memctx_(command, "--help")
        assert told.code == 0
        assert "--json" in told.out


@pytest.mark.parametrize("name", ["m.json", "m.jsonl"])
def test_check_a_valid_request(memctx_: Any, tmp_path: Path, name: str) -> None:
    file = written(tmp_path / name, VALID)
    told = memctx_("check", file, "--json")
    assert told.code == 0
    assert told.json == {"file": str(file), "provider": "openai-chat", "requests": 1, "violations": []}
    assert memctx_("check", file).out == "0 violations in 1 request(s), openai-chat\n"


def test_check_names_rule_index_and_remedy(memctx_: Any, tmp_path: Path) -> None:
    file = written(tmp_path / "m.json", [VALID[0], ORPHAN])
    told = memctx_("check", file, "--json")
    assert told.code == 1
    (violation,) = told.json["violations"]
    assert set(violation) == {"request", "rule", "index", "message", "remedy"}
    assert (violation["request"], violation["index"]) == (0, 1)
    plain = memctx_("check", file)
    assert plain.code == 1
    assert violation["rule"] in plain.out


def test_check_reads_request_bodies(memctx_: Any, tmp_path: Path) -> None:
    bodies = [{"model": "m", "messages": VALID}, {"model": "m", "messages": [ORPHAN]}]
    for name in ("m.json", "m.jsonl"):
        told = memctx_("check", written(tmp_path / name, bodies), "--json")
        assert told.json["requests"] == 2
        assert {violation["request"] for violation in told.json["violations"]} == {1}


def test_check_takes_a_provider(memctx_: Any, tmp_path: Path) -> None:
    marked = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    body = {"system": [marked] * 3, "messages": [{"role": "user", "content": [marked] * 2}]}
    file = written(tmp_path / "m.json", body)
    assert memctx_("check", file, "--provider", "anthropic", "--json").code == 1, "five cache marks, the system's too"
    body["system"] = [marked] * 2
    assert memctx_("check", written(file, body), "--provider", "anthropic", "--json").code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "none.json"),
        ("check", "broken.json"),
        ("check", "good.json", "--provider", "nobody"),
        ("replay", "none.jsonl"),
        ("replay", "broken.json"),
        ("replay", "good.json", "--strategies", "nothing"),
        ("replay", "good.json", "--strategies", "none.toml"),
        ("replay", "good.json", "--strategies", ","),
        ("replay", "good.json", "--price", "nothing"),
        ("replay", "good.json", "--format", "nothing"),
        ("replay", "good.json", "--budget", "0"),
        ("nothing",),
    ],
)
def test_what_cannot_be_done_is_said_and_exits_2(
    memctx_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "good.json", VALID)
    (tmp_path / "broken.json").write_text('{"messages": [', encoding="utf-8")
    told = memctx_(*arguments)
    assert told.code == 2
    assert told.out == ""
    assert told.err
    assert "Traceback" not in told.err


def test_an_error_is_one_line(memctx_: Any, tmp_path: Path) -> None:
    told = memctx_("check", tmp_path / "none.json", "--json")
    assert told.err.startswith("memctx: cannot read ")
    assert told.err.count("\n") == 1


def test_replay_gives_a_row_for_each_file_and_pipeline(memctx_: Any, tmp_path: Path) -> None:
    files = [written(tmp_path / name, VALID) for name in ("a.json", "b.jsonl")]
    told = memctx_("replay", *files, "--strategies", "safe,lean,clear", "--json", "--jobs", 1)
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert told.code == 0
    assert [(row["file"], row["pipeline"]) for row in rows] == [
        (file.name, name) for file in files for name in ("safe", "lean", "clear")
    ]
    assert all(set(row) == ROW and row["calls"] == 2 for row in rows)
    assert told.err == ""


def test_replay_prints_a_table_a_file(memctx_: Any, tmp_path: Path) -> None:
    told = memctx_("replay", written(tmp_path / "a.json", VALID), "--strategies", "lean", "--jobs", 1)
    assert told.code == 0
    assert "a.json: 2 calls" in told.out
    assert "lean" in told.out


def test_strategies_are_presets_files_and_names(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('budget = {tokens = 9000}\nstrategies = [{use = "clear", keep = 2}]\n', encoding="utf-8")
    found = parse(f"safe, lean,{file},clear", None, "openai")
    assert list(found) == ["safe", "lean", str(file), "clear"]
    assert found[str(file)] == Pipeline.load(file)
    assert found["safe"] == Pipeline.safe(budget=128_000)
    assert found["clear"].edit_when == "always"
    budgets = {name: pipeline.budget.tokens for name, pipeline in parse(f"lean,{file},clear", 5000, "none").items()}
    assert set(budgets.values()) == {5000}
    with pytest.raises(NotFound, match="lean"):
        parse("leen", None, "openai")
    with pytest.raises(ConfigError, match="anthropic-5m"):
        parse("lean", None, "cheap")


def test_heavy_packages_wait_for_the_command() -> None:
    code = "import sys, memctx.cli; print(sorted({'tiktoken', 'langchain', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def demo() -> dict[str, Any]:
    """A short demo, run as a user runs it, with no way to a network or a key."""
    pytest.importorskip("langchain.agents")
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    environment = {**kept, "HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "memctx.cli", "demo", "--calls", "30", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def test_the_demo_has_its_figures(demo: dict[str, Any]) -> None:
    names = [run["name"] for run in demo["runs"]]
    assert names == ["no management", "LangChain ContextEditingMiddleware", "memctx", "no management, endless window"]
    assert demo["price"] == {"name": "openai-write", "write": 1.25, "read": 0.1}
    for run in demo["runs"]:
        assert run["questions"] >= 5
        assert run["model_calls"] == len(run["request_tokens"]) > 0
        assert run["peak_tokens"] == max(run["request_tokens"])
        assert run["money"] > 0
        assert 0 < run["cache_share"] < 1


def test_the_demo_shows_what_it_is_about(demo: dict[str, Any]) -> None:
    nothing, langchain, ours, endless = demo["runs"]
    assert nothing["overflowed"]
    assert not any(run["overflowed"] for run in (langchain, ours, endless))
    assert endless["answered"] == endless["questions"], "every answer stands in what the agent read"
    assert endless["money_ratio"] == 1.0
    assert max(langchain["peak_tokens"], ours["peak_tokens"]) <= demo["window"] < endless["peak_tokens"]
    assert ours["invalid_requests"] == 0
    assert ours["answered"] > langchain["answered"]
