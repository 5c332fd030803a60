"""Recorded runs through memctx and its peers: recall, money, peak, validity and time.

    python benchmarks/context.py [--runs N] [--budgets 4000,8000] [--out out/]   one table, one Pareto plot
    python benchmarks/context.py --threads [--calls 200] [--budgets 8000,16000]  long threads at equal peak
    python benchmarks/context.py --safe [--runs N]                               preset safe, worst money on any file

Peers are LangChain's own classes. Money is the provider's input price over the sequence of requests, relative to no edit;
output is not priced. Tokens are o200k. `--data`: the folder that holds `trajectories` and `taubench`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from benchmarks._peers import clear_tool_uses, summarization, trim
from benchmarks._threads import Compared, compare_all, threads
from benchmarks._walk import Manager, keep_all, measured, memctx, sizes
from memctx._replay import Tally
from memctx.pipeline import Pipeline
from memctx.pricing import PRICES
from memctx.replay import replay
from memctx.runs import load, load_dir

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"


@dataclass(frozen=True, slots=True)
class Line:
    """One manager over all runs. Ratios over no edit, or over what was grounded; `ms` for its own work, a call."""

    manager: str
    setting: str
    calls: int
    recall: float
    share: float
    money: dict[str, float]
    peak: int
    rewrites: int
    violations: int
    ms: float


def managers(budgets: Sequence[int]) -> list[Manager]:
    """Everything compared, each at every budget."""
    found = [keep_all()]
    for make in (clear_tool_uses, trim, summarization):
        found += [make(budget) for budget in budgets]
    for name, preset in (("safe", Pipeline.safe), ("lean", Pipeline.lean)):
        found += [memctx(name, preset(budget)) for budget in budgets]
    return found


def compare(files: Sequence[Path], runs: int, chosen: Sequence[Manager]) -> list[Line]:
    """The same runs, the first `runs` of each file, through each manager."""
    totals = [Tally() for _ in chosen]
    for file in files:
        for run in islice(load(file), runs):
            seen = sizes()
            for number, manager in enumerate(chosen):
                totals[number] += measured(run, manager, seen)
        note(f"{file.name}: {totals[0].calls} calls so far")
    whole = totals[0].money
    return [line(manager, total, whole) for manager, total in zip(chosen, totals, strict=True)]


def line(manager: Manager, total: Tally, whole: dict[str, float]) -> Line:
    """A row of the table."""
    return Line(
        manager.name,
        manager.setting,
        total.calls,
        round(total.kept / max(1, total.grounded), 4),
        round(total.shown / max(1, total.whole), 4),
        {price: round(paid / whole[price], 4) for price, paid in total.money.items()},
        total.peak,
        total.rewrites,
        total.violations,
        round(1e3 * total.seconds / max(1, total.calls), 3),
    )


def table(lines: Sequence[Line]) -> str:
    """The lines as Markdown."""
    head = ["manager", "setting", "recall", "share", *lines[0].money, "peak", "rewrites", "violations", "ms/call"]
    rows = [
        [
            *(x.manager, x.setting, f"{x.recall:.3f}", f"{x.share:.3f}"),
            *(f"{paid:.3f}" for paid in x.money.values()),
            *(f"{x.peak:,}", str(x.rewrites), str(x.violations), f"{x.ms:.2f}"),
        ]
        for x in lines
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def note(text: str) -> None:
    sys.stderr.write(text + "\n")


def main_table(given: argparse.Namespace) -> None:
    """The comparison, to stdout and into `--out`."""
    from benchmarks._plots import write_plots

    files = load_dir([given.data / "trajectories"])
    lines = compare(files, given.runs, managers(given.budgets))
    text = table(lines)
    sys.stdout.write(text + "\n")
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "context.md").write_text(text + "\n", encoding="utf-8")
    (given.out / "context.json").write_text(json.dumps([asdict(x) for x in lines], indent=1) + "\n", encoding="utf-8")
    points = [(x.manager, x.setting, x.money[given.price], x.recall) for x in lines]
    for word in write_plots(points, given.price, given.out):
        note(word)


def main_threads(given: argparse.Namespace) -> None:
    """Long threads at equal peak: a line a thread and budget, then the sums a budget."""
    runs = threads(given.data, given.calls)[given.skip :: given.every]
    found: list[Compared] = []
    for one in compare_all(runs, given.budgets, given.price):
        found.append(one)
        sys.stdout.write(thread_line(one) + "\n")
        sys.stdout.flush()
    for budget in given.budgets:
        sys.stdout.write(summed([one for one in found if one.budget == budget]) + "\n")


def thread_line(one: Compared) -> str:
    """One thread: ratios, peaks (no edit, LangChain, memctx), recall (LangChain, memctx)."""
    peaks, recall = "/".join(map(str, one.peak)), "/".join(f"{r:.3f}" for r in one.recall)
    ratios = f"{one.to_no_edit:.3f} x no edit, {one.to_langchain:.3f} x LangChain"
    return f"{one.thread:24} {one.calls} calls, budget {one.budget}: {ratios}, peaks {peaks}, recall {recall}"


def summed(some: Sequence[Compared]) -> str:
    """All threads of a budget: money over money, and the worst thread."""
    none, theirs, ours = (sum(one.money[i] for one in some) for i in range(3))
    worst = max(one.to_no_edit for one in some), max(one.to_langchain for one in some)
    broken = sum(one.violations for one in some)
    recall = [sum(one.recall[i] for one in some) / len(some) for i in range(2)]
    head = f"budget {some[0].budget}: {len(some)} threads, {min(one.calls for one in some)} calls or more; "
    money = f"money {none:.0f} no edit, {theirs:.0f} LangChain, {ours:.0f} memctx"
    ratios = f"memctx is {ours / none:.3f} x no edit (worst {worst[0]:.3f}), {ours / theirs:.3f} x LangChain (worst {worst[1]:.3f})"
    above = sum(one.peak[1] > 1.05 * one.peak[2] for one in some)
    kept = f"mean recall {recall[0]:.3f} LangChain, {recall[1]:.3f} memctx"
    return f"{head}{money}; {ratios}; {kept}; {broken} violations; LangChain's peak over ours by 5 % or more in {above}"


def main_safe(given: argparse.Namespace) -> None:
    """Preset safe on every file at every price shape; the last line names the worst."""
    worst = (0.0, "", "")
    paths = [given.data / "trajectories"]
    for row in replay(paths, {"safe": Pipeline.safe()}, limit=given.runs, jobs=given.jobs):
        worst = max([worst, *((money, row.file, price) for price, money in row.money.items())])
        cells = ", ".join(f"{price} {money:.3f}" for price, money in row.money.items())
        sys.stdout.write(f"{row.file}: {cells}; recall {row.recall:.3f}\n")
        sys.stdout.flush()
    sys.stdout.write(f"worst: {worst[0]:.4f} x no edit, {worst[1]}, {worst[2]}\n")


def numbers(text: str) -> list[int]:
    """A comma list of integers."""
    return [int(part) for part in text.split(",")]


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--threads", action="store_true", help="long threads at equal peak")
    parser.add_argument("--safe", action="store_true", help="preset safe on every file at every price")
    parser.add_argument("--runs", type=int, help="at most so many runs a file [default: 5 for the table, else all]")
    parser.add_argument(
        "--budgets", type=numbers, help="tokens, a comma list; with --threads 0 is LangChain's smallest peak"
    )
    parser.add_argument("--calls", type=int, default=200, help="model calls that a long thread has at least")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many threads")
    parser.add_argument("--every", type=int, default=1, help="of the others take every so many-th")
    parser.add_argument("--price", choices=list(PRICES), default="anthropic-5m", help="price of plot and threads")
    parser.add_argument("--jobs", type=int, help="processes of --safe [default: one a core]")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("out"))
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    given = options().parse_args(arguments)
    given.budgets = given.budgets or [4_000, 8_000, 16_000]
    if given.threads:
        main_threads(given)
    elif given.safe:
        main_safe(given)
    else:
        given.runs = given.runs or 5
        main_table(given)


if __name__ == "__main__":
    main()
