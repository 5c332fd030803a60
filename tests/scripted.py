"""A scripted chat model and a slow walk for tests of the LangChain and LangGraph adapters: no network, no key.

The walk is a tool called again and again. Its answer says which step it was and how many there are; the model reads the
newest answer it is shown and calls the next step: no counter, so the script works in threads, forks and resumes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

from memctx.tokens import counter

COUNT = counter("o200k_base")
FILLER = "The quick brown fox jumps over the lazy dog near the river bank. " * 12


@tool
def walk(step: int, steps: int) -> str:
    """Take one step of a walk."""
    return f"step {step} of {steps}: code K{step:04d}{step * 7919 % 9973:04d}\n{FILLER}"


@tool
def rest(minutes: int) -> str:
    """Rest for a while. Nothing happens."""
    return f"rested {minutes} minutes"


class Scripted(BaseChatModel):
    """Walks as far as the user asked ("walk N") and then says done. `seen` has (messages, tools) of every request."""

    usage: bool = False
    fail_at: int = 0
    _seen: list[tuple[list[BaseMessage], list[Any]]] = PrivateAttr(default_factory=list)

    @property
    def seen(self) -> list[tuple[list[BaseMessage], list[Any]]]:
        return self._seen

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=[t if isinstance(t, dict) else convert_to_openai_tool(t) for t in tools])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages, kwargs.get("tools", [])))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        answer = self._answer(messages, kwargs.get("tools", []))
        words = [AIMessageChunk(content=word) for word in re.findall(r"\S+\s*", str(answer.content))]
        last = AIMessageChunk(content="", tool_calls=answer.tool_calls, usage_metadata=answer.usage_metadata)
        for chunk in [*words, last]:
            if run_manager:
                run_manager.on_llm_new_token(str(chunk.content), chunk=ChatGenerationChunk(message=chunk))
            yield ChatGenerationChunk(message=chunk)

    def _answer(self, messages: list[BaseMessage], tools: list[Any]) -> AIMessage:
        self._seen.append((list(messages), list(tools)))
        if len(self._seen) == self.fail_at:
            raise RuntimeError("the model is down")
        reply = answer(messages)
        if self.usage:
            size = size_of(messages, tools)
            usage: Any = {"input_tokens": size, "output_tokens": 20, "total_tokens": size + 20}
            reply.usage_metadata = usage
        return reply


def answer(messages: list[BaseMessage]) -> AIMessage:
    """The next step after the newest one in sight, or the first one the user asks for."""
    for message in reversed(messages):
        text = str(message.text)
        if isinstance(message, ToolMessage) and (found := re.search(r"step (\d+) of (\d+)", text)):
            step, steps = map(int, found.groups())
            return AIMessage("all done now") if step >= steps else step_of(step + 1, steps)
        if isinstance(message, HumanMessage) and (found := re.search(r"walk (\d+)", text)):
            return step_of(1, int(found.group(1)))
    return AIMessage("nothing to do")


def step_of(step: int, steps: int) -> AIMessage:
    call = tool_call(name="walk", args={"step": step, "steps": steps}, id=f"call_{steps}_{step}")
    return AIMessage(f"Now step {step} comes.", tool_calls=[call])


def size_of(messages: list[BaseMessage], tools: list[Any]) -> int:
    """Tokens of a request as OpenAI bills it."""
    return COUNT.priming + COUNT.tools(tools) + sum(COUNT.message(message) for message in messages)


def texts(messages: list[BaseMessage]) -> list[tuple[str, str, str]]:
    """What goes over the wire, for comparing requests: kind, content, calls."""
    return [(m.type, str(m.content), str(getattr(m, "tool_calls", ""))) for m in messages]
