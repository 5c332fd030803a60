"""Erasing a scope, and looking afterwards for what is left of it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Select, Table, and_, delete, func, select, tuple_

from memctx.records import Receipt
from memctx.scope import below
from memctx.stores._feed import say_erased
from memctx.stores._records import in_order
from memctx.stores._rows import unescaped
from memctx.stores._tables import (
    document,
    embedding,
    ending,
    history,
    item_vector,
    outbox,
    record,
    request,
    span,
    trace,
)

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from memctx.memory import Memory

TABLES: tuple[Table, ...] = (embedding, item_vector, ending, history, outbox, span, document, request, trace, record)
TEXTS = {record: record.c.text, history: history.c.text, span: span.c.content}
PROBES = 10_000  # texts of the scope that are looked for in the files afterwards
SHORTEST = 12  # bytes of a text that is worth looking for: shorter ones stand in other people's texts as well
LONGEST = 64
BLOCK = 1 << 22


def erase(memory: Memory, scope: str) -> Receipt:
    """Remove a scope and all below it from rows, vectors, words and files; read everything again and tell."""
    first, after = below(scope)
    probes, removed, line = memory.store.write(lambda conn: _remove(conn, first, after))
    removed |= memory.feed.erased(first, after, line)
    forget = getattr(memory.embedder, "clear", None)  # an embedder may keep the vectors of texts it saw
    if forget is not None:
        forget()
    memory.save()
    _drop_others(memory)
    files = [*memory.store.scrub(), *_index_files(memory)]
    counted = memory.store.read(lambda conn: _counts(conn, first, after))
    left = [f"{count} rows of table {name}" for name, count in counted.items() if count]
    left += [f"{count} vectors" for count in [memory.feed.index.count(scope)] if count]
    left += [f"a text in {file}" for file, texts in _found(files, probes).items() if _nobodys(memory, texts)]
    return Receipt(
        scope=scope,
        removed=removed,
        probes=len(probes),
        files=tuple(map(str, files)),
        left=tuple(left),
        notes=_out_of_reach(memory.store.dialect),
        at=memory.clock(),
    )


def _inside(table: Table, first: str, after: str) -> ColumnElement[bool]:
    return and_(table.c.scope >= first, table.c.scope < after)


def _remove(conn: Connection, first: str, after: str) -> tuple[list[bytes], dict[str, int], int]:
    probes: set[bytes] = set()
    for table, column in TEXTS.items():
        query = select(column).where(_inside(table, first, after), column.is_not(None)).limit(PROBES - len(probes))
        probes |= {probe for text in conn.scalars(query) if (probe := _probe(text))}
    removed = {table.name: conn.execute(delete(table).where(_inside(table, first, after))).rowcount for table in TABLES}
    in_order(conn)
    return sorted(probes), removed, say_erased(conn)


def _probe(text: str) -> bytes:
    """The first bytes of a text's first line, as any file would hold them; none where they are too few to mean anything."""
    head = text.lstrip().split("\n", 1)[0].encode()[:LONGEST]
    return head if len(head) >= SHORTEST and head.isascii() else b""


def _counts(conn: Connection, first: str, after: str) -> dict[str, int]:
    counts = ((t.name, select(func.count()).select_from(t).where(_inside(t, first, after))) for t in TABLES)
    return {name: conn.scalar(query) or 0 for name, query in counts}


def _found(files: Sequence[Path], probes: Sequence[bytes]) -> dict[Path, set[bytes]]:
    """Which of the texts stand in which file, read in blocks that overlap."""
    found: dict[Path, set[bytes]] = {}
    for file in files:
        tail = b""
        with (
            contextlib.suppress(FileNotFoundError),
            file.open("rb") as stream,
        ):  # an index may be written anew meanwhile
            while block := stream.read(BLOCK):
                held = tail + block
                found.setdefault(file, set()).update(probe for probe in probes if probe in held)
                tail = held[-LONGEST:]
    return found


def _nobodys(memory: Memory, texts: set[bytes]) -> bool:
    """Whether one of the texts is in no row any more; what another scope holds as well may stay."""

    def work(conn: Connection) -> bool:
        for text in texts:
            held = (select(column).where(func.instr(column, text.decode()) > 0).limit(1) for column in TEXTS.values())
            if not any(conn.execute(query).first() for query in held):
                return True
        return False

    return memory.store.read(work)


def _index_files(memory: Memory) -> list[Path]:
    folder: Path | None = getattr(memory.feed.index, "folder", None)
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder and folder.is_dir() else []


def _drop_others(memory: Memory) -> None:
    """Remove the folders of other embedders' indices: they are caches, and may hold vectors of the scope."""
    folder: Path | None = getattr(memory.feed.index, "folder", None)
    file = memory.store.file
    if folder is None or file is None or folder.parent.name != f"{file.name}.index":
        return
    for other in folder.parent.iterdir():
        if other != folder and other.is_dir() and not other.is_symlink():
            shutil.rmtree(other)


def _out_of_reach(dialect: str) -> tuple[str, ...]:
    notes = ["backups, the host's own checkpoints and logs, and what a model provider kept are not memctx's to erase"]
    if dialect == "postgresql":
        notes.append(
            "PostgreSQL keeps deleted rows in its files until VACUUM, and in its write-ahead log until it is recycled"
        )
    return tuple(notes)


def export(memory: Memory, scope: str) -> Iterator[dict[str, Any]]:
    """Every row of a scope and those below it, a page at a time; vectors are left out, as they follow from the texts."""
    first, after = below(scope)
    for table in (record, history, span, document, trace):
        last: Any = None
        while True:
            later = (
                _inside(table, first, after)
                if last is None
                else and_(_inside(table, first, after), _after(table, last))
            )
            query = select(table).where(later).order_by(*table.primary_key.columns).limit(1000)
            page = memory.store.read(partial(_page, query))
            yield from ({"table": table.name, **_as_it_was(row)} for row in page)
            if len(page) < 1000:
                break
            last = page[-1]


def _page(query: Select[Any], conn: Connection) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in conn.execute(query)]


def _as_it_was(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "content": unescaped(row["content"])} if "content" in row else row


def _after(table: Table, last: Mapping[str, Any]) -> ColumnElement[bool]:
    columns = list(table.primary_key.columns)
    return tuple_(*columns) > tuple_(*[last[column.name] for column in columns])
