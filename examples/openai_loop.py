"""An OpenAI tool loop that reads more than its budget, with memctx under the SDK.

Runs offline against a scripted model. With OPENAI_BASE_URL and OPENAI_API_KEY set it talks to a real one.
"""

from __future__ import annotations

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
from openai import OpenAI

from memctx import Pipeline
from memctx.adapters.http import Transport

MODULES = ("abc", "bisect", "calendar", "cmd", "code", "copy", "csv", "dis", "fractions", "glob", "heapq", "queue")
SCHEMA = {"type": "object", "properties": {"module": {"type": "string"}}, "required": ["module"]}
FUNCTION = {"name": "read", "description": "The source of a module of the standard library.", "parameters": SCHEMA}
READ: Any = {"type": "function", "function": FUNCTION}


def read(module: str) -> str:
    return (Path(os.__file__).parent / f"{Path(module).name}.py").read_text(encoding="utf-8")


class ScriptedModel(BaseHTTPRequestHandler):
    """Reads every module, asks to see the first cut again, then answers. It knows only what is in the request."""

    turns = itertools.count()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        turn, cut = next(self.turns), re.search(r"\[cut (\w+)\]", body)
        message: dict[str, Any] = {"role": "assistant", "content": "I have read them all."}
        if turn < len(MODULES):
            message["tool_calls"] = [tool_call("read", module=MODULES[turn])]
        elif turn == len(MODULES) and cut:
            message["tool_calls"] = [tool_call("reopen", handle=cut[1])]
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def tool_call(name: str, **arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": f"call_{uuid.uuid4().hex[:8]}", "type": "function", "function": function}


def offline() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), ScriptedModel)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"


def main() -> None:
    session = Pipeline.safe(budget=16_000).session()
    client = OpenAI(
        base_url=os.environ.get("OPENAI_BASE_URL") or offline(),
        api_key=os.environ.get("OPENAI_API_KEY", "offline"),
        http_client=httpx2.Client(transport=Transport(session)),
    )
    reopen = session.reopen_tool()
    tools: list[Any] = [READ, reopen.schema]
    task = f"Read these modules one by one, then say what they have in common: {', '.join(MODULES)}"
    messages: list[Any] = [{"role": "user", "content": task}]
    model = os.environ.get("MODEL", "gpt-5-mini")
    while True:
        answer = client.chat.completions.create(model=model, messages=messages, tools=tools)
        said: Any = answer.choices[0].message
        messages.append(said.model_dump(exclude_none=True))
        if not said.tool_calls:
            break
        for call in said.tool_calls:
            arguments = json.loads(call.function.arguments)
            text = reopen(**arguments) if call.function.name == reopen.name else read(**arguments)
            print(f"{call.function.name} {arguments}: {len(text)} characters")
            messages.append({"role": "tool", "tool_call_id": call.id, "content": text})
    client.close()
    report = session.report()
    print(said.content)
    print(
        f"history: {sum(len(str(m.get('content'))) for m in messages)} characters in {len(messages)} messages, all kept"
    )
    print(f"largest request: {report['peak_tokens']} tokens; {report['decisions']} decisions to edit")


if __name__ == "__main__":
    main()
