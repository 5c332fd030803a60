"""A LangChain agent with memctx: 60 real tool calls in a 4 000-token view, with every message kept in the thread.

Runs offline in seconds: a scripted model stands where `"openai:gpt-5"` would. Needs `memctx-agents[langgraph]`.
"""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from memctx import Pipeline
from memctx.adapters.langchain import ContextMiddleware

PAGES = 60


@tool
def read_page(number: int) -> str:
    """Read a page of the log."""
    lines = [
        f"2026-01-{number % 28 + 1:02d} job {number}-{line} finished in {line * 37 % 400} ms" for line in range(20)
    ]
    return "\n".join([f"page {number} of {PAGES}, order code ORD-{number * 7919 % 9973:04d}", *lines])


class Reader(BaseChatModel):
    """Reads page after page; then opens again what was cut first, to quote it."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=[])

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        last = messages[-1]
        page = int(str(last.content).split()[1]) if isinstance(last, ToolMessage) and last.name == "read_page" else 0
        if isinstance(last, ToolMessage) and last.name == "reopen":
            reply = AIMessage(f"The first page had {str(last.content).splitlines()[0].split(', ')[1]}.")
        elif page < PAGES:
            call = tool_call(name="read_page", args={"number": page + 1}, id=f"call_{page + 1}")
            reply = AIMessage("", tool_calls=[call])
        else:
            reply = AIMessage("", tool_calls=[tool_call(name="reopen", args={"handle": "r1"}, id="call_reopen")])
        return ChatResult(generations=[ChatGeneration(message=reply)])


def main() -> None:
    middleware = ContextMiddleware(Pipeline.safe(budget=4_000), reopen=True)
    agent: Any = create_agent(Reader(), [read_page], middleware=[middleware], checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "log"}, "recursion_limit": 200}
    result = agent.invoke({"messages": [HumanMessage("Which order code stood on the first page?")]}, thread)
    report = middleware.report("log")
    print(result["messages"][-1].content)
    print(f"messages kept in the thread: {len(result['messages'])}")
    print(f"model calls: {report['calls']}, largest view: {report['peak_tokens']} tokens, edits: {report['edits']}")
    print(f"money, in uncached input tokens: {report['money']:.0f}; without edits {report['money_unedited']:.0f}")


if __name__ == "__main__":
    main()
