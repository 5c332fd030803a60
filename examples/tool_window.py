"""An OpenAI tool loop with some eighty tools, of which the model sees at most ten and searches for the rest.

Runs offline against a scripted model. With OPENAI_BASE_URL and OPENAI_API_KEY set it talks to a real one.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import threading
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
from openai import OpenAI

from memctx import Pipeline
from memctx.adapters.http import Transport
from memctx.strategies.tool_window import ToolWindow

PARAMETERS = {"type": "object", "properties": {"arguments": {"type": "array", "items": {}}}, "required": ["arguments"]}
TASK = (
    "Help me with some sums: the greatest common divisor of 84 and 36, then the median of 3, 1 and 2, then 10 choose 3."
)


def functions() -> dict[str, Callable[..., Any]]:
    """Every public function of `math` and `statistics`."""
    found = {name: getattr(module, name) for module in (statistics, math) for name in dir(module)}
    return {
        name: each
        for name, each in found.items()
        if name.islower() and name[0] != "_" and each.__doc__ and callable(each)
    }


def schema(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    described = " ".join(str(function.__doc__).split())[:400]
    return {"type": "function", "function": {"name": name, "description": described, "parameters": PARAMETERS}}


class ScriptedModel(BaseHTTPRequestHandler):
    """Works through the task: calls a tool that it is shown, and searches for one that it is not."""

    NEEDS: tuple[tuple[str, str, list[Any]], ...] = (
        ("gcd", "greatest common divisor", [84, 36]),
        ("median", "median, the middle value of data", [[3, 1, 2]]),
        ("comb", "number of ways to choose k items from n", [10, 3]),
    )

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        shown = [tool["function"]["name"] for tool in body["tools"]]
        called = [call["function"]["name"] for said in body["messages"] for call in said.get("tool_calls", ())]
        message: dict[str, Any] = {"role": "assistant", "content": "That was all."}
        left = [need for need in self.NEEDS if need[0] not in called]
        if left and left[0][0] in shown:
            message["tool_calls"] = [tool_call(left[0][0], arguments=left[0][2])]
        elif left:
            message["tool_calls"] = [tool_call("search_tools", query=left[0][1])]
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())
        print(f"request with {len(shown)} tools")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def tool_call(name: str, **arguments: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": f"call_{uuid.uuid4().hex[:8]}", "type": "function", "function": function}


def offline() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ScriptedModel)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"


def main() -> None:
    session = Pipeline([ToolWindow(mode="hybrid", cap=10, k=4)], budget=16_000, provider="openai-chat").session()
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL") or offline(),
        api_key=os.environ.get("OPENAI_API_KEY", "offline"),
        http_client=httpx2.Client(transport=Transport(session)),
    )
    known, search = functions(), session.search_tools()
    tools: list[Any] = [*(schema(name, function) for name, function in known.items()), *search.schemas]
    messages: list[Any] = [{"role": "user", "content": TASK}]
    model = os.environ.get("MODEL", "gpt-5-mini")
    while True:
        said: Any = client.chat.completions.create(model=model, messages=messages, tools=tools).choices[0].message
        messages.append(said.model_dump(exclude_none=True))
        if not said.tool_calls:
            break
        for call in said.tool_calls:
            answer = search.answer(call)
            if answer is None:
                value = known[call.function.name](*json.loads(call.function.arguments)["arguments"])
                answer = {"role": "tool", "tool_call_id": call.id, "content": str(value)}
            messages.append(answer)
            print(f"{call.function.name} {call.function.arguments}: {answer['content'][:100]}")
    client.close()
    print(said.content)
    report = session.report()
    all_of_them = session.counter.tools(tools)
    print(f"all {len(tools)} tools are {all_of_them} tokens; the largest request had {report['peak_tokens']}")


if __name__ == "__main__":
    main()
