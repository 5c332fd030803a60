"""A scope: whose rows a call may see. Every read and write of a store or an index is inside exactly one.

A scope is a path of parts, widest first: tenant, user, and what the host wants below. As text it ends in `/`, with `/`
and `%` inside a part escaped, so that one scope is below another exactly if its text starts with the other's.
"""

from __future__ import annotations

from memctx.errors import LimitError, ScopeError

MAX_PARTS = 16
MAX_PART = 200  # characters


def scope(*parts: str) -> str:
    """The canonical text of a scope. Raises `ScopeError` for no parts or a part that is no name, `LimitError` for many."""
    if not parts:
        raise ScopeError("a scope is needed: give a tenant, and a user where there is one", code="scope_required")
    if len(parts) > MAX_PARTS:
        raise LimitError(f"a scope of {len(parts)} parts; the bound is {MAX_PARTS}", given=len(parts))
    return "".join(_escaped(part, place) for place, part in enumerate(parts))


def parts(text: str) -> tuple[str, ...]:
    """The parts that `scope` was given."""
    return tuple(part.replace("%2F", "/").replace("%25", "%") for part in text.split("/")[:-1])


def below(text: str) -> tuple[str, str]:
    """(first, after): a scope and all below it are the texts t with first <= t < after, by code point."""
    return text, text[:-1] + "0"  # "0" is the character after "/"


def _escaped(part: str, place: int) -> str:
    if not isinstance(part, str) or not part:
        raise ScopeError(f"scope part {place} = {part!r:.40}: give a text that is not empty", part=place)
    if len(part) > MAX_PART or part != part.strip() or not part.isprintable():
        text = f"scope part {place} = {part!r:.40}: give at most {MAX_PART} printable characters, no space at the ends"
        raise ScopeError(text, part=place)
    return part.replace("%", "%25").replace("/", "%2F") + "/"
