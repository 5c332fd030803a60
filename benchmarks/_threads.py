"""Long threads: consecutive recorded tasks of one domain joined, as one customer desk would have them in one session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._peers import clear_tool_uses
from benchmarks._walk import keep_all, measured, memctx, sizes
from memctx._replay import Seen, Tally
from memctx.pipeline import Pipeline
from memctx.pricing import PRICES
from memctx.runs import Run, load

POLICIES = {  # file of recorded runs -> the policy that its agent had as system text, where the record leaves it out
    "tau1_airline_gpt4o": "v1_airline_policy.md",
    "tau1_retail_grok3": "v1_retail_policy.md",
    "tau2_airline": "tau2_airline_policy.md",
    "tau2_retail": "tau2_retail_policy.md",
}
SEARCHES = 14  # trials for the trigger at which LangChain's peak equals ours


def threads(data: Path, calls: int) -> list[Run]:
    """Threads of at least `calls` model calls: each ends with the task that reaches the number; a short rest is left out."""
    found: list[Run] = []
    for name, policy in POLICIES.items():
        parts: list[Run] = []
        system = {"role": "system", "content": (data / "taubench" / policy).read_text(encoding="utf-8")}
        for run in load(data / "trajectories" / f"{name}.jsonl.gz"):
            parts.append(run)
            if sum(_calls(part) for part in parts) >= calls:
                found.append(joined(parts, system, f"{name}-{len(found)}"))
                parts = []
    return found


def _calls(run: Run) -> int:
    return sum(message["role"] == "assistant" for message in run.messages)


def joined(parts: Sequence[Run], system: dict[str, Any], name: str) -> Run:
    """One run: the first part's system text (or `system`) once, then every part's other messages, call ids made unique."""
    first = parts[0].messages[0]
    messages = [first if first["role"] == "system" else system]
    for number, part in enumerate(parts):
        messages += [_renamed(message, number) for message in part.messages if message["role"] != "system"]
    return Run(name, messages, parts[0].tools)


def _renamed(message: dict[str, Any], number: int) -> dict[str, Any]:
    if message["role"] == "tool":
        return {**message, "tool_call_id": _id(message["tool_call_id"], number)}
    if message.get("tool_calls"):
        return {**message, "tool_calls": [{**call, "id": _id(call["id"], number)} for call in message["tool_calls"]]}
    return message


def _id(call_id: str, number: int) -> str:
    return f"{call_id[-32:]}-{number}"


@dataclass(frozen=True, slots=True)
class Compared:
    """One thread at one budget (0: see `compare_all`). Money in units of one uncached input token; recall of grounded arguments."""

    thread: str
    calls: int
    budget: int
    trigger: int
    money: tuple[float, float, float]  # no edit, LangChain, memctx
    peak: tuple[int, int, int]
    recall: tuple[float, float]  # LangChain, memctx
    violations: int

    @property
    def to_no_edit(self) -> float:
        return self.money[2] / self.money[0]

    @property
    def to_langchain(self) -> float:
        return self.money[2] / self.money[1]


def compared(run: Run, budget: int, price: str, pipeline: Pipeline, seen: Seen | None = None) -> Compared:
    """No edit, LangChain's clearing at our measured peak, and `pipeline` on one thread."""
    seen = seen or sizes()
    whole = measured(run, keep_all(), seen, [price])
    ours = measured(run, memctx("safe", pipeline), seen, [price])
    trigger, theirs = equal_peak(run, ours.peak, seen, price)
    return Compared(
        run.id,
        whole.calls,
        budget,
        trigger,
        (whole.money[price], theirs.money[price], ours.money[price]),
        (whole.peak, theirs.peak, ours.peak),
        (_recall(theirs), _recall(ours)),
        ours.violations,
    )


def equal_peak(run: Run, peak: int, seen: Seen, price: str) -> tuple[int, Tally]:
    """The trigger at which LangChain's peak comes nearest to `peak`, and its tally there."""
    low, high = 0, 2 * peak
    best: tuple[int, Tally] | None = None
    for _ in range(SEARCHES):
        trigger = (low + high) // 2
        tally = measured(run, clear_tool_uses(trigger), seen, [price])
        if best is None or abs(tally.peak - peak) < abs(best[1].peak - peak):
            best = trigger, tally
        if tally.peak > peak:
            high = trigger
        elif tally.peak < peak:
            low = trigger
        if tally.peak == peak or high - low <= 32:
            break
    if best is None:
        raise AssertionError("at least one trial was made")
    return best


def _recall(tally: Tally) -> float:
    return tally.kept / tally.grounded if tally.grounded else 1.0


def compare_all(runs: Sequence[Run], budgets: Sequence[int], price: str, **settings: Any) -> Iterator[Compared]:
    """Every thread at every budget, preset safe. `settings` go to the pipeline.

    Budget 0 stands for the smallest peak that LangChain's clearing can reach on the thread, so that peaks can be equal.
    """
    for run in runs:
        seen = sizes()
        for wanted in budgets:
            budget = wanted or measured(run, clear_tool_uses(0), seen, [price]).peak
            yield compared(run, wanted, price, Pipeline.safe(budget, price=PRICES[price], **settings), seen)
