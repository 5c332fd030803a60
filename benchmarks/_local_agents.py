"""The scripted agent of `local_model`: it takes the recorded actions, and copies only what a request shows."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks._local_server import Engine, Json, Reply, rendered, spoken
from memctx.experience import Library
from memctx.scoped import Scoped
from memctx.search_tools import SEARCH
from memctx.strategies.next_tool import learn_run
from memctx.train.envs.taubench import TauBench

GRAPH = "retail"  # the tool graph's name
READS = ("get_", "find_", "list_", "calculate", "think")
PATIENCE = 3  # detours for one action
IDENTIFIER = re.compile(r"[#\w][\w.@-]*\w")
BRANCH = {"description": "look things up", "prompt": "Find the identifiers that the request needs."}


@dataclass(frozen=True, eq=False)
class Act:
    """One action; `name` "": said to the user. `needs`: identifiers that it copies, and the action that brings each."""

    name: str
    arguments: Json
    needs: Mapping[str, Act] = field(default_factory=dict)


def recorded(env: TauBench, seed: int) -> list[Act]:
    """The actions of a task, and what is said at its end."""
    state, acts, brought = env.start(seed), list[Act](), list[tuple[Act, str]]()
    for text in env.expert(seed):
        call: Json = json.loads(text) if text.startswith("{") else {"name": "", "arguments": {"text": text}}
        wanted = identifiers(json.dumps(call["arguments"]))
        needs = {value: before for before, result in brought for value in wanted if value in result}
        acts.append(Act(call["name"], call["arguments"], needs))
        state = state.after(text)
        if call["name"].startswith(READS):
            brought.append((acts[-1], state.heard))
    return acts if not acts[-1].name else [*acts, Act("", {"text": "DONE"})]


def identifiers(text: str) -> list[str]:
    """Words with a digit: of numbers and names in an argument, those that nobody guesses."""
    return [word for word in IDENTIFIER.findall(text) if len(word) > 3 and any(map(str.isdigit, word))]


def branched(acts: Sequence[Act]) -> list[Act]:
    """What comes before the first change is done in a branch."""
    first = next(place for place, act in enumerate(acts) if not act.name.startswith(READS))
    return [Act("branch", BRANCH), *acts[:first], Act("return", {}), *acts[first:]]


@dataclass
class Gold:
    """Takes the actions in order. `says`: what it writes beside them, of `known`, `before` and `latest`, a turn."""

    acts: Sequence[Act]
    says: str = ""
    place: int = 0
    turn: int = 0
    tried: int = 0

    def __call__(self, body: Json, engine: Engine) -> tuple[Json, Reply]:
        """As a `Player`: the model reads the request, its one token is not used."""
        reply = engine.chat(rendered(body), 1)
        return self.next(body), reply

    def next(self, body: Json) -> Json:
        """The next message."""
        shown = json.dumps(body["messages"], ensure_ascii=False)
        self.turn += 1
        act = self._act(shown, {tool["function"]["name"] for tool in body["tools"]})
        values = (value for each in self.acts[self.place :] for value in each.needs if value in shown)
        known = f"Known: {', '.join(dict.fromkeys(values))}."
        if not act.name:
            return spoken(act.arguments["text"])
        arguments = {"message": known} if act.name == "return" else act.arguments
        return spoken(self.says.format(known=known, before=self.turn - 2, latest=self.turn - 1), act.name, arguments)

    def _act(self, shown: str, offered: Collection[str]) -> Act:
        """The next action; or one that brings what it needs, or a search for its tool; or it gives up."""
        act = self.acts[min(self.place, len(self.acts) - 1)]
        lost = [before for value, before in act.needs.items() if value not in shown]
        act = lost[0] if lost else act
        absent = bool(act.name) and act.name not in offered
        if not lost and not absent:
            self.place, self.tried = self.place + 1, 0
            return act
        self.tried += 1
        if self.tried > PATIENCE or (absent and SEARCH not in offered):
            return Act("", {"text": "DONE, as far as I can."})
        return Act(SEARCH, {"query": act.name.replace("_", " ")}) if absent else act


def teach(memory: Scoped, env: TauBench, runs: int) -> None:
    """Recorded runs of another split: as experience, as a tool graph, and word for word."""
    library = Library(memory)
    for seed in range(runs):
        messages = transcribed(env, seed)
        learn_run(memory, GRAPH, messages)
        library.finish(messages, 1.0, writer="teacher", name=f"train-{seed}")
        words = ({"text": m["content"], "kind": "episodic", "source": m["role"]} for m in messages if m["content"])
        memory.during(f"train-{seed}").write_many(list(words))


def transcribed(env: TauBench, seed: int) -> list[Json]:
    """A recorded run as messages."""
    state = env.start(seed)
    messages: list[Json] = [{"role": "user", "content": state.task.wish}]
    for act in recorded(env, seed):
        said = spoken(act.arguments["text"]) if not act.name else spoken("", act.name, act.arguments)
        messages.append(said)
        if act.name:
            state = state.after(json.dumps({"name": act.name, "arguments": act.arguments}))
            messages.append({"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": state.heard})
    return messages
