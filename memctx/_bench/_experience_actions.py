"""What counts as the same action. Exact texts almost never come again, so each kind of environment has a normal form.

The form is the same for every method, and no method sees it when it retrieves: only the vote over retrieved actions and the
comparison with what the run did use it. Names of things (tables, files, objects, users) are gone; what is done is kept.
"""

from __future__ import annotations

import re

_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_CLAUSES = (
    ("DISTINCT", r"\bDISTINCT\b"), ("AGG", r"\b(?:SUM|AVG|MIN|MAX)\s*\("), ("COUNT", r"\bCOUNT\s*\("), ("JOIN", r"\bJOIN\b"),
    ("WHERE", r"\bWHERE\b"), ("GROUP", r"\bGROUP\s+BY\b"), ("HAVING", r"\bHAVING\b"), ("ORDER", r"\bORDER\s+BY\b"),
    ("LIMIT", r"\bLIMIT\b"), ("SET", r"\b(?:UNION|INTERSECT|EXCEPT)\b"), ("NESTED", r"\(\s*SELECT\b"),
)  # fmt: skip
_CLAUSE = tuple((name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _CLAUSES)
_DESCRIBE = re.compile(
    r"(?:DESC|DESCRIBE|EXPLAIN|SHOW\s+(?:FULL\s+)?(?:COLUMNS|FIELDS)\s+(?:FROM|IN))\b", re.IGNORECASE
)
_PIECE = re.compile(r"\|\||&&|[|;\n]")
_ENTERED = frozenset({"sudo", "time", "then", "do", "else", "nohup", "exec", "command", "(", "{"})
_ASSIGNED = re.compile(r"[A-Za-z_]\w*=\S*$")
_CALL = re.compile(r"\b(put|goto|take_from|open_receptacle|toggle|close_receptacle|clean|heat|cool|use|look)\s*\(")
_CODE = re.compile(r"<execute>(.*?)(?:</execute>|$)", re.DOTALL)


def sql(text: str) -> str:
    """The statement and its clauses: `SELECT COUNT JOIN WHERE`, `SHOW TABLES`, `DESCRIBE` in any of its spellings."""
    plain = _QUOTED.sub("''", text.strip())
    if _DESCRIBE.match(plain):
        return "DESCRIBE"
    words = plain.upper().split()
    if not words or words[0] not in {"SELECT", "WITH"}:
        return " ".join(words[:2]).strip(";")
    return " ".join(["SELECT", *(name for name, pattern in _CLAUSE if pattern.search(plain))])


def shell(text: str) -> str:
    """The programs of a command line in their order: `find | sort | head`. Options, arguments and quoted text are gone."""
    plain = _QUOTED.sub("''", text.strip())
    programs = [name for piece in _PIECE.split(plain) if (name := _program(piece))]
    return " | ".join(programs) or "#"


def _program(piece: str) -> str:
    if piece.lstrip().startswith("#"):
        return ""
    for word in piece.split():
        if word not in _ENTERED and not _ASSIGNED.match(word):
            return word.strip("(){}'`$").rpartition("/")[2]
    return ""


def household(text: str) -> str:
    """The functions a block of code calls, in their order, once where one follows itself; `solution` for an answer."""
    code = "\n".join(_CODE.findall(text))
    called = _CALL.findall(code)
    if called:
        return " ".join(name for at, name in enumerate(called) if not at or called[at - 1] != name)
    return "solution" if "<solution>" in text else "none"
