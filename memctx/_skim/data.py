"""Skimming JSON data: fields for the index, and an outline that keeps every key and short value.

Records of one shape become a table: one header, one row each, a column with one value said once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 40
LONG = 100  # characters of one string value kept in an outline
ROWS = 12  # rows of a table kept whole in an outline


def leaves(value: Any) -> Iterator[tuple[str, str]]:
    """(nearest key, text) of every string and number, in order; a dict's keys come first when they are data."""
    stack: list[tuple[str, Any]] = [("", value)]
    while stack:
        key, item = stack.pop()
        if isinstance(item, str):
            yield key, item
        elif isinstance(item, dict):
            if _keyed_by_data(item):
                yield from ((key, name) for name in item)
                stack.extend((key, v) for v in reversed(item.values()))
            else:
                stack.extend((name, v) for name, v in reversed(item.items()))
        elif isinstance(item, list):
            stack.extend((key, v) for v in reversed(item))
        elif isinstance(item, (int, float)) and not isinstance(item, bool):
            yield key, str(item)


def _keyed_by_data(item: dict[str, Any]) -> bool:
    """Do the keys look like values (codes with digits, all pointing to containers) and not like field names?"""
    return bool(item) and all(isinstance(v, (dict, list)) for v in item.values()) and all(_coded(k) for k in item)


def _coded(name: str) -> bool:
    return any(c.isdigit() for c in name)


def outline(value: Any, depth: int = 0) -> str:
    """The value as short text: no quotes, no empty fields, records as tables."""
    if depth > MAX_DEPTH:
        return "..."
    if isinstance(value, dict):
        if len(value) > 1 and (_keyed_by_data(value) or _alike(list(value.values()))):
            return _table([{"": k, **v} if isinstance(v, dict) else {"": k, "-": v} for k, v in value.items()], depth)
        return ("; " if depth else "\n").join(part for k, v in value.items() if (part := _field(k, v, depth)))
    if isinstance(value, list):
        return _list(value, depth)
    return scalar(value)


def scalar(value: Any) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= LONG else text[:LONG].rstrip() + "..."


def _field(key: str, value: Any, depth: int) -> str:
    text = outline(value, depth + 1)
    if not text:
        return ""
    if isinstance(value, dict) and "\n" not in text:
        return f"{key} {{{text}}}"
    return f"{key} {text}" if "\n" not in text else f"{key}:\n{text}"


def _alike(items: list[Any]) -> bool:
    """Several records with mostly the same keys."""
    if len(items) < 2 or not all(isinstance(item, dict) and item for item in items):
        return False
    first = set(items[0])
    return all(2 * len(first & set(item)) > len(first | set(item)) for item in items)


def _list(items: list[Any], depth: int) -> str:
    if _alike(items):
        return _table(items, depth)
    parts = [part for item in items if (part := outline(item, depth + 1))]
    if any(isinstance(item, (dict, list)) for item in items):
        return "\n".join(_some(parts))
    return ", ".join(parts)


def _some(parts: list[str]) -> list[str]:
    return parts if len(parts) <= ROWS else [*parts[:ROWS], f"+{len(parts) - ROWS} more"]


def _table(records: list[dict[str, Any]], depth: int) -> str:
    rows = [dict(_cells(record, "", depth + 1)) for record in records]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    said = {c: rows[0][c] for c in columns if all(row.get(c) == rows[0].get(c) for row in rows)}
    keys = [row.get("", "") for row in rows]
    columns = [c for c in columns if c not in said and (c == "" or [row.get(c, "") for row in rows] != keys)]
    head = " | ".join(c for c in columns if c)
    every = "; ".join(f"{c} {v}" for c, v in said.items() if v)
    lines = [" | ".join(row.get(c, "") for c in columns) for row in rows]
    return "\n".join(line for line in (f"(all: {every})" if every else "", head, *_some(lines)) if line)


def _cells(record: dict[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str]]:
    """Flat cells of one record; nested records give dotted columns."""
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and depth < MAX_DEPTH and not _keyed_by_data(value):
            yield from _cells(value, f"{key}.", depth + 1)
        else:
            text = outline(value, depth + 1).replace("\n", " / ")
            if text:
                yield name, text
