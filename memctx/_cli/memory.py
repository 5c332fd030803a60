"""`memctx memory`: look into the memory of a store, take it out, erase it, check it, embed it anew."""

from __future__ import annotations

import json as json_
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memctx.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from memctx.memory import Memory
    from memctx.records import Hit
    from memctx.scoped import Scoped

app = typer.Typer(help="The memory in a store.", no_args_is_help=True)

Store = Annotated[
    str, typer.Option("--store", help="Path or URL of the store.", envvar="MEMCTX_STORE", show_default=False)
]
Scope = Annotated[
    list[str],
    typer.Option("--scope", help="acme/ana, or --scope acme --scope ana. A / inside a part is %2F, a % is %25."),
]
Made = Annotated[str, typer.Option("--embedder", help="Embedder that the memory is searched with.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    store: Store,
    scope: Scope,
    k: Annotated[int, typer.Option("-k", help="At most so many records.")] = 10,
    kind: Annotated[list[str] | None, typer.Option(help="Only such records; repeatable. [default: all kinds]")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say what made up each score.")] = False,
    embedder: Made = "default",
    json: Json = False,
) -> None:
    """Find records of one scope by meaning and words, best first."""
    kinds: Any = tuple(kind or ())
    with _opened(store, embedder) as memory:
        place = _at(memory, scope)
        hits = place.search(query, k=k, kinds=kinds, explain=explain)
        _note_embedder(memory, place.scope)
    for hit in hits:
        if json:
            _line({"score": hit.score, **({"parts": dict(hit.parts)} if explain else {}), **hit.record.to_dict()})
        else:
            typer.echo(_shown(hit))
    if not json:
        typer.echo(f"{len(hits)} record(s)")


@app.command()
def export(store: Store, scope: Scope, json: Json = False) -> None:
    """Write everything about a scope and those below it: one JSON object a line, its table under `table`."""
    from memctx._cli.show import progress

    out = sys.stdout  # as it is before a bar takes the terminal
    with _opened(store) as memory, progress(quiet=out.isatty()) as watch:
        place = _at(memory, scope)
        total = _rows(memory, place.scope)
        for done, row in enumerate(place.export(), 1):
            out.write(json_.dumps(row) + "\n")  # escaped, as a text may hold what is no Unicode
            if done % 1000 == 0:
                watch("rows", done, total)


@app.command()
def erase(
    store: Store,
    scope: Scope,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: it cannot be undone.")] = False,
    json: Json = False,
) -> None:
    """Remove a scope and those below it everywhere, look for what is left, and tell. Exit code 1 if anything is."""
    with _opened(store) as memory:
        place = _at(memory, scope)
        if not yes:
            rows = _rows(memory, place.scope)
            text = f"{rows} row(s) of {place.scope} and below would be gone for good: say so with --yes"
            raise ConfigError(text, code="not_confirmed", rows=rows)
        receipt = place.erase()
    if json:
        _line({**asdict(receipt), "removed": dict(receipt.removed), "complete": receipt.complete})
    else:
        removed = ", ".join(f"{count} {name}" for name, count in receipt.removed.items() if count) or "nothing"
        typer.echo(
            f"{receipt.scope}: removed {removed}; looked for {receipt.probes} text(s) in {len(receipt.files)} file(s)"
        )
        for each in (*receipt.left, *receipt.notes):
            typer.echo(f"{'left' if each in receipt.left else 'note'}: {each}")
    raise typer.Exit(0 if receipt.complete else 1)


@app.command()
def verify(store: Store, embedder: Made = "default", json: Json = False) -> None:
    """Say what is wrong with a store and with the index beside it. Exit code 1 if anything."""
    try:
        with _opened(store, embedder) as memory:
            problems = memory.verify()
    except StoreError as damage:
        if damage.code != "store_corrupt":
            raise
        problems = [str(damage)]
    if json:
        _line({"store": _name(store), "problems": problems})
    else:
        for each in problems:
            typer.echo(each)
        typer.echo(f"{_name(store)}: {len(problems)} problem(s)")
    raise typer.Exit(1 if problems else 0)


@app.command()
def reembed(
    store: Store,
    embedder: Annotated[str, typer.Option("--embedder", help="The new embedder.", show_default=False)],
    json: Json = False,
) -> None:
    """Give every record a vector of another embedder. Stopped at any point, it goes on where it was."""
    from memctx._cli.show import progress

    with _opened(store) as memory, progress(quiet=json) as watch:
        made = memory.reembed(embedder, progress=lambda done, total: watch("records", done, total))
        name = memory.embedder.name
    if json:
        _line({"store": _name(store), "embedder": name, "embedded": made})
    else:
        typer.echo(f"{_name(store)}: {made} record(s) embedded by {name}")


@contextmanager
def _opened(store: str, embedder: str = "default") -> Iterator[Memory]:
    """The memory of a store that is there: a mistyped path must not make one."""
    from memctx.embed import embedder as made
    from memctx.memory import Memory
    from memctx.stores._where import located

    chosen, place = made(embedder), located(store)
    if place.dialect == "sqlite" and (place.file is None or not place.file.exists()):
        raise ConfigError(f"there is no store at {place}: look at the path", field="store", store=str(place))
    with Memory(store, embedder=chosen) as memory:
        yield memory


def _at(memory: Memory, scope: Sequence[str]) -> Scoped:
    """The scope that was given on the command line. Raises `ScopeError`."""
    from memctx.scope import parts

    return memory.at(*(part for given in scope for part in parts(f"{given.removesuffix('/')}/")))


def _rows(memory: Memory, scope: str) -> int:
    """Rows that an export of the scope has."""
    from sqlalchemy import func, select

    from memctx.scope import below
    from memctx.stores._tables import document, history, record, span, trace

    first, after = below(scope)

    def work(conn: Any) -> int:
        tables = (record, history, span, document, trace)
        inside = (select(func.count()).select_from(t).where(t.c.scope >= first, t.c.scope < after) for t in tables)
        return sum(conn.scalar(query) or 0 for query in inside)

    return memory.store.read(work)


def _note_embedder(memory: Memory, scope: str) -> None:
    """Say so where the scope was embedded by others only: then words alone were searched."""
    from sqlalchemy import select

    from memctx._cli.show import note
    from memctx.stores._tables import embedding

    query = select(embedding.c.embedder).where(embedding.c.scope == scope).distinct()
    names = memory.store.read(lambda conn: list(conn.scalars(query)))
    if names and memory.embedder.name not in names:
        note(f"no vectors by {memory.embedder.name} here, only by {', '.join(names)}: words alone were searched")


def _shown(hit: Hit) -> str:
    """One line, and what made up the score."""
    record = hit.record
    day = datetime.fromtimestamp(record.valid_from, UTC).date()
    parts = "".join(f"\n    {name} {share:.4f}" for name, share in hit.parts.items())
    return f"{hit.score:.4f}  {record.id}  {record.kind}, trust {record.trust}, {day}: {' '.join(record.text.split())}{parts}"


def _name(store: str) -> str:
    """A store as it may be shown: without a password."""
    from memctx.stores._where import located

    return str(located(store))


def _line(value: Any) -> None:
    from memctx._cli.show import as_json

    as_json(value)
