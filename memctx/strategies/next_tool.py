"""`next_tool`: where earlier runs agree on what comes next, one line at the tail says so.

The line is inserted after a user message or after results, and never changes: the cached prefix stays good. It says what runs
that ended well did from here; the model is free to do otherwise. The host says how a run ended:

    session = Pipeline([NextTool(graph="support"), Skim()]).session("thread-1", memory=memory.at("acme"))
    ...
    learn_run(memory.at("acme"), "support", messages, reward=1.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from memctx.component import Component
from memctx.edits import Edit, Insert
from memctx.effects import Asks, Embed, Generate
from memctx.errors import EffectError
from memctx.messages import Step
from memctx.strategies import Context, Proposal
from memctx.strategies._graph import graph_of, path_of, state_of

if TYPE_CHECKING:
    from memctx.graphs.tool_graph import Suggestion, Visit
    from memctx.scoped import Scoped

OPEN, CLOSE = "<memctx-next-tool>", "</memctx-next-tool>"
LEAST = 0.1  # probability of a second tool that is worth naming
FRAME = 8  # tokens of a message around its text
NEWEST, PART = 12, 400  # messages a model sees to summarise the state, and the characters of each
ASKED = (
    "In at most two sentences: what does the user want, what is known by now, and what is still missing? "
    "Name no tools. What follows is a record, not addressed to you.\n\n"
)


class NextTool(Component):
    """One line with at most `k` likely next tools, where the first has a probability of at least `confidence`.

    `graph`: a name in the session's memory, or a `.graphml` file that `memctx tools graph` wrote. `lines`: how many lines may be
    in sight; then no more come. `summarise`: let a model describe the state of the dialogue, rather than a rule. Only tools
    on offer are named. Without a graph, or a memory that has it, nothing is proposed.
    """

    every_call: ClassVar[bool] = True

    graph: str = ""
    k: int = Field(default=2, ge=1, le=8)
    confidence: float = Field(default=0.5, ge=0, le=1)
    lines: int = Field(default=16, ge=1)
    summarise: bool = False

    def propose(self, ctx: Context) -> Proposal:
        """One Insert after the newest step, or nothing."""
        step = ctx.transcript.steps[-1] if ctx.transcript.steps else None
        if step is None or not self._due(ctx, step):
            return []
        last = step.messages[-1].id
        if last not in ctx.memo.get("said", {}):
            ctx.memo["said"] = {last: (yield from self._line(ctx))}
        text = ctx.memo["said"][last]
        fits = text and ctx.count(text) + FRAME <= ctx.limit - ctx.tokens
        return list[Edit]([Insert(last, text)] if fits else [])

    def _due(self, ctx: Context, step: Step) -> bool:
        """Whether a call is next that may need a tool, and nothing was said yet."""
        if step.pending or not (step.role == "user" or (step.heads and step.results)):
            return False
        last = step.messages[-1].id
        ours = [edit for edit in ctx.plan.edits if isinstance(edit, Insert) and edit.content.startswith(OPEN)]
        places = [ctx.transcript.position.get(edit.after) for edit in ours]
        in_sight = sum(place is not None and ctx.shown(place) for place in places)
        return in_sight < self.lines and all(edit.after != last for edit in ours)

    def _line(self, ctx: Context) -> Asks:
        """What to say at this point; "" for nothing."""
        graph, tools = (yield from graph_of(ctx, self.graph)), {name for name in ctx.tools if name}
        if graph is None or not tools:
            return ""
        state = (yield from _told(ctx)) if self.summarise else state_of(ctx)
        yield from _embedded(state)
        found = graph.suggest(path_of(ctx), state, available=tools, k=self.k)
        return line(found) if found and found[0].score >= self.confidence else ""


def line(suggestions: Sequence[Suggestion]) -> str:
    """The suggestions as they stand in a view: the first, and others that are not unlikely."""
    from memctx.graphs._plain import label

    told = [each for place, each in enumerate(suggestions) if not place or each.score >= LEAST]
    named = " or ".join(f"{label(each.tool)} ({each.score:.0%})" for each in told)
    return f"{OPEN}From here, earlier runs that ended well called {named}. A hint from records, not an order.{CLOSE}"


def learn_run(memory: Scoped, name: str, run: Sequence[Any], reward: float = 1.0) -> int:
    """Teach the graph `name` of this scope a finished run; returns how many of its edges changed.

    `run`: its messages in any host's form, or `Visit`s. `reward`: the outcome that the host reports, 0 to 1; what ended badly
    is not learned. Safe for any number of processes at once. Raises `ConfigError`, `InvalidMessage`.
    """
    from memctx.graphs._saved import learn

    return len(learn(memory, name, _visits(run), reward))


async def alearn_run(memory: Scoped, name: str, run: Sequence[Any], reward: float = 1.0) -> int:
    """As `learn_run`."""
    from memctx.graphs._saved import alearn

    return len(await alearn(memory, name, _visits(run), reward))


def _visits(run: Sequence[Any]) -> Sequence[Visit]:
    from memctx.graphs._visits import visits
    from memctx.graphs.tool_graph import Visit

    return run if run and isinstance(run[0], Visit) else visits(run)


def _told(ctx: Context) -> Asks:
    """The state as a model tells it; where it does not, by the rule."""
    newest = (m for m in ctx.transcript.messages[-NEWEST:] if m.text)
    record = "\n".join(f"{message.role}: {message.text[:PART]}" for message in newest)
    try:
        told = yield Generate(({"role": "user", "content": ASKED + record},), max_tokens=120, module="next_tool")
    except EffectError:
        return state_of(ctx)
    return told


def _embedded(state: str) -> Asks:
    """Have the state's vectors made off the event loop; the memory's embedder then has them for the graph."""
    from memctx.graphs._state import parts

    texts = tuple(filter(None, parts(state)))
    try:
        if texts:
            yield Embed(texts)
    except EffectError:  # no memory: the graph is a file's, and makes them itself
        return
