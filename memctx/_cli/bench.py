"""`memctx bench`: what can be measured without a model and without a key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Measure on public data; no model is called.", no_args_is_help=True)


@app.command()
def memory(
    path: Annotated[Path, typer.Argument(help="A file of the data set, .json or .jsonl, gzipped or not.")],
    dataset: Annotated[str, typer.Option(help="locomo, beam or realmem.")],
    methods: Annotated[
        str, typer.Option(help="Comma list: bm25, dense, fused, memctx, memctx-words, memctx-no-neighbours, ...")
    ] = "bm25,dense,fused,memctx",
    k: Annotated[str, typer.Option(help="Comma list of how many records are looked at.")] = "5,10,20",
    embedder: Annotated[
        str, typer.Option(help="default, minilm, sentence-transformers:NAME, openai:MODEL.")
    ] = "default",
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Evidence recall of memory on a public set of long conversations."""
    from memctx._bench.memory import bench
    from memctx._cli import show
    from memctx.embed import embedder as embedder_for
    from memctx.errors import ConfigError

    try:
        ks = sorted({int(each) for each in k.split(",")})
    except ValueError as cause:
        raise ConfigError(f"k = {k!r}: give whole numbers with commas between them", field="k") from cause
    names = [name.strip() for name in methods.split(",") if name.strip()]
    chosen = embedder_for(embedder)
    with show.progress(quiet=json) as watch:
        for line in bench(dataset, path, names, ks, chosen, watch):
            if json:
                show.as_json(line.to_dict())
            else:
                typer.echo(
                    f"{line.dataset:8} {line.method:22} @{line.k:<3} {line.recall:.3f}  {line.ms_per_query:.2f} ms  n={line.n}"
                )
