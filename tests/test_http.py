"""The httpx2 transport under the real SDKs, against the strict server."""

from __future__ import annotations

import copy
import gzip
import itertools
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from memctx.accounts import Accounts
from memctx.adapters._wire_body import marked, overflowed, smaller
from memctx.adapters.http import AsyncTransport, Source, Transport
from memctx.errors import BudgetError, InvalidMessage
from memctx.pipeline import Pipeline
from memctx.plan import Plan
from memctx.pricing import price
from memctx.session import Session
from memctx.strategies.skim import Skim
from memctx.view import View
from tests.servers import Call, Reply, Server, strict_server

Json = dict[str, Any]
FUNCTION = {"name": "look", "description": "Look at a page.", "parameters": {"type": "object"}}
CHAT_TOOL: Any = {"type": "function", "function": FUNCTION}
RESPONSES_TOOL: Any = {"type": "function", "strict": False, **FUNCTION}
ANTHROPIC_TOOL: Any = {"name": "look", "input_schema": {"type": "object"}}
USER: Any = {"role": "user", "content": "go"}
CLEARED = "[cleared]"


class Fake:
    """A session that clears the tool results before the last two, and keeps what it was told."""

    def __init__(self, *, fail: Exception | None = None, breakpoints: bool = False, keep: int = 2) -> None:
        self.fail, self.breakpoints, self.keep = fail, breakpoints, keep
        self.asked: list[tuple[list[Any], Any, Any]] = []
        self.observed: list[tuple[Any, Any]] = []
        self.accounts = Accounts(price("openai"))

    def view(self, messages: list[Any], tools: list[Any] | None = None, *, system: Any = None) -> View:
        self.asked.append((messages, tools, system))
        if self.fail:
            raise self.fail
        old = [index for index, message in enumerate(messages) if _is_result(message)][: -self.keep]
        shown = [_cleared(message) if index in old else message for index, message in enumerate(messages)]
        marks = (len(messages) - 1,) if self.breakpoints else ()
        return View(shown, tools, 100, 0, (), Plan(), system=system, breakpoints=marks)

    async def aview(self, messages: list[Any], tools: list[Any] | None = None, *, system: Any = None) -> View:
        return self.view(messages, tools, system=system)

    def observe(self, reply: Any = None, usage: Any = None) -> None:
        self.observed.append((reply, usage))

    async def aobserve(self, reply: Any = None, usage: Any = None) -> None:
        self.observe(reply, usage)


def _is_result(message: Json) -> bool:
    content = message.get("content")
    blocks = content if isinstance(content, list) else [{}]
    kinds = (message.get("role"), message.get("type"), blocks[0].get("type"))
    return bool({"tool", "function_call_output", "tool_result"} & set(kinds))


def _cleared(message: Json) -> Json:
    if message.get("type") == "function_call_output":
        return {**message, "output": CLEARED}
    if message["role"] == "tool":
        return {**message, "content": CLEARED}
    return {**message, "content": [{**block, "content": CLEARED} for block in message["content"]]}


def agent(body: Json) -> Reply:
    """Looks at the next page for ever."""
    made = len(json.dumps(body).split('"look"'))
    return Reply("I look.", (Call("look", json.dumps({"page": made})),), cached_tokens=7)


@pytest.fixture
def server() -> Iterator[Server]:
    with strict_server(agent) as running:
        yield running


def oai(server: Server, source: Source, **settings: Any) -> openai.OpenAI:
    client = httpx2.Client(transport=Transport(source))
    return openai.OpenAI(**{"api_key": "k", "base_url": server.url + "/v1", "http_client": client, **settings})


def aoai(server: Server, source: Source, **settings: Any) -> openai.AsyncOpenAI:
    client = httpx2.AsyncClient(transport=AsyncTransport(source))
    return openai.AsyncOpenAI(**{"api_key": "k", "base_url": server.url + "/v1", "http_client": client, **settings})


def ant(server: Server, source: Source, **settings: Any) -> anthropic.Anthropic:
    client = anthropic.DefaultHttpxClient(transport=Transport(source))
    return anthropic.Anthropic(**{"api_key": "k", "base_url": server.url, "http_client": client, **settings})


def aant(server: Server, source: Source, **settings: Any) -> anthropic.AsyncAnthropic:
    client = anthropic.DefaultAsyncHttpxClient(transport=AsyncTransport(source))
    return anthropic.AsyncAnthropic(**{"api_key": "k", "base_url": server.url, "http_client": client, **settings})


def page(call: str) -> str:
    return f"{call} " + "a line of the page that is quite long " * 20


# Tool loops --------------------------------------------------------------------------------------------------------


def test_chat_loop(server: Server) -> None:
    session = Fake()
    history: list[Any] = [{"role": "system", "content": "Be short."}, USER]
    with oai(server, session) as client:
        for _ in range(30):
            before = copy.deepcopy(history)
            answer = client.chat.completions.create(model="m", messages=history, tools=[CHAT_TOOL], temperature=0.5)
            assert history == before
            said = answer.choices[0].message
            assert said.tool_calls
            history.append(said.model_dump(exclude_none=True))
            history.append({"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": page("x")})
    assert (server.refused, len(server.requests)) == (0, 30)
    last = server.requests[-1]
    assert last["temperature"] == 0.5
    assert [m["content"] == CLEARED for m in last["messages"] if m["role"] == "tool"] == [True] * 27 + [False] * 2
    assert len(session.observed) == 30
    assert all(usage["prompt_tokens_details"]["cached_tokens"] == 7 for _, usage in session.observed)
    assert session.observed[0][0]["tool_calls"][0]["function"]["name"] == "look"


def test_responses_loop(server: Server) -> None:
    session = Fake()
    items: list[Any] = [USER]
    with oai(server, session) as client:
        for _ in range(30):
            answer = client.responses.create(model="m", input=items, tools=[RESPONSES_TOOL], instructions="Be short.")
            call = next(item for item in answer.output if item.type == "function_call")
            items += [item.model_dump(exclude_none=True) for item in answer.output]
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": page("x")})
    assert (server.refused, len(server.requests)) == (0, 30)
    assert sum(item.get("output") == CLEARED for item in server.requests[-1]["input"]) == 27
    assert session.asked[0] == ([{**USER, "type": "message"}], [RESPONSES_TOOL], "Be short.")
    assert server.requests[-1]["input"][0] == USER  # unedited: as the host wrote it
    assert session.observed[-1][0][-1]["type"] == "function_call"


def test_messages_loop_with_thinking_and_marks(server: Server) -> None:
    session = Fake(breakpoints=True)
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    history: list[Any] = [USER]
    with ant(server, session) as client:
        for _ in range(30):
            answer = client.messages.create(
                model="m", max_tokens=2048, messages=history, tools=[ANTHROPIC_TOOL], system="Be short.",
                thinking={"type": "enabled", "budget_tokens": 1024},
            )  # fmt: skip
            call = next(block for block in answer.content if block.type == "tool_use")
            history.append({"role": "assistant", "content": [thought, *(b.to_dict() for b in answer.content)]})
            history.append(
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": page("x")}]}
            )
    assert (server.refused, len(server.requests)) == (0, 30)
    last = server.requests[-1]
    assert [m["content"][0] for m in last["messages"] if m["role"] == "assistant"] == [thought] * 29
    assert last["system"][-1]["cache_control"] == {"type": "ephemeral"}
    assert last["messages"][-1]["content"][-1]["cache_control"] == {"type": "ephemeral"}
    assert json.dumps(last).count("cache_control") == 2
    assert session.observed[-1][1]["cache_read_input_tokens"] == 7


async def test_async_loops(server: Server) -> None:
    sessions = [Fake(), Fake(), Fake()]
    chat: list[Any] = [USER]
    items: list[Any] = [USER]
    blocks: list[Any] = [USER]
    async with aoai(server, sessions[0]) as one, aoai(server, sessions[1]) as two, aant(server, sessions[2]) as three:
        for _ in range(6):
            said = (await one.chat.completions.create(model="m", messages=chat, tools=[CHAT_TOOL])).choices[0].message
            assert said.tool_calls
            result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": page("x")}
            chat += [said.model_dump(exclude_none=True), result]
            output = (await two.responses.create(model="m", input=items, tools=[RESPONSES_TOOL])).output
            items += [item.model_dump(exclude_none=True) for item in output]
            items.append({"type": "function_call_output", "call_id": items[-1]["call_id"], "output": page("x")})
            answer = await three.messages.create(model="m", max_tokens=9, messages=blocks, tools=[ANTHROPIC_TOOL])
            blocks.append({"role": "assistant", "content": [block.to_dict() for block in answer.content]})
            done = {"type": "tool_result", "tool_use_id": blocks[-1]["content"][-1]["id"], "content": page("x")}
            blocks.append({"role": "user", "content": [done]})
    assert (server.refused, len(server.requests)) == (0, 18)
    assert [len(session.observed) for session in sessions] == [6, 6, 6]
    assert all(json.dumps(body).count(CLEARED) == 3 for body in server.requests[-3:])


# The answer passes untouched ----------------------------------------------------------------------------------------


STREAMS: list[tuple[str, Json]] = [
    ("/v1/chat/completions", {"messages": [USER], "tools": [CHAT_TOOL], "stream_options": {"include_usage": True}}),
    ("/v1/responses", {"input": [USER], "tools": [RESPONSES_TOOL]}),
    ("/v1/messages", {"messages": [USER], "tools": [ANTHROPIC_TOOL], "max_tokens": 9}),
]
HEADERS = {"authorization": "Bearer k", "x-api-key": "k", "anthropic-version": "2023-06-01"}


@pytest.mark.parametrize(("path", "body"), STREAMS)
@pytest.mark.parametrize("stream", [False, True])
def test_the_bytes_of_an_answer_are_the_providers(path: str, body: Json, stream: bool) -> None:
    sent = b"".join(_answer_bytes(path, stream))
    answer = httpx2.MockTransport(lambda request: _answered(sent, stream))
    session = Fake()
    with httpx2.Client(transport=Transport(session, answer)) as client:
        got = client.post("https://x.test" + path, json={"model": "m", **body, "stream": stream})
    assert got.content == sent
    (reply, usage) = session.observed[0]
    assert usage["total_tokens" if "input_tokens" not in usage else "input_tokens"] > 0
    assert "look" in json.dumps(reply)
    assert len(session.observed) == 1


def _answer_bytes(path: str, stream: bool) -> Iterator[bytes]:
    with strict_server(agent) as server, httpx2.Client() as client:
        body = {**next(body for name, body in STREAMS if name == path), "model": "m", "stream": stream}
        with client.stream("POST", server.url + path, json=body, headers=HEADERS) as got:
            assert got.status_code == 200, got.read()
            yield from got.iter_raw()


def _answered(content: bytes, stream: bool, encoding: str = "") -> httpx2.Response:
    kind = "text/event-stream" if stream else "application/json"
    headers = {"content-type": kind} | ({"content-encoding": encoding} if encoding else {})
    return httpx2.Response(200, headers=headers, stream=httpx2.ByteStream(content))


@pytest.mark.parametrize(("path", "body"), STREAMS)
def test_a_stream_tells_the_same_reply_as_a_whole_answer(path: str, body: Json) -> None:
    seen = []
    for stream in (False, True):
        session = Fake()
        sent = b"".join(_answer_bytes(path, stream))
        answer = httpx2.MockTransport(lambda request, sent=sent, stream=stream: _answered(sent, stream))
        with httpx2.Client(transport=Transport(session, answer)) as client:
            client.post("https://x.test" + path, json={"model": "m", **body})
        reply, usage = session.observed[0]
        parts = reply if isinstance(reply, list) else [reply]
        seen.append((_no_ids(parts), {key: value for key, value in usage.items() if "token" in key}))
    assert seen[0] == seen[1]


def _no_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_no_ids(item) for item in value]
    if isinstance(value, dict):
        return {key: _no_ids(item) for key, item in value.items() if key not in ("id", "call_id") and item is not None}
    return value


@pytest.mark.parametrize("stream", [False, True])
def test_compressed_answers(stream: bool) -> None:
    plain = b"".join(_answer_bytes("/v1/messages", stream))
    packed = gzip.compress(plain)
    for content, known in ((packed, True), (packed[:40], False), (b"no gzip at all", False)):
        session = Fake()
        answer = httpx2.MockTransport(lambda request, content=content: _answered(content, stream, "gzip"))
        with (
            httpx2.Client(transport=Transport(session, answer)) as client,
            client.stream("POST", "https://x.test/v1/messages", json={"messages": [USER]}) as got,
        ):
            assert b"".join(got.iter_raw()) == content
        assert (session.observed[0][1] is not None) is known


def test_each_chunk_is_handed_on_before_the_next_is_asked_for() -> None:
    got: list[bytes] = []
    asked: list[int] = []

    class Slow(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for n in range(5):
                asked.append(len(got))
                yield b"data: {}" if n % 2 else b"\n\n"

    headers = {"content-type": "text/event-stream"}
    inner = httpx2.MockTransport(lambda request: httpx2.Response(200, headers=headers, stream=Slow()))
    with (
        httpx2.Client(transport=Transport(Fake(), inner)) as client,
        client.stream("POST", "https://x.test/v1/responses", json={"input": "go"}) as answer,
    ):
        for chunk in answer.iter_raw():
            got.append(chunk)  # noqa: PERF402  the list is read while it grows
    assert len(got) == 5
    assert asked == [0, 1, 2, 3, 4]


def test_streams_reach_the_sdk(server: Server) -> None:
    session = Fake()
    with oai(server, session) as client, ant(server, session) as other:
        options: Any = {"include_usage": True}
        chunks = list(client.chat.completions.create(
            model="m", messages=[USER], tools=[CHAT_TOOL], stream=True, stream_options=options))  # fmt: skip
        events = list(client.responses.create(model="m", input=[USER], tools=[RESPONSES_TOOL], stream=True))
        with other.messages.stream(model="m", max_tokens=9, messages=[USER], tools=[ANTHROPIC_TOOL]) as stream:
            final = stream.get_final_message()
    assert chunks[-1].usage is not None
    assert events[-1].type == "response.completed"
    assert final.content[-1].type == "tool_use"
    assert [usage is not None for _, usage in session.observed] == [True] * 3
    assert session.observed[2][0]["content"][-1]["input"] == {"page": 2}
    assert server.refused == 0


async def test_async_streams_reach_the_sdk(server: Server) -> None:
    session = Fake()
    async with aoai(server, session) as client, aant(server, session) as other:
        stream = await client.chat.completions.create(model="m", messages=[USER], tools=[CHAT_TOOL], stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        async with other.messages.stream(model="m", max_tokens=9, messages=[USER]) as events:
            final = await events.get_final_message()
    assert text == "I look."
    assert final.content[0].type == "text"
    assert [reply is not None for reply, _ in session.observed] == [True, True]
    assert session.observed[0][1] is None  # the host did not ask for usage, so none came


def test_a_stream_left_early_is_observed_once(server: Server) -> None:
    session = Fake()
    server.script = lambda body: Reply("too long to come in one piece " * 20_000)
    with oai(server, session) as client, ant(server, session) as other:
        stream = client.chat.completions.create(model="m", messages=[USER], stream=True)
        next(iter(stream))
        stream.close()
        stream.close()
        events = other.messages.create(model="m", max_tokens=9, messages=[USER], stream=True)
        next(iter(events))
        events.close()
    assert [reply for reply, _ in session.observed] == [None, None]
    assert session.observed[1][1]["input_tokens"] > 0  # Anthropic says it at the start


async def test_an_async_stream_left_early_is_observed_once(server: Server) -> None:
    session = Fake()
    async with aoai(server, session) as client:
        stream = await client.chat.completions.create(model="m", messages=[USER], stream=True)
        async for _ in stream:
            break
        await stream.close()
    assert len(session.observed) == 1


async def test_raw_and_streamed_responses(server: Server) -> None:
    session = Fake()
    with oai(server, session) as client:
        raw = client.chat.completions.with_raw_response.create(model="m", messages=[USER])
        assert raw.parse().choices[0].message.content == "I look."
        assert raw.headers["x-request-id"]
        with client.responses.with_streaming_response.create(model="m", input="go") as response:
            assert b"I look." in response.read()
        with client.responses.with_streaming_response.create(model="m", input="go"):
            pass
    async with aant(server, session) as other:
        araw = await other.messages.with_raw_response.create(model="m", max_tokens=9, messages=[USER])
        assert (await araw.parse()).content[0].type == "text"
    assert [usage is not None for _, usage in session.observed] == [True, True, False, True]


def test_an_observer_that_fails_costs_no_answer(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    class Deaf(Fake):
        def observe(self, reply: Any = None, usage: Any = None) -> None:
            raise RuntimeError("deaf")

    with oai(server, Deaf()) as client:
        assert client.chat.completions.create(model="m", messages=[USER]).choices[0].message.content == "I look."
    assert "could not take in an answer" in caplog.text


# What passes as it is ------------------------------------------------------------------------------------------------


class Wire(httpx2.BaseTransport):
    """Keeps what was sent; answers by a list of (status, body), the last one for ever."""

    def __init__(self, *answers: tuple[int, Json]) -> None:
        self.answers = list(answers) or [(200, {})]
        self.sent: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.append(request)
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return httpx2.Response(status, json=body)

    @property
    def bodies(self) -> list[Json]:
        return [json.loads(request.read()) for request in self.sent]


def results(count: int) -> list[Any]:
    """A chat history with `count` answered calls."""
    history: list[Any] = [USER]
    for n in range(count):
        call = {"id": f"c{n}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        history.append({"role": "assistant", "content": None, "tool_calls": [call]})
        history.append({"role": "tool", "tool_call_id": f"c{n}", "content": page("é")})
    return history


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("POST", "/v1/embeddings", b'{"messages": [{"role": "user", "content": "x"}]}'),
        ("POST", "/v1/messages/count_tokens", b'{"messages": [{"role": "user", "content": "x"}]}'),
        ("POST", "/v1/messages/batches", b'{"requests": []}'),
        ("POST", "/v1/threads/t1/messages", b'{"role": "user", "content": "x"}'),
        ("POST", "/v1/responses/compact", b'{"input": "x"}'),
        ("GET", "/v1/responses", b""),
        ("POST", "/v1/chat/completions", b"no json"),
        ("POST", "/v1/chat/completions", b"[" * 100_000),
        ("POST", "/v1/chat/completions", b'["messages"]'),
        ("POST", "/v1/chat/completions", b'{"messages": []}'),
        ("POST", "/v1/chat/completions", b'{"messages": "hi"}'),
        ("POST", "/v1/responses", b'{"prompt": {"id": "p"}}'),
    ],
)
def test_requests_without_a_history_pass(method: str, path: str, content: bytes) -> None:
    session, wire = Fake(), Wire()
    with httpx2.Client(transport=Transport(session, wire)) as client:
        client.request(method, "https://x.test" + path, content=content, headers={"x-memctx-thread": "t"})
    assert wire.sent[0].read() == content
    assert "x-memctx-thread" not in wire.sent[0].headers
    assert wire.sent[0].headers.get("content-length", "0") == str(len(content))
    assert (session.asked, session.observed) == ([], [])


def test_an_unedited_request_keeps_its_bytes() -> None:
    content = b'{ "model":"m", "messages": [ {"role":"user","content":"\\u00e9 \\ud83d\\ude42"} ], "big": 1e400 }'
    text = b'{"model": "m",  "input": "just a text"}'
    wire = Wire()
    with httpx2.Client(transport=Transport(Fake(), wire)) as client:
        client.post("https://x.test/v1/chat/completions", content=content)
        client.post("https://x.test/v1/responses", content=text)
    assert [request.read() for request in wire.sent] == [content, text]


def test_an_edited_request_keeps_unknown_fields_and_says_its_length() -> None:
    body = {"model": "m", "messages": results(4), "x_new": {"deep": [1, None, "é"]}, "metadata": {"k": "v"}}
    wire = Wire()
    with httpx2.Client(transport=Transport(Fake(), wire)) as client:
        answer = client.post("https://x.test/v1/chat/completions", json=body)
    sent = wire.sent[0]
    assert sent.headers.get_list("content-length") == [str(len(sent.read()))]
    assert sent.headers["content-type"] == "application/json"
    assert {**wire.bodies[0], "messages": 0} == {**body, "messages": 0}
    assert [m.get("content") == CLEARED for m in wire.bodies[0]["messages"]].count(True) == 2
    assert (
        json.loads(answer.request.read()) == body
    )  # the client's own request is not touched: a redirect starts from it


def test_a_body_that_comes_in_pieces() -> None:
    content = json.dumps({"model": "m", "messages": results(4)}).encode()
    wire = Wire()
    with httpx2.Client(transport=Transport(Fake(), wire)) as client:
        client.post("https://x.test/v1/chat/completions", content=iter([content[:50], content[50:]]))
    assert CLEARED.encode() in wire.sent[0].read()
    assert "transfer-encoding" not in wire.sent[0].headers
    assert wire.sent[0].headers["content-length"] == str(len(wire.sent[0].read()))


def test_history_held_by_the_provider_is_not_planned(server: Server) -> None:
    session = Fake(keep=0)
    with oai(server, session) as client:
        first = client.responses.create(model="m", input="go", tools=[RESPONSES_TOOL])
        call = next(item for item in first.output if item.type == "function_call")
        part: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": page("x")}]
        for stream in (False, True):
            answer: Any = client.responses.create(
                model="m", input=part, tools=[RESPONSES_TOOL], previous_response_id=first.id, stream=stream
            )
            assert not stream or next(reversed([event.type for event in answer])) == "response.completed"
    assert server.statuses == [200] * 3
    assert [body["input"] for body in server.requests] == ["go", part, part]
    assert len(session.asked) == 1
    assert len(session.observed) == 1
    assert session.accounts.reported["input"] > 0
    assert session.accounts.reported["cached"] == 14


def test_refusals_pass_and_are_not_observed(server: Server) -> None:
    session = Fake()
    with oai(server, session) as client, ant(server, session) as other:
        with pytest.raises(openai.BadRequestError, match="Unrecognized request argument supplied: nonsense"):
            client.chat.completions.create(model="m", messages=[USER], extra_body={"nonsense": 1})
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="m", messages=[USER], extra_headers={"authorization": ""})
        with pytest.raises(anthropic.BadRequestError, match="there is no user message"):
            other.messages.create(model="m", max_tokens=9, messages=[{"role": "assistant", "content": "x"}])
    assert session.observed == []


def test_a_retry_of_the_sdk_sends_the_same_bytes() -> None:
    session, whole = Fake(), {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": []}
    wire = Wire((500, {}), (500, {}), (200, whole))
    client = httpx2.Client(transport=Transport(session, wire))
    with openai.OpenAI(api_key="k", http_client=client, max_retries=2) as sdk:
        sdk.chat.completions.create(model="m", messages=results(5), timeout=5)
    assert len({request.read() for request in wire.sent}) == 1
    assert (len(wire.sent), len(session.observed)) == (3, 1)


# Many threads on one client -----------------------------------------------------------------------------------------


def test_a_session_for_each_thread(server: Server) -> None:
    sessions = {"a": Fake(), "b": Fake()}
    with oai(server, lambda body, thread: sessions.get(thread)) as client:
        for thread in ("a", "b", "a", ""):
            headers = {"X-Memctx-Thread": thread} if thread else {}
            client.chat.completions.create(model="m", messages=[USER], extra_headers=headers)
    assert [len(session.asked) for session in sessions.values()] == [2, 1]
    assert [len(session.observed) for session in sessions.values()] == [2, 1]
    assert server.statuses == [200] * 4


# Errors of memctx reach the caller ----------------------------------------------------------------------------------

ERRORS = [
    BudgetError("pins need 9 of 5 tokens", needed=9, given=5, parts={"pins": 9}),
    InvalidMessage("message 0 has role 'x'", code="bad_role", index=0),
]


@pytest.mark.parametrize("error", ERRORS)
async def test_errors_are_raised_as_themselves_and_once(error: Any, server: Server) -> None:
    kind = type(error)
    session = Fake(fail=error)
    with oai(server, session, max_retries=3) as one, ant(server, session, max_retries=3) as two:
        with pytest.raises(kind) as first:
            one.chat.completions.create(model="m", messages=[USER])
        with pytest.raises(kind) as second:
            two.messages.create(model="m", max_tokens=9, messages=[USER])
    async with aoai(server, session, max_retries=3) as three, aant(server, session, max_retries=3) as four:
        with pytest.raises(kind):
            await three.responses.create(model="m", input="go")
        with pytest.raises(kind):
            await four.messages.create(model="m", max_tokens=9, messages=[USER])
    assert first.value is second.value is error
    assert error.to_dict()["error"] == kind.__name__
    assert (len(session.asked), server.requests) == (4, [])


def test_what_the_anthropic_sdk_does_with_other_errors(server: Server) -> None:
    """As documented: wrapped, with the error as the cause. The OpenAI SDK lets it through."""
    session = Fake(fail=KeyError("bug"))
    with ant(server, session, max_retries=0) as client, pytest.raises(anthropic.APIConnectionError) as caught:
        client.messages.create(model="m", max_tokens=9, messages=[USER])
    assert isinstance(caught.value.__cause__, KeyError)
    with oai(server, session) as other, pytest.raises(KeyError):
        other.chat.completions.create(model="m", messages=[USER])
    assert len(session.asked) == 2


# A context that was too long ----------------------------------------------------------------------------------------


class Shrinking(Fake):
    """Clears all results once it was told to shrink."""

    def __init__(self, *, fail_after: Exception | None = None) -> None:
        super().__init__(keep=1_000)
        self.told: list[int | None] = []
        self._fail_after = fail_after

    def shrink(self, to: int | None) -> None:
        self.told.append(to)
        self.keep, self.fail = 1, self._fail_after


async def test_a_refused_length_is_tried_once_with_less() -> None:
    blocks: list[Any] = [USER]
    for n in range(8):
        blocks.append(
            {"role": "assistant", "content": [{"type": "tool_use", "id": f"c{n}", "name": "look", "input": {}}]}
        )
        blocks.append(
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"c{n}", "content": page("x")}]}
        )
    with strict_server(agent, limit=1_000) as server:
        session = Shrinking()
        with oai(server, session) as client:
            answer = client.chat.completions.create(model="m", messages=results(8), tools=[CHAT_TOOL])
        other = Shrinking()
        async with aant(server, other) as aclient:
            await aclient.messages.create(model="m", max_tokens=9, messages=blocks, tools=[ANTHROPIC_TOOL])
    assert answer.choices[0].message.tool_calls
    assert server.statuses == [400, 200] * 2
    assert [len(each.observed) for each in (session, other)] == [1, 1]
    assert [told is not None and 0 < told < 90 for told in session.told + other.told] == [True, True]


@pytest.mark.parametrize("fail", [None, ERRORS[0]])
def test_a_length_that_cannot_shrink_is_the_providers_refusal(fail: Any) -> None:
    with strict_server(agent, limit=50) as server:
        client, other = oai(server, Shrinking(fail_after=fail)), oai(server, Shrinking(fail_after=fail))
        with pytest.raises(openai.BadRequestError, match="maximum context length is 50 tokens") as caught:
            client.chat.completions.create(model="m", messages=results(8))
        assert caught.value.code == "context_length_exceeded"
        with pytest.raises(openai.BadRequestError, match="exceeds the context window"):
            other.responses.create(model="m", input="go " * 500)
        assert server.statuses == [400] * (2 if fail else 4)
        client.close()
        other.close()
    with strict_server(agent, limit=50) as server, oai(server, Fake()) as client:
        with pytest.raises(openai.BadRequestError, match="maximum context length"):
            client.chat.completions.create(model="m", messages=results(8))
        assert server.statuses == [400]


@pytest.mark.parametrize(
    ("text", "to"),
    [
        ("This model's maximum context length is 8000 tokens. However, your messages resulted in 16000 tokens.", 4500),
        (
            "maximum context length is 8000 tokens. However, you requested 10000 tokens (6000 in the messages, ...)",
            7200,
        ),
        ("prompt is too long: 20000 tokens > 10000 maximum", 4500),
        ("maximum context length is 8000 tokens.", 7200),
        ("Your input exceeds the context window of this model.", None),
    ],
)
def test_the_budget_that_would_have_fitted(text: str, to: int | None) -> None:
    assert overflowed(text)
    assert smaller(text, 10_000) == to


# Tools and cache marks -----------------------------------------------------------------------------------------------


class Offering(Fake):
    """Offers only some tools."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    def view(
        self, messages: list[Any], tools: list[Any] | None = None, *, system: Any = None, forced: Any = ()
    ) -> View:
        offered = [tool for tool in tools or [] if tool["function"]["name"] in self.names]
        return View(messages, offered, 1, 0, (), Plan(), system=system)


@pytest.mark.parametrize(
    ("names", "choice", "left"),
    [
        (["b"], "auto", ["b"]),
        ([], "auto", None),
        (["a"], {"type": "function", "function": {"name": "b"}}, ["a", "b"]),
        (["a"], {"type": "function", "function": {"name": "a"}}, ["a"]),
    ],
)
def test_tools_left_out(names: list[str], choice: Any, left: list[str] | None) -> None:
    tools = [{"type": "function", "function": {"name": name, "parameters": {}}} for name in ("a", "b")]
    body = {"messages": [USER], "tools": tools, "tool_choice": choice, "parallel_tool_calls": True}
    wire = Wire()
    with httpx2.Client(transport=Transport(Offering(*names), wire)) as client:
        client.post("https://x.test/v1/chat/completions", json=body)
    sent = wire.bodies[0]
    if left is None:
        assert sent == {"messages": [USER]}
    else:
        assert ([tool["function"]["name"] for tool in sent["tools"]], sent["tool_choice"]) == (left, choice)


MARK = {"type": "ephemeral"}


def test_marks_are_at_most_four_and_only_where_they_may_be() -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    messages: list[Any] = [{"role": "user", "content": f"m{n}"} for n in range(8)]
    messages[5] = {"role": "assistant", "content": [{"type": "text", "text": "said"}, thinking]}
    messages[6] = {"role": "user", "content": " "}
    tools = [{"name": "a"}, {"name": "b", "defer_loading": True}]
    before = copy.deepcopy(messages)
    out = marked({"messages": messages, "tools": tools, "system": ""}, (0, 1, 5, 6, 7, 99), "1h")
    hour = {**MARK, "ttl": "1h"}
    assert messages == before
    assert out["tools"] == [{"name": "a", "cache_control": hour}, tools[1]]
    assert out["messages"][5]["content"] == [{"type": "text", "text": "said", "cache_control": hour}, thinking]
    assert out["messages"][7]["content"] == [{"type": "text", "text": "m7", "cache_control": hour}]
    assert [index for index in range(8) if out["messages"][index] != messages[index]] == [5, 7]
    assert json.dumps(out).count("ephemeral") <= 4


@pytest.mark.parametrize(
    "extra",
    [{"system": [{"type": "text", "text": "s", "cache_control": MARK}]}, {"cache_control": MARK}],
)
def test_the_hosts_own_marks_are_left_alone(extra: Json) -> None:
    wire = Wire()
    body = {"messages": [USER], **extra}
    with httpx2.Client(transport=Transport(Fake(breakpoints=True), wire)) as client:
        client.post("https://x.test/v1/messages", json=body)
        client.post("https://x.test/v1/messages", json={"messages": [{"role": "user", "content": '"cache_control"'}]})
    assert wire.bodies[0] == body
    assert wire.bodies[1]["messages"][0]["content"][0]["cache_control"] == MARK


# With real sessions --------------------------------------------------------------------------------------------------


def session_of(budget: int = 2_000, **settings: Any) -> Session:
    return Pipeline([Skim(keep=1)], budget=budget, **settings).session()


def text_of(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def report(n: int) -> str:
    """A long result with one fact worth finding again."""
    rows = "\n".join(f"row {i}: value {i * n} of nothing that matters here" for i in range(60))
    return f"page {n}\n{rows}\nkey-{n}"


def watched(session: Session) -> tuple[Session, list[View]]:
    """The session, and the list that each of its views is put into."""
    views: list[View] = []
    view = session.view

    def kept(*args: Any, **settings: Any) -> View:
        views.append(view(*args, **settings))
        return views[-1]

    session.view = kept  # type: ignore[method-assign]
    return session, views


def test_a_real_session_under_chat_reopens_what_it_cut(server: Server) -> None:
    session, views = watched(session_of())
    reopen = session.reopen_tool(max_tokens=100_000)
    tools: Any = [CHAT_TOOL, reopen.schema]
    history: list[Any] = [{"role": "system", "content": "Be short."}, USER]
    with oai(server, session) as client:
        for n in range(40):
            before = copy.deepcopy(history)
            said = client.chat.completions.create(model="m", messages=history, tools=tools).choices[0].message
            assert history == before
            assert said.tool_calls
            result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": report(n)}
            history += [said.model_dump(exclude_none=True), result]
    assert (server.refused, len(server.requests)) == (0, 40)
    assert session.decisions
    assert [view.tokens <= 2_000 for view in views] == [True] * 40
    assert len(text_of(server.requests[-1]["messages"])) < len(text_of(history)) / 4
    results = [message["content"] for message in history if message["role"] == "tool"]
    handles = session.view(history, tools).handles
    assert handles
    opened = [session.reopen(handle) for handle in handles]
    assert all(text in results or json.loads(text) for text in opened)
    assert reopen(handles[0]) == opened[0]


@pytest.mark.parametrize("thinking", [False, True])
def test_a_real_session_under_messages(server: Server, thinking: bool) -> None:
    session = session_of(price="anthropic-1h")
    thought = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    extra: Any = {"thinking": {"type": "enabled", "budget_tokens": 1024}} if thinking else {}
    history: list[Any] = [USER]
    with ant(server, session) as client:
        for n in range(35):
            answer = client.messages.create(
                model="m", max_tokens=2048, messages=history, tools=[ANTHROPIC_TOOL], system="Be short.", **extra
            )
            call = next(block for block in answer.content if block.type == "tool_use")
            blocks = [thought] * thinking + [block.to_dict() for block in answer.content]
            history.append({"role": "assistant", "content": blocks})
            done = {"type": "tool_result", "tool_use_id": call.id, "content": report(n)}
            history.append({"role": "user", "content": [done]})
    assert (server.refused, len(server.requests)) == (0, 35)
    assert session.decisions
    assert [body["system"][0]["cache_control"] for body in server.requests] == [{**MARK, "ttl": "1h"}] * 35
    assert all(2 <= text_of(body).count('"cache_control"') <= 4 for body in server.requests)
    shown = [m["content"] for m in server.requests[-1]["messages"] if m["role"] == "assistant"]
    blocks = [block for content in shown if isinstance(content, list) for block in content]
    assert all(block == thought for block in blocks if block["type"] == "thinking")
    assert not thinking or any(block["type"] == "thinking" for block in blocks)


async def test_a_real_session_under_async_streamed_responses(server: Server) -> None:
    session = session_of()
    items: list[Any] = [{"role": "developer", "content": "Look around."}, {"role": "user", "content": "go"}]
    async with aoai(server, session) as client:
        for n in range(35):
            stream = await client.responses.create(
                model="m", input=items, tools=[RESPONSES_TOOL], instructions="Be short.", stream=True
            )
            done = [event.response async for event in stream if event.type == "response.completed"]
            items += [item.model_dump(exclude_none=True) for item in done[0].output]
            items.append({"type": "function_call_output", "call_id": items[-1]["call_id"], "output": report(n)})
    assert (server.refused, len(server.requests)) == (0, 35)
    assert session.decisions
    assert session.report()["reported"]["cached"] == 35 * 7
    assert len(text_of(server.requests[-1]["input"])) < len(text_of(items)) / 4
    assert server.requests[-1]["input"][:2] == items[:2]


def test_a_budget_that_cannot_hold_reaches_the_caller(server: Server) -> None:
    session = session_of(50)
    with ant(server, session) as client, pytest.raises(BudgetError, match="50"):
        client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "word " * 500}])
    assert server.requests == []


def test_a_real_session_shrinks_to_what_the_provider_takes() -> None:
    history: list[Any] = [USER]
    for n in range(12):
        call = {"id": f"c{n}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        history.append({"role": "assistant", "content": None, "tool_calls": [call]})
        history.append({"role": "tool", "tool_call_id": f"c{n}", "content": report(n)})
    session = session_of(100_000, edit_when="budget")
    with strict_server(agent, limit=4_000) as server, oai(server, session) as client:
        client.chat.completions.create(model="m", messages=history, tools=[CHAT_TOOL])
        client.chat.completions.create(model="m", messages=history, tools=[CHAT_TOOL])
    assert server.statuses == [400, 200, 200]
    assert server.requests[1] == server.requests[2]


def test_marks_only_advance(server: Server) -> None:
    """Between two edits a request is the last one, longer; a marked place stays marked until two newer ones are."""
    session = session_of(50_000, price="anthropic-5m", provider="anthropic")
    history: list[Any] = [USER]
    with ant(server, session) as client:
        for n in range(6):
            answer = client.messages.create(model="m", max_tokens=9, messages=history, tools=[ANTHROPIC_TOOL])
            history.append({"role": "assistant", "content": [block.to_dict() for block in answer.content]})
            done = {"type": "tool_result", "tool_use_id": history[-1]["content"][-1]["id"], "content": f"short {n}"}
            history.append({"role": "user", "content": [done]})
    sent = [body["messages"] for body in server.requests]
    places = [[index for index, m in enumerate(messages) if "cache_control" in text_of(m)] for messages in sent]
    assert places == [[0], [0, 2], [2, 4], [4, 6], [6, 8], [8, 10]]
    assert all(body["tools"][0]["cache_control"] == MARK for body in server.requests)


def test_parallel_calls_and_the_default_pipeline(server: Server) -> None:
    calls = itertools.count()
    server.script = lambda body: Reply("", tuple(Call("look", f'{{"page": {next(calls)}}}') for _ in range(4)))
    session = Pipeline.safe(budget=3_000).session()
    history: list[Any] = [USER]
    with oai(server, session) as client:
        for n in range(30):
            said = client.chat.completions.create(model="m", messages=history, tools=[CHAT_TOOL]).choices[0].message
            history.append(said.model_dump(exclude_none=True))
            calls_made = reversed(said.tool_calls or [])
            history += [{"role": "tool", "tool_call_id": call.id, "content": report(n)} for call in calls_made]
    assert server.statuses == [200] * 30
    assert session.report()["peak_tokens"] <= 3_000
