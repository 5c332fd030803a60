"""The httpx2 transport under the real SDKs, against the strict server."""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from memctx.adapters.http import AsyncTransport, Source, Transport
from memctx.plan import Plan
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
    assert session.asked[0][1:] == ([RESPONSES_TOOL], "Be short.")
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
    with oai(server, session) as client, ant(server, session) as other:
        stream = client.chat.completions.create(model="m", messages=[USER], stream=True)
        next(iter(stream))
        stream.close()
        stream.close()
        events = other.messages.create(model="m", max_tokens=9, messages=[USER], stream=True)
        next(iter(events))
        events.close()
    assert len(session.observed) == 2
    assert session.observed[0][0] is None


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
