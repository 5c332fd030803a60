"""Row 6 of the tools and experience issue: milliseconds per suggestion, each query new, its embedding included.

    python benchmarks/suggest.py --data ../shared/data [--rows tools,graph,experience] [--store FILE] [--json]

tools: `Catalogue.search` over 5,000 real tools of LiveMCP, the MCP registry, Seal-Tools and ToolBench, asked real requests.
graph: `ToolGraph.suggest` over the same tools, learned from the gold calls of those requests; the state is a request.
experience: `Library.retrieve` among experiences made of the steps of recorded runs; to reach the number, steps are
repeated with a third of their words replaced by words of other steps. The queries are steps so changed again.
No query is asked twice, and none is stored. One process; the load of the machine stands in each line. To fill the library
takes minutes: with --store it is filled into a database file once, and opened from there.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")

import numpy as np

from memctx._bench._experience_runs import KINDS, Story, stories
from memctx.catalogue import Catalogue
from memctx.experience import Experience, Library, Rules
from memctx.graphs.tool_graph import ToolGraph, Visit
from memctx.memory import Memory

TOOLS = 5_000
CHANGED = 1 / 3  # share of the words of a step that another step's words replace
BATCH = 1_000  # experiences of one outcome
WARM = 20  # calls before the timed ones
Ask = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one suggestion among `size`; `load`: the machine's over the last minute.

    `cpu50`: the median of the processor's time, all threads of the process; on a busy machine `p50` is more than that.
    """

    what: str
    size: int
    p50: float
    p95: float
    cpu50: float
    calls: int
    load: float


def records(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def tools(data: Path) -> list[dict[str, Any]]:
    """5,000 tools of four catalogues as functions; all of the smaller ones, of ToolBench as many as are missing."""
    found: dict[str, dict[str, Any]] = {}
    for name in ("livemcp", "mcp_registry"):
        for raw in records(data / "tools" / f"{name}_tools.jsonl.gz"):
            schema = raw.get("inputSchema") or {"type": "object"}
            found[raw["id"]] = {"name": raw["id"], "description": raw.get("description") or "", "parameters": schema}
    for raw in records(data / "tools" / "sealtools_tools.jsonl.gz"):
        given = {"type": "object", "properties": raw["parameters"]}
        found[raw["api_name"]] = {"name": raw["api_name"], "description": raw["api_description"], "parameters": given}
    for raw in records(data / "tools" / "toolbench_apis.jsonl.gz"):
        found[raw["id"]] = {"name": raw["id"], "description": raw["api_description"], "parameters": {"type": "object"}}
    return list(found.values())[:TOOLS]


def requests(data: Path) -> list[tuple[str, list[str]]]:
    """Real requests with the tools that answer them."""
    raw = records(data / "tools" / "sealtools_queries.jsonl.gz")
    return [(each["query"], [call["api"] for call in each["calling"]]) for each in raw]


class Changed:
    """Texts with some of their words replaced by words of all texts; the same seed gives the same texts."""

    def __init__(self, texts: Sequence[str], seed: int) -> None:
        self._random = random.Random(seed)
        self._words = [word for text in texts for word in text.split()]

    def __call__(self, text: str) -> str:
        pick = self._random
        words = [pick.choice(self._words) if pick.random() < CHANGED else word for word in text.split(" ")]
        return " ".join(words)


def timed(what: str, size: int, ask: Ask, queries: Sequence[str]) -> Timing:
    times = []
    for query in queries:
        start, busy = perf_counter(), process_time()
        ask(query)
        times.append((1e3 * (perf_counter() - start), 1e3 * (process_time() - busy)))
    (p50, p95), (cpu50, _) = np.round(np.percentile(times[WARM:], [50, 95], axis=0), 2).T.tolist()
    return Timing(what, size, p50, p95, cpu50, len(times) - WARM, round(os.getloadavg()[0], 1))


def of_tools(args: argparse.Namespace) -> Timing:
    catalogue = Catalogue()
    catalogue.sync(tools(args.data))
    queries = [text for text, _ in requests(args.data)][: args.calls + WARM]
    return timed("tools", len(catalogue), lambda query: catalogue.search(query, 10), queries)


def of_graph(args: argparse.Namespace) -> Timing:
    asked = requests(args.data)
    queries, learned = asked[: args.calls + WARM], asked[args.calls + WARM :]
    graph = ToolGraph()
    graph.describe({tool["name"]: f"{tool['name']} {tool['description']}" for tool in tools(args.data)})
    for text, called in learned:
        graph.learn([Visit(name, text) for name in called])
    paths = iter([called[:1] for _, called in queries])
    return timed("graph", TOOLS, lambda state: graph.suggest(next(paths), state, k=3), [text for text, _ in queries])


def of_experience(args: argparse.Namespace) -> Timing:
    runs = [story for kind in KINDS for story in stories(args.data, kind)]
    texts = [step.situation for story in runs for step in story.steps]
    memory = Memory(args.store or ":memory:")
    library = filled(memory, runs, texts, args.experiences)
    changed = Changed(texts, seed=-1)
    pick = random.Random(1)
    some = [pick.choice(runs) for _ in range(args.calls + WARM)]
    queries = {changed(pick.choice(story.steps).situation): changed(story.asked) for story in some}
    ask = lambda query: library.retrieve(query, queries[query], 3)  # noqa: E731 - one expression, used once
    timing = timed("experience", args.experiences, ask, list(queries))
    memory.close()
    return timing


def filled(memory: Memory, runs: Sequence[Story], texts: Sequence[str], count: int) -> Library:
    """A library of `count` experiences."""
    library = Library(memory.at("bench"), rules=Rules(capacity=count, worked=BATCH))
    steps = [(story.asked, step) for story in runs for step in story.steps]
    number = held = len(library.items())
    changed = Changed(texts, seed=held)
    while held < count:
        some = [steps[each % len(steps)] for each in range(number, number + min(BATCH, count - held))]
        number += len(some)
        items = [Experience(step.action, "example", asked, changed(step.situation)) for asked, step in some]
        held += len(library.admit(items, writer=f"run {number}", outcome=1.0).added)
    return library


ROWS: dict[str, Callable[[argparse.Namespace], Timing]] = {
    "tools": of_tools,
    "graph": of_graph,
    "experience": of_experience,
}


def main(given: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the public slice")
    parser.add_argument("--rows", default=",".join(ROWS), help="comma list")
    parser.add_argument("--experiences", type=int, default=100_000)
    parser.add_argument("--store", type=Path, help="database file of the library")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    args = parser.parse_args(given)
    for name in args.rows.split(","):
        row = asdict(ROWS[name](args))
        line = "{what:11} {size:7,}  p50 {p50:6.2f} ms  p95 {p95:6.2f} ms  cpu {cpu50:6.2f} ms  {calls} calls  load {load}".format(
            **row
        )
        print(json.dumps(row) if args.json else line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
