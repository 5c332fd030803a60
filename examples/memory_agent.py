"""A LangGraph agent that remembers: what Ana says on Monday is known on Friday, in another thread, and to nobody else.

Runs offline in seconds: a scripted model stands where `"openai:gpt-5"` would. Needs `memctx-agents[langgraph,embed]`.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain.tools import ToolRuntime
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from memctx.adapters.langgraph import MemctxStore, MemoryMiddleware
from memctx.memory import Memory


@dataclass
class Who:
    """Comes from the host's log-in, never from a message."""

    tenant: str
    user: str


@tool
def book_table(restaurant: str, runtime: ToolRuntime[Who, Any]) -> str:
    """Book a table for tonight."""
    who, store = runtime.context, runtime.store
    assert store is not None
    store.put((who.tenant, who.user, "bookings"), restaurant, {"restaurant": restaurant, "people": 2})
    return f"booked: {restaurant}, {len(store.search((who.tenant, who.user)))} bookings in all"


class Concierge(BaseChatModel):
    """Books what fits the diet it can see; asks where it sees none."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[Any, AIMessage]:
        return self.bind(tools=[])

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        seen = " ".join(str(message.text) for message in messages)
        results = [message for message in messages if isinstance(message, ToolMessage)]
        if results:
            reply = AIMessage(f"Done, {results[-1].text}.")
        elif "table" not in str(next(m.text for m in messages if isinstance(m, HumanMessage))):
            reply = AIMessage("I will keep that in mind.")
        elif diet := re.search(r"\b(vegan|vegetarian)\b", seen):
            call = tool_call(name="book_table", args={"restaurant": f"The {diet[0]} kitchen"}, id="call_1")
            reply = AIMessage("", tool_calls=[call])
        else:
            reply = AIMessage("What do you eat?")
        return ChatResult(generations=[ChatGeneration(message=reply)])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Memory(Path(folder) / "agent.db") as memory:
        remembers = MemoryMiddleware(memory, lambda runtime: (runtime.context.tenant, runtime.context.user))
        agent: Any = create_agent(
            Concierge(),
            [book_table],
            middleware=[remembers],
            context_schema=Who,
            checkpointer=InMemorySaver(),
            store=MemctxStore(memory),
        )

        def ask(who: Who, thread: str, text: str) -> str:
            config = {"configurable": {"thread_id": thread}}
            result = agent.invoke({"messages": [HumanMessage(text)]}, config, context=who)
            return str(result["messages"][-1].text)

        ana, bo = Who("acme", "ana@acme.example"), Who("acme", "bo@acme.example")
        print("Monday, Ana:", ask(ana, "monday", "Please note that I am vegan."))
        print("Friday, Ana:", ask(ana, "friday", "Book me a table for dinner, something I can eat."))
        print("Friday, Bo: ", ask(bo, "bo", "A table for Bo tonight, please: what can I eat there?"))
        receipt = memory.at("acme", "ana@acme.example").erase()
        print(f"Ana leaves: {sum(receipt.removed.values())} rows removed, {len(receipt.left)} traces left")
        print("Then, Ana:  ", ask(ana, "new", "Book me a table for lunch, something I can eat."))


if __name__ == "__main__":
    main()
