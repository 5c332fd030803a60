"""Branch off for a part of the task, and keep only what the branch returns.

Follows Context-Folding (arXiv 2510.11967): the model calls `branch(description, prompt)`, works on, and calls
`return(message)`; then the steps between leave the view. Here the message stays where the model wrote it, in the call that
returns: no text is copied, the policy's own tokens stay its own, and the steps are re-openable.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, ClassVar

from pydantic import Field

from memctx.component import Component
from memctx.edits import Drop, Insert
from memctx.messages import Transcript
from memctx.strategies import Context, Proposal, nothing
from memctx.strategies._turns import awaits_reply

BRANCH, RETURN = NAMES = ("branch", "return")
RISK = 0.1  # a later step needs something that the message does not say
REPORT = (
    "[branch] The branch has used up its {budget} tokens. Call return now with a report: what was found, what is missing, "
    "and what to do next."
)
_PROPERTIES = {
    "description": {"type": "string", "description": "what the branch is for, in three to five words"},
    "prompt": {"type": "string", "description": "what to do in the branch, and what to bring back"},
    "message": {
        "type": "string",
        "description": "all that the main thread needs to know, with exact names and numbers",
    },
}
_ARGUMENTS = {BRANCH: ("description", "prompt"), RETURN: ("message",)}
_DESCRIPTIONS = {
    BRANCH: "Begin a branch for a part of the task that takes many steps. You keep all you know. When you return from it, its "
    "steps leave your context, and only the message you return stays. No branch in a branch.",
    RETURN: "End the branch you are in. Only this message stays of it.",
}


class Branch(Component):
    """At most `most` branches a thread. One that has more than `budget` tokens, or half of the view, is asked for a report.

    The host registers `tools(session)`. Once a branch is returned from, the steps between the two calls become one line
    with a handle; what the user said in it stays.
    """

    every_call: ClassVar[bool] = True

    most: int = Field(default=10, ge=1)
    budget: int = Field(default=32_000, ge=1)

    def tools(self, transcript: Callable[[], Transcript]) -> BranchTools:
        """Both tools for a thread: `strategy.tools(lambda: session.transcript)`."""
        return BranchTools(transcript, self.most)

    def propose(self, ctx: Context) -> Proposal:
        """A Drop a finished branch, and a line at the tail where the open one is too long."""
        yield from nothing()
        branches: Branches = ctx.memo.setdefault("branches", Branches(self.most))
        branches.read(ctx.transcript)
        held = {edit.first: edit.last for edit in ctx.plan.edits if isinstance(edit, Drop)}
        drops = (drop for start, end in branches.done for drop in _drops(ctx, start + 1, end, held))
        return [*drops, *self._report(ctx, branches)]

    def _report(self, ctx: Context, branches: Branches) -> Iterator[Insert]:
        """Asks for a report each time the open branch has grown by its budget."""
        steps, position = ctx.transcript.steps, ctx.transcript.position
        if branches.open is None or not awaits_reply(steps):
            return
        budget = min(self.budget, ctx.limit // 2)
        text = REPORT.format(budget=budget)
        asked = (position.get(e.after, -1) for e in ctx.plan.edits if isinstance(e, Insert) and e.content == text)
        since = max([branches.open, *asked])
        if sum(step.tokens for step in steps[since + 1 :]) > budget:
            yield Insert(steps[-1].messages[-1].id, text)


@dataclass(slots=True)
class Branches:
    """The branches of a thread: a function of its transcript. A step is named by its index."""

    most: int
    open: int | None = None  # the step that began the branch one is in
    done: list[tuple[int, int]] = field(default_factory=list)  # the steps that began and returned
    seen: int = 0

    def read(self, transcript: Transcript) -> None:
        """Take in the new messages."""
        for message in transcript.messages[self.seen :]:
            for call in message.calls:
                if call.name in NAMES:
                    self.take(call.name, call.arguments, transcript.position[message.id])
        self.seen = len(transcript.messages)

    def take(self, name: str, arguments: Any, step: int) -> str:
        """What a call made in a step does, and what its result says."""
        given = _read(name, arguments)
        missing = [key for key in _ARGUMENTS[name] if not given.get(key, "").strip()]
        if missing:
            return f"Error: {name} needs {' and '.join(missing)} as text. Nothing was done."
        return self._begin(step) if name == BRANCH else self._end(step)

    def _begin(self, step: int) -> str:
        if self.open is not None:
            return "You are in a branch already, and there is no branch in a branch: go on in it, or return from it."
        if len(self.done) >= self.most:
            return f"All {self.most} branches are used: go on alone, without a branch."
        self.open = step
        return f"Branch {len(self.done) + 1} of {self.most} is open. Do what its prompt says, then call {RETURN}."

    def _end(self, step: int) -> str:
        if self.open is None or self.open == step:
            return "There is no branch to return from: you are in the main thread."
        self.done.append((self.open, step))
        self.open = None
        return "You are back in the main thread. Of the branch, only your message stays."


class BranchTools:
    """Both tools, for a host to register: `schemas` in OpenAI's function form; called with a name and arguments.

    Bad calls never raise: the answer says what to do. The same call, run again before the thread goes on, has the same answer.
    """

    names = NAMES

    def __init__(self, transcript: Callable[[], Transcript], most: int) -> None:
        self._transcript = transcript
        self._most = most
        self._at = -1  # messages of the transcript when these calls were answered, which it has not yet
        self._answered: dict[tuple[str, str], str] = {}

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """Both tools' definitions."""
        return [_schema(name) for name in NAMES]

    def __call__(self, name: str, arguments: Any = None) -> str:
        """The result of a call. `arguments`: a mapping, or JSON text as the model wrote it."""
        if name not in NAMES:
            return f"Error: there is no tool {name!r:.80} here: {' and '.join(NAMES)} are."
        transcript, call = self._transcript(), (name, json.dumps(_read(name, arguments)))
        if self._at != len(transcript.messages):
            self._at, self._answered = len(transcript.messages), {}
        if call not in self._answered:
            branches = Branches(self._most)
            branches.read(transcript)
            for before in self._answered:
                branches.take(*before, len(transcript.steps))
            self._answered[call] = branches.take(*call, len(transcript.steps))
        return self._answered[call]


def _drops(ctx: Context, start: int, end: int, held: Mapping[str, str]) -> Iterator[Drop]:
    """What hides steps `start` to `end` - 1 but for the user's; nothing of what is hidden already."""
    steps = ctx.transcript.steps
    inside = [i for i in range(start, end) if steps[i].messages]
    for mine, run in groupby(inside, lambda i: steps[i].role not in ("user", "system")):
        places = list(run)
        first, last = steps[places[0]].messages[0].id, steps[places[-1]].messages[-1].id
        if mine and held.get(first) != last and ctx.shown(places[0]):
            yield Drop(first, last, ctx.handle(), RISK)


def _read(name: str, arguments: Any) -> dict[str, str]:
    """The tool's arguments, in its own order, as far as they are text."""
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            return {}
    given = arguments if isinstance(arguments, Mapping) else {}
    return {key: given[key] for key in _ARGUMENTS[name] if isinstance(given.get(key), str)}


def _schema(name: str) -> dict[str, Any]:
    properties = {key: _PROPERTIES[key] for key in _ARGUMENTS[name]}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": name, "description": _DESCRIPTIONS[name], "parameters": parameters},
    }
