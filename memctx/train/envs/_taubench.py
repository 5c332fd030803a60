"""What the tool environments share: a database whose changes are kept apart from it, arguments held to a schema, arithmetic.

The tools' own code is not part of the data: what each does is written from its description and from recorded runs.
"""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
Tool = Callable[..., Any]
OPERATORS: Mapping[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "array": (list,),
    "object": (dict,),
}


class Refused(Exception):
    """A call that changes nothing; its text is what the player is told."""


@dataclass(slots=True)
class Desk:
    """A database during one call. `base`: table -> id -> row, never changed; `changed`: the rows that differ, by (table, id)."""

    base: Mapping[str, Mapping[str, Row]]
    changed: dict[tuple[str, str], Row] = field(default_factory=dict)

    def get(self, table: str, key: str) -> Row:
        """A row to read. Raises `Refused`."""
        found = self.changed.get((table, key)) or self.base[table].get(key)
        if found is None:
            raise Refused(f"{table.removesuffix('s')} not found")
        return found

    def edit(self, table: str, key: str) -> Row:
        """A row to write to; written to with any call that is not refused. Raises `Refused`."""
        self.changed[table, key] = copy.deepcopy(self.get(table, key))
        return self.changed[table, key]

    def rows(self, table: str) -> Iterable[tuple[str, Row]]:
        """All rows of a table, as they are now."""
        return ((key, self.changed.get((table, key), row)) for key, row in self.base[table].items())


def problem(value: Any, schema: Mapping[str, Any], name: str = "arguments") -> str:
    """What is wrong with a value by the part of JSON Schema that the tools use, or nothing."""
    wanted = TYPES.get(schema.get("type", ""), ())
    if wanted and (not isinstance(value, wanted) or isinstance(value, bool)):
        return f"{name} must be of type {schema['type']}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{name} must be one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, list):
        found = (problem(each, schema.get("items", {}), f"{name}[{n}]") for n, each in enumerate(value))
        return next(filter(None, found), "")
    return _fields(value, schema, name) if isinstance(value, dict) else ""


def _fields(value: Row, schema: Mapping[str, Any], name: str) -> str:
    known = schema.get("properties", {})
    if missing := [each for each in schema.get("required", ()) if each not in value]:
        return f"{name} lacks {', '.join(missing)}"
    if unknown := [each for each in value if each not in known]:
        return f"{name} has no field {unknown[0]!r:.40}; known: {', '.join(known)}"
    return next(filter(None, (problem(each, known[key], key) for key, each in value.items())), "")


def calculate(_: Desk, expression: str) -> str:
    """The value of an arithmetic expression, rounded to cents."""
    try:
        return str(round(float(_value(ast.parse(expression.strip(), mode="eval").body)), 2))
    except (SyntaxError, ValueError, KeyError, ArithmeticError, RecursionError, MemoryError) as cause:
        raise Refused("invalid characters in expression") from cause


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.UnaryOp):
        return float(OPERATORS[type(node.op)](_value(node.operand)))
    if isinstance(node, ast.BinOp):
        return float(OPERATORS[type(node.op)](_value(node.left), _value(node.right)))
    raise ValueError(node)


def think(_: Desk, thought: str) -> str:
    """A thought, which is in the player's own words already."""
    return ""


def transfer(_: Desk, summary: str) -> str:
    """The end of the player's part."""
    return "Transfer successful"


SHARED: Mapping[str, Tool] = {"calculate": calculate, "think": think, "transfer_to_human_agents": transfer}
