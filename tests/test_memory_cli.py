"""`memctx memory`: what it prints, its exit codes, and that nothing is erased, or made, by mistake."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from memctx import cli
from memctx.memory import Memory

FACTS = ["Deploys need two approvals", "The office cat is called Fig", "Standup is at nine"]


class Ran(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Ran]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`memctx memory …` in this process."""

    def ran(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["memctx", "memory", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        told = capsys.readouterr()
        return Ran(int(left.value.code or 0), told.out, told.err)

    return ran


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Facts of ana, one of bo, and one of a tenant with a slash in its name."""
    path = tmp_path / "memory.db"
    with Memory(path) as memory:
        memory.at("acme", "ana").write_many(FACTS)
        memory.at("acme", "bo").write("Bo prefers trains", kind="core")
        memory.at("a/c%", "ana").write("a slash in the tenant")
    return path


def test_every_command_is_described(run: Run) -> None:
    for command in ("search", "export", "erase", "verify", "reembed"):
        told = run(command, "--help")
        assert told.code == 0
        assert {"--json", "--store"} <= set(told.out.split())


def test_search(run: Run, store: Path) -> None:
    told = run("search", "who approves a deploy?", "--store", store, "--scope", "acme/ana", "-k", 2, "--json")
    assert told.code == 0
    assert told.lines[0]["text"] == FACTS[0]
    assert len(told.lines) == 2
    assert told.lines[0]["score"] >= told.lines[1]["score"]
    assert {"id", "kind", "trust", "valid_from"} <= set(told.lines[0])
    assert "parts" not in told.lines[0]
    plain = run("search", "who approves a deploy?", "--store", store, "--scope", "acme", "--scope", "ana", "-k", 2)
    assert FACTS[0] in plain.out
    assert plain.out.endswith("2 record(s)\n")


def test_search_explains_its_scores(run: Run, store: Path) -> None:
    told = run("search", "office cat", "--store", store, "--scope", "acme/ana", "--explain", "--json")
    first = told.lines[0]
    assert first["parts"]
    assert all(isinstance(share, float) for share in first["parts"].values())
    plain = run("search", "office cat", "--store", store, "--scope", "acme/ana", "--explain").out
    assert all(f"    {name} " in plain for name in first["parts"])


def test_search_keeps_to_scope_and_kind(run: Run, store: Path) -> None:
    trains = ("search", "Bo prefers trains", "--store", store, "--json")
    assert [line["text"] for line in run(*trains, "--scope", "acme/bo").lines] == ["Bo prefers trains"]
    assert "Bo prefers trains" not in run(*trains, "--scope", "acme/ana").out
    assert run(*trains, "--scope", "acme").out == ""
    assert len(run(*trains, "--scope", "acme/bo", "--kind", "core").lines) == 1
    assert run(*trains, "--scope", "acme/bo", "--kind", "semantic", "--kind", "episodic").out == ""


@pytest.mark.parametrize("scope", [("a%2Fc%25/ana",), ("a%2Fc%25", "ana"), ("a%2Fc%25/ana/",)])
def test_a_slash_in_a_part_is_escaped(run: Run, store: Path, scope: tuple[str, ...]) -> None:
    options = [word for part in scope for word in ("--scope", part)]
    told = run("search", "slash", "--store", store, "--json", *options)
    assert [line["text"] for line in told.lines] == ["a slash in the tenant"]


def test_the_store_may_be_in_the_environment(run: Run, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMCTX_STORE", str(store))
    assert "Fig" in run("search", "cat", "--scope", "acme/ana").out


def test_export_is_everything_a_line_each(run: Run, store: Path) -> None:
    told = run("export", "--store", store, "--scope", "acme")
    assert told.code == 0
    texts = {line["text"] for line in told.lines if line["table"] == "record"}
    assert texts == {*FACTS, "Bo prefers trains"}
    assert all(line["scope"].startswith("acme/") for line in told.lines)
    assert told.out == run("export", "--store", store, "--scope", "acme", "--json").out
    assert "slash" not in told.out


def test_export_of_a_text_that_is_no_unicode(run: Run, store: Path) -> None:
    with Memory(store) as memory:
        memory.store.put_span(memory.at("acme", "ana").scope, "t", "r1", "half \ud83d and ü")
    spans = [line for line in run("export", "--store", store, "--scope", "acme").lines if line["table"] == "span"]
    assert [line["content"] for line in spans] == ["half \ud83d and ü"]


def test_erase_asks_for_yes(run: Run, store: Path) -> None:
    before = run("export", "--store", store, "--scope", "acme").out
    told = run("erase", "--store", store, "--scope", "acme")
    assert (told.code, told.out) == (2, "")
    assert "--yes" in told.err
    assert f"{len(before.splitlines())} row(s) of acme/" in told.err
    assert run("export", "--store", store, "--scope", "acme").out == before


def test_erase_says_what_it_removed(run: Run, store: Path) -> None:
    told = run("erase", "--store", store, "--scope", "acme/ana", "--yes", "--json")
    assert told.code == 0
    (receipt,) = told.lines
    assert receipt["complete"] is True
    assert receipt["removed"]["record"] == receipt["removed"]["embedding"] == len(FACTS)
    assert receipt["probes"] == len(FACTS)
    assert run("export", "--store", store, "--scope", "acme/ana").out == ""
    assert "Bo prefers trains" in run("export", "--store", store, "--scope", "acme").out
    assert all(
        fact.encode() not in file.read_bytes() for fact in FACTS for file in store.parent.rglob("*.*") if file.is_file()
    )
    plain = run("erase", "--store", store, "--scope", "acme", "--yes")
    assert plain.out.startswith("acme/: removed ")
    assert "1 record" in plain.out
    assert "note: " in plain.out


def test_verify_says_what_is_wrong_in_sentences(run: Run, store: Path) -> None:
    told = run("verify", "--store", store)
    assert (told.code, told.out) == (0, f"{store}: 0 problem(s)\n")
    broken = bytearray(store.read_bytes())
    for page in range(2, len(broken) // 4096):
        broken[page * 4096 : page * 4096 + 8] = b"\xff" * 8
    store.write_bytes(broken)
    told = run("verify", "--store", store, "--json")
    assert told.code == 1
    (line,) = told.lines
    assert line["problems"]
    assert all(" " in problem for problem in line["problems"])
    assert "Traceback" not in told.err


class Endpoint(BaseHTTPRequestHandler):
    """OpenAI's embeddings: a vector by the letters of a text."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        vectors = [[1.0 + text.lower().count(letter) ** 2 for letter in "abcdefghijklmnop"] for text in asked["input"]]
        data = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(vectors)]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        body = json.dumps({"object": "list", "data": data, "model": asked["model"], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def endpoint() -> Iterator[str]:
    """An embedder that a user may name."""
    pytest.importorskip("openai")
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"openai:letters@http://127.0.0.1:{http.server_port}/v1"
        http.shutdown()
        thread.join()


def test_reembed_gives_every_record_another_vector(run: Run, store: Path, endpoint: str) -> None:
    told = run("reembed", "--store", store, "--embedder", endpoint, "--json")
    assert (told.code, told.err) == (0, "")
    assert told.lines == [{"store": str(store), "embedder": endpoint, "embedded": 5}]
    assert "0 record(s) embedded by" in run("reembed", "--store", store, "--embedder", endpoint).out
    found = run("search", "cat", "--store", store, "--scope", "acme/ana", "--embedder", endpoint, "--json")
    assert found.lines[0]["text"] == FACTS[1]
    assert found.err == ""


def test_a_search_with_another_embedder_says_so(run: Run, store: Path, endpoint: str) -> None:
    told = run("search", "cat", "--store", store, "--scope", "acme/ana", "--embedder", endpoint, "--json")
    assert [line["text"] for line in told.lines] == [FACTS[1]], "found by its words"
    assert "words alone were searched" in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "x", "--scope", "acme", "--store", "none.db"),
        ("export", "--scope", "acme", "--store", "none.db"),
        ("erase", "--scope", "acme", "--yes", "--store", "none.db"),
        ("verify", "--store", "none.db"),
        ("verify", "--store", ":memory:"),
        ("verify", "--store", "mysql://root:secret@host/x"),
        ("reembed", "--embedder", "default", "--store", "none.db"),
        ("reembed", "--embedder", "nothing", "--store", "memory.db"),
        ("search", "x", "--store", "memory.db"),
        ("search", "x", "--store", "memory.db", "--scope", ""),
        ("search", "x", "--store", "memory.db", "--scope", "acme//ana"),
        ("search", "x", "--store", "memory.db", "--scope", "acme", "-k", "0"),
        ("search", "x", "--store", "memory.db", "--scope", "acme", "--kind", "dream"),
        ("search", "x", "--store", "memory.db", "--scope", "acme", "--embedder", "nothing"),
        ("erase", "--store", "memory.db", "--yes"),
    ],
)
def test_what_cannot_be_done_is_said_and_exits_2(
    run: Run, store: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(store.parent)
    monkeypatch.delenv("MEMCTX_STORE", raising=False)
    before = sorted(store.parent.iterdir())
    told = run(*arguments)
    assert (told.code, told.out) == (2, "")
    assert told.err
    assert "Traceback" not in told.err
    assert "secret" not in told.err
    assert sorted(store.parent.iterdir()) == before, "a mistyped path makes no store"
