"""What the demo prints: figures as data, as a table, and a small plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from memctx._demo.agent import PRICE, WINDOW, Outcome
from memctx.pricing import PRICES

BARS = " ▁▂▃▄▅▆▇█"
WIDTH = 66


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The comparison as data for JSON. Tokens; money in units of one uncached input token."""
    price = PRICES[PRICE]
    return {
        "window": WINDOW,
        "price": {"name": price.name, "write": price.write, "read": price.read},
        "runs": [_figures(outcome, outcomes[-1].money) for outcome in outcomes],
    }


def _figures(outcome: Outcome, whole: float) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "questions": outcome.questions,
        "answered": outcome.answered,
        "wrong": outcome.wrong,
        "overflowed": bool(outcome.refused),
        "model_calls": len(outcome.sizes),
        "peak_tokens": max(outcome.sizes, default=0),
        "input_tokens": sum(outcome.sizes),
        "money": round(outcome.money),
        "money_ratio": round(outcome.money / whole, 4),
        "cache_share": round(outcome.cache_share, 4),
        "invalid_requests": outcome.invalid,
        "reopened": outcome.reopened,
        "request_tokens": list(outcome.sizes),
    }


def printed(outcomes: Sequence[Outcome]) -> None:
    """The table and the plot, on stdout."""
    console = Console()
    price = PRICES[PRICE]
    table = Table(
        title=f"One agent, {len(outcomes[-1].sizes)} model calls, a window of {WINDOW:,} tokens", title_justify="left"
    )
    table.add_column("")
    for name in ("answered", "wrong", "peak tokens", "money", "of no edit", "cache share", "invalid"):
        table.add_column(name, justify="right")
    for outcome in outcomes:
        ratio = "-" if outcome.refused else f"{outcome.money / outcomes[-1].money:.2f}"
        cells = (f"{outcome.answered}/{outcome.questions}", str(outcome.wrong), f"{max(outcome.sizes, default=0):,}")
        costs = (f"{outcome.money:,.0f}", ratio, f"{outcome.cache_share:.0%}", str(outcome.invalid))
        table.add_row(outcome.name, *cells, *costs)
    console.print(table)
    console.print(f"money: uncached input tokens; cache writes cost {price.write}, reads {price.read}", style="dim")
    longest = max(len(outcome.sizes) for outcome in outcomes)
    for outcome in outcomes:
        console.print(f"\n{outcome.name}{_ending(outcome)}", style="bold", highlight=False)
        console.print(_plot(outcome, longest), highlight=False)
    console.print(f"\nrequest size, call by call; a full bar is {WINDOW:,} tokens, + is more", style="dim")


def _ending(outcome: Outcome) -> str:
    if outcome.refused:
        return f": stopped at call {len(outcome.sizes) + 1}, a request of {outcome.refused:,} tokens"
    return f": {outcome.reopened} results reopened" if outcome.reopened else ""


def _plot(outcome: Outcome, calls: int) -> str:
    """A bar a group of calls: the largest request of the group."""
    group = -(-calls // WIDTH)
    parts = [outcome.sizes[at : at + group] for at in range(0, len(outcome.sizes), group)]
    return "".join(_bar(max(part)) for part in parts) + ("✗" if outcome.refused else "")


def _bar(tokens: int) -> str:
    return "+" if tokens > WINDOW else BARS[max(1, round(tokens / WINDOW * (len(BARS) - 1)))]
