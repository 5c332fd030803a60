"""Hybrid ranking: what is near by meaning and by words, in the light of its neighbours, its age, its length and its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from memctx.component import Component

if TYPE_CHECKING:
    from memctx.stores import Ids, Scores

    Find = Callable[[int], tuple[Ids, Scores]]

Numbers = NDArray[np.float64]
Vector = NDArray[np.float32]
USER = 2  # the trust level of what a user said; more is not preferred


@dataclass(frozen=True, slots=True)
class Row:
    """What a ranker may know of a record. Times are seconds since 1970; `helped` is the sum of `outcomes` in -1..1."""

    id: int
    text: str
    kind: str = "semantic"
    thread: str = ""
    created: float = 0.0
    valid_from: float = 0.0
    trust: int = USER
    uses: int = 0
    helped: float = 0.0
    outcomes: int = 0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A record, its score, and the `parts` that add up to it."""

    id: int
    score: float
    parts: Mapping[str, float]


class Hybrid(Component):
    """Both lists are put on one scale by their own spread, so the more decisive one counts more, query by query.

    A list in which a few records stand out gives them high scores; one that is flat gives everyone nearly the same. To that is
    added what a record's neighbours in its thread score, and small priors: newer, shorter, said by a user, found useful before.
    Without outcomes the last is nothing. Scores are only comparable within one answer.
    """

    candidates: int = Field(default=200, ge=1, description="asked of each list; more if k is large")
    words: float = Field(default=0.5, ge=0, le=1, description="share of the words, the rest is meaning")
    common: float = Field(default=0.9, ge=0, le=1, description="share of what all vectors point to that is taken out")
    kin: float = Field(default=0.3, ge=0, description="for a vector like those of the best")
    kin_of: int = Field(default=8, ge=1, description="how many the best are for that")
    echo: float = Field(default=0.2, ge=0, description="for sharing the words that stand out in the best")
    echo_of: int = Field(default=3, ge=1, description="how many the best are for that")
    before: float = Field(default=0.15, ge=0, description="what a record lends to the one after it")
    after: float = Field(default=0.3, ge=0, description="what a record lends to the one before it")
    lenders: int = Field(default=60, ge=0, description="how many of the best lend to their neighbours")
    recency: float = Field(default=1.0, ge=0, description="for the newest candidate, falling with age")
    recent: float = Field(default=20.0, gt=0, description="after how many newer candidates it has fallen to a third")
    brevity: float = Field(default=0.25, ge=0, description="taken away for each e-fold of length")
    trust: float = Field(default=0.6, ge=0, description="taken away for each level of trust below the user's")
    useful: float = Field(default=0.5, ge=0, description="for a record whose uses all ended well")
    rerank: int = Field(default=30, ge=1, description="how many of the best a reranker sees")
    reranker: Any = Field(default=None, exclude=True, description="(query, texts) -> scores, the last word on the best")

    def rank(  # noqa: PLR0913 - one callable for each thing known of the candidates
        self,
        query: str,
        k: int,
        *,
        dense: Find,
        words: Find,
        rows: Callable[[Sequence[int]], Mapping[int, Row]],
        neighbours: Callable[[Sequence[int]], Mapping[int, Sequence[int]]],
        vector: Vector | None = None,
        vectors: Callable[[Sequence[int]], Mapping[int, Vector]] | None = None,
        alike: Callable[[Mapping[int, float], Ids], tuple[Ids, Scores]] | None = None,
    ) -> list[Ranked]:
        """The k best. `dense(n)` and `words(n)`: the n best ids and scores; `rows`: those of the ids that may be seen.

        `neighbours`: the ids written directly before and after each in its thread. `vector`: the query's; `vectors`: those of
        ids. `alike(shares, ids)`: which of `ids` share words with the given ones. Age is counted in records, not in time.
        """
        wanted = max(self.candidates, 4 * k)
        meant, worded = dense(wanted), words(wanted)
        ids = np.union1d(meant[0], worded[0]).astype(np.int64)
        near = neighbours(self._best(ids, meant, worded)) if self.before or self.after else {}
        ids = np.union1d(ids, np.array([each for some in near.values() for each in some], np.int64))
        known = rows(ids.tolist())
        ids = np.array([each for each in ids.tolist() if each in known], np.int64)
        if not len(ids):
            return []
        parts = self._matched(ids, meant, worded)
        if vector is not None and vectors is not None:
            parts |= self._by_vectors(ids, vector, vectors(ids.tolist()), parts["words"])
        if alike is not None and self.echo:
            shares = self._shares(ids, parts["meaning"] + parts["words"])
            parts["echo"] = self.echo * _scaled(ids, *alike(shares, ids), len(ids), floor=0.0)
        parts |= self._priors([known[each] for each in ids.tolist()])
        parts["neighbours"] = self._lent(ids, sum(parts.values(), np.zeros(len(ids))), near)
        order = _order(ids, sum(parts.values(), np.zeros(len(ids))))
        if self.reranker is not None:
            order = self._reranked(query, ids, order, known, parts)
        total = sum(parts.values(), np.zeros(len(ids)))
        return [
            Ranked(int(ids[at]), float(total[at]), {name: round(float(part[at]), 4) for name, part in parts.items()})
            for at in order[:k]
        ]

    def _matched(self, ids: Ids, meant: tuple[Ids, Scores], worded: tuple[Ids, Scores]) -> dict[str, Numbers]:
        size = max(len(meant[0]), len(worded[0]))
        return {
            "meaning": (1 - self.words) * _scaled(ids, *meant, size, floor=None),
            "words": self.words * _scaled(ids, *worded, size, floor=0.0),
        }

    def _by_vectors(self, ids: Ids, vector: Vector, known: Mapping[int, Vector], worded: Numbers) -> dict[str, Numbers]:
        """Meaning without what all of them have in common, and who is like the best of them."""
        held = np.array([known.get(each, np.zeros(len(vector), np.float32)) for each in ids.tolist()], float)
        mean = held.mean(axis=0)
        weight = self.common / max(float(mean @ mean), 1e-9)
        asked = vector - weight * float(vector @ mean) * mean
        meaning = (1 - self.words) * _standard(held @ asked)
        held = held - weight * (held @ mean)[:, None] * mean
        held /= np.maximum(np.linalg.norm(held, axis=1, keepdims=True), 1e-9)
        matched = meaning + worded
        best = _order(ids, matched)[: self.kin_of]
        likeness = held[best] @ held.T
        likeness[np.arange(len(best)), best] = 0  # nobody is kin of himself
        shares = np.exp(matched[best] - matched[best[0]])
        return {"meaning": meaning, "kin": self.kin * _standard(shares @ likeness)}

    def _shares(self, ids: Ids, matched: Numbers) -> dict[int, float]:
        """The few best, and how much each counts."""
        best = _order(ids, matched)[: self.echo_of]
        weights = np.exp(matched[best] - matched[best[0]])
        return dict(zip(ids[best].tolist(), (weights / weights.sum()).tolist(), strict=True))

    def _best(self, ids: Ids, meant: tuple[Ids, Scores], worded: tuple[Ids, Scores]) -> list[int]:
        """Those whose neighbours are looked at."""
        order = _order(ids, sum(self._matched(ids, meant, worded).values(), np.zeros(len(ids))))
        return [int(each) for each in ids[order[: self.lenders]]]

    def _priors(self, known: Sequence[Row]) -> dict[str, Numbers]:
        """What speaks for a record whatever is asked."""
        age = np.empty(len(known))
        age[sorted(range(len(known)), key=lambda at: (known[at].created, known[at].id))] = np.arange(len(known))[::-1]
        lengths = np.log([max(len(row.text), 1) for row in known])
        levels = np.array([min(row.trust, USER) - USER for row in known], float)
        helped = np.array([row.helped / (row.outcomes + 1) for row in known])
        return {
            "recency": self.recency * np.exp(-age / self.recent),
            "brevity": -self.brevity * (lengths - np.median(lengths)),
            "trust": self.trust * levels,
            "useful": self.useful * helped,
        }

    def _lent(self, ids: Ids, scores: Numbers, near: Mapping[int, Sequence[int]]) -> Numbers:
        """What each gets from the records directly before and after it, if those are better than most."""
        lent = np.zeros(len(ids))
        over = np.clip(scores - scores.mean(), 0, None)
        place = {each: at for at, each in enumerate(ids.tolist())}
        for lender, some in near.items():
            for each in some:
                if lender in place and each in place:
                    lent[place[each]] += (self.before if lender < each else self.after) * over[place[lender]]
        return lent

    def _reranked(
        self, query: str, ids: Ids, order: Ids, known: Mapping[int, Row], parts: dict[str, Numbers]
    ) -> NDArray[np.int64]:
        """The best in the order of the reranker, before all others."""
        best = order[: self.rerank]
        given = np.asarray(self.reranker(query, [known[int(each)].text for each in ids[best]]), float)
        fresh = np.zeros(len(ids))
        total = sum(parts.values(), np.zeros(len(ids)))
        spread = given.std() or 1.0
        fresh[best] = (given - given.min()) / spread + total.max() - total[best]
        parts["reranker"] = fresh
        return _order(ids, total + fresh)


def _scaled(ids: Ids, found: Ids, scores: Scores, size: int, floor: float | None) -> Numbers:
    """Scores of `ids` in units of their spread; `floor` for those not found, the lowest found where it is None."""
    raw = np.asarray(scores, float)
    low = floor if floor is not None else float(raw.min(initial=np.inf)) if len(raw) else 0.0
    padded = np.concatenate([raw, np.full(max(size - len(raw), 0), low)])
    if not len(raw) or (spread := float(padded.std())) < 1e-9:
        return np.zeros(len(ids))
    held = dict(zip(found.tolist(), raw.tolist(), strict=True))
    values = np.array([held.get(each, low) for each in ids.tolist()])
    result: Numbers = (values - padded.mean()) / spread
    return result


def _standard(values: Numbers) -> Numbers:
    """In units of their spread."""
    spread = float(values.std())
    return (values - values.mean()) / spread if spread > 1e-9 else np.zeros(len(values))


def _order(ids: Ids, scores: Numbers) -> NDArray[np.int64]:
    """Places, best first, equal ones by id."""
    return np.lexsort((ids, -scores)).astype(np.int64)
