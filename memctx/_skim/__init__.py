"""`skim`: a tool result shortened to what later steps draw on. Pure text in, pure text out; no model.

Two depths. An *outline* (level 1) can still be read: keys, short values, tables with one header, error lines, headings,
definitions, the head of each record, then the identifiers the outline left out. An *index* (level 2) lists by key the
identifiers that stand nowhere else in the view; where nothing is left it is empty and the handle alone stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from memctx._skim import data, lines
from memctx._skim.parse import data_in, unescape
from memctx._skim.words import BOOKKEEPING, CODE, ERROR, MAX_WORD, NAME, NAMING, TITLED, WHOLE, identifiers, words

__all__ = ["identifiers", "index_words", "shown_words", "skim", "words"]

OUTLINE_CHARS = 1600
INDEX_MIN, INDEX_MAX, INDEX_PART = 600, 1200, 5  # an index: a fifth of the text, within bounds
ERROR_CHARS = 120
NOTHING: frozenset[str] = frozenset()


def skim(text: str, *, level: int, known: Callable[[str], bool] = NOTHING.__contains__, limit: int = 0) -> str:
    """`text` shortened; never longer than it. Level 0 is the text, 1 an outline, 2 an index.

    `known(word)` says that a word stands elsewhere in the view for good; an index leaves it out. `limit` is the most
    characters to give (0: 1600 for an outline; a fifth of the text, 600 to 1200, for an index).
    """
    if level <= 0:
        return text
    if level == 1:
        short = _outline(text, known, limit or OUTLINE_CHARS)
    else:
        short = _index(text, known, limit or _index_limit(text))
    return short if len(short) < len(text) else text


def index_words(text: str, limit: int = 0) -> list[str]:
    """The words an index of this text would hold were nothing known: what a later result may rely on."""
    groups = _groups(text, NOTHING.__contains__, limit or _index_limit(text))
    return [word for group in groups.values() for word in group if not word.startswith("+")]


def shown_words(text: str, shown: str) -> set[str]:
    """What of `text` stands in `shown` (its skim, or itself): the words, and the index entries of several words."""
    return {*words(shown), *(entry for entry in index_words(text) if " " in entry and entry in shown)}


def _index_limit(text: str) -> int:
    return min(INDEX_MAX, max(INDEX_MIN, len(text) // INDEX_PART))


def _outline(text: str, known: Callable[[str], bool], limit: int) -> str:
    plain = unescape(text)
    found = data_in(plain)
    if found is None:
        body = lines.outline(plain, limit)
    else:
        before, value, after = found
        body = lines.outline("\n".join(p for p in (before.strip(), data.outline(value), after.strip()) if p), limit)
    held = set(words(body))
    rest = _index(text, lambda word: word in held or known(word), INDEX_MIN, errors=False)
    return f"{body}\n{rest}" if rest else body


def _fields(text: str) -> Iterator[tuple[str, str]]:
    plain = unescape(text)
    found = data_in(plain)
    if found is None:
        yield from lines.labelled(plain)
        return
    before, value, after = found
    yield from lines.labelled(before)
    for key, leaf in data.leaves(value):
        if len(leaf) > data.LONG:
            yield from ((label or key, rest) for label, rest in _fields(leaf))
        else:
            yield key, leaf
    yield from lines.labelled(after)


def _groups(text: str, known: Callable[[str], bool], limit: int) -> dict[str, list[str]]:
    """New words by key. Over the limit, small groups come first: what is rare in a result says more."""
    groups: dict[str, list[str]] = {}
    seen: set[str] = set()
    for key, value in _fields(text):
        if BOOKKEEPING.search(key):
            continue
        for word in _copied(key, value):
            if word not in seen and not known(word):
                seen.add(word)
                groups.setdefault(key, []).append(word)
    return _fit(groups, limit)


def _copied(key: str, value: str) -> Iterator[str]:
    """What a later call could copy from a field: a code or a name whole, else the identifiers of the text."""
    named = TITLED.search(key) and NAME.fullmatch(value) and 0 < value.count(" ") <= 6
    if named or (key and (_is_name(key, value) or _is_code(value))):
        yield value
    else:
        yield from identifiers(value)


def _is_name(key: str, value: str) -> bool:
    return 4 <= len(value) <= 24 and value.isalpha() and (value.isupper() or NAMING.search(key) is not None)


def _is_code(value: str) -> bool:
    return 4 <= len(value) <= MAX_WORD and WHOLE.fullmatch(value) is not None and bool(next(identifiers(value), ""))


def _fit(groups: dict[str, list[str]], limit: int) -> dict[str, list[str]]:
    """The groups cut to `limit` characters in all: small ones whole, the rest in equal shares and the count cut off."""
    sizes = {key: len(key) + 2 + sum(len(word) + 1 for word in group) for key, group in groups.items()}
    if sum(sizes.values()) <= limit:
        return groups
    left, kept = limit, dict[str, list[str]]()
    for number, key in enumerate(sorted(groups, key=sizes.__getitem__)):
        share = left // (len(groups) - number)
        kept[key] = groups[key] if sizes[key] <= share else _head(groups[key], share - len(key) - 12)
        left -= len(key) + 2 + sum(len(word) + 1 for word in kept[key]) if kept[key] else 0
    return {key: kept[key] for key in groups if kept[key]}


def _head(group: list[str], room: int) -> list[str]:
    for number, word in enumerate(group):
        room -= len(word) + 1
        if room < 0:
            return [*group[:number], f"+{len(group) - number} more"] if number else []
    return group


def _index(text: str, known: Callable[[str], bool], limit: int, errors: bool = True) -> str:
    groups = _groups(text, known, limit)
    parts = [f"{key} {_joined(group)}" if key else _joined(group) for key, group in groups.items()]
    error = _error_line(unescape(text)) if errors else ""
    return "\n".join(p for p in (error, "; ".join(parts)) if p)


def _joined(group: list[str]) -> str:
    return (", " if any(" " in word for word in group if word[0] != "+") else " ").join(group)


def _error_line(text: str) -> str:
    """The first line that tells of a failure; code that handles errors (a numbered or indented line) is none."""
    for found in ERROR.finditer(text):
        start = text.rfind("\n", 0, found.start()) + 1
        line = text[max(start, found.start() - 60) : found.start() + ERROR_CHARS].split("\n", 1)[0]
        if not CODE.match(line):
            return line.strip()[:ERROR_CHARS]
    return ""
