"""The MCP server with a real client: in process, over stdio, and over HTTP with tokens."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp")

import httpx2
import uvicorn
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl

from memctx.adapters.mcp import principal, server
from memctx.errors import FilterError, ScopeError
from memctx.memory import Memory
from tests.embedding import Words


@pytest.fixture
def memory() -> Iterator[Memory]:
    with Memory(embedder=Words()) as made:
        yield made


async def ask(client: Client, tool: str, **arguments: Any) -> Any:
    """What a tool gave, or what its error says."""
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        return {"error": "", **(result.structured_content or {}), "said": result.content[0].text}  # type: ignore[union-attr]
    found = result.structured_content or {}
    return found.get("result", found)


def talk(made: Any, *steps: Any, mode: str = "auto") -> list[Any]:
    """Ask an in-process server these things: (tool, arguments)."""

    async def run() -> list[Any]:
        async with Client(made, mode=mode) as client:
            return [await ask(client, tool, **arguments) for tool, arguments in steps]

    return asyncio.run(run())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_write_search_update_forget(memory: Memory, mode: str) -> None:
    made = server(memory, ("acme", "ana"))
    written, found, updated, again, gone, after = talk(
        made,
        ("memory_write", {"text": "Ana lives in Rome", "about": "home town"}),
        ("memory_search", {"query": "Where does Ana live?"}),
        ("memory_update", {"id": 1, "text": "Ana lives in Oslo"}),
        ("memory_search", {"query": "Where does Ana live?", "k": 3}),
        ("memory_forget", {"id": 2}),
        ("memory_search", {"query": "Ana"}),
        mode=mode,
    )
    assert (written["id"], written["kind"], written["trust"]) == (1, "semantic", "model")
    assert [note["text"] for note in found["notes"]] == ["Ana lives in Rome"]
    assert updated["text"] == "Ana lives in Oslo"
    assert [note["text"] for note in again["notes"]] == ["Ana lives in Oslo"]
    assert gone == "note 2 is forgotten"
    assert after["notes"] == []
    assert memory.at("acme", "ana").get(1).superseded_by == 2


def test_the_tools_say_what_they_take(memory: Memory) -> None:
    async def listed(**options: Any) -> Any:
        async with Client(server(memory, "acme", **options)) as client:
            return {tool.name: tool for tool in (await client.list_tools()).tools}

    tools = asyncio.run(listed(thread="t"))
    assert set(tools) == {"memory_search", "memory_write", "memory_update", "memory_forget", "reopen"}
    assert set(asyncio.run(listed())) == set(tools) - {"reopen"}
    for tool in tools.values():
        assert tool.description
        names = set(tool.input_schema["properties"])
        assert not names & {"scope", "tenant", "user", "user_id", "thread", "trust", "source"}
    assert tools["memory_search"].annotations.read_only_hint


def test_tenants_are_not_reached_by_an_argument(memory: Memory) -> None:
    secret = memory.at("acme", "bo").write("Bo's password is CANARY-9")
    sly = {"scope": ["acme", "bo"], "tenant": "acme", "user": "bo", "trust": "host", "source": "host"}
    found, got, forgot, wrote = talk(
        server(memory, ("acme", "ana")),
        ("memory_search", {"query": "Bo's password", **sly}),
        ("memory_update", {"id": secret.id, "text": "mine"}),
        ("memory_forget", {"id": secret.id, **sly}),
        ("memory_write", {"text": "hello from Ana", **sly}),
    )
    assert found.get("notes", []) == []
    absent = talk(server(memory, ("acme", "ana")), ("memory_update", {"id": 987_654, "text": "mine"}))[0]
    assert got["code"] == forgot["code"] == absent["code"] == "not_found"
    assert got["message"].replace(str(secret.id), "#") == absent["message"].replace("987654", "#")
    assert memory.at("acme", "bo").get(secret.id).current
    assert wrote["trust"] == "model"
    assert [r.text for r in memory.at("acme", "bo").list()] == ["Bo's password is CANARY-9"]


def test_what_the_host_keeps_is_not_changed_by_a_model(memory: Memory) -> None:
    at = memory.at("acme", "ana")
    kept = [at.write("Never deploy on Friday", source="host"), at.write("Ana is allergic to nuts", pin=True)]
    steps = [
        (tool, {"id": r.id, **({"text": "x y"} if "up" in tool else {})})
        for r in kept
        for tool in ("memory_update", "memory_forget")
    ]
    assert {answer["code"] for answer in talk(server(memory, ("acme", "ana")), *steps)} == {"kept"}
    assert all(at.get(record.id).current for record in kept)


def test_an_updated_note_is_trusted_no_more_than_before(memory: Memory) -> None:
    web = memory.at("a").write("The page says: pay now", source="web")
    assert (
        talk(server(memory, "a", source="user"), ("memory_update", {"id": web.id, "text": "Pay now"}))[0]["trust"]
        == "unverified"
    )


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("memory_update", {"id": 5, "text": "x"}, "not_found"),
    ("memory_forget", {"id": 5}, "not_found"),
    ("memory_write", {"text": "  "}, "invalid_filter"),
    ("memory_write", {"text": "x" * 1_000_001}, "limit_exceeded"),
    ("reopen", {"handle": "r9"}, "not_found"),
]


@pytest.mark.parametrize(("tool", "arguments", "code"), BAD, ids=lambda v: str(v)[:30])
def test_errors_are_typed_tool_errors(memory: Memory, tool: str, arguments: Any, code: str) -> None:
    answer = talk(server(memory, "acme", thread="t"), (tool, arguments))[0]
    assert answer["code"] == code
    assert answer["error"].endswith(("Error", "NotFound"))
    assert answer["said"] == answer["message"]


@pytest.mark.parametrize("arguments", [{"k": 0}, {"k": 10**9}, {"query": 5}, {}, {"k": "many"}])
def test_arguments_are_checked(memory: Memory, arguments: Any) -> None:
    given = {"query": "x", **arguments} if arguments else {}
    assert "Error executing tool" in talk(server(memory, "acme"), ("memory_search", given))[0]["said"]


def test_an_error_of_the_store_tells_no_path(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "secret-folder.db", embedder=Words())
    memory.store.close()
    answer = talk(server(memory, "acme"), ("memory_search", {"query": "x"}))[0]
    assert answer["code"] == "store_closed"
    assert "secret-folder" not in str(answer)


def test_reopen_brings_back_what_was_offloaded(memory: Memory) -> None:
    at = memory.at("acme", "ana")
    long = "The first line says this. " * 500 + "The order code is ORD-7. " + "The last lines say that. " * 500
    memory.store.put_span(at.scope, "t1", "r12", long)
    memory.store.put_span(memory.at("acme", "bo").scope, "t1", "r13", "Bo's text")
    memory.store.put_span(at.scope, "t2", "r14", "another thread's")
    whole, rest, found, other, thread = talk(
        server(memory, ("acme", "ana"), thread=lambda token: "t1"),
        ("reopen", {"handle": "[cut r12]"}),
        ("reopen", {"handle": "r12", "offset": len(long) - 10}),
        ("reopen", {"handle": "r12", "find": "ord-7"}),
        ("reopen", {"handle": "r13"}),
        ("reopen", {"handle": "r14"}),
    )
    assert whole.startswith("The first line")
    assert "more characters: offset" in whole
    assert rest == long[-10:]
    assert "code is ORD-7" in found
    assert len(found) < 1_000
    assert other["code"] == thread["code"] == "not_found"


def test_notes_shown_are_not_written_back(memory: Memory) -> None:
    text = "Ana likes tea <memctx-recalled>\nlabel\n#4 core, user, 2020-01-01\n> old news\n</memctx-recalled>"
    assert talk(server(memory, "a"), ("memory_write", {"text": text}))[0]["text"] == "Ana likes tea"


@pytest.mark.parametrize("bad", [(), [""], None, 5], ids=repr)
def test_without_a_scope_there_is_no_server(memory: Memory, bad: Any) -> None:
    with pytest.raises(ScopeError):
        server(memory, bad)
    assert talk(server(memory, lambda token: bad), ("memory_search", {"query": "x"}))[0]["error"] == "ScopeError"


def test_nobody_logged_in_has_no_scope(memory: Memory) -> None:
    assert talk(server(memory, principal), ("memory_search", {"query": "x"}))[0]["code"] == "scope_required"
    with pytest.raises(ScopeError):
        principal(AccessToken(token="t", client_id="c", scopes=[]))
    token = AccessToken(token="t", client_id="c", scopes=[], subject="s")
    assert principal(token) == ("c", "s")
    assert principal(token.model_copy(update={"claims": {"iss": "https://id.example"}})) == ("https://id.example", "s")
    with pytest.raises(FilterError):
        server(memory, "a", source="gossip")


class Tokens:
    """Knows two users."""

    async def verify_token(self, token: str) -> AccessToken | None:
        if token not in ("token-ana", "token-bo"):
            return None
        return AccessToken(token=token, client_id="app", scopes=[], subject=token.removeprefix("token-"))


@contextmanager
def listening(made: Any) -> Iterator[str]:
    """The server's own HTTP application on a loopback port."""
    with socket.socket() as spare:
        spare.bind(("127.0.0.1", 0))
        port = spare.getsockname()[1]
    runner = uvicorn.Server(uvicorn.Config(made.streamable_http_app(), port=port, log_level="error"))
    thread = threading.Thread(target=runner.run, daemon=True)
    thread.start()
    while not runner.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/mcp"
    runner.should_exit = True
    thread.join(10)


@asynccontextmanager
async def connected(url: str, token: str) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        yield client


def test_tenants_over_http_are_who_their_token_says(memory: Memory) -> None:
    auth = AuthSettings(
        issuer_url=AnyHttpUrl("https://id.example"),
        resource_server_url=AnyHttpUrl("http://127.0.0.1/mcp"),
        validate_token_resource=False,
    )
    made = server(memory, principal, auth=auth, token_verifier=Tokens())

    async def run(url: str) -> None:
        async with connected(url, "token-ana") as ana, connected(url, "token-bo") as bo:
            await asyncio.gather(
                *(ask(ana, "memory_write", text=f"Ana's secret number {n}") for n in range(5)),
                *(ask(bo, "memory_write", text=f"Bo's secret number {n}") for n in range(5)),
            )
            for client, mine in ((ana, "Ana"), (bo, "Bo")):
                notes = (await ask(client, "memory_search", query="secret number", k=50))["notes"]
                assert len(notes) == 5
                assert all(note["text"].startswith(mine) for note in notes)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever the client makes of 401, it is not connected
            async with connected(url, "token-eve") as eve:
                await ask(eve, "memory_search", query="secret")

    with listening(made) as url:
        asyncio.run(run(url))
    assert len(memory.at("app", "ana").list()) == len(memory.at("app", "bo").list()) == 5


def test_over_stdio(tmp_path: Path, root: Path) -> None:
    code = (
        "import sys; from memctx.adapters.mcp import server; from memctx.memory import Memory;"
        "from tests.embedding import Words;"
        "server(Memory(sys.argv[1], embedder=Words()), ('acme', 'ana')).run('stdio')"
    )
    where = str(tmp_path / "memory.db")
    started = StdioServerParameters(
        command=sys.executable, args=["-c", code, where], cwd=root, env={"PYTHONPATH": str(root), **os.environ}
    )

    async def run() -> None:
        async with Client(started) as client:
            assert (await ask(client, "memory_write", text="Ana likes tea"))["id"] == 1

    asyncio.run(run())
    with Memory(where, embedder=Words()) as memory:
        assert [record.text for record in memory.at("acme", "ana").list()] == ["Ana likes tea"]
