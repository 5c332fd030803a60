"""A hundred requests in a row over 5,000 tools, with scripted agents of varied skill: what the window holds of new requests.

    python benchmarks/tool_window.py [--tools 5000] [--requests 100] [--cap 128] [--k 124] [--draws 1] [--data DIR] [--json]

Tools and requests are real: LiveMCPBench, the MCP registry, ToolBench and Seal-Tools. Each of three folds of the requests, by a
hash of their text, is left out in turn: what ranks tools is fitted on the others (`fit_tools.py`), and a hundred requests of
the one that was left out are played. Where `learned` is "runs", the window has a tool graph of the other folds' requests and
the tools that served them; else it has learned nothing. The fold of LiveMCPBench is small (21 of the hundred requests).

The agents: `idle` neither searches nor removes. `plain` searches for what it lacks in the words of the request. `able` searches
for what it lacks by half the words of the tool's description, drawn at random and without its name, in other words up to three
times. `hoarder` does as `able`, and never removes. `greedy` asks for 20 tools four times a request, whatever it needs. Those
that search do so only where a tool they need is not there. Only mode autonomous lets a model remove: `plain` and `able` then
do, once a request is done. `workflow+model` has the model choose what to drop and word the searches, by the annotators' steps or
the request's sentences.

`gold`: share of the needed tools that stand in the request once the searches are done, over all folds, and in the worst and the
best hundred. `removal`: tools removed over tools added, mean over windows of three requests (MemTool, arXiv 2507.21428), the
least of any hundred. `over_cap`: requests sent with more than `cap` tools.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from random import Random
from statistics import mean
from unittest.mock import patch

import numpy as np

import memctx._tool_rank as rank
from benchmarks import fit_tools
from benchmarks._tool_agents import Agent, Dialogue, tidy
from benchmarks._tool_data import DATA, FOLDS, Draw, fold, load
from memctx import Memory, Pipeline
from memctx._bench import _tools_data
from memctx.effects import Generate
from memctx.graphs._saved import save
from memctx.graphs.tool_graph import ToolGraph, Visit, summarise
from memctx.offer import name_of
from memctx.strategies.tool_window import ToolWindow

MODES = ("autonomous", "workflow", "workflow+model", "hybrid")
LEARNED = ("nothing", "runs")
AGENTS = ("idle", "plain", "able", "hoarder", "greedy")
WINDOW = 3  # requests
OWN = {"search_tools", "remove_tools"}  # the session's


@dataclass(frozen=True, slots=True)
class Played:
    """One agent's hundred requests. `needed`, `there`: tools by source."""

    needed: Counter[str]
    there: Counter[str]
    removal: float
    sizes: list[int]
    tokens: list[int]
    times: list[float]

    @property
    def gold(self) -> float:
        return self.there.total() / self.needed.total()


@dataclass(frozen=True, slots=True)
class Line:
    """Over all hundreds; `tokens` of the tools that stand; `ms` of one `view`, the median and the slowest after the first."""

    mode: str
    agent: str
    learned: str
    gold: float
    worst_gold: float
    best_gold: float
    gold_by_source: dict[str, float]
    removal: float
    over_cap: int
    most_tools: int
    mean_tools: float
    tokens: float
    view_ms: float
    worst_ms: float


def window_of(mode: str, cap: int, k: int, graph: str) -> ToolWindow:
    prune = "model" if mode == "workflow+model" else "lru"
    settings = {"mode": mode.removesuffix("+model"), "cap": cap, "k": k, "prune": prune, "graph": graph}
    return ToolWindow.model_validate(settings)


def play(mode: str, kind: str, draw: Draw, memory: Memory, graph: str, options: argparse.Namespace) -> Played:
    """One agent through all requests."""

    def generate(effect: Generate) -> str:
        asked = json.loads(effect.messages[-1]["content"])
        queries = next((each.needs[:4] for each in draw.requests if each.text in asked["request"]), ())
        return json.dumps({"drop": asked["tools"], "queries": queries})

    window = window_of(mode, options.cap, options.k, graph)
    session = Pipeline([window], budget=1_000_000).session("bench", memory=memory.at("bench"), generate=generate)
    dialogue = Dialogue(session, [*draw.tools, *session.search_tools().schemas])
    able = "idle" if mode.startswith("workflow") else kind
    agent = Agent(able, Random(options.seed), {name_of(tool): tool["function"]["description"] for tool in draw.tools})
    there: Counter[str] = Counter()
    needed: Counter[str] = Counter()
    added, removed, before = [], [], set[str]()
    for request in draw.requests:
        dialogue.say("user", request.text)
        agent.act(dialogue, request, dialogue.view())
        shown = dialogue.view()
        needed[request.source] += len(request.gold)
        there[request.source] += sum(bool(names & shown) for names in request.gold)
        for name in sorted({min(names & shown) for names in request.gold if names & shown}):
            dialogue.call(name, {}, '{"status": "done"}')
        dialogue.view()
        if kind in ("plain", "able") and mode == "autonomous":
            tidy(dialogue)
        dialogue.say("assistant", "That is done.")
        after = dialogue.view() - OWN
        seen = (shown | after) - OWN
        added.append(len(seen - before))
        removed.append(len((before | seen) - after))
        before = after
    return Played(needed, there, ratio(added, removed), dialogue.sizes, dialogue.tokens, dialogue.times[1:])


def told(mode: str, kind: str, learned: str, played: Sequence[Played], cap: int) -> Line:
    needed = sum((each.needed for each in played), Counter[str]())
    there = sum((each.there for each in played), Counter[str]())
    sizes = [size for each in played for size in each.sizes]
    times = sorted(time for each in played for time in each.times)
    return Line(
        mode,
        kind,
        learned,
        there.total() / needed.total(),
        min(each.gold for each in played),
        max(each.gold for each in played),
        {source: there[source] / needed[source] for source in sorted(needed)},
        min(each.removal for each in played),
        sum(size > cap for size in sizes),
        max(sizes),
        mean(sizes),
        mean(tokens for each in played for tokens in each.tokens),
        times[len(times) // 2],
        times[-1],
    )


def ratio(added: list[int], removed: list[int]) -> float:
    """Removed over added, mean over windows of three requests in which any was added; at most 1 each."""
    spans = [(sum(added[i : i + WINDOW]), sum(removed[i : i + WINDOW])) for i in range(len(added) - WINDOW + 1)]
    return mean([min(1.0, out / into) for into, out in spans if into] or [0.0])


def fitted(left_out: int, sets: Sequence[fit_tools.Fitting]) -> rank.Weights:
    """What ranks tools, fitted on the queries of the other folds."""
    others = [[fold(query.text) != left_out for query in one.queries] for one in sets]
    return fit_tools.fit(sets, [np.flatnonzero(rows) for rows in others])


def remember(draw: Draw, memory: Memory) -> None:
    """Keep a graph of the other folds' requests, each as a run that called what serves it."""
    names = {name_of(tool) for tool in draw.tools}
    graph = ToolGraph()
    for request in draw.others:
        state = summarise([{"role": "user", "content": request.text}])
        called = [min(served & names) for served in request.gold if served & names]
        graph.learn([Visit(name, state) for name in called])
    save(graph, memory.at("bench"), "runs")


def lines(options: argparse.Namespace) -> list[Line]:
    sets = [fit_tools.ready(_tools_data.load(options.data, name)) for name in _tools_data.SETS]
    played: dict[tuple[str, str, str], list[Played]] = {}
    for left_out in range(FOLDS):
        with patch.object(rank, "fitted", lambda made=fitted(left_out, sets): made):
            for number in range(options.draws):
                draw = load(options.tools, options.requests, left_out, options.seed + number, options.data)
                for key, one in hundred(draw, options):
                    played.setdefault(key, []).append(one)
    return [told(*key, each, options.cap) for key, each in played.items()]


def hundred(draw: Draw, options: argparse.Namespace) -> Iterator[tuple[tuple[str, str, str], Played]]:
    """What each agent made of the same requests, by mode, agent and what was learned."""
    with Memory() as memory:
        remember(draw, memory)
        for mode, learned in product(options.modes.split(","), LEARNED):
            graph = "" if learned == "nothing" else learned
            for kind in AGENTS if not mode.startswith("workflow") else ("idle",):
                yield (mode, kind, learned), play(mode, kind, draw, memory, graph, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"tools": 5_000, "requests": 100, "cap": 128, "k": 124, "draws": 1, "seed": 1}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--modes", default="workflow,hybrid", help=f"of {', '.join(MODES)}")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    made = lines(options)
    if options.json:
        print("\n".join(json.dumps(asdict(line)) for line in made))
        return
    figures = "gold (worst, best)     removal  over  most   mean  tokens  view ms  worst   by source"
    print(f"mode            agent    learned   {figures}")
    for line in made:
        sources = " ".join(f"{source} {share:.3f}" for source, share in line.gold_by_source.items())
        print(
            f"{line.mode:15} {line.agent:8} {line.learned:8}  {line.gold:.3f} ({line.worst_gold:.3f}, {line.best_gold:.3f})"
            f"   {line.removal:.3f}  {line.over_cap:4}  {line.most_tools:4}"
            f"  {line.mean_tools:5.1f}  {line.tokens:6.0f}  {line.view_ms:7.2f}  {line.worst_ms:5.1f}   {sources}"
        )


if __name__ == "__main__":
    main()
