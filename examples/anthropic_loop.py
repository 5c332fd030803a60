"""An async Anthropic tool loop that reads more than its budget, with memctx under the SDK and cache marks placed by it.

Runs offline against a scripted model. With ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY set it talks to a real one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
from anthropic import AsyncAnthropic

from memctx import Pipeline
from memctx.adapters.http import AsyncTransport

MODULES = ("abc", "bisect", "calendar", "cmd", "code", "copy", "csv", "dis", "fractions", "glob", "heapq", "queue")
SCHEMA = {"type": "object", "properties": {"module": {"type": "string"}}, "required": ["module"]}
READ: Any = {"name": "read", "description": "The source of a module of the standard library.", "input_schema": SCHEMA}


def read(module: str) -> str:
    return (Path(os.__file__).parent / f"{Path(module).name}.py").read_text(encoding="utf-8")


class ScriptedModel(BaseHTTPRequestHandler):
    """Reads every module, asks to see the first cut again, then answers. It knows only what is in the request."""

    turns = itertools.count()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        turn, cut = next(self.turns), re.search(r"\[cut (\w+)\]", body)
        block: dict[str, Any] = {"type": "text", "text": "I have read them all."}
        if turn < len(MODULES):
            block = tool_use("read", module=MODULES[turn])
        elif turn == len(MODULES) and cut:
            block = tool_use("reopen", handle=cut[1])
        usage = {"input_tokens": len(body) // 4, "output_tokens": 20}
        head = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn"}
        answer = json.dumps({**head, "content": [block], "stop_sequence": None, "usage": usage})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def tool_use(name: str, **arguments: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex[:8]}", "name": name, "input": arguments}


def offline() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ScriptedModel)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


async def main() -> None:
    session = Pipeline.safe(budget=16_000, price="anthropic-5m", provider="anthropic").session()
    client = AsyncAnthropic(
        base_url=os.environ.get("ANTHROPIC_BASE_URL") or offline(),
        api_key=os.environ.get("ANTHROPIC_API_KEY", "offline"),
        http_client=httpx2.AsyncClient(transport=AsyncTransport(session)),
    )
    reopen = session.reopen_tool()
    function = reopen.schema["function"]
    tools = [
        READ,
        {"name": reopen.name, "description": function["description"], "input_schema": function["parameters"]},
    ]
    task = f"Read these modules one by one, then say what they have in common: {', '.join(MODULES)}"
    messages: list[Any] = [{"role": "user", "content": task}]
    model = os.environ.get("MODEL", "claude-sonnet-5")
    async with client:
        while True:
            said = await client.messages.create(model=model, max_tokens=1000, messages=messages, tools=tools)
            messages.append({"role": "assistant", "content": [block.to_dict() for block in said.content]})
            results: list[Any] = []
            for call in said.content:
                if call.type == "tool_use":
                    arguments: Any = call.input
                    text = reopen(**arguments) if call.name == reopen.name else read(**arguments)
                    print(f"{call.name} {arguments}: {len(text)} characters")
                    results.append({"type": "tool_result", "tool_use_id": call.id, "content": text})
            if not results:
                break
            messages.append({"role": "user", "content": results})
    report = session.report()
    print(" ".join(block.text for block in said.content if block.type == "text"))
    print(f"history: {len(json.dumps(messages))} characters in {len(messages)} messages, all kept")
    print(f"largest request: {report['peak_tokens']} tokens; {report['decisions']} decisions to edit")


if __name__ == "__main__":
    asyncio.run(main())
