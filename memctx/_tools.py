"""Tool definitions as the model sees them: OpenAI's as a TypeScript namespace, others as JSON.

OpenAI does not print how it renders tools; the namespace form was found by users from the bills of many requests (their
figures are in the tests). A tool may be a mapping in any provider's spelling, a LangChain tool, or a pydantic model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memctx.errors import ConfigError, LimitError

_DEEPEST = 40  # columns of indentation, two a level
_MOST_REFERENCES = 1_000  # expanded in one tool: a schema may refer to itself, or fan out without end
_NAMES = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean", "null": "null"}


def definitions(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Each tool as a mapping; Gemini's lists of declarations opened, and `function` unwrapped."""
    return [found for tool in tools for found in _open(_mapping(tool))]


def _mapping(tool: Any) -> Mapping[str, Any]:
    if isinstance(tool, Mapping):
        return tool
    schema = getattr(tool, "tool_call_schema", None) or getattr(tool, "args_schema", None)
    if isinstance(name := getattr(tool, "name", None), str) and schema is not None:
        described = {"name": name, "description": str(getattr(tool, "description", "") or "")}
        return {**described, "parameters": _schema(schema)}
    if isinstance(tool, type) and callable(getattr(tool, "model_json_schema", None)):
        return {"name": tool.__name__, "description": tool.__doc__ or "", "parameters": _schema(tool)}
    dump: Any = getattr(tool, "model_dump", None)
    if dump is not None:
        return dict(dump(exclude_none=True))
    text = (
        f"a tool must be a mapping, a LangChain tool or a pydantic model, not {type(tool).__name__}: convert it first"
    )
    raise ConfigError(text, code="unreadable_tool")


def _schema(source: Any) -> Mapping[str, Any]:
    if isinstance(source, Mapping):
        return source
    return dict(source.model_json_schema())


def _open(tool: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    many = next((tool[key] for key in ("functionDeclarations", "function_declarations") if key in tool), None)
    if isinstance(many, list | tuple):
        for one in many:
            yield dict(_mapping(one))
    elif isinstance(inner := tool.get("function"), Mapping):
        yield dict(inner)
    else:
        yield dict(tool)


def as_json(tools: Sequence[dict[str, Any]]) -> str:
    """One JSON object a line, what only steers the cache or the server left out."""
    kept = ({key: value for key, value in tool.items() if key != "cache_control"} for tool in tools)
    return "\n".join(json.dumps(tool, ensure_ascii=False, default=str) for tool in kept)


def as_typescript(tools: Sequence[dict[str, Any]]) -> str:
    """The namespace of the function tools, then any tool of another kind as JSON."""
    functions = [tool for tool in tools if tool.get("name") and tool.get("type", "function") == "function"]
    others = [tool for tool in tools if tool not in functions]
    lines = ["namespace functions {", ""]
    try:
        for tool in functions:
            lines += _function(tool)
    except RecursionError as cause:
        raise LimitError("a tool schema is nested too deep to read", code="too_deep") from cause
    lines += ["} // namespace functions"]
    return "\n".join(lines if functions else []) + as_json(others)


@dataclass(slots=True)
class _Scope:
    """The schema that references point into, and how many more may be expanded."""

    root: Mapping[str, Any]
    left: int = _MOST_REFERENCES


def _function(tool: Mapping[str, Any]) -> list[str]:
    schema = tool.get("parameters") or tool.get("input_schema") or {}
    lines = [f"// {tool['description']}"] if tool.get("description") else []
    if isinstance(schema, Mapping) and schema.get("properties"):
        body = _properties(schema, _Scope(schema), 0)
        return [*lines, f"type {tool['name']} = (_: {{", *body, "}) => any;", ""]
    return [*lines, f"type {tool['name']} = () => any;", ""]


def _properties(schema: Mapping[str, Any], scope: _Scope, depth: int) -> list[str]:
    lines: list[str] = []
    properties, required = schema.get("properties"), schema.get("required") or ()
    for name, found in properties.items() if isinstance(properties, Mapping) else ():
        below = found if isinstance(found, Mapping) else {}
        if below.get("description"):
            lines.append(f"// {below['description']}")
        mark = "" if name in required else "?"
        lines.append(f"{name}{mark}: {_type(below, scope, depth + 2)},")
    return [" " * depth + line for line in lines] if depth else lines


def _type(schema: Mapping[str, Any], scope: _Scope, depth: int) -> str:
    schema = _resolved(schema, scope)
    if depth > _DEEPEST:
        return "any"
    if values := schema.get("enum"):
        return " | ".join(json.dumps(value, ensure_ascii=False, default=str) for value in values)
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(branches := schema.get(key), list):
            return " | ".join(_type(branch, scope, depth) for branch in branches if isinstance(branch, Mapping))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(_NAMES.get(str(one), str(one)) for one in kind)
    if kind == "array":
        items = schema.get("items")
        return f"{_type(items, scope, depth)}[]" if isinstance(items, Mapping) and items else "any[]"
    if kind == "object" or "properties" in schema:
        body = _properties(schema, scope, depth)
        return "\n".join(["{", *body, "}"]) if body else "object"
    return _NAMES.get(str(kind), "any")


def _resolved(schema: Mapping[str, Any], scope: _Scope) -> Mapping[str, Any]:
    """What a local `$ref` points at, one step."""
    target: Any = schema.get("$ref")
    if not isinstance(target, str) or not target.startswith("#/"):
        return schema
    scope.left -= 1
    found: Any = scope.root if scope.left >= 0 else None
    for key in target[2:].split("/"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}
