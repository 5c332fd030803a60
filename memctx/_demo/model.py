"""The scripted chat model: it calls tools by its script, and answers only from the messages it is handed."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from memctx._demo.meter import Meter
from memctx._demo.script import Call, Question, Turn
from memctx.edits import marker

UNKNOWN = "I do not know."
PATIENCE = 2  # times it reopens something for one question before it gives up
MORE = re.compile(r"offset (\d+)\]\s*$")  # how the reopen tool ends a page that is not the last
HANDLE = re.compile(re.escape(marker("HANDLE")).replace("HANDLE", r"([\w-]+)"))


@dataclass(slots=True)
class Actor:
    """Where the model stands in its script. What it is asked to quote it must find in the request."""

    turns: Sequence[Turn]
    turn: int = 0
    call: int = 0
    reopened: list[dict[str, str | int]] = field(default_factory=list)

    def reply(self, messages: Sequence[BaseMessage], tools: Mapping[str, Collection[str]]) -> AIMessage:
        """The next message: a tool call, or the words that end the turn."""
        turn = self.turns[self.turn]
        if self.call < len(turn.calls):
            call = turn.calls[self.call]
            self.call += 1
            return _asks(call.tool, call.arguments, f"call_{self.turn}_{self.call}")
        if turn.question is None:
            return self._ends("Read.")
        answer = quoted(turn.question, messages)
        page = self._page(turn.question, messages, tools.get("reopen", ())) if answer is None else None
        if page is None:
            return self._ends(answer or UNKNOWN)
        self.reopened.append(page)
        return _asks("reopen", page, f"call_{self.turn}_{len(self.reopened)}_reopen")

    def _ends(self, text: str) -> AIMessage:
        self.turn, self.call, self.reopened = self.turn + 1, 0, []
        return AIMessage(text)

    def _page(
        self, question: Question, messages: Sequence[BaseMessage], parameters: Collection[str]
    ) -> dict[str, str | int] | None:
        """What to reopen next: the page after the one just read, or the result that once showed the fact, or a gap."""
        if len(self.reopened) == PATIENCE:
            return None
        more = MORE.search(messages[-1].text) if self.reopened else None
        if more and "offset" in parameters:
            return {**self.reopened[-1], "offset": int(more.group(1))}
        opened = {page["handle"] for page in self.reopened}
        shown = (handle for text in _places(question.source, messages) for handle in HANDLE.findall(text))
        handle = next((handle for handle in shown if handle not in opened), None) if parameters else None
        return {"handle": handle, **({"find": question.about} if "find" in parameters else {})} if handle else None


def quoted(question: Question, messages: Sequence[BaseMessage]) -> str | None:
    """The answer as it stands in some message, the newest first; None if in none."""
    for message in reversed(messages):
        found = re.search(question.pattern, _read(message))
        if found:
            return found.group(1)
    return None


def _read(message: BaseMessage) -> str:
    """The text of a message. Reopened messages come as pages of JSON, and a model reads through its escapes."""
    text: str = message.text
    if text.count("\\n") > text.count("\n"):
        return text.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')
    return text


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
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **settings: Any,
    ) -> ChatResult:
        tools = settings.get("tools", [])
        actor: Actor = self.actor
        meter: Meter = self.meter
        tokens, cached = meter.weigh(messages, tools)
        offered = {each["name"]: each["parameters"]["properties"] for each in (tool["function"] for tool in tools)}
        reply = actor.reply(messages, offered)
        reply.usage_metadata = {
            "input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1,
            "input_token_details": {"cache_read": cached},
        }  # fmt: skip
        return ChatResult(generations=[ChatGeneration(message=reply)])
