"""`memctx tools`: what recorded runs say about tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from memctx.graphs._pairs import Pair
    from memctx.graphs.tool_graph import ToolGraph

SHOWN = 20  # transitions printed

app = typer.Typer(help="What recorded runs say about tools.", no_args_is_help=True)


@app.callback()
def _root() -> None:
    pass


@app.command()
def graph(
    runs: Annotated[list[Path], typer.Argument(help="Files of recorded runs, or folders of them.")],
    html: Annotated[Path | None, typer.Option(help="Write a picture to this file; it needs no network.")] = None,
    graphml: Annotated[
        Path | None, typer.Option(help="Write the graph to this file: other programs draw it, next_tool reads it.")
    ] = None,
    min_count: Annotated[int, typer.Option(min=1, help="Leave out what was seen less often; GraphML has all.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Machine-readable output, every transition.")] = False,
) -> None:
    """Which tool follows which in runs that ended well. Runs that state no outcome count as good."""
    from memctx._cli import show
    from memctx.graphs._pairs import pairs
    from memctx.graphs.tool_graph import ToolGraph

    learned = ToolGraph()
    facts = _learn(learned, runs, quiet=json)
    found = [pair for pair in pairs(learned) if pair.count >= min_count]
    facts |= {"tools": len(learned.tools), "transitions": len(found)}
    _write(learned, found, html, graphml)
    if json:
        edges = [{"from": p.u, "to": p.v, "count": p.count, "weight": p.weight, "share": p.share} for p in found]
        show.as_json({**facts, "edges": edges})
        return
    typer.echo(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in facts.items()))
    _print(found[:SHOWN])
    for path in filter(None, (html, graphml)):
        typer.echo(f"wrote {path}")


def _learn(learned: ToolGraph, files: list[Path], *, quiet: bool) -> dict[str, int]:
    """Learn every run; how many were read, and how many of them learned. Raises `ConfigError` where no run has a call."""
    from memctx._cli import show
    from memctx.errors import ConfigError, InvalidMessage
    from memctx.graphs._visits import visits
    from memctx.runs import load, load_dir

    read = taken = 0
    paths = load_dir(files)
    with show.progress(quiet=quiet) as watch:
        for done, path in enumerate(paths, 1):
            for run in load(path):
                read += 1
                try:
                    called = visits(run.messages)
                except InvalidMessage as cause:
                    raise InvalidMessage(f"{path}, run {read}: {cause}", code=cause.code, index=cause.index) from cause
                taken += bool(learned.learn(called, reward=1.0 if run.reward is None else run.reward))
            watch("files", done, len(paths))
    if not taken:
        text = f"none of {read} run(s) ended well and called a tool: there is nothing to draw"
        raise ConfigError(text, code="no_calls", runs=read)
    return {"runs": read, "learned": taken}


def _write(learned: ToolGraph, found: list[Pair], html: Path | None, graphml: Path | None) -> None:
    from memctx.errors import ConfigError

    if html is not None:
        from memctx.graphs._picture import picture

        try:
            html.write_text(picture(found, html.stem), encoding="utf-8", errors="backslashreplace")
        except OSError as cause:
            raise ConfigError(f"cannot write {html}: {cause.strerror}", field="html", path=str(html)) from cause
    if graphml is not None:
        from memctx.graphs import _graphml

        _graphml.write(learned, graphml)


def _print(found: list[Pair]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from memctx.graphs._plain import label

    table = Table(box=box.SIMPLE)
    columns: dict[str, Any] = {"after": {}, "comes": {}, "times": {"justify": "right"}, "share": {"justify": "right"}}
    for name, style in columns.items():
        table.add_column(name, **style)
    for pair in found:
        table.add_row(Text(label(pair.u)), Text(label(pair.v)), f"{pair.count:g}", f"{pair.share:.0%}")
    Console().print(table)
