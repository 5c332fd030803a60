"""`memctx train`: policies taught by recorded runs."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Teach policies from recorded runs.", no_args_is_help=True)


class Kind(StrEnum):
    """What a policy is made of."""

    mlp = "mlp"
    linear = "linear"


@app.command()
def keep(
    runs: Annotated[list[Path], typer.Argument(help="Files of recorded runs, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for weights and card.")],
    kind: Annotated[Kind, typer.Option(help="mlp or linear.")] = Kind.mlp,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many runs a file.")] = None,
    seed: Annotated[int, typer.Option(help="Of the weights at the start and the order of the data.")] = 0,
    note: Annotated[str, typer.Option(help="A sentence for the card: whose runs these are.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Teach what to keep. Exit code 2, and nothing saved, where the policy does not beat the rules on held-out tasks."""
    from rich.console import Console
    from rich.table import Table

    from memctx._cli import show
    from memctx.errors import require

    require("torch", extra="train")
    from memctx.train.keep import train_keep

    command = shlex.join(
        ["memctx", "train", "keep", *(path.name for path in runs), "--out", out.name, "--kind", kind.value]
    )
    about = {"command": command, **({"note": note} if note else {})}
    with show.progress(quiet=json) as watch:
        report = train_keep(runs, out, kind=kind.value, limit=limit, seed=seed, about=about, watch=watch)
    if json:
        show.as_json({"out": str(out), **report.to_dict()})
        return
    table = Table(title=f"{out}: held-out recall at equal money", title_justify="left")
    for name in ("file", "needs", "money", "rules", "weighed", "policy", "oracle", "closed"):
        table.add_column(name, justify="left" if name == "file" else "right")
    for each in report.files:
        figures = (each.money, each.rules, each.weighed, each.policy, each.oracle, each.closed)
        table.add_row(each.file, str(each.needs), *(f"{figure:.3f}" for figure in figures))
    Console().print(table)
    sys.stdout.write(f"mean closed {report.closed:.3f}; chosen: {report.chosen}; {report.seconds:.0f} s\n")


@app.command()
def presets() -> None:
    """Every algorithm that is here, as values of the same slots, in Markdown."""
    from memctx.errors import require

    require("torch", extra="train")
    from memctx.train._table import page

    typer.echo(page(), nl=False)
