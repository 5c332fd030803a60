"""LangChain's own classes as managers of context, on converted messages, counting with our o200k counter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Any

from benchmarks._walk import Manager, Shown, Viewer
from memctx._replay import Call, Seen
from memctx.pricing import Price
from memctx.runs import Run

Count = Callable[[Iterable[Any]], int]


class Converted:
    """A run as LangChain messages, and back: an untouched message becomes the recorded one again."""

    def __init__(self, run: Run, seen: Seen) -> None:
        from langchain_core.messages import convert_to_messages

        self.messages: list[Any] = convert_to_messages(run.messages)
        self._seen = seen
        self._known = {id(new): (new, old) for new, old in zip(self.messages, run.messages, strict=True)}
        for number, message in enumerate(self.messages):
            message.id = f"m{number}"

    def back(self, message: Any) -> Any:
        """The OpenAI dict of a LangChain message."""
        from langchain_core.messages import convert_to_openai_messages

        held = self._known.get(id(message))
        if held is None:
            held = self._known[id(message)] = (message, convert_to_openai_messages(message))
        return held[1]

    def count(self, messages: Iterable[Any]) -> int:
        """Tokens of LangChain messages, each counted once in its life."""
        return sum(self._seen.message(self.back(message)).tokens for message in messages)


def clear_tool_uses(trigger: int, keep: int = 3) -> Manager:
    """`ContextEditingMiddleware`'s `ClearToolUsesEdit`: applied to a fresh copy at each call, as the middleware does."""

    def start(run: Run, seen: Seen, price: Price) -> Viewer:
        from langchain.agents.middleware import ClearToolUsesEdit

        edit = ClearToolUsesEdit(trigger=trigger, keep=keep)
        converted = Converted(run, seen)

        def apply(messages: list[Any]) -> list[Any]:
            edit.apply(messages, count_tokens=converted.count)
            return messages

        return _viewer(converted, apply)

    return Manager("LangChain ClearToolUsesEdit", f"trigger {trigger:,}, keep {keep}", start)


def trim(limit: int) -> Manager:
    """`trim_messages` as its page shows it: the last messages that fit, the system message kept."""

    def start(run: Run, seen: Seen, price: Price) -> Viewer:
        from langchain_core.messages import trim_messages

        converted = Converted(run, seen)

        def apply(messages: list[Any]) -> list[Any]:
            settings: Any = {"strategy": "last", "include_system": True, "token_counter": converted.count}
            return list(trim_messages(messages, max_tokens=limit, **settings))

        return _viewer(converted, apply)

    return Manager("LangChain trim_messages", f"max {limit:,}", start)


def _viewer(converted: Converted, apply: Callable[[list[Any]], list[Any]]) -> Viewer:
    def view(call: Call) -> Shown:
        messages = converted.messages[: call.before]
        begin = perf_counter()
        edited = apply(messages)
        seconds = perf_counter() - begin
        return Shown([converted.back(message) for message in edited], seconds)

    return view


def summarization(trigger: int, keep: int = 12) -> Manager:
    """`SummarizationMiddleware` with a scripted model; its state is edited, as in an agent, and the system text is not in it.

    The summariser's own request is paid for as well, uncached; its answer, as all output, is not.
    """

    def start(run: Run, seen: Seen, price: Price) -> Viewer:
        from langchain.agents.middleware import SummarizationMiddleware

        converted = Converted(run, seen)
        system = [message for message in converted.messages[:1] if message.type == "system"]
        asked: list[int] = []

        def answer(prompt: Sequence[Any]) -> str:
            asked.append(converted.count(prompt))
            return scripted(str(prompt[-1].text))

        sizes: Any = {"trigger": ("tokens", max(1, trigger - converted.count(system))), "keep": ("messages", keep)}
        middleware: Any = SummarizationMiddleware(_model(answer), token_counter=converted.count, **sizes)
        state: list[Any] = []
        taken = len(system)

        def view(call: Call) -> Shown:
            nonlocal state, taken
            state = state + converted.messages[taken : call.before]
            taken = max(taken, call.before)
            asked.clear()
            begin = perf_counter()
            update = middleware.before_model({"messages": state}, None)
            seconds = perf_counter() - begin
            if update:
                state = [message for message in update["messages"] if message.type != "remove"]
            return Shown([converted.back(message) for message in system + state], seconds, sum(asked))

        return view

    return Manager("LangChain Summarization", f"trigger {trigger:,}, keep {keep}", start)


def _model(answer: Callable[[Sequence[Any]], str]) -> Any:
    """A LangChain chat model that answers with `answer(messages)`."""
    from langchain_core.language_models import SimpleChatModel

    class Scripted(SimpleChatModel):
        @property
        def _llm_type(self) -> str:
            return "scripted"

        def _call(self, messages: Any, stop: Any = None, run_manager: Any = None, **rest: Any) -> str:
            return answer(messages)

    return Scripted()


def scripted(prompt: str) -> str:
    """A stand-in for a model: the first words of each line of what it was given, the newest 2,000 characters of them."""
    return "\n".join(" ".join(line.split()[:12]) for line in prompt.splitlines() if line.strip())[-2_000:]
