"""`memctx bench`: what can be measured without a model and without a key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Measure on public data; no model is called.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Methods = Annotated[str, typer.Option(help="Comma list of methods. [default: all that need nothing extra]")]
Train = Annotated[Path, typer.Option(help="Folder to learn from, laid out as the public slice.")]
Test = Annotated[
    Path, typer.Option(help="Folder to measure on; one given twice is split: a third of the tasks is tested.")
]
Embedder = Annotated[str, typer.Option(help="default, minilm, sentence-transformers:NAME, openai:MODEL.")]


@app.command()
def memory(
    path: Annotated[Path, typer.Argument(help="A file of the data set, .json or .jsonl, gzipped or not.")],
    dataset: Annotated[str, typer.Option(help="locomo, beam or realmem.")],
    methods: Annotated[
        str, typer.Option(help="Comma list: bm25, dense, fused, memctx, memctx-words, memctx-no-neighbours, ...")
    ] = "bm25,dense,fused,memctx",
    k: Annotated[str, typer.Option(help="Comma list of how many records are looked at.")] = "5,10,20",
    embedder: Embedder = "default",
    json: Json = False,
) -> None:
    """Evidence recall of memory on a public set of long conversations."""
    from memctx._bench.memory import bench
    from memctx._cli import show
    from memctx.embed import embedder as embedder_for

    with show.progress(quiet=json) as watch:
        _print(bench(dataset, path, _names(methods), _counts(k), embedder_for(embedder), watch), json)


@app.command()
def tools(
    path: Annotated[Path, typer.Argument(help="Folder of tool catalogues with their queries.")],
    methods: Annotated[
        str,
        typer.Option(help="Comma list; also memctx-minilm, and memctx-used, which learns from half of the queries."),
    ] = "bm25,dense,fused,bigtool,memctx",
    k: Annotated[str, typer.Option(help="Comma list of how many tools are looked at.")] = "5,10",
    datasets: Annotated[str, typer.Option(help="Comma list.")] = "toolbench,livemcp,sealtools,metatool",
    json: Json = False,
) -> None:
    """Recall of the tools that a request needs, over public catalogues."""
    from memctx._bench.tools import bench
    from memctx._cli import show

    with show.progress(quiet=json) as watch:
        _print(bench(path, _names(methods), _counts(k), _names(datasets), watch), json)


@app.command()
def graph(train: Train, test: Test, methods: Methods = "", json: Json = False) -> None:
    """Next-tool prediction from what came before, on recorded runs of unseen tasks."""
    from memctx._bench.graph import bench
    from memctx._cli import show

    with show.progress(quiet=json) as watch:
        _print(bench(train, test, _names(methods), watch), json)


@app.command()
def experience(train: Train, test: Test, methods: Methods = "", json: Json = False) -> None:
    """Next-action prediction with the experience of other runs, on recorded runs of unseen tasks."""
    from memctx._bench.experience import bench
    from memctx._cli import show

    with show.progress(quiet=json) as watch:
        _print(bench(train, test, _names(methods), watch), json)


@app.command()
def policy(
    paths: Annotated[list[Path], typer.Argument(help="Files of recorded runs that it was not taught on, or folders.")],
    policy: Annotated[str, typer.Option(help="default, or a folder that `memctx train keep` wrote.")] = "default",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many runs a file.")] = None,
    json: Json = False,
) -> None:
    """Recall at equal money of a policy that was learned, beside the rules and an oracle that sees the future."""
    from memctx._bench.policy import bench
    from memctx._cli import show

    with show.progress(quiet=json) as watch:
        for line in bench(policy, paths, limit=limit, watch=watch):
            if json:
                show.as_json(line)
            else:
                typer.echo("  ".join(f"{name} {value}" for name, value in line.items()))


def _print(lines: Iterable[Any], json: bool) -> None:
    """Each line as soon as it is known."""
    from memctx._cli import show

    for fields in map(asdict, lines):
        if json:
            show.as_json(fields)
        else:
            head = f"{fields.pop('dataset'):16} {fields.pop('method'):24}"
            typer.echo("  ".join([head, *(f"{name} {value}" for name, value in fields.items())]))


def _names(methods: str) -> list[str]:
    return [name.strip() for name in methods.split(",") if name.strip()]


def _counts(k: str) -> list[int]:
    from memctx.errors import ConfigError

    try:
        return sorted({int(each) for each in k.split(",")})
    except ValueError as cause:
        raise ConfigError(f"k = {k!r}: give whole numbers with commas between them", field="k") from cause
