"""Looking at host values without trusting them: no `str()`, `==` or `isinstance` on a foreign object."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from memctx._rules import Report

MAX_DEPTH = 500  # Python's own JSON encoder gives up near 1,000
MAX_INT_BITS = 14_000  # and refuses integers beyond 4,300 digits

Path = tuple[Any, ...]


def text_of(value: Any) -> str | None:
    """The value as a plain `str`, also from a `str` subclass such as an enum; None for anything else."""
    if type(value) is str:
        return value
    return str.__str__(value) if issubclass(type(value), str) else None


def list_of(value: Any) -> list[Any] | None:
    """A list or tuple as a list; None for anything else."""
    if type(value) is list:
        return value
    return list(value) if issubclass(type(value), (list, tuple)) else None


def dict_of(value: Any) -> dict[str, Any] | None:
    """A dict, a dict subclass by value, or an SDK's pydantic object dumped as the SDK itself does; else None."""
    kind = type(value)
    if kind is dict:
        return value  # type: ignore[no-any-return]
    if issubclass(kind, dict):
        return dict(dict.items(value))
    if callable(getattr(kind, "model_dump", None)):
        dumped = value.model_dump(mode="json", exclude_unset=True)
        return dumped if type(dumped) is dict else None
    return None


def shown(value: Any) -> str:
    """A short, printable, side-effect-free form for a violation's sentence."""
    if type(value) is str:
        return repr(value if len(value) <= 40 else value[:37] + "...")
    if value is None or value is True or value is False:
        return str(value)
    if type(value) is int and value.bit_length() < 64:
        return str(value)
    return type(value).__name__


def encodable(value: str) -> bool:
    """Whether the text survives UTF-8; a lone surrogate does not."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def each(items: list[Any], report: Report, visit: Callable[[Any, int], None]) -> None:
    """Visit every message; one that fights being read is reported, and the rest are still checked."""
    for index, raw in enumerate(items):
        try:
            visit(raw, index)
        except Exception as cause:
            report.add("not_json", index, f"reading the message raised {type(cause).__name__}")


def scan(message: dict[Any, Any], index: int, report: Report) -> None:
    """Report what in the message cannot be sent as UTF-8 JSON; the first such place is named."""
    for key, value in message.items():
        if type(key) is str and key.isascii():
            if type(value) is str:
                if value.isascii() or encodable(value):
                    continue
            elif value is None:
                continue
        found = flaw({key: value})
        if found:
            rule, path = found
            report.add(rule, index, f"{path} cannot be sent as UTF-8 JSON")
            return


def flaw(value: Any) -> tuple[str, str] | None:
    """`(rule, path)` of the first value that is not JSON or not encodable; None when all of it can be sent."""
    stack: list[tuple[Any, Path | None, bool]] = [(value, None, False)]
    open_ids: set[int] = set()
    done: dict[int, Any] = {}  # keeps dumped objects alive, so an id cannot be reused
    while stack:
        node, path, leaving = stack.pop()
        if leaving:
            open_ids.discard(id(node))
            continue
        children = _children(node)
        if children is None:
            rule = _leaf_rule(node)
            if rule:
                return rule, _path_text(path)
            continue
        if id(node) in open_ids or len(open_ids) > MAX_DEPTH:
            return "not_json", _path_text(path)
        if id(node) in done:
            continue
        done[id(node)] = (node, children)
        open_ids.add(id(node))
        stack.append((node, path, True))
        keyed = not issubclass(type(node), (list, tuple))
        for key, child in children:
            rule = _key_rule(key) if keyed else None
            if rule:
                return rule, _path_text((path, key))
            stack.append((child, (path, key), False))
    return None


def _children(node: Any) -> list[tuple[Any, Any]] | None:
    kind = type(node)
    if kind is str:
        return None
    if issubclass(kind, dict):
        return list(dict.items(node))
    if issubclass(kind, (list, tuple)):
        return list(enumerate(node))
    dumped = dict_of(node)
    return None if dumped is None else list(dumped.items())


def _key_rule(key: Any) -> str | None:
    text = text_of(key)
    if text is None:
        return "not_json"
    return None if encodable(text) else "unencodable_text"


def _leaf_rule(value: Any) -> str | None:
    kind = type(value)
    if issubclass(kind, str):
        text = text_of(value) or ""
        return None if encodable(text) else "unencodable_text"
    if value is None or kind is bool:
        return None
    if issubclass(kind, int):
        return None if int.bit_length(value) <= MAX_INT_BITS else "not_json"
    if issubclass(kind, float):
        number = float.__float__(value)
        return None if number - number == 0 else "not_json"  # NaN and infinities have no JSON form
    return "not_json"


def _path_text(path: Path | None) -> str:
    keys: list[str] = []
    while path:
        path, key = path
        text = text_of(key)
        keys.append(f"[{shown(key)}]" if text is None else "." + shown(text)[1:-1])
    return "".join(reversed(keys)).removeprefix(".")[:200] or "the message"


def parts_of(content: list[Any], index: int, report: Report) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """`(position, type, part)` of each well-formed part; a part that is no object with a type is reported."""
    for position, raw in enumerate(content):
        part = dict_of(raw)
        kind = None if part is None else text_of(part.get("type"))
        if part is None or kind is None:
            report.add("bad_part", index, f"content[{position}] is not an object with a type")
            continue
        yield position, kind, part
