"""What a changing block of tools costs: a list made anew for each call against the window, 60 tools and 60 calls.

    python benchmarks/tool_money.py [--tools 60] [--calls 60] [--k 16] [--threads 4] [--json]

The threads are LiveMCPBench tasks as Claude Sonnet 4 did them, one after the other until there are enough calls; the tools are
those it used and others of their catalogue. Its searches ("route") are left out of the history. `selection` sends the `--k`
tools that the same retrieval finds for the request and the newest message, in the host's order, made anew before each call.
`window` is `ToolWindow(mode="hybrid")`; where the tool that the run called next is not there, it searches with the words the
run itself had searched with, and pays for that call too; "unsearched" is what was there before it did. With its default cap
all 60 tools stand; `window of 32` has to choose. All see the same messages, unedited.

`gold`: share of calls whose tool stands in the request when it is called. Money in units of one uncached input token.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import mean
from typing import Any

from benchmarks._tool_data import Tools
from memctx import Pipeline
from memctx.catalogue import shared
from memctx.offer import name_of
from memctx.pricing import PRICES, Ledger
from memctx.strategies.tool_window import ToolWindow
from memctx.tokens import counter

RUNS = Path(__file__).parents[2] / "shared" / "data" / "trajectories" / "livemcp_claude_sonnet4.jsonl.gz"
SHAPES = ("openai", "anthropic-5m", "deepseek")
FIGURES = ("money", "gold", "unsearched", "calls", "tools", "tokens")
QUERY = 1_000  # characters of the newest message that the selection looks at

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Point:
    """Before one model call: how much of the history there is, the tool called next, and the words it was searched with."""

    before: int
    tool: str
    searched: str


@dataclass(frozen=True, slots=True)
class Line:
    """A thread, or the mean of all."""

    method: str
    price: str
    money: float
    gold: float
    unsearched: float
    calls: float
    tools: float
    tokens: float


def thread(runs: Sequence[Json], tools: Tools, calls: int) -> tuple[list[Json], list[Point]]:
    """Runs after one another as one history of direct calls, and the points where a call is made."""
    named = {key.split("/", 1)[-1]: spec["function"]["name"] for key, spec in reversed(tools.by_id.items())}
    history: list[Json] = []
    points: list[Point] = []
    for run in runs:
        searched, made = "", set[str]()
        for message in run["messages"]:
            if message["role"] == "user":
                history.append({"role": "user", "content": message["content"]})
            elif message["role"] == "tool" and message["tool_call_id"] in made:
                history.append({key: message[key] for key in ("role", "tool_call_id", "content")})
            elif message["role"] == "assistant":
                kept, searched = _direct(message, named, searched)
                made |= {call["id"] for call in kept}
                if kept:
                    points.append(Point(len(history), kept[0]["function"]["name"], searched))
                text = {"role": "assistant", "content": message.get("content") or "..."}
                history.append({**text, "tool_calls": kept} if kept else text)
            if len(points) == calls:
                return history, points
    return history, points


def _direct(message: Json, named: dict[str, str], searched: str) -> tuple[list[Json], str]:
    """A message's calls of tools as direct calls, and the words it searched with, or had before."""
    calls = []
    for call in message.get("tool_calls") or ():
        arguments = _arguments(call)
        if call["function"]["name"] == "route":
            searched = str(arguments.get("query", ""))
        elif arguments.get("tool_name") in named:
            function = {"name": named[arguments["tool_name"]], "arguments": json.dumps(arguments.get("params"))}
            calls.append({"id": call["id"], "type": "function", "function": function})
    return calls, searched


def _arguments(call: Json) -> Json:
    try:
        found = json.loads(call["function"]["arguments"])
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {}


class Bill:
    """Prices requests: each tool and each message is one piece, tools first."""

    def __init__(self, price: str) -> None:
        self.ledger = Ledger(PRICES[price])
        self.count = counter()
        self.sizes: dict[str, int] = {}
        self.tools: list[int] = []

    def charge(self, tools: Sequence[Json], messages: Sequence[Json]) -> None:
        pieces = [json.dumps(each, sort_keys=True) for each in (*tools, *messages)]
        for piece, each in zip(pieces, (*tools, *messages), strict=True):
            if piece not in self.sizes:
                self.sizes[piece] = self.count.message(each) if "role" in each else self.count.tools([each])
        self.ledger.charge([self.sizes[piece] for piece in pieces], pieces)
        self.tools.append(len(tools))


def selected(tools: list[Json], history: list[Json], points: list[Point], price: str, k: int) -> tuple[Bill, float]:
    """A list made anew before each call; bill and share of calls whose tool was there."""
    bill, there = Bill(price), []
    for point in points:
        messages = history[: point.before]
        request = next(each["content"] for each in reversed(messages) if each["role"] == "user")
        query = f"{request}\n{str(messages[-1]['content'])[:QUERY]}"
        found = {hit.tool.name for hit in shared(tools).search(query, k)}
        offered = [tool for tool in tools if name_of(tool) in found]
        there.append(point.tool in map(name_of, offered))
        bill.charge(offered, messages)
    return bill, mean(there)


def windowed(
    tools: list[Json], history: list[Json], points: list[Point], price: str, window: ToolWindow
) -> tuple[Bill, float, float]:
    """The window; bill, share of calls whose tool was there, and share of those where it was before a search."""
    session = Pipeline([window], budget=1_000_000, price=price).session("money")
    own = session.search_tools()
    host = [*tools, *(schema for schema in own.schemas if name_of(schema) == "search_tools")]
    bill, there, at_once = Bill(price), [], []
    messages: list[Json] = []
    done = 0
    for number, point in enumerate(points):
        messages += history[done : point.before]
        done = point.before
        view = session.view(messages, host, now=float(number))
        bill.charge(view.tools or [], messages)
        at_once.append(point.tool in map(name_of, view.tools or ()))
        if not at_once[-1] and point.searched:
            function = {"name": "search_tools", "arguments": json.dumps({"query": point.searched})}
            call = {"id": f"search_{number}", "type": "function", "function": function}
            messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": own.search(point.searched)})
            view = session.view(messages, host, now=float(number))
            bill.charge(view.tools or [], messages)
        there.append(point.tool in map(name_of, view.tools or ()))
    return bill, mean(there), mean(at_once)


def threads(options: argparse.Namespace) -> Iterator[tuple[list[Json], list[Json], list[Point]]]:
    """Threads over disjoint runs, each with its tools: those the runs call, and others drawn to make up the number."""
    with gzip.open(RUNS, "rt", encoding="utf-8") as lines:
        runs = [json.loads(line) for line in lines]
    Random(options.seed).shuffle(runs)
    size = len(runs) // options.threads
    tools = Tools()
    servers = [spec for key, spec in tools.by_id.items() if key.count("/") == 1]
    for number in range(options.threads):
        history, points = thread(runs[number * size : (number + 1) * size], tools, options.calls)
        needed = {point.tool for point in points}
        draw = Random(options.seed + number)
        others = draw.sample(servers, len(servers))
        ranked = sorted(others, key=lambda spec: spec["function"]["name"] not in needed)[: options.tools]
        yield sorted(ranked, key=name_of), history, points


def lines(options: argparse.Namespace) -> Iterator[Line]:
    """The mean over the threads, for each way and price."""
    found: dict[tuple[str, str], list[Line]] = {}
    for tools, history, points in threads(options):
        for price in SHAPES:
            bill, gold = selected(tools, history, points, price, options.k)
            made = [_line("selection", price, bill, gold, gold)]
            for name, cap in (("window", 64), ("window of 32", 32)):
                window = ToolWindow(cap=cap, k=options.k)
                made.append(_line(name, price, *windowed(tools, history, points, price, window)))
            for line in made:
                found.setdefault((line.method, price), []).append(line)
    for (method, price), each in found.items():
        yield Line(method, price, *(mean(getattr(line, name) for line in each) for name in FIGURES))


def _line(method: str, price: str, bill: Bill, gold: float, unsearched: float) -> Line:
    calls = len(bill.tools)
    return Line(method, price, bill.ledger.money, gold, unsearched, calls, mean(bill.tools), bill.ledger.tokens)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"tools": 60, "calls": 60, "k": 16, "threads": 4, "seed": 0}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    made = list(lines(options))
    if options.json:
        print("\n".join(json.dumps(asdict(line)) for line in made))
        return
    base = {line.price: line.money for line in made if line.method == "selection"}
    print("price         method              money      of selection  gold  unsearched  calls  tools  input tokens")
    for line in sorted(made, key=lambda line: SHAPES.index(line.price)):
        print(
            f"{line.price:13} {line.method:18} {line.money:10,.0f}  {line.money / base[line.price]:12.3f}  {line.gold:.3f}"
            f"  {line.unsearched:10.3f}  {line.calls:5.1f}  {line.tools:5.1f}  {line.tokens:12,.0f}"
        )


if __name__ == "__main__":
    main()
