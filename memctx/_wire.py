"""One host message, in any wire form, as what is billed: texts, media and a fixed overhead.

Read by shape, not by provider: OpenAI chat and Responses, Anthropic, Gemini, LangChain objects and SDK models. A block
of an unknown type is read leaf by leaf, so a new type is counted before it is known. Call ids, signatures, cache marks
and what the host keeps for itself are not billed as text and are left out.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from memctx.errors import InvalidMessage, LimitError

Kind = Literal["image", "file", "sound"]
_ROLES = {"human": "user", "ai": "assistant", "chat": "user"} | {r: r for r in ("system", "tool", "function")}
_SILENT = frozenset(  # keys whose value is no text of the prompt
    {"id", "type", "status", "index", "detail", "format", "call_id", "tool_call_id", "tool_use_id", "file_id"}
    | {"mime_type", "mimeType", "media_type", "fileUri", "file_uri", "signature", "thoughtSignature"}
    | {"thought_signature", "cache_control", "annotations", "citations", "logprobs", "extras"}
)
_CALLS = frozenset({"tool_use", "tool_call", "function_call", "input_json_delta"})
_HEAD = 400_000  # base64 characters decoded to find an image's header


@dataclass(frozen=True, slots=True)
class Media:
    """An image, document or recording. `data` is None where only a reference is in the message."""

    kind: Kind
    data: bytes | None = None
    mime: str = ""
    detail: str = "auto"


@dataclass(slots=True)
class Shape:
    """What one message is made of. `calls` are (name, arguments); `named`: it carries a participant's name."""

    texts: list[str] = field(default_factory=list)
    media: list[Media] = field(default_factory=list)
    role: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    legacy: bool = False  # the one call came as `function_call`
    named: bool = False
    hidden: int = 0  # bytes of encrypted reasoning


def read(raw: Any) -> Shape:
    """The shape of one host message: a mapping, a LangChain message, an SDK model, or a string of the user.

    Raises InvalidMessage for anything else, LimitError for nesting beyond Python's own limit.
    """
    shape = Shape()
    try:
        if isinstance(raw, str):
            shape.role = "user"
            shape.texts.append(raw)
        elif isinstance(raw, Mapping):
            _mapping(shape, raw)
        elif isinstance(kind := getattr(raw, "type", None), str) and hasattr(raw, "content") and _role(kind):
            _langchain(shape, raw, kind)
        elif isinstance(dumped := _plain(raw), Mapping):
            _mapping(shape, dumped)
        else:
            text = f"a message must be a mapping, a LangChain message or an SDK model, not {type(raw).__name__}"
            raise InvalidMessage(text, code="unreadable_message")
    except RecursionError as cause:
        text = "a message is nested deeper than Python can walk: flatten its content"
        raise LimitError(text, code="too_deep") from cause
    return shape


def as_json(value: Any) -> str:
    """Arguments as the model sees them: a string as it stands, anything else as JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _role(kind: str) -> str:
    return _ROLES.get(kind.removesuffix("MessageChunk").lower(), "")


def _mapping(shape: Shape, raw: Mapping[str, Any]) -> None:
    role = raw.get("role")
    if not isinstance(role, str):  # a Responses item
        kind = str(raw.get("type"))
        shape.role = "tool" if kind.endswith("_output") else "assistant"
        _block(shape, raw)
        return
    shape.role = role
    _content(shape, raw.get("content"))
    _content(shape, raw.get("parts"))
    for key in ("reasoning_content", "refusal"):
        if isinstance(text := raw.get(key), str):
            shape.texts.append(text)
    if isinstance(name := raw.get("name"), str) and name:
        shape.named = True
        shape.texts.append(name)
    for call in _items(raw.get("tool_calls")):
        _call(shape, call)
    if isinstance(call := raw.get("function_call"), Mapping):
        shape.legacy = not shape.calls
        _call(shape, call)


def _langchain(shape: Shape, raw: Any, kind: str) -> None:
    own = str(getattr(raw, "role", "")) if kind.lower().startswith("chat") else ""  # misses on such objects are slow
    shape.role = own or _role(kind)
    calls: list[Any] = []
    if shape.role == "assistant":
        calls = [*_items(getattr(raw, "tool_calls", None)), *_items(getattr(raw, "invalid_tool_calls", None))]
    content = raw.content
    if calls and isinstance(content, list):  # the same calls stand among the blocks as well
        content = [block for block in content if not _is_call(block)]
    _content(shape, content)
    for call in calls:
        _call(shape, call)
    extra = getattr(raw, "additional_kwargs", None)
    if isinstance(extra, Mapping) and isinstance(text := extra.get("reasoning_content"), str):
        shape.texts.append(text)
    name = getattr(raw, "name", None)
    if isinstance(name, str) and name and shape.role != "tool":
        shape.named = True
        shape.texts.append(name)


def _is_call(block: Any) -> bool:
    return isinstance(block, Mapping) and block.get("type") in _CALLS


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _content(shape: Shape, content: Any) -> None:
    if isinstance(content, str):
        shape.texts.append(content)
    elif isinstance(content, Mapping):
        _block(shape, content)
    else:
        for block in _items(content):
            _content(shape, _plain(block))


def _plain(block: Any) -> Any:
    dump = getattr(block, "model_dump", None)
    return dump(exclude_none=True) if callable(dump) and not isinstance(block, Mapping) else block


def _call(shape: Shape, call: Any) -> None:
    """A call in OpenAI's, LangChain's, Anthropic's or Gemini's spelling: its name and its arguments."""
    call = _plain(call)
    if not isinstance(call, Mapping):
        return
    body = next((call[key] for key in ("function", "custom") if isinstance(call.get(key), Mapping)), call)
    keys = ("arguments", "args", "input")
    arguments = as_json(next((body[key] for key in keys if body.get(key) is not None), ""))
    shape.calls.append((str(body.get("name", "")), arguments))


def _block(shape: Shape, block: Mapping[str, Any]) -> None:
    kind = block.get("type")
    handler = _HANDLERS.get(kind) if isinstance(kind, str) else None
    if handler is None:
        handler = next((found for key, found in _KEYED.items() if key in block), _leaves)
    handler(shape, block)


def _leaves(shape: Shape, value: Any) -> None:
    """Every string, number and key below, save those that are no text of the prompt."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            if key not in _SILENT:
                _leaves(shape, below)
    elif isinstance(value, list | tuple):
        for below in value:
            _leaves(shape, below)
    elif isinstance(value, str):
        if value.startswith("data:") and ";base64," in value[:200]:
            _media(shape, "image" if value.startswith("data:image") else "file", value)
        else:
            shape.texts.append(value)
    elif value is not None:
        shape.texts.append(str(value))


def _text(*keys: str) -> Callable[[Shape, Mapping[str, Any]], None]:
    """A block whose text stands under one of the keys; under the last, blocks may stand as well."""

    def handle(shape: Shape, block: Mapping[str, Any]) -> None:
        for key in keys:
            _content(shape, block.get(key))

    return handle


def _encrypted(shape: Shape, block: Mapping[str, Any]) -> None:
    """Reasoning: its visible text, and the size of what only the provider can read."""
    for key in ("summary", "content", "reasoning", "thinking"):
        _content(shape, block.get(key))
    for key in ("encrypted_content", "data"):
        if isinstance(sealed := block.get(key), str):
            shape.hidden += len(sealed) * 3 // 4


def _image(shape: Shape, block: Mapping[str, Any]) -> None:
    source = next((block[key] for key in ("image_url", "source", "url", "base64", "data") if key in block), None)
    detail = block.get("detail")
    if isinstance(source, Mapping):
        detail = source.get("detail", detail)
        source = source.get("url") or source.get("data")
    _media(shape, "image", source, detail=detail if isinstance(detail, str) else "auto")


def _sound(shape: Shape, block: Mapping[str, Any]) -> None:
    inner = block.get("input_audio")
    source = inner.get("data") if isinstance(inner, Mapping) else block.get("base64") or block.get("data")
    _media(shape, "sound", source, str(block.get("mime_type", "")))


def _document(shape: Shape, block: Mapping[str, Any]) -> None:
    """A file: OpenAI `file`/`input_file`, Anthropic `document`, LangChain `file`. Text counts as text."""
    for key in ("title", "context", "filename"):
        _content(shape, block.get(key))
    inner = next((block[key] for key in ("file", "source") if isinstance(block.get(key), Mapping)), block)
    if inner.get("type") == "content":
        _content(shape, inner.get("content"))
    elif inner.get("type") == "text" or isinstance(block.get("text"), str):
        _content(shape, inner.get("data") or block.get("text"))
    else:
        source = next((inner[key] for key in ("file_data", "data", "base64") if inner.get(key)), None)
        _media(shape, "file", source, str(inner.get("media_type") or inner.get("mime_type") or ""))


def _inline(shape: Shape, block: Mapping[str, Any]) -> None:
    """Gemini's bytes and file references."""
    inner: Any = next((block[key] for key in _GEMINI_DATA if isinstance(block.get(key), Mapping)), {})
    mime = str(inner.get("mimeType") or inner.get("mime_type") or "")
    kind: Kind = "image" if mime.startswith("image") else "sound" if mime.startswith(("audio", "video")) else "file"
    _media(shape, kind, inner.get("data"), mime)


def _response(shape: Shape, block: Mapping[str, Any]) -> None:
    inner = block.get("functionResponse") or block.get("function_response")
    if isinstance(inner, Mapping):
        shape.texts.extend((str(inner.get("name", "")), as_json(inner.get("response", ""))))


def _gemini_call(shape: Shape, block: Mapping[str, Any]) -> None:
    _call(shape, block.get("functionCall") or block.get("function_call"))


def _media(shape: Shape, kind: Kind, source: Any, mime: str = "", detail: str = "auto") -> None:
    """`source` is bytes, base64, a data URL, or an address nobody here will open."""
    data: bytes | None = source if isinstance(source, bytes) else None
    if isinstance(source, str) and not source[:8].lower().startswith(("http", "file", "gs:", "s3:")):
        if source.startswith("data:"):
            head, _, source = source.partition(",")
            mime = head[5:].partition(";")[0]
        data = _decoded(source[:_HEAD] if kind == "image" else source)
    shape.media.append(Media(kind, data, mime, detail))


def _decoded(text: str) -> bytes | None:
    clean = text.translate({10: None, 13: None, 32: None, 45: 43, 95: 47})  # no white space; URL-safe letters to plain
    try:
        return base64.b64decode(clean + "=" * (-len(clean) % 4))
    except (binascii.Error, ValueError):
        return None


_GEMINI_DATA = ("inlineData", "inline_data", "fileData", "file_data")
_HANDLERS: dict[str, Callable[[Shape, Mapping[str, Any]], None]] = {
    **dict.fromkeys(("text", "input_text", "output_text", "text-plain"), _text("text")),
    "refusal": _text("refusal"),
    **dict.fromkeys(("thinking", "reasoning", "redacted_thinking"), _encrypted),
    **dict.fromkeys(("image_url", "input_image", "image", "computer_screenshot"), _image),
    **dict.fromkeys(("input_audio", "audio"), _sound),
    **dict.fromkeys(("file", "input_file", "document"), _document),
    **dict.fromkeys(("tool_use", "server_tool_use", "tool_call", "function_call", "custom_tool_call"), _call),
    **dict.fromkeys(("function_call_output", "custom_tool_call_output", "computer_call_output"), _text("output")),
    "tool_result": _text("content"),
    "message": _text("content"),
}
_KEYED: dict[str, Callable[[Shape, Mapping[str, Any]], None]] = {
    "functionCall": _gemini_call,
    "function_call": _gemini_call,
    "functionResponse": _response,
    "function_response": _response,
    **dict.fromkeys(_GEMINI_DATA, _inline),
    "text": _text("text"),
}
