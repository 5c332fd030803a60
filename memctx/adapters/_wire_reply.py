"""The provider's answer, read on the side while its bytes pass: the reply and the usage, whole or as a stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from memctx.adapters._wire_body import Json, Service


@dataclass(slots=True)
class Answer:
    """What is known of an answer so far. `reply` is in the provider's own form; `done`: the provider ended it."""

    reply: Any = None
    usage: Json | None = None
    done: bool = False
    blocks: dict[int, Json] = field(default_factory=dict)  # of a stream: tool calls or content blocks, by index
    texts: dict[str, str] = field(default_factory=dict)  # of a stream: text fields of the message


class Listener:
    """Takes an answer's decoded bytes as they come and keeps what matters; never raises on what they hold.

    A stream is folded event by event, so nothing is held twice. A whole answer is parsed at the end.
    """

    def __init__(self, service: Service, *, stream: bool) -> None:
        self._fold = FOLDS[service]
        self._whole = WHOLES[service]
        self._stream = stream
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._answer = Answer()

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes."""
        self._rest += chunk
        if self._stream and b"\n" in chunk:
            *lines, rest = bytes(self._rest).split(b"\n")
            self._rest = bytearray(rest)
            for line in lines:
                self._line(line.rstrip(b"\r"))

    def _line(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].strip())
        elif not line and self._data:
            event = _object(b"\n".join(self._data))
            self._data.clear()
            if event is not None:
                self._guarded(self._fold, event)

    def _guarded(self, read: Callable[[Answer, Json], None], value: Json) -> None:
        try:
            read(self._answer, value)
        except (AttributeError, LookupError, TypeError, ValueError):  # not the shape it should have: nothing is known
            self._answer.done = False

    def result(self) -> tuple[Any, Json | None]:
        """(reply, usage). The reply is None where the answer broke off, the usage where none was given."""
        if self._stream:
            self._line(bytes(self._rest))
            self._line(b"")
        else:
            whole = _object(bytes(self._rest))
            if whole is not None:
                self._guarded(self._whole, whole)
        return (self._answer.reply if self._answer.done else None), self._answer.usage


def _object(data: bytes) -> Json | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# Whole answers -----------------------------------------------------------------------------------------------------


def _chat(answer: Answer, whole: Json) -> None:
    answer.usage = whole.get("usage")
    answer.reply = whole["choices"][0]["message"]
    answer.done = True


def _responses(answer: Answer, whole: Json) -> None:
    answer.usage = whole.get("usage")
    answer.reply = whole["output"]
    answer.done = whole.get("status") in ("completed", "incomplete")


def _messages(answer: Answer, whole: Json) -> None:
    answer.usage = whole.get("usage")
    answer.reply = {"role": whole["role"], "content": whole["content"]}
    answer.done = True


# Streams -----------------------------------------------------------------------------------------------------------


def _chat_event(answer: Answer, event: Json) -> None:
    answer.usage = event.get("usage") or answer.usage
    for choice in event.get("choices") or ():
        if choice.get("index", 0) != 0:
            continue
        delta = choice.get("delta") or {}
        for key in ("content", "refusal", "reasoning_content"):
            if isinstance(delta.get(key), str):
                answer.texts[key] = answer.texts.get(key, "") + delta[key]
        for call in delta.get("tool_calls") or ():
            _add_call(answer, call)
        if choice.get("finish_reason"):
            answer.reply = _chat_message(answer)
            answer.done = True


def _add_call(answer: Answer, piece: Json) -> None:
    empty: Json = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
    call = answer.blocks.setdefault(piece["index"], empty)
    call["id"] = piece.get("id") or call["id"]
    function = piece.get("function") or {}
    call["function"]["name"] = function.get("name") or call["function"]["name"]
    call["function"]["arguments"] += function.get("arguments") or ""


def _chat_message(answer: Answer) -> Json:
    message: Json = {"role": "assistant", "content": answer.texts.get("content") or None}
    message |= {key: text for key, text in answer.texts.items() if key != "content"}
    if answer.blocks:
        message["tool_calls"] = [answer.blocks[index] for index in sorted(answer.blocks)]
    elif message["content"] is None:
        message["content"] = ""
    return message


def _responses_event(answer: Answer, event: Json) -> None:
    if event.get("type") in ("response.completed", "response.incomplete", "response.failed"):
        _responses(answer, event["response"])


def _messages_event(answer: Answer, event: Json) -> None:
    kind = event.get("type")
    if kind == "message_start":
        answer.usage = dict(event["message"].get("usage") or {})
    elif kind == "content_block_start":
        answer.blocks[event["index"]] = dict(event["content_block"])
    elif kind == "content_block_delta":
        _add_block(answer.blocks[event["index"]], event["delta"])
    elif kind == "content_block_stop":
        block = answer.blocks[event["index"]]
        if "partial" in block:
            block["input"] = json.loads(block.pop("partial") or "{}")
    elif kind == "message_delta":
        known = {key: value for key, value in (event.get("usage") or {}).items() if value is not None}
        answer.usage = {**(answer.usage or {}), **known}
    elif kind == "message_stop":
        content = [answer.blocks[index] for index in sorted(answer.blocks)]
        answer.reply, answer.done = {"role": "assistant", "content": content}, True


_DELTAS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
    "input_json_delta": ("partial_json", "partial"),
}


def _add_block(block: Json, delta: Json) -> None:
    names = _DELTAS.get(delta["type"])
    if names:
        block[names[1]] = block.get(names[1], "") + delta[names[0]]
    elif delta["type"] == "citations_delta":
        block["citations"] = [*(block.get("citations") or ()), delta["citation"]]


Fold = Callable[[Answer, Json], None]
WHOLES: dict[Service, Fold] = {"chat": _chat, "responses": _responses, "messages": _messages}
FOLDS: dict[Service, Fold] = {"chat": _chat_event, "responses": _responses_event, "messages": _messages_event}
