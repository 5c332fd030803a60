"""Request bodies of the three services: what of them is history, and how a view is written back."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal

from memctx.adapters._wire_tools import chosen, delivered
from memctx.view import View

Json = dict[str, Any]
Service = Literal["chat", "responses", "messages"]

ENDPOINTS: tuple[tuple[str, Service], ...] = (
    ("/chat/completions", "chat"),
    ("/responses", "responses"),
    ("/messages", "messages"),
)
HISTORY: dict[Service, str] = {"chat": "messages", "responses": "input", "messages": "messages"}
SYSTEM: dict[Service, str] = {"chat": "", "responses": "instructions", "messages": "system"}
NEEDS_TOOLS = ("tools", "tool_choice", "parallel_tool_calls")  # refused by the provider where no tool is offered
MARKS = 4  # Anthropic's limit on cache marks in one request
HELD_BY_SERVER = ("previous_response_id", "conversation")


@dataclass(frozen=True, slots=True)
class Ask:
    """One intercepted request. `planned` is false where the provider holds the history: only its answer is read."""

    service: Service
    body: Json
    messages: list[Any]
    planned: bool
    markable: bool  # Anthropic, and the host placed no cache mark itself

    @property
    def tools(self) -> list[Any] | None:
        tools = self.body.get("tools")
        return tools if isinstance(tools, list) else None

    @property
    def system(self) -> Any:
        return self.body.get(SYSTEM[self.service])

    @property
    def beside(self) -> Json:
        """What a view is told beside messages and tools."""
        forced = chosen(self.body.get("tool_choice"))
        return {"system": self.system, **({"forced": tuple(sorted(forced))} if forced else {})}


class _Item(dict[str, Any]):
    """A Responses message that left its `type` out, with it: the session then cannot take it for a chat message."""

    @classmethod
    def of(cls, item: Any) -> Any:
        bare = isinstance(item, dict) and "role" in item and "type" not in item
        return cls(item, type="message") if bare else item

    def plain(self) -> Json:
        """As the host wrote it."""
        return {key: value for key, value in self.items() if key != "type"}


def service_of(method: str, path: str) -> Service | None:
    """The service a request goes to, or None where it carries no history (embeddings, token counts, batches, ...)."""
    if method != "POST":
        return None
    path = path.rstrip("/")
    return next((service for end, service in ENDPOINTS if path.endswith(end)), None)


def read(service: Service, content: bytes) -> Ask | None:
    """The request as far as memctx is concerned, or None for what is to pass as it is: no JSON, or no messages."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    given = body.get(HISTORY[service]) if isinstance(body, dict) else None
    if isinstance(given, str) and service == "responses":
        given = [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        return None
    if service == "responses":
        given = [_Item.of(item) for item in given]
    held = service == "responses" and any(body.get(key) for key in HELD_BY_SERVER)
    # A quote inside JSON text is escaped, so these bytes are a key (or a whole string: then no mark is placed).
    markable = service == "messages" and b'"cache_control"' not in content
    return Ask(service, body, given, not held, markable)


def write(ask: Ask, view: View, ttl: str = "") -> bytes | None:
    """The body with the view in it, or None where the view changes nothing: the host's own bytes are then sent.

    Raises `ConfigError` for tools that the service refuses.
    """
    changes: Json = {}
    messages = [item.plain() if isinstance(item, _Item) else item for item in view.messages]
    if messages != [item.plain() if isinstance(item, _Item) else item for item in ask.messages]:
        changes[HISTORY[ask.service]] = messages
    changes.update(delivered(ask.service, ask.body, view))
    if SYSTEM[ask.service] and view.system != ask.system:
        changes[SYSTEM[ask.service]] = view.system
    body = {**ask.body, **changes}
    if "tools" in changes and not changes["tools"]:
        body = {key: value for key, value in body.items() if key not in NEEDS_TOOLS}
    if ask.markable and view.breakpoints:
        body = marked(body, view.breakpoints, ttl)
    return None if body == ask.body else encode(body)


def encode(body: Json) -> bytes:
    """JSON as the SDKs write it; a lone surrogate outside the messages stays the escape it came as."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(body, separators=(",", ":")).encode()


# Cache marks (Anthropic) -------------------------------------------------------------------------------------------


def marked(body: Json, breakpoints: tuple[int, ...], ttl: str = "") -> Json:
    """The body with cache marks after the system text (or the tools) and after the messages at `breakpoints`.

    Four at most; of the messages the last ones. `ttl`: "1h", or "" for the provider's five minutes.
    Source: Anthropic, prompt caching. A mark covers tools, system and messages before it, in this order.
    """
    mark: Json = {"type": "ephemeral", "ttl": ttl} if ttl else {"type": "ephemeral"}
    out = dict(body)
    head = next((key for key in ("system", "tools") if _put(out, key, mark)), None)
    messages = list(body["messages"])
    room = MARKS - (head is not None)
    for index in sorted({index for index in breakpoints if 0 <= index < len(messages)})[-room:]:
        message = dict(messages[index])
        if _put(message, "content", mark):
            messages[index] = message
    out["messages"] = messages
    return out


def _put(holder: Json, key: str, mark: Json) -> bool:
    """Mark the last block of `holder[key]` that may carry a mark; text becomes one block. False where none may."""
    value = holder.get(key)
    if isinstance(value, str):
        value = [{"type": "text", "text": value}]
    if not isinstance(value, list):
        return False
    for index in range(len(value) - 1, -1, -1):
        if _may_carry(value[index]):
            holder[key] = [*value[:index], {**value[index], "cache_control": mark}, *value[index + 1 :]]
            return True
    return False


def _may_carry(block: Any) -> bool:
    """Not thinking, not blank text, not a tool that is loaded later: the provider refuses a mark there."""
    if not isinstance(block, dict) or block.get("type") in ("thinking", "redacted_thinking"):
        return False
    if block.get("type") == "text" and not str(block.get("text", "")).strip():
        return False
    return not block.get("defer_loading")


# A context that was too long ---------------------------------------------------------------------------------------

_OVERFLOW = re.compile(r"context_length_exceeded|prompt is too long|maximum context length|exceeds? the context window")
_LIMIT = re.compile(r"maximum context length is (\d+)|> (\d+) maximum")
_SENT = re.compile(r"(?:resulted in|requested|too long:) (\d+) tokens")
MARGIN = 0.9


def overflowed(text: str) -> bool:
    """Whether an error body says that the context was too long."""
    return _OVERFLOW.search(text) is not None


def smaller(text: str, tokens: int) -> int | None:
    """The budget, in our tokens, that would have fitted; None where the provider gave no numbers.

    `tokens` is what we counted for the request that it refused. Both of its numbers give the ratio of the two counts.
    """
    limit, sent = _number(_LIMIT, text), _number(_SENT, text)
    if not limit:
        return None
    fits = tokens * limit / sent if sent else min(tokens, limit)
    return max(1, int(min(fits, tokens) * MARGIN))


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    return int(next(group for group in found.groups() if group)) if found else 0
