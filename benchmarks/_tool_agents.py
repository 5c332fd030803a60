"""Scripted agents that search for the tools they lack, over a session with a window of tools."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from itertools import product
from random import Random
from time import perf_counter
from typing import Any

from benchmarks._tool_data import Request
from memctx.offer import name_of
from memctx.session import Session

FOUND, MOST_FOUND = 8, 20  # tools one search asks for, and those of an agent that asks for too many
TRIES = 3

Json = dict[str, Any]


@dataclass
class Dialogue:
    """A session and the history a host would keep."""

    session: Session
    tools: list[Json]
    messages: list[Json] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    numbers: int = 0

    def say(self, role: str, text: str) -> None:
        self.messages.append({"role": role, "content": text})

    def view(self) -> set[str]:
        """The names that stand in the next request."""
        start = perf_counter()
        shown = self.session.view(self.messages, self.tools)
        self.times.append((perf_counter() - start) * 1_000)
        names = [name_of(tool) for tool in shown.tools or ()]
        self.sizes.append(len(names))
        self.tokens.append(self.session.front.tokens)
        return set(names)

    def call(self, name: str, arguments: Json, answer: str) -> None:
        self.numbers += 1
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"id": f"call_{self.numbers}", "type": "function", "function": function}
        self.messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": answer})


@dataclass(frozen=True, slots=True)
class Agent:
    """What it does once it sees a request and the names of its tools, before it calls what it needs."""

    kind: str
    draw: Random
    described: dict[str, str]

    def act(self, dialogue: Dialogue, request: Request, shown: set[str]) -> None:
        if self.kind == "greedy":
            for need in (*request.needs, request.text)[:4]:
                search(dialogue, need, MOST_FOUND)
        elif self.kind == "plain" and any(not names & shown for names in request.gold):
            for need in request.needs:
                search(dialogue, need, FOUND)
        elif self.kind in ("able", "hoarder"):
            for names, _ in product(request.gold, range(TRIES)):
                shown = shown if names & shown else search(dialogue, self.half(names), FOUND)

    def half(self, names: frozenset[str]) -> str:
        """Half the words of a description, at random."""
        words = re.findall(r"\w+", self.described[min(names)])
        return " ".join(word for word in words if self.draw.random() < 0.5) or " ".join(words)


def search(dialogue: Dialogue, query: str, k: int) -> set[str]:
    asked = {"query": query, "k": k}
    dialogue.call("search_tools", asked, dialogue.session.search_tools()("search_tools", asked))
    return dialogue.view()


def tidy(dialogue: Dialogue) -> None:
    """Remove everything on offer: the task is done."""
    own = dialogue.session.search_tools()
    asked = {"names": [name for name in dialogue.session.front.usable if name not in own.names]}
    if asked["names"]:
        dialogue.call("remove_tools", asked, own("remove_tools", asked))
        dialogue.view()
