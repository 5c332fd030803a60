"""The strict server against the real SDKs: the valid gets through, the broken is refused as a provider would."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers import Call, Reply, Server, strict_server

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")

USER = {"role": "user", "content": "go"}
LOOK = Call("look", '{"path": "/a b", "deep": true}', "c1")
CHAT_TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
RESPONSES_TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": False}
ANTHROPIC_TOOL = {"name": "look", "input_schema": {"type": "object"}}


def agent(body: dict[str, Any]) -> Reply:
    """Calls a tool when asked to go, and reports when it has the result."""
    items = body.get("messages") or body["input"]
    last = str(items[-1]) if isinstance(items, list) else items
    return Reply("I look around.", (LOOK,)) if "go" in last else Reply("All seen: é 漢 🙂.")


@pytest.fixture
def server() -> Iterator[Server]:
    with strict_server(agent, limit=2_000) as running:
        yield running


def oai(server: Server) -> Any:
    return openai.OpenAI(api_key="k", base_url=server.url + "/v1", max_retries=0)


def ant(server: Server) -> Any:
    return anthropic.Anthropic(api_key="k", base_url=server.url, max_retries=0)


# OpenAI chat -------------------------------------------------------------------------------------------------------


def test_chat_tool_turn(server: Server) -> None:
    with oai(server) as client:
        messages: list[Any] = [USER]
        first = client.chat.completions.create(model="m", messages=messages, tools=[CHAT_TOOL])
        said = first.choices[0].message
        assert first.choices[0].finish_reason == "tool_calls"
        assert json.loads(said.tool_calls[0].function.arguments) == {"path": "/a b", "deep": True}
        messages += [said, {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "seen"}]
        second = client.chat.completions.create(model="m", messages=messages, tools=[CHAT_TOOL])
    assert second.choices[0].message.content == "All seen: é 漢 🙂."
    assert second.usage.prompt_tokens > first.usage.prompt_tokens
    sent = server.requests[1]
    size = [len(json.dumps(sent[field], ensure_ascii=False)) for field in ("messages", "tools")]
    assert second.usage.prompt_tokens == sum(size) // 4
    assert server.requests[0]["messages"] == [USER]
    assert server.statuses == [200, 200]


def test_chat_stream(server: Server) -> None:
    text, arguments, usage, names = "", "", None, []
    with oai(server) as client:
        options = {"include_usage": True}
        stream = client.chat.completions.create(
            model="m", messages=[USER], tools=[CHAT_TOOL], stream=True, stream_options=options
        )
        for chunk in stream:
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                for call in choice.delta.tool_calls or []:
                    arguments += call.function.arguments or ""
                    names += [call.function.name] if call.function.name else []
    assert (text, names, arguments) == ("I look around.", ["look"], LOOK.arguments)
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0


async def test_chat_async(server: Server) -> None:
    async with openai.AsyncOpenAI(api_key="k", base_url=server.url + "/v1", max_retries=0) as client:
        whole = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert whole.choices[0].message.content == text
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(
                model="m", messages=[{"role": "tool", "tool_call_id": "x", "content": ""}]
            )
        assert text == "All seen: é 漢 🙂."


CALLED = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": []}, "empty array"),
        ({"messages": [USER, CALLED]}, "did not have response messages: .*c1"),
        (
            {"messages": [USER, {"role": "tool", "tool_call_id": "c1", "content": ""}]},
            "must be a response to a preceeding",
        ),
        ({"messages": [{**USER, "memctx": 1}]}, r"Unknown parameter: 'messages\[0\]\.memctx'"),
        ({"tools": []}, "Invalid 'tools': empty array"),
        ({"tool_choice": "auto"}, "only allowed when 'tools' are specified"),
        ({"extra_body": {"pipeline": 1}}, "Unrecognized request argument supplied: pipeline"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_chat_refuses(server: Server, change: dict[str, Any], words: str, stream: bool) -> None:
    with oai(server) as client, pytest.raises(openai.BadRequestError, match=words) as caught:
        client.chat.completions.create(**{"model": "m", "messages": [USER], "stream": stream, **change})
    assert caught.value.type == "invalid_request_error"
    assert server.statuses == [400]
    assert server.refused == 1


def test_chat_overflow(server: Server) -> None:
    long = {"role": "user", "content": "x" * 8_100}
    with oai(server) as client, pytest.raises(openai.BadRequestError, match="maximum context length is 2000") as caught:
        client.chat.completions.create(model="m", messages=[long])
    assert caught.value.code == "context_length_exceeded"


# OpenAI Responses --------------------------------------------------------------------------------------------------


def test_responses_tool_turn_with_own_history(server: Server) -> None:
    with oai(server) as client:
        items: list[Any] = [USER]
        first = client.responses.create(model="m", input=items, tools=[RESPONSES_TOOL], store=False)
        assert first.output_text == "I look around."
        (call,) = [item for item in first.output if item.type == "function_call"]
        assert json.loads(call.arguments)["deep"] is True
        items += [*first.output, {"type": "function_call_output", "call_id": call.call_id, "output": "seen"}]
        second = client.responses.create(model="m", input=items, tools=[RESPONSES_TOOL], store=False)
        assert second.output_text.startswith("All seen")
        with pytest.raises(openai.BadRequestError, match="No tool output found for function call"):
            client.responses.create(model="m", input=items[:-1])
        with pytest.raises(openai.BadRequestError, match="Duplicate item found with id msg_"):
            client.responses.create(model="m", input=[*items, items[1]])
    assert not server.stored


def test_responses_server_history(server: Server) -> None:
    out = {"type": "function_call_output", "call_id": "c1", "output": "seen"}
    with oai(server) as client:
        first = client.responses.create(model="m", input="go", tools=[RESPONSES_TOOL])
        second = client.responses.create(model="m", input=[out], previous_response_id=first.id)
        assert second.output_text.startswith("All seen")
        assert second.usage.input_tokens > first.usage.input_tokens  # the server counts what it holds
        with pytest.raises(openai.BadRequestError, match="No tool output found"):
            client.responses.create(model="m", input="and?", previous_response_id=first.id)
        with pytest.raises(openai.BadRequestError, match="No tool call found for function call output"):
            client.responses.create(model="m", input=[out])
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model="m", input="and?", previous_response_id="resp_none")
    assert caught.value.code == "previous_response_not_found"
    assert server.requests[1]["input"] == [out]


def test_responses_stream(server: Server) -> None:
    with oai(server) as client:
        events = list(client.responses.create(model="m", input="go", tools=[RESPONSES_TOOL], stream=True))
        with client.responses.stream(model="m", input="hi") as stream:
            final = stream.get_final_response()
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    arguments = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    assert (text, arguments) == ("I look around.", LOOK.arguments)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == text
    assert final.output_text.startswith("All seen")


async def test_responses_async_and_overflow(server: Server) -> None:
    async with openai.AsyncOpenAI(api_key="k", base_url=server.url + "/v1", max_retries=0) as client:
        whole = await client.responses.create(model="m", input="hi")
        events = [event async for event in await client.responses.create(model="m", input="hi", stream=True)]
        assert events[-1].response.output_text == whole.output_text
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="m", input="x" * 8_100)
        assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([USER, {"type": "reasoning", "id": "rs_1", "summary": []}], "without its required following item"),
        ([USER, {"type": "reasoning", "id": "rs_1"}, {"role": "assistant", "content": "x"}], "summary"),
        ([{"role": "user", "content": [{"type": "text", "text": "x"}]}], "input_text"),
    ],
)
def test_responses_refuses(server: Server, items: list[Any], words: str) -> None:
    with oai(server) as client, pytest.raises(openai.BadRequestError, match=words):
        client.responses.create(model="m", input=items)


# Anthropic ---------------------------------------------------------------------------------------------------------


def test_anthropic_tool_turn(server: Server) -> None:
    with ant(server) as client:
        messages: list[Any] = [USER]
        first = client.messages.create(model="m", max_tokens=50, messages=messages, tools=[ANTHROPIC_TOOL], system="s")
        assert [block.type for block in first.content] == ["text", "tool_use"]
        assert first.stop_reason == "tool_use"
        assert first.content[1].input == {"path": "/a b", "deep": True}
        answer = {"type": "tool_result", "tool_use_id": first.content[1].id, "content": "seen"}
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [answer]}]
        second = client.messages.create(model="m", max_tokens=50, messages=messages, tools=[ANTHROPIC_TOOL])
        assert second.content[0].text == "All seen: é 漢 🙂."
        counted = client.messages.count_tokens(model="m", messages=messages, tools=[ANTHROPIC_TOOL])
    assert counted.input_tokens == second.usage.input_tokens > 0


def test_anthropic_stream(server: Server) -> None:
    with ant(server) as client:
        with client.messages.stream(model="m", max_tokens=50, messages=[USER], tools=[ANTHROPIC_TOOL]) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        raw = client.messages.create(model="m", max_tokens=50, messages=[USER], tools=[ANTHROPIC_TOOL], stream=True)
        kinds = [event.type for event in raw]
    assert text == "I look around."
    assert final.content[1].input == {"path": "/a b", "deep": True}
    assert final.usage.output_tokens > 1
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])


async def test_anthropic_async(server: Server) -> None:
    async with anthropic.AsyncAnthropic(api_key="k", base_url=server.url, max_retries=0) as client:
        hi = [{"role": "user", "content": "hi"}]
        whole = await client.messages.create(model="m", max_tokens=50, messages=hi)
        async with client.messages.stream(model="m", max_tokens=50, messages=hi) as stream:
            final = await stream.get_final_message()
        assert final.content[0].text == whole.content[0].text
        with pytest.raises(anthropic.BadRequestError):
            await client.messages.create(model="m", max_tokens=50, messages=[{"role": "assistant", "content": "x"}])
        assert final.content[0].text == "All seen: é 漢 🙂."


USE = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {}}]}
GIVEN = {"type": "tool_result", "tool_use_id": "t1", "content": "seen"}
THINK = {"type": "enabled", "budget_tokens": 1_024}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": [USER, USE, USER]}, r"messages\.1: `tool_use` ids were found without"),
        ({"messages": [USER, USE, {"role": "user", "content": [GIVEN, GIVEN]}]}, "must have a single result"),
        ({"messages": [{"role": "user", "content": [GIVEN]}]}, "unexpected `tool_use_id` found"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": " "}]}]}, "must be non-empty"),
        ({"messages": [{**USER, "id": "x"}]}, r"messages\.0\.id: Extra inputs are not permitted"),
        ({"messages": [{"role": "assistant", "content": "x"}, USER]}, 'must use the "user" role'),
        ({"messages": [{"role": "user", "content": "x" * 8_100}]}, "prompt is too long: .* tokens > 2000 maximum"),
        ({"messages": [USER, USE, {"role": "user", "content": [GIVEN]}], "thinking": THINK}, "Expected `thinking`"),
        ({"extra_body": {"pipeline": 1}}, "pipeline: Extra inputs are not permitted"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_refuses(server: Server, change: dict[str, Any], words: str, stream: bool) -> None:
    body = {"model": "m", "max_tokens": 50, "messages": [USER], "stream": stream, **change}
    with ant(server) as client, pytest.raises(anthropic.BadRequestError, match=words) as caught:
        client.messages.create(**body)
    assert caught.value.body["error"]["type"] == "invalid_request_error"


def test_prefill_can_be_off() -> None:
    messages = [USER, {"role": "assistant", "content": "x"}]
    refusal = pytest.raises(anthropic.BadRequestError, match="does not support assistant message prefill")
    with strict_server(prefill=False) as server, ant(server) as client, refusal:
        client.messages.create(model="m", max_tokens=50, messages=messages)
    with strict_server() as server, ant(server) as client:
        assert client.messages.create(model="m", max_tokens=50, messages=messages).content[0].text == "x"


# The wire ----------------------------------------------------------------------------------------------------------


def post(url: str, data: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(url, data, {"content-type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def test_bodies_that_are_no_requests(server: Server) -> None:
    chat = server.url + "/v1/chat/completions"
    assert post(chat, b"{", authorization="k")[0] == 400
    assert post(chat, b"[]", authorization="k")[0] == 400
    assert post(chat, b'{"model": "m", "messages": []}')[0] == 401
    assert post(server.url + "/v1/other", b"{}", authorization="k")[0] == 404
    lone = b'{"model": "m", "messages": [{"role": "user", "content": "\\ud800"}]}'
    status, body = post(chat, lone, authorization="k")
    assert (status, "no low surrogate" in body["error"]["message"]) == (400, True)


def test_a_failing_script_fails_the_call() -> None:
    failure = pytest.raises(openai.APIStatusError, match="the test server failed: KeyError")
    with strict_server(lambda body: body["nothing"]) as server, oai(server) as client, failure:
        client.chat.completions.create(model="m", messages=[USER])


def test_usage_is_what_the_script_says() -> None:
    reply = Reply("x", input_tokens=1_000, output_tokens=5, cached_tokens=900)
    with strict_server(lambda _: reply) as server, oai(server) as chat, ant(server) as messages:
        usage = chat.chat.completions.create(model="m", messages=[USER]).usage
        assert (usage.prompt_tokens, usage.completion_tokens) == (1_000, 5)
        assert usage.prompt_tokens_details.cached_tokens == 900
        used = messages.messages.create(model="m", max_tokens=5, messages=[USER]).usage
        assert (used.input_tokens, used.cache_read_input_tokens, used.output_tokens) == (100, 900, 5)
