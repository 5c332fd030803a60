"""The command line: `memctx check | replay | demo | db | memory | tools | train | bench`. Results on stdout, progress and notes on stderr.

Exit code 0: done; 1: `check` found violations; 2: what was asked for cannot be done, said in one line.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from memctx._cli import bench, memory, tools, train
from memctx.errors import MemctxError

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]

app = typer.Typer(
    help="Memory and context management for LLM agents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
database = typer.Typer(help="The database of a store.", no_args_is_help=True)
app.add_typer(database, name="db")
app.add_typer(memory.app, name="memory")
app.add_typer(tools.app, name="tools")
app.add_typer(train.app, name="train")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """The entry point."""
    try:
        app()
    except MemctxError as error:
        sys.stderr.write(f"memctx: {' '.join(str(error).split())}\n")
        sys.exit(2)


def _version(wanted: bool) -> None:
    if wanted:
        from memctx import __version__

        typer.echo(f"memctx {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="JSON or JSONL: messages, or request bodies.")],
    provider: Annotated[str, typer.Option(help="openai-chat, openai-responses, anthropic or gemini.")] = "openai-chat",
    json: Json = False,
) -> None:
    """Say what a provider would refuse in a request. Exit code 1 if anything."""
    from memctx._cli.requests import read_requests
    from memctx._cli.show import as_json
    from memctx.validity import check as check_request

    found: list[dict[str, Any]] = []
    requests = read_requests(file)
    for number, request in enumerate(requests):
        context: dict[str, Any] = {"system": request.system, "tools": request.tools}
        broken = check_request(request.messages, provider, server_history=request.server_history, **context)
        fields = ("rule", "index", "message", "remedy")
        found += [{"request": number, **{name: getattr(each, name) for name in fields}} for each in broken]
    if json:
        as_json({"file": str(file), "provider": provider, "requests": len(requests), "violations": found})
    else:
        for each in found:
            where = f"request {each['request']}, " if len(requests) > 1 else ""
            typer.echo(f"{where}message {each['index']}: {each['rule']}: {each['message']}. {each['remedy']}")
        typer.echo(f"{len(found)} violations in {len(requests)} request(s), {provider}")
    raise typer.Exit(1 if found else 0)


@app.command()
def replay(
    paths: Annotated[list[Path], typer.Argument(help="Files of recorded runs, or folders of them.")],
    strategies: Annotated[
        str, typer.Option(help="Comma list: presets (safe, lean), TOML files, names of strategies.")
    ] = "safe,lean",
    budget: Annotated[int | None, typer.Option(min=1, help="Tokens a view may have. [default: 128000]")] = None,
    price: Annotated[str, typer.Option(help="Price shape that decides the columns other than money.")] = "openai",
    format: Annotated[str, typer.Option(help="Format of the files, or auto.")] = "auto",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many runs a file.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes. [default: one a core]")] = None,
    json: Json = False,
) -> None:
    """Put recorded runs through pipelines: what each would have kept, cost and broken."""
    from rich.console import Console

    from memctx._cli import show
    from memctx._cli.pipelines import parse
    from memctx.replay import Row, Skipped
    from memctx.replay import replay as replayed

    def skipped(skip: Skipped) -> None:
        show.note(f"left out: run {skip.run} by {skip.pipeline}: {skip.why}")

    pipelines = parse(strategies, budget, price)
    rows: list[Row] = []
    options: dict[str, Any] = {"price": price, "format": format, "limit": limit, "jobs": jobs}
    with show.progress(quiet=json) as watch:
        for row in replayed(paths, pipelines, watch=watch, skipped=skipped, **options):
            if json:
                show.as_json(row.to_dict())
                continue
            rows.append(row)
            if len(rows) == len(pipelines):
                Console().print(show.replay_table(row.file, rows))
                rows = []


@app.command()
def demo(
    calls: Annotated[int, typer.Option(min=1, hidden=True)] = 130,
    json: Json = False,
) -> None:
    """A real agent reads the Python standard library under three ways of managing a 32k window. Needs no key."""
    from memctx._cli import show
    from memctx._demo import compare
    from memctx._demo.report import figures, printed

    with show.progress(quiet=json) as watch:
        runs = compare(calls, watch)
    if json:
        show.as_json(figures(runs))
    else:
        printed(runs)


@database.command()
def upgrade(
    url: Annotated[str, typer.Argument(help="Path or URL of a store.", envvar="MEMCTX_STORE", show_default=False)],
    json: Json = False,
) -> None:
    """Bring a store to the newest schema, whole or not at all."""
    from memctx._cli import stores

    stores.upgrade(url, json=json)


if __name__ == "__main__":
    main()
