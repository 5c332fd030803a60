"""What a transcript needs to notice edits and to name things: copies, comparison, digests, ids."""

from __future__ import annotations

from collections.abc import Container
from hashlib import blake2b
from operator import attrgetter
from typing import Any

from memctx.errors import InvalidMessage

MAX_DEPTH = 100


def in_common(new: list[Any], old: list[Any]) -> int:
    """How many messages from the start two lists share. `old` is lengthened and cut again while they are compared:
    equal lists compare at C speed, and a slice of the long one would touch every object in it.
    """
    known = len(old)
    if len(new) >= known:
        old += new[known:]
        try:
            if new == old:
                return known
        finally:
            del old[known:]
    for index, (a, b) in enumerate(zip(new, old, strict=False)):
        if a is not b and a != b:
            return index
    return min(len(new), len(old))


def copied(raw: Any) -> Any:
    """A structural copy that shares the strings: cheap, and unequal once the host edits its object in place."""
    return _copied(_plain(raw), 0)


def unaltered(hosts: list[Any], copies: list[Any]) -> int:
    """How many messages from the start equal the copies made of them; dicts, or objects, compare at C speed."""
    try:
        if hosts == copies or list(map(_fields, hosts)) == copies:
            return len(hosts)
    except AttributeError:  # dicts among them
        pass
    pairs = enumerate(zip(hosts, copies, strict=True))
    return next((index for index, (raw, copy) in pairs if _plain(raw) != copy), len(hosts))


def _plain(raw: Any) -> Any:
    """A host message as what can be compared: a dict, or the fields of an object."""
    return raw if isinstance(raw, dict) else getattr(raw, "__dict__", raw)


_fields = attrgetter("__dict__")


def _copied(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        text = f"a message nests deeper than {MAX_DEPTH} levels or holds itself: flatten its content"
        raise InvalidMessage(text, code="not_json")
    if isinstance(value, dict):
        return {key: item if type(item) in _LEAVES else _copied(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [item if type(item) in _LEAVES else _copied(item, depth + 1) for item in value]
    return value


_LEAVES = frozenset({str, int, float, bool, type(None)})


def digest(message: Any) -> str:
    """12 hex digits of what a `Message` says, the same in every process: its id, until an equal one comes."""
    calls = [(call.id, call.name, call.arguments) for call in message.calls]
    content = repr((message.role, message.text, calls, message.call_id))
    return blake2b(content.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def new_id(old: str, step: int, place: int, *taken: Container[str]) -> str:
    """A call id that every provider accepts and none of `taken` holds, the same each time the same history is read."""
    attempt = 0
    while True:
        name = repr((old, step, place, attempt)).encode("utf-8", "replace")
        new = "call_" + blake2b(name, digest_size=8).hexdigest()
        if not any(new in ids for ids in taken):
            return new
        attempt += 1
