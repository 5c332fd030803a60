"""The scripted chat model: it calls tools by its script, and answers only from the messages it is handed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from memctx._demo.meter import Meter
from memctx._demo.script import Call, Question, Turn
from memctx.edits import marker

UNKNOWN = "I do not know."
HANDLE = re.compile(re.escape(marker("HANDLE")).replace("HANDLE", r"([\w-]+)"))


@dataclass(slots=True)
class Actor:
    """Where the model stands in its script. What it is asked to quote it must find in the request."""

    turns: Sequence[Turn]
    turn: int = 0
    call: int = 0
    reopened: list[str] = field(default_factory=list)

    def reply(self, messages: Sequence[BaseMessage], tools: Sequence[str]) -> AIMessage:
        """The next message: a tool call, or the words that end the turn."""
        turn = self.turns[self.turn]
        if self.call < len(turn.calls):
            call = turn.calls[self.call]
            self.call += 1
            return _asks(call.tool, call.arguments, f"call_{self.turn}_{self.call}")
        if turn.question is None:
            return self._ends("Read.")
        answer = quoted(turn.question, messages)
        handle = self._handle(turn.question, messages) if answer is None and "reopen" in tools else None
        if handle is None:
            return self._ends(answer or UNKNOWN)
        self.reopened.append(handle)
        return _asks("reopen", {"handle": handle}, f"call_{self.turn}_{handle}")

    def _ends(self, text: str) -> AIMessage:
        self.turn, self.call, self.reopened = self.turn + 1, 0, []
        return AIMessage(text)

    def _handle(self, question: Question, messages: Sequence[BaseMessage]) -> str | None:
        """A handle worth opening, not opened yet: that of the result of the call that showed the fact, or of a gap."""
        shown = (handle for text in _places(question.source, messages) for handle in HANDLE.findall(text))
        return next((handle for handle in shown if handle not in self.reopened), None)


def quoted(question: Question, messages: Sequence[BaseMessage]) -> str | None:
    """The answer as it stands in some message, the newest first; None if in none."""
    for message in reversed(messages):
        found = re.search(question.pattern, message.text)
        if found:
            return found.group(1)
    return None


def _places(source: Call, messages: Sequence[BaseMessage]) -> Iterator[str]:
    """Texts that say where the result of a call went: what stands in its place, then the notes about earlier steps."""
    ids = {
        call["id"]
        for message in messages
        if isinstance(message, AIMessage)
        for call in message.tool_calls
        if call["name"] == source.tool and call["args"] == source.arguments
    }
    for message in messages:
        if isinstance(message, ToolMessage) and message.tool_call_id in ids:
            yield message.text
    yield from (message.text for message in messages if message.type == "human")


def _asks(tool: str, arguments: dict[str, Any], call_id: str) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": tool, "args": arguments, "id": call_id, "type": "tool_call"}])


class ScriptedModel(BaseChatModel):
    """A chat model without a network: the meter weighs each request, or refuses it, and the actor answers."""

    actor: Any
    meter: Any

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], **settings: Any
    ) -> Runnable[Any, AIMessage]:
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools])

    def _generate(
        self,
        messages: list[AnyMessage],  # type: ignore[override]
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **settings: Any,
    ) -> ChatResult:
        tools = settings.get("tools", [])
        actor: Actor = self.actor
        meter: Meter = self.meter
        tokens, cached = meter.weigh(messages, tools)
        reply = actor.reply(messages, [tool["function"]["name"] for tool in tools])
        reply.usage_metadata = {
            "input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1,
            "input_token_details": {"cache_read": cached},
        }  # fmt: skip
        return ChatResult(generations=[ChatGeneration(message=reply)])
