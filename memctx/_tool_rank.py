"""How tools are ranked for a query: what is seen of each likely tool, weighed by fitted weights.

A query is looked at whole and clause by clause, since one text may ask for several tools. Likely are the tools with the best
words and vectors in any of these views; each is then described by `NAMES` and scored by their weighted sum.
`benchmarks/fit_tools.py` fits the weights, and says on what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from memctx._tool_rank_read import Tool
from memctx._tool_rank_words import QUERY, Flags, Floats, Lists, Places, Postings, clauses, kinds, plain, words

if TYPE_CHECKING:
    from memctx.embed import Embedder

LONG = 30  # terms from which on a longer text is no better
LIKELY, EACH = 100, 20  # tools looked at closely: the best of the whole query, and of each clause

SIGNALS = (*Postings.ROWS, "meaning", "rank")
NAMES = (
    *(f"{view}.{signal}" for view in ("query", "clause") for signal in SIGNALS),  # of the query, and of its best clause
    *("name_met", "text_met", "query_met_by_name", "query_met_by_text"),
    *("server_best", "server_mean", "server_size", "name_length", "text_length"),
)


@dataclass(frozen=True)
class Weights:
    """What was fitted. `adapt` (256, 256): q and d are alike by q (1 + adapt) d. `linear`: one weight for each of `NAMES`."""

    adapt: Floats
    linear: Floats


@lru_cache(maxsize=1)
def fitted() -> Weights:
    """The weights that ship."""
    with np.load(Path(__file__).with_name("_tool_rank.npz")) as stored:
        return Weights(stored["adapt"].astype(np.float32), stored["linear"].astype(np.float32))


@lru_cache(maxsize=1)
def static() -> Embedder:
    """The vectors of single words; always the offline ones, since there are thousands."""
    from memctx.embed import embedder

    return embedder("default")


def told(tool: Tool) -> str:
    """What a tool's vector is made of."""
    return f"{plain(tool.server)} {plain(tool.name)}: {tool.ranked}"


@dataclass(frozen=True)
class _Query:
    """What is looked at: the whole query first, then its clauses."""

    views: list[str]
    terms: list[list[int]]  # of each view, those the catalogue knows, each once
    words: Floats  # (words, 256): of all views
    known: Places  # the term of each word, -1 for none
    rarity: Floats  # of each word


class Ranker:
    """The tools of one moment, at least one, ready to be asked. Never changed."""

    def __init__(self, tools: Sequence[Tool], embedder: Embedder, weights: Weights | None = None) -> None:
        self._embedder = embedder
        self._weights = weights or fitted()
        fields = {
            "name": [words(tool.name) for tool in tools],
            "description": [words(tool.ranked) for tool in tools],
            "arguments": [words(tool.arguments) for tool in tools],
            "server": [words(f"{tool.server} {tool.about}") for tool in tools],
        }
        self._postings = posts = Postings(
            {name: [[term for term, _ in text] for text in texts] for name, texts in fields.items()}
        )
        forms = {term: word for texts in fields.values() for text in texts for term, word in reversed(text)}
        vectors = static().embed([forms.get(term, "") for term in posts.place])
        self._middle = vectors.mean(axis=0)
        self._forms = _unit(vectors - self._middle)
        meaning = embedder.embed([told(tool) for tool in tools])
        fits = embedder.name == static().name  # the matrix is between vectors of this embedder, no other
        adapted = meaning + meaning @ self._weights.adapt.T if fits else meaning
        self._meaning = np.ascontiguousarray(adapted.T)  # as the product reads it, twice as fast
        self._name, self._text = Lists(posts.name, posts.count), Lists(posts.text, posts.count)
        self._servers = _Servers(tools)

    def scores(
        self, query: str, most: int = LIKELY, allowed: Flags | None = None, also: Flags | None = None
    ) -> tuple[Places, Floats]:
        """The likely tools by place, and (tools, NAMES) of what each part adds to the score of each.

        `most`: how many of the whole query's best are likely. `allowed`: only these. `also`: these as well, likely or not.
        """
        likely, seen = self.features(query, most, allowed, also)
        return likely, seen * self._weights.linear

    def features(
        self, query: str, most: int = LIKELY, allowed: Flags | None = None, also: Flags | None = None
    ) -> tuple[Places, Floats]:
        """As `scores`, of what is seen of the tools, before it is weighed."""
        asked = self._asked(kinds(query[:QUERY]))
        found = self._postings.scores(asked.terms)
        meaning = self._embedder.embed(asked.views) @ self._meaning
        highest = found[:, 0].max(axis=1, keepdims=True)
        first = found[:, 0] / np.maximum(highest, 1e-6) + found[:, 1] / 2 + 2 * meaning
        ranks, likely = _ranks(first, max(most, LIKELY), allowed, also)
        signals = np.concatenate([found[:, :, likely], meaning[:, None, likely], ranks[:, None, likely]], axis=1)
        rows = [signals[0], signals[1:].max(axis=0) if len(signals) > 1 else signals[0]]
        rows += [self._met(asked, likely), self._servers.around(first.max(axis=0), likely)]
        rows += [np.log1p(np.minimum(lists.sizes[likely], LONG))[None] for lists in (self._name, self._text)]
        return likely, np.concatenate(rows).T.astype(np.float32)

    def _asked(self, query: str) -> _Query:
        views = [query, *clauses(query)]
        split = [words(view) for view in views]
        pairs = list(dict.fromkeys(pair for view in split for pair in view)) or [("", "")]
        place, rarity = self._postings.place, self._postings.rarity
        known = np.array([place.get(term, -1) for term, _ in pairs])
        unknown = float(rarity.max(initial=0)) / 2
        terms = [list(dict.fromkeys(place[term] for term, _ in view if term in place)) for view in split]
        forms = _unit(static().embed([word for _, word in pairs]) - self._middle)
        rare = np.where(known >= 0, rarity[known], unknown).astype(np.float32)
        return _Query(views, terms, forms, known, rare)

    def _met(self, asked: _Query, likely: Places) -> Floats:
        """How far the query says what a tool says, and the other way round: of each word, the nearest of the other side.

        (name met, text met, query met by the name, query met by the text), each by the rarity of the words. A softer match of
        words than BM25's: "film" meets "movie".
        """
        flats = [lists.of(likely) for lists in (self._name, self._text)]
        there = np.zeros(len(self._forms), bool)  # a term of many tools is compared once
        for flat, _ in flats:
            there[flat] = True
        terms, place = np.flatnonzero(there), np.cumsum(there) - 1
        alike = np.maximum(self._forms[terms] @ asked.words.T, 0)
        alike[terms[:, None] == asked.known] = 1
        nearest, met, covered = alike.max(axis=1), [], []
        for (flat, starts), lists in zip(flats, (self._name, self._text), strict=True):
            at, rarity, some = place[flat], self._postings.rarity[flat], lists.sizes[likely] > 0
            met.append(some * np.add.reduceat(rarity * nearest[at], starts) / np.add.reduceat(rarity, starts))
            covered.append(some * (np.maximum.reduceat(alike[at], starts, axis=0) ** 2 @ asked.rarity))
        return np.stack([*met, *covered])


class _Servers:
    """Tools by where they come from: the others of a server that has a good one are likelier too."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        names = [tool.server or tool.about or tool.id for tool in tools]
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        self._of = np.array([numbers[name] for name in names])
        self._order = np.argsort(self._of, kind="stable")
        self._sizes = np.bincount(self._of)
        self._starts = np.cumsum(self._sizes) - self._sizes

    def around(self, first: Floats, likely: Places) -> Floats:
        """(best, mean, size) of the server of each likely tool."""
        ordered, of = first[self._order], self._of[likely]
        best, total = np.maximum.reduceat(ordered, self._starts), np.add.reduceat(ordered, self._starts)
        return np.stack([best[of], (total / self._sizes)[of], np.log(self._sizes[of])]).astype(np.float32)


def _ranks(first: Floats, most: int, allowed: Flags | None, also: Flags | None) -> tuple[Floats, Places]:
    """One over the rank of each tool in each view, softened, and the likely tools in order."""
    if allowed is not None:
        first = np.where(allowed, first, -np.inf)
    view, place = np.nonzero(first >= _bounds(first, most)[:, None])
    order = np.lexsort((-first[view, place], view))
    view, place = view[order], place[order]
    rank = np.arange(len(view)) - np.searchsorted(view, view)
    ranks = np.full(first.shape, 1 / (3 + LIKELY), np.float32)
    ranks[view, place] = 1 / (3 + np.minimum(rank, LIKELY))
    likely = np.zeros(first.shape[1], bool) if also is None else also & (True if allowed is None else allowed)
    likely[place[rank < np.where(view, EACH, most)]] = True
    return ranks, np.flatnonzero(likely)


def _bounds(first: Floats, most: int) -> Floats:
    """For each view a score that its `most` best tools reach and few others do; -inf is no score.

    With the tools in columns, `most` columns whose best reaches it are as many tools that do; the rest need no sorting.
    """
    columns = 4 * most
    rows = first.shape[1] // columns
    bounds = np.full(len(first), np.finfo(np.float32).min)
    if rows:
        best = first[:, : rows * columns].reshape(len(first), rows, columns).max(axis=1)
        bounds = np.maximum(bounds, np.partition(best, -most, axis=1)[:, -most])
    return bounds


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: Floats = (rows / np.maximum(lengths, 1e-6)).astype(np.float32)
    return unit
