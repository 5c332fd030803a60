"""Texts as the ranking of tools reads them: words, clauses, and postings by field."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from memctx.stores._terms import terms

Floats = NDArray[np.float32]
Places = NDArray[np.int64]
Flags = NDArray[np.bool_]

QUERY = 4_000  # characters of a query that are read
CLAUSES = 8  # parts of a query that are looked at on their own
SHORTEST = 3  # words of a clause; a shorter one goes with the next
K1, B = 1.2, 0.6  # BM25: how soon repeats stop counting, how far a long text is held against it
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[_-]")
_WORD = re.compile(r"[^\W_]+")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
_CLAUSE = re.compile(
    r",?\s+(?:and|then|also|after that|finally|additionally|furthermore|moreover|plus)\s+|,\s+", re.IGNORECASE
)


_KINDS = {
    "excel spreadsheet": ("xls", "xlsx"),
    "powerpoint presentation": ("ppt", "pptx"),
    "word document": ("doc", "docx"),
    "image": ("png", "jpg", "jpeg", "gif", "webp"),
    "audio": ("mp3", "wav", "flac"),
    "video": ("mp4", "mov", "avi"),
    **{kind: (kind,) for kind in ("pdf", "html", "csv", "json")},
    "markdown": ("md",),
    "text": ("txt",),
    "python": ("py",),
}
_FORMATS = {ending: kind for kind, endings in _KINDS.items() for ending in endings}
_FILE = re.compile(rf"(?:[~.]?/)?(?:[\w.-]+/)*[\w.-]+\.({'|'.join(_FORMATS)})\b", re.IGNORECASE)
_LINK = re.compile(r"https?://(?:www\.)?([\w-]+)[^\s'\"]*", re.IGNORECASE)
_VALUES = (
    (_LINK, r"\1 url"),
    (re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+"), "email"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b"), "ip address"),
    (_FILE, lambda found: f"{_FORMATS[found[1].lower()]} file"),
    (re.compile(r"(?<!\w)/(?:[\w.-]+/)*[\w.-]+"), "folder"),
)


def kinds(query: str) -> str:
    """A query with the values in it as what they are: a tool speaks of a spreadsheet or a url, not of this one."""
    for pattern, put in _VALUES:
        query = pattern.sub(put, query)
    return query


def plain(text: str) -> str:
    """fooBar_baz as foo Bar baz."""
    return _HUMP.sub(" ", text)


def words(text: str) -> list[tuple[str, str]]:
    """The terms of a text, each with the word it came from; identifiers in their parts, stop words left out."""
    return [pair for word in _WORD.findall(plain(text)) for pair in _pairs(word.lower())]


@lru_cache(maxsize=50_000)
def _pairs(word: str) -> tuple[tuple[str, str], ...]:
    return tuple((term, word) for term in terms(word))


def clauses(query: str) -> list[str]:
    """The sentences of a query and what they are made of, the query itself left out: one text may ask for several tools."""
    found: list[str] = []
    for sentence in _SENTENCE.split(query):
        parts: list[str] = []
        held = ""
        for part in _CLAUSE.split(sentence):
            held = f"{held} {part}".strip()
            if len(words(held)) >= SHORTEST:
                parts.append(held)
                held = ""
        if held and parts:
            parts[-1] += f" {held}"
        found += [sentence, *(parts or [held])]
    return [each for each in dict.fromkeys(found) if each.strip() and each != query][:CLAUSES]


class Postings:
    """Which term stands in which tool, and how much it says there, in three ways.

    `whole`: BM25 over all fields, each with its share (Robertson & Zaragoza 2009). `name_covered`, `text_covered`: the share of
    a tool's name, and of its name and description, that the query says, by the rarity of the terms.
    """

    SHARES: ClassVar = {"name": 3.0, "description": 1.5, "arguments": 0.5, "server": 1.0}
    ROWS: ClassVar = ("whole", "name_covered", "text_covered")

    def __init__(self, fields: Mapping[str, Sequence[Sequence[str]]]) -> None:
        """`fields`: for each name of `SHARES`, the terms of each tool."""
        self.count = count = len(fields["name"])
        self.place: dict[str, int] = {"": 0}  # term -> its number; the first is nobody's
        counted = {name: self._counted(texts) for name, texts in fields.items()}
        shares = np.concatenate([self.SHARES[name] * times for name, (_, times) in counted.items()])
        every, inverse = np.unique(np.concatenate([keys for keys, _ in counted.values()]), return_inverse=True)
        having = np.bincount(every // count, minlength=len(self.place))
        self.rarity: Floats = np.log(1 + (count - having + 0.5) / (having + 0.5)).astype(np.float32)
        self.name = counted["name"][0]  # (term, tool) as one number, term * count + tool; each once
        self.text = np.union1d(self.name, counted["description"][0])
        whole = self._bm25(every, np.bincount(inverse, shares, minlength=len(every)))
        rows = ((every, whole), (self.name, self._share(self.name)), (self.text, self._share(self.text)))
        terms_ = np.concatenate([keys // count for keys, _ in rows])
        order = np.argsort(terms_, kind="stable")
        self._places = np.concatenate([row * count + keys % count for row, (keys, _) in enumerate(rows)])[order]
        self._weights = np.concatenate([weights for _, weights in rows])[order].astype(np.float32)
        self._starts = np.searchsorted(terms_[order], np.arange(len(self.place) + 1)).tolist()

    def scores(self, views: Sequence[Sequence[int]]) -> Floats:
        """(views, ROWS, tools): the sum of what the terms of each view weigh."""
        out: Floats = np.zeros((len(views), len(self.ROWS) * self.count), np.float32)
        for view, numbers in zip(out, views, strict=True):
            for term in numbers:
                part = slice(self._starts[term], self._starts[term + 1])
                view[self._places[part]] += self._weights[part]
        return out.reshape(len(views), len(self.ROWS), self.count)

    def _counted(self, texts: Sequence[Sequence[str]]) -> tuple[Places, Floats]:
        """(term, tool), each once, in order, and how often."""
        place = self.place
        keys = [
            place.setdefault(term, len(place)) * self.count + row for row, text in enumerate(texts) for term in text
        ]
        found, times = np.unique(np.array(keys, np.int64), return_counts=True)
        return found, times.astype(np.float32)

    def _bm25(self, keys: Places, times: NDArray[Any]) -> Floats:
        lengths = np.bincount(keys % self.count, times, minlength=self.count)
        pivot = K1 * (1 - B + B * lengths / max(lengths.mean(), 1.0))
        weights = self.rarity[keys // self.count] * times * (K1 + 1) / (times + pivot[keys % self.count])
        ready: Floats = weights.astype(np.float32)
        return ready

    def _share(self, keys: Places) -> Floats:
        """What each term of a tool is of them all."""
        rarity = self.rarity[keys // self.count]
        whole = np.bincount(keys % self.count, rarity, minlength=self.count)
        return (rarity / whole[keys % self.count]).astype(np.float32)


class Lists:
    """The terms of each tool, one after the other."""

    def __init__(self, keys: Places, count: int) -> None:
        """`keys`: as `Postings.text`."""
        self.sizes = np.bincount(keys % count, minlength=count)
        self._flat = np.append(keys[np.argsort(keys % count, kind="stable")] // count, 0)
        self._starts = np.cumsum(self.sizes) - self.sizes

    def of(self, tools: Places) -> tuple[Places, Places]:
        """The terms of some tools, and where each begins. A tool without any has one of no meaning."""
        sizes = np.maximum(self.sizes[tools], 1)
        starts = np.cumsum(sizes) - sizes
        places = np.repeat(self._starts[tools] - starts, sizes) + np.arange(sizes.sum())
        return self._flat[places], starts
