"""LangChain: middleware for `create_agent`.

The model sees the view; the state keeps every message. The plan travels in private agent state, checkpointed with the
messages it speaks of, so resume, fork and time travel bring the plan that belongs to them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

from langchain.agents.middleware import (
    AgentMiddleware,
    AgentState,
    ExtendedModelResponse,
    ModelRequest,
    ModelResponse,
)
from langchain.agents.middleware.types import PrivateStateAttr
from langchain_core.messages import AIMessage
from langgraph.types import Command

from memctx.adapters._agent_tools import forced, overrides, reopen_tool, search_tools, searches
from memctx.adapters.langgraph import Sessions, Slot, generate_with, place_of, usage_of

if TYPE_CHECKING:
    from memctx.pipeline import Pipeline
    from memctx.scoped import Scoped
    from memctx.view import View

__all__ = ["ContextMiddleware", "ContextState", "generate_with"]


class ContextState(AgentState[Any]):
    """Agent state with the plan, hidden from input and output."""

    memctx_plan: NotRequired[Annotated[dict[str, Any], PrivateStateAttr]]


class ContextMiddleware(AgentMiddleware[Any, Any, Any]):
    """Shows the model the pipeline's view of the history. Put it last in the list, nearest to the model.

    `generate` is a chat model or a callable, for strategies that summarise; `memory`, a scope of `Memory`, for those that
    remember, recall or learn; `embed`, `recall`, `remember` and `timeout` (seconds) are as in `Pipeline.session`. The plan stays
    in the agent's state, with a memory too. `reopen=True` gives the model a tool that brings back text that was cut.
    `capacity` bounds the threads whose parsed history is cached. Errors are those of `Session.view`. A model of Anthropic's
    gets cache marks where the pipeline's price is one of Anthropic's and no other middleware sets them.

    With `tool_window` in the pipeline, give the agent all its tools: the model sees those that the view offers, with
    `search_tools` and `remove_tools` where the window lets it search, and the agent can run every one.
    """

    state_schema = ContextState

    def __init__(  # noqa: PLR0913 - one keyword a handler
        self,
        pipeline: Pipeline,
        *,
        generate: Any = None,
        memory: Scoped | None = None,
        embed: Any = None,
        recall: Any = None,
        remember: Any = None,
        timeout: float = 60.0,
        reopen: bool = False,
        capacity: int = 256,
    ) -> None:
        super().__init__()
        self.sessions = Sessions(
            pipeline,
            capacity=capacity,
            generate=generate,
            memory=memory,
            embed=embed,
            recall=recall,
            remember=remember,
            timeout=timeout,
        )
        self.tools = [reopen_tool(self.sessions)] if reopen else []
        self.tools += search_tools(self.sessions) if searches(pipeline) else []

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        """Call the model with the view; keep the plan where it changed."""
        with self._lease(request) as slot:
            view = slot.session.view(request.messages, **_arguments(slot, request))
            slot.saw(request.messages, view)
            update = slot.update(request.state)
            response = handler(_overridden(slot, request, view))
            slot.session.observe(usage=_usage(response))
        return _extended(response, update)

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
        """As `wrap_model_call`, for an agent that is awaited."""
        with self._lease(request) as slot:
            view = await slot.session.aview(request.messages, **_arguments(slot, request))
            slot.saw(request.messages, view)
            update = slot.update(request.state)
            response = await handler(_overridden(slot, request, view))
            await slot.session.aobserve(usage=_usage(response))
        return _extended(response, update)

    def _lease(self, request: ModelRequest[Any]) -> AbstractContextManager[Slot]:
        return self.sessions.lease(place_of(request.runtime, request.messages), provider_of(request.model))

    def report(self, thread_id: str, graph: str = "") -> dict[str, Any]:
        """What was decided and spent on a thread in this process; `NotFound` for one it has not served.

        `graph` names a subgraph of the thread, as its node names joined by `|`.
        """
        return self.sessions.report(thread_id, graph)


def provider_of(model: Any) -> str | None:
    """Whose rules a chat model's requests must meet, from its class; None where that does not tell."""
    names = " ".join(kind.__name__ for kind in type(model).__mro__)
    return next((provider for word, provider in _PROVIDERS.items() if word in names), None)


_PROVIDERS = {"Anthropic": "anthropic", "Google": "gemini", "VertexAI": "gemini", "OpenAI": "openai-chat"}


def marked(messages: list[Any], breakpoints: Sequence[int], ttl: str) -> list[Any]:
    """The messages, with copies that carry Anthropic's cache mark at `breakpoints`, where a text block can carry it."""
    out = list(messages)
    for index in breakpoints:
        content = out[index].content
        blocks = [{"type": "text", "text": content}] if content and isinstance(content, str) else content
        if blocks and isinstance(blocks[-1], dict) and blocks[-1].get("type") == "text":
            block = {**blocks[-1], "cache_control": {"type": "ephemeral", "ttl": ttl}}
            out[index] = out[index].model_copy(update={"content": [*blocks[:-1], block]})
    return out


def _arguments(slot: Slot, request: ModelRequest[Any]) -> dict[str, Any]:
    given = slot.arguments(request.messages, request.state, request.tools)
    return {**given, "system": request.system_message, "forced": forced(request)}


def _overridden(slot: Slot, request: ModelRequest[Any], view: View) -> ModelRequest[Any]:
    messages = view.messages
    if slot.provider == "anthropic" and "cache_control" not in request.model_settings:
        messages = marked(messages, view.breakpoints, "1h" if slot.session.pipeline.price.ttl > 300 else "5m")
    return request.override(messages=messages, **overrides(slot, request, view))


def _usage(response: ModelResponse[Any]) -> dict[str, Any] | None:
    replies = (message for message in response.result if isinstance(message, AIMessage))
    return next((usage for reply in replies if (usage := usage_of(reply))), None)


def _extended(response: ModelResponse[Any], update: dict[str, Any]) -> ModelResponse[Any] | ExtendedModelResponse[Any]:
    return ExtendedModelResponse(response, Command(update=update)) if update else response
