"""A strict provider on 127.0.0.1: OpenAI chat and Responses, and Anthropic messages, for the real SDKs to talk to.

`with strict_server(script) as server:` gives `server.url` (Anthropic's base_url) and `server.url + "/v1"` (OpenAI's).
Every body is checked as the provider would, and refused with a 400 in the provider's words and error shape. `script`
turns an accepted body into a `Reply`; by default the last text is echoed.
"""

from __future__ import annotations

import importlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from memctx.validity import Violation, check

Json = dict[str, Any]
Event = tuple[str | None, Json]  # SSE event name, data
IDS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call of a reply; `arguments` is JSON text."""

    name: str
    arguments: str = "{}"
    id: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says. Usage is in tokens; `None` means counted as characters / 4."""

    text: str = ""
    calls: tuple[Call, ...] = ()
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int = 0


Script = Callable[[Json], "Reply | str"]


class Refused(Exception):
    """A request the provider answers with an error."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message, self.status, self.param, self.code = message, status, param, code


@dataclass
class Server:
    """The running server. `requests` holds every body in order of arrival, refused ones too; `statuses` the answers."""

    url: str
    script: Script
    limit: int | None = None
    prefill: bool = True
    requests: list[Json] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    stored: dict[str, list[Any]] = field(default_factory=dict)  # response id -> all items up to and with its output

    @property
    def refused(self) -> int:
        """How many requests were answered with an error."""
        return sum(status >= 400 for status in self.statuses)


@contextmanager
def strict_server(script: Script | None = None, *, limit: int | None = None, prefill: bool = True) -> Iterator[Server]:
    """Run the server in a thread. `limit`: the context window in tokens; `prefill`: whether assistant may be last."""
    server = Server("", script or echo, limit, prefill)
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"server_state": server}))
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def echo(body: Json) -> Reply:
    """The last text of the request."""
    items = body.get("messages") or body.get("input") or ""
    last = items if isinstance(items, str) else items[-1]
    content = last if isinstance(last, str) else last.get("content") or last.get("output") or ""
    return Reply(content if isinstance(content, str) else json.dumps(content))


def count(*values: Any) -> int:
    """Tokens of the request: a quarter of the characters of its JSON."""
    return sum(len(json.dumps(value, ensure_ascii=False)) for value in values if value) // 4


# Refusals ----------------------------------------------------------------------------------------------------------

OPENAI_WORDS = {
    "empty_messages": "Invalid 'messages': empty array. Expected an array with minimum length 1.",
    "unanswered_tool_call": "An assistant message with 'tool_calls' must be followed by tool messages responding to "
    "each 'tool_call_id'. The following tool_call_ids did not have response messages: {}",
    "orphan_tool_result": "Invalid parameter: messages with role 'tool' must be a response to a preceeding message "
    "with 'tool_calls'. ({})",
}
RESPONSES_WORDS = {
    "orphan_tool_result": "No tool call found for function call output. ({})",
    "unanswered_tool_call": "No tool output found for function call. ({})",
    "reasoning_without_item": "Item of type 'reasoning' was provided without its required following item. ({})",
    "missing_summary": "Missing required parameter: 'input[].summary'. ({})",
}
ANTHROPIC_WORDS = {
    "unanswered_tool_call": "`tool_use` ids were found without `tool_result` blocks immediately after: {}. Each "
    "`tool_use` block must have a corresponding `tool_result` block in the next message.",
    "tool_result_not_first": "`tool_use` ids were found without `tool_result` blocks immediately after: {}.",
    "orphan_tool_result": "unexpected `tool_use_id` found in `tool_result` blocks: {}. Each `tool_result` block must "
    "have a corresponding `tool_use` block in the previous message.",
    "duplicate_tool_result": "each tool_use must have a single result. Found multiple `tool_result` blocks with id: {}",
    "duplicate_tool_call_id": "`tool_use` ids must be unique ({})",
    "bad_tool_call_id": "String should match pattern '^[a-zA-Z0-9_-]+$' ({})",
    "blank_text": "text content blocks must be non-empty ({})",
    "first_not_user": 'first message must use the "user" role ({})',
    "prefill_not_supported": "This model does not support assistant message prefill. The conversation must end with a "
    "user message. ({})",
}
UNENCODABLE = "The request body is not valid JSON: no low surrogate in string ({})"


def refuse(found: list[Violation], words: dict[str, str], field_name: str) -> None:
    """Raise for the first violation, if there is one."""
    if found:
        first = found[0]
        text = words.get(first.rule, UNENCODABLE if first.rule == "unencodable_text" else "{}").format(first.message)
        param = field_name if first.index < 0 else f"{field_name}[{first.index}]"
        raise Refused(text, param=param, code=None)


def known_fields(path: str) -> frozenset[str]:
    """The request fields that the installed SDK knows."""
    module, name = path.rsplit(".", 1)
    return frozenset(getattr(importlib.import_module(module), name).__annotations__) | {"stream"}


def check_fields(body: Json, path: str, words: str) -> None:
    for name in sorted(set(body) - known_fields(path)):
        raise Refused(words.format(name), param=name, code="unknown_parameter")
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise Refused("you must provide a model parameter", param="model", code="missing_required_parameter")


def check_openai_tools(body: Json) -> None:
    if body.get("tools") == []:
        raise Refused("Invalid 'tools': empty array. Expected an array with minimum length 1.", param="tools")
    for name in ("tool_choice", "parallel_tool_calls"):
        if name in body and "tools" not in body:
            raise Refused(f"'{name}' is only allowed when 'tools' are specified.", param=name)


def overflow(tokens: int, limit: int | None, words: str, param: str) -> int:
    if limit is not None and tokens > limit:
        raise Refused(words.format(tokens=tokens, limit=limit), param=param, code="context_length_exceeded")
    return tokens


# The three services. Each gives (answer, events): the whole answer, and the same as a stream ------------------------

Answer = tuple[Json, Iterator[Event]]
CHAT_FIELDS = "openai.types.chat.completion_create_params.CompletionCreateParamsBase"
MESSAGE_FIELDS = {
    "role",
    "content",
    "name",
    "tool_calls",
    "tool_call_id",
    "function_call",
    "refusal",
    "audio",
    "annotations",
}


def chat(body: Json, server: Server) -> Answer:
    check_fields(body, CHAT_FIELDS, "Unrecognized request argument supplied: {}")
    messages = body.get("messages")
    refuse(
        check(messages, "openai-chat", tools=body.get("tools"), tool_choice=body.get("tool_choice")),
        OPENAI_WORDS,
        "messages",
    )
    check_openai_tools(body)
    for index, message in enumerate(messages or []):
        for name in sorted(set(message) - MESSAGE_FIELDS):
            raise Refused(f"Unknown parameter: 'messages[{index}].{name}'.", param=f"messages[{index}].{name}")
    words = (
        "This model's maximum context length is {limit} tokens. However, your messages resulted in {tokens} tokens. "
        "Please reduce the length of the messages."
    )
    tokens = overflow(count(messages, body.get("tools")), server.limit, words, "messages")
    reply = said(server, body)
    calls = [
        {
            "id": call.id or f"call_{next(IDS)}",
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in reply.calls
    ]
    out: Json = {"role": "assistant", "content": reply.text or (None if calls else ""), "refusal": None}
    if calls:
        out["tool_calls"] = calls
    finish = "tool_calls" if calls else "stop"
    sent, got = used(reply, tokens)
    usage = {
        "prompt_tokens": sent,
        "completion_tokens": got,
        "total_tokens": sent + got,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
    }
    head = {"id": f"chatcmpl-{next(IDS)}", "created": 1, "model": body["model"]}
    choice = {"index": 0, "message": out, "finish_reason": finish, "logprobs": None}
    answer = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
    wants_usage = (body.get("stream_options") or {}).get("include_usage")
    return answer, chat_events({**head, "object": "chat.completion.chunk"}, out, finish, usage if wants_usage else None)


def chat_events(head: Json, message: Json, finish: str, usage: Json | None) -> Iterator[Event]:
    def chunk(delta: Json, reason: str | None = None) -> Event:
        return None, {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]}

    yield chunk({"role": "assistant", "content": ""})
    for piece in pieces(message["content"] or ""):
        yield chunk({"content": piece})
    for index, call in enumerate(message.get("tool_calls", [])):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        start = {"index": index, "id": call["id"], "type": "function", "function": {"name": name, "arguments": ""}}
        yield chunk({"tool_calls": [start]})
        for piece in pieces(arguments):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, finish)
    if usage:
        yield None, {**head, "choices": [], "usage": usage}


RESPONSES_FIELDS = "openai.types.responses.response_create_params.ResponseCreateParamsBase"


def responses(body: Json, server: Server) -> Answer:
    check_fields(body, RESPONSES_FIELDS, "Unknown parameter: '{}'.")
    items = known_items(body, server)
    found = check(items, "openai-responses", tools=body.get("tools"), tool_choice=body.get("tool_choice"))
    refuse(found, RESPONSES_WORDS, "input")
    check_openai_tools(body)
    ids = [item["id"] for item in items if isinstance(item.get("id"), str) and item.get("type") != "item_reference"]
    for twice in sorted(each for each in set(ids) if ids.count(each) > 1):
        raise Refused(f"Duplicate item found with id {twice}. Remove duplicate items from your input.", param="input")
    words = "Your input exceeds the context window of this model. Please adjust your input and try again."
    tokens = overflow(count(items, body.get("instructions"), body.get("tools")), server.limit, words, "input")
    reply = said(server, body)
    output: list[Json] = []
    if reply.text or not reply.calls:
        part = {"type": "output_text", "text": reply.text, "annotations": []}
        head = {"id": f"msg_{next(IDS)}", "type": "message", "status": "completed", "role": "assistant"}
        output.append({**head, "content": [part]})
    output += [responses_call(call) for call in reply.calls]
    sent, got = used(reply, tokens)
    answer: Json = {
        "id": f"resp_{next(IDS)}", "object": "response", "created_at": 1, "model": body["model"], "status": "completed",
        "output": output, "previous_response_id": body.get("previous_response_id"), "parallel_tool_calls": True,
        "instructions": body.get("instructions"), "tool_choice": "auto", "tools": body.get("tools", []), "metadata": {},
        "error": None, "incomplete_details": None, "temperature": 1.0, "top_p": 1.0,
        "usage": {
            "input_tokens": sent, "input_tokens_details": {"cached_tokens": reply.cached_tokens},
            "output_tokens": got, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": sent + got,
        },
    }  # fmt: skip
    if body.get("store") is not False:
        server.stored[answer["id"]] = [*items, *output]
    return answer, responses_events(answer)


def responses_call(call: Call) -> Json:
    """The item of a call; `tool_search` is the tool of that type, run by the client."""
    head = {"status": "completed", "call_id": call.id or f"call_{next(IDS)}"}
    if call.name == "tool_search":
        search = {"id": f"tsc_{next(IDS)}", "type": "tool_search_call", "execution": "client"}
        return {**head, **search, "arguments": json.loads(call.arguments)}
    function = {"id": f"fc_{next(IDS)}", "type": "function_call", "name": call.name}
    return {**head, **function, "arguments": call.arguments}


def known_items(body: Json, server: Server) -> list[Any]:
    """The items held for `previous_response_id`, then those sent now."""
    given = body.get("input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list):
        raise Refused("Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    before = body.get("previous_response_id")
    if before is not None and before not in server.stored:
        text = f"Previous response with id '{before}' not found."
        raise Refused(text, param="previous_response_id", code="previous_response_not_found")
    return [*server.stored.get(before or "", []), *given]


def responses_events(answer: Json) -> Iterator[Event]:
    number = itertools.count()

    def event(kind: str, **more: Any) -> Event:
        return kind, {"type": kind, "sequence_number": next(number), **more}

    started = {**answer, "status": "in_progress", "output": [], "usage": None}
    yield event("response.created", response=started)
    yield event("response.in_progress", response=started)
    for index, item in enumerate(answer["output"]):
        at = {"item_id": item["id"], "output_index": index}
        empty: dict[str, Json] = {"message": {"content": []}, "function_call": {"arguments": ""}}
        bare = empty.get(item["type"], {})
        yield event("response.output_item.added", output_index=index, item={**item, **bare, "status": "in_progress"})
        if item["type"] == "message":
            part = item["content"][0]
            inside = {**at, "content_index": 0}
            yield event("response.content_part.added", **inside, part={**part, "text": ""})
            for piece in pieces(part["text"]):
                yield event("response.output_text.delta", **inside, delta=piece, logprobs=[])
            yield event("response.output_text.done", **inside, text=part["text"], logprobs=[])
            yield event("response.content_part.done", **inside, part=part)
        elif item["type"] == "function_call":
            for piece in pieces(item["arguments"]):
                yield event("response.function_call_arguments.delta", **at, delta=piece)
            done = {"arguments": item["arguments"], "name": item["name"]}
            yield event("response.function_call_arguments.done", **at, **done)
        yield event("response.output_item.done", output_index=index, item=item)
    yield event("response.completed", response=answer)


ANTHROPIC_FIELDS = "anthropic.types.beta.message_create_params.MessageCreateParamsBase"


def check_anthropic(body: Json, server: Server) -> int:
    messages, tools, system = body.get("messages"), body.get("tools"), body.get("system")
    choice = body.get("tool_choice")
    found = check(messages, "anthropic", tools=tools, system=system, prefill=server.prefill, tool_choice=choice)
    refuse(found, ANTHROPIC_WORDS, "messages")
    for index, message in enumerate(messages or []):
        for name in sorted(set(message) - {"role", "content"}):
            raise Refused(f"messages.{index}.{name}: Extra inputs are not permitted")
    if (body.get("thinking") or {}).get("type") == "enabled":
        check_thinking(messages or [])
    return overflow(
        count(messages, tools, system), server.limit, "prompt is too long: {tokens} tokens > {limit} maximum", ""
    )


def check_thinking(messages: list[Json]) -> None:
    """With thinking on, the tool turn under way must still start with its thinking."""
    last = next((message for message in reversed(messages) if message["role"] == "assistant"), None)
    blocks = last["content"] if last and isinstance(last["content"], list) else []
    if any(block["type"] == "tool_use" for block in blocks):
        kind = blocks[0]["type"]
        if kind not in ("thinking", "redacted_thinking"):
            text = (
                f"Expected `thinking` or `redacted_thinking`, but found `{kind}`. When `thinking` is enabled, a final "
            )
            raise Refused(text + "`assistant` message must start with a thinking block (preceeding the lastmost set of "
                          "`tool_use` and `tool_result` blocks).")  # fmt: skip


def anthropic_messages(body: Json, server: Server) -> Answer:
    check_fields(body, ANTHROPIC_FIELDS, "{}: Extra inputs are not permitted")
    if not isinstance(body.get("max_tokens"), int):
        raise Refused("max_tokens: Field required")
    tokens = check_anthropic(body, server)
    reply = said(server, body)
    content: list[Json] = [{"type": "text", "text": reply.text}] if reply.text else []
    for call in reply.calls:
        head = {"type": "tool_use", "id": call.id or f"toolu_{next(IDS)}", "name": call.name}
        content.append({**head, "input": json.loads(call.arguments)})
    sent, got = used(reply, tokens)
    usage = {
        "input_tokens": sent - reply.cached_tokens,
        "output_tokens": got,
        "cache_read_input_tokens": reply.cached_tokens,
        "cache_creation_input_tokens": 0,
    }
    answer = {
        "id": f"msg_{next(IDS)}", "type": "message", "role": "assistant", "model": body["model"], "content": content,
        "stop_reason": "tool_use" if reply.calls else "end_turn", "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    return answer, anthropic_events(answer)


def anthropic_events(answer: Json) -> Iterator[Event]:
    def event(kind: str, **more: Any) -> Event:
        return kind, {"type": kind, **more}

    start_usage = {**answer["usage"], "output_tokens": 1}
    yield event("message_start", message={**answer, "content": [], "stop_reason": None, "usage": start_usage})
    yield event("ping")
    for index, block in enumerate(answer["content"]):
        is_text = block["type"] == "text"
        empty: Json = {"text": ""} if is_text else {"input": {}}
        yield event("content_block_start", index=index, content_block={**block, **empty})
        for piece in pieces(block["text"] if is_text else json.dumps(block["input"])):
            delta = (
                {"type": "text_delta", "text": piece}
                if is_text
                else {"type": "input_json_delta", "partial_json": piece}
            )
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
    ending: Json = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    yield event("message_delta", delta=ending, usage={"output_tokens": answer["usage"]["output_tokens"]})
    yield event("message_stop")


def count_tokens(body: Json, server: Server) -> Answer:
    return {"input_tokens": check_anthropic(body, server)}, iter(())


SERVICES: dict[str, Callable[[Json, Server], Answer]] = {
    "/v1/chat/completions": chat,
    "/v1/responses": responses,
    "/v1/messages": anthropic_messages,
    "/v1/messages/count_tokens": count_tokens,
}


def said(server: Server, body: Json) -> Reply:
    reply = server.script(body)
    return Reply(reply) if isinstance(reply, str) else reply


def used(reply: Reply, tokens: int) -> tuple[int, int]:
    """(input, output) tokens, as the script gives them or counted."""
    written = len(reply.text) + sum(len(call.name) + len(call.arguments) for call in reply.calls)
    got = max(1, written // 4) if reply.output_tokens is None else reply.output_tokens
    return (tokens if reply.input_tokens is None else reply.input_tokens), got


def pieces(text: str, size: int = 7) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)]


# HTTP --------------------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """One request: recorded, checked, answered."""

    protocol_version = "HTTP/1.1"
    server_state: Server

    def do_POST(self) -> None:
        server = self.server_state
        path = self.path.partition("?")[0]
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        try:
            body = self._body(raw)
            server.requests.append(body)
            server.paths.append(path)
            if path not in SERVICES:
                raise Refused(f"Unknown request URL: POST {path}", status=404)
            self._authorised(path)
            answer, events = SERVICES[path](body, server)
        except Refused as refusal:
            self._send(refusal.status, error_of(path, refusal))
            return
        except Exception as cause:
            self._send(418, error_of(path, Refused(f"the test server failed: {cause!r}")))
            return
        if body.get("stream"):
            self._stream(path, events)
        else:
            self._send(200, answer)

    @staticmethod
    def _body(raw: bytes) -> Json:
        try:
            body = json.loads(raw)
        except ValueError as cause:
            raise Refused(f"The request body is not valid JSON: {cause}") from cause
        if not isinstance(body, dict):
            raise Refused("The request body is not valid JSON: an object is needed")
        return body

    def _authorised(self, path: str) -> None:
        anthropic = path.startswith("/v1/messages")
        if not (self.headers.get("authorization") or (anthropic and self.headers.get("x-api-key"))):
            raise Refused("You didn't provide an API key.", status=401)
        if anthropic and not self.headers.get("anthropic-version"):
            raise Refused("anthropic-version: header is required")

    def _send(self, status: int, body: Json) -> None:
        self.server_state.statuses.append(status)
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.send_header("x-request-id", f"req_{next(IDS)}")
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, path: str, events: Iterator[Event]) -> None:
        self.server_state.statuses.append(200)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for name, data in events:
            head = f"event: {name}\n" if name else ""
            self.wfile.write(f"{head}data: {json.dumps(data)}\n\n".encode())
        if path == "/v1/chat/completions":
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the test holds the record."""


def error_of(path: str, refusal: Refused) -> Json:
    """The provider's error body."""
    kind = {401: "authentication_error", 404: "not_found_error"}.get(refusal.status, "invalid_request_error")
    if path.startswith("/v1/messages"):
        where = (
            f"{refusal.param.replace('[', '.').replace(']', '')}: " if refusal.param and "[" in refusal.param else ""
        )
        return {
            "type": "error",
            "error": {"type": kind, "message": where + refusal.message},
            "request_id": f"req_{next(IDS)}",
        }
    return {"error": {"message": refusal.message, "type": kind, "param": refusal.param, "code": refusal.code}}
