"""A LangGraph graph of one's own with memctx: the model node reads a view, the state keeps every message and the plan.

Runs offline in seconds: `model` stands where a chat model would. Needs `memctx-agents[langgraph]`.
"""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.messages.tool import tool_call
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.runtime import Runtime

from memctx import Pipeline
from memctx.adapters.langgraph import PlanState, Sessions, prepare

ROOMS = 50


class State(PlanState, MessagesState):
    """The messages and the plan."""


@tool
def look(room: int) -> str:
    """Look around in a room."""
    shelves = "\n".join(f"shelf {shelf}: {shelf * room % 17} boxes, {shelf * room % 5} jars" for shelf in range(30))
    return f"room {room}\n{shelves}"


def model(messages: list[BaseMessage]) -> AIMessage:
    """A scripted model: on to the next room, until it has seen them all."""
    last = str(messages[-1].content)
    room = int(last.split()[1]) if last.startswith("room") else 0
    if room == ROOMS:
        return AIMessage(f"I have seen all {ROOMS} rooms.")
    return AIMessage("", tool_calls=[tool_call(name="look", args={"room": room + 1}, id=f"call_{room + 1}")])


def main() -> None:
    sessions = Sessions(Pipeline.safe(budget=4_000))
    sizes: list[int] = []

    def call_model(state: State, runtime: Runtime[None]) -> dict[str, Any]:
        view, update = prepare(sessions, state, runtime, tools=[look])
        sizes.append(view.tokens)
        return {"messages": [model(view.messages)], **update}

    graph = StateGraph(State, output_schema=MessagesState)
    graph.add_node("model", call_model)
    graph.add_node("tools", ToolNode([look]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    app: Any = graph.compile(checkpointer=InMemorySaver())

    thread = {"configurable": {"thread_id": "house"}, "recursion_limit": 200}
    result = app.invoke({"messages": [HumanMessage("Look into every room.")]}, thread)
    plan = app.get_state(thread).values["memctx_plan"]
    print(result["messages"][-1].content)
    print(
        f"messages kept in the thread: {len(result['messages'])}; edits in the checkpointed plan: {len(plan['edits'])}"
    )
    print(f"model calls: {len(sizes)}, largest view: {max(sizes)} tokens")


if __name__ == "__main__":
    main()
