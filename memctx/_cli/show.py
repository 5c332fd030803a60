"""Printing: results on stdout, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from memctx.replay import Row

Watch = Callable[[str, int, int], None]


def as_json(value: Any) -> None:
    """One JSON value on one line of stdout, at once, so that a reader need not wait for the end."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"memctx: {text}\n")


@contextmanager
def progress(quiet: bool) -> Iterator[Watch]:
    """`watch(label, done, total)` draws a bar on stderr; nothing where that is no terminal, or `quiet`."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def watch(label: str, done: int, total: int) -> None:
            if label not in tasks:
                for finished in tasks.values():
                    bars.update(finished, visible=False)
                tasks[label] = bars.add_task(label, total=total)
            bars.update(tasks[label], completed=done)

        yield watch


def replay_table(file: str, rows: Sequence[Row]) -> Table:
    """One file: a row a pipeline."""
    table = Table(title=f"{file}: {rows[0].calls} calls", title_justify="left")
    table.add_column("pipeline")
    for name in ("recall", "reachable", "share", "peak", "rewrites", "violations", "ms/call"):
        table.add_column(name, justify="right")
    table.add_column("money, no edit = 1")
    for row in rows:
        quality = (f"{row.recall:.3f}", f"{row.reachable:.3f}", f"{row.share:.3f}", f"{row.peak_tokens:,}")
        costs = "  ".join(f"{price} {ratio:.2f}" for price, ratio in row.money.items())
        figures = (str(row.prefix_rewrites), str(row.violations), f"{row.ms_per_call:.2f}")
        table.add_row(row.pipeline, *quality, *figures, costs)
    return table
