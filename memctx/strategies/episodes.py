"""Episodes: memory's conversations in coherent episodes, and a question led to the nearest of them before it is searched.

Follows EpiCache (arXiv 2509.17396) on the level of text: windows of a few utterances are clustered, and a question is
answered from the episodes whose centroids are nearest. Other than there, episodes grow as the conversation does, and a
question may have several.

Routing loses evidence: on LoCoMo (1,340 questions, `benchmarks/episodes.py`) recall@10 is 0.48 with one route, 0.59 with two
and 0.66 with four, against 0.69 of flat search. So `recall` searches flat unless it is told otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from memctx._skim import skim
from memctx.component import Component
from memctx.effects import Asks, Embed, Recall
from memctx.records import KINDS, Hit, Record
from memctx.strategies import Context, Proposal

if TYPE_CHECKING:
    from memctx.strategies._clusters import Clusters, Window

KEY = "episodes"
PAGE = 256  # records asked for first, when it is to be found out which are new
FEWEST = 8  # windows: with less there is nothing to choose between


@dataclass(frozen=True, slots=True)
class Episode:
    """Windows that belong together. `title`: an outline of its most typical one; `records`: ids; `typical`: texts, in order."""

    title: str
    records: tuple[int, ...]
    typical: tuple[str, ...]


@dataclass(slots=True)
class _Known:
    """What was read so far: clusters of whole windows, and by thread the newest records, which fill none yet."""

    clusters: Clusters
    newest: int = 0
    rest: dict[str, list[Record]] = field(default_factory=dict)


class Episodes(Component):
    """Notes as `recall` makes them, found in the `routes` episodes nearest to the question.

    Every `window` utterances of a thread make one window. One less like every episode than `threshold` (cosine) begins an
    episode of its own, up to `most`; after `refit` windows k-means puts them right. Facts and other kinds that are no
    utterances are searched as they are. As the `search` of `recall` it takes that one's settings.
    """

    every_call: ClassVar[bool] = True

    window: int = Field(default=4, ge=1)
    routes: int = Field(default=2, ge=1)
    threshold: float = Field(default=0.6, ge=0, le=1)
    most: int = Field(default=32, ge=1)
    refit: int = Field(default=64, ge=1)

    def propose(self, ctx: Context) -> Proposal:
        """As `recall`, with this search."""
        from memctx.strategies.recall import RecallMemory

        return (yield from RecallMemory(search=self.dump()).propose(ctx))

    def find(self, memo: dict[str, Any], ask: Recall) -> Asks:
        """The hits for a question. `memo` keeps the episodes between calls; without it they are made again."""
        kinds = ask.kinds or KINDS
        if "episodic" not in kinds:
            return (yield ask)
        known = yield from self._follow(memo)
        if len(known.clusters.windows) < FEWEST or len(known.clusters) <= self.routes:
            return (yield ask)
        vectors = yield Embed((ask.query,))
        inside = [*known.clusters.members(known.clusters.route(vectors[0], self.routes))]
        inside += [each.id for some in known.rest.values() for each in some]
        hits: list[Hit] = yield replace(ask, kinds=("episodic",), within=tuple(inside))
        others = tuple(kind for kind in kinds if kind != "episodic")
        if others:
            hits = [*hits, *(yield replace(ask, kinds=others))]
        return sorted(hits, key=lambda hit: -hit.score)[: ask.k]

    def episodes(self, memo: dict[str, Any]) -> list[Episode]:
        """The episodes known by now."""
        known: _Known | None = memo.get(KEY)
        return [self._episode(known.clusters, label) for label in range(len(known.clusters))] if known else []

    def _episode(self, clusters: Clusters, label: int) -> Episode:
        typical = clusters.medoids(label, self.window)
        title = skim(clusters.medoids(label, 1)[0].text, level=1, limit=100).partition("\n")[0][:100]
        return Episode(title, tuple(clusters.members([label])), tuple(window.text for window in typical))

    def _follow(self, memo: dict[str, Any]) -> Asks:
        """Take in the records written since the last time."""
        known = memo.get(KEY)
        if known is None:
            from memctx.strategies._clusters import Clusters

            known = memo[KEY] = _Known(Clusters(self.threshold, self.most, self.refit))
        windows = self._windows(known, (yield from _newer(known.newest)))
        if windows:
            vectors = yield Embed(tuple(window.text for window in windows))
            known.clusters.add(windows, vectors)
        return known

    def _windows(self, known: _Known, records: Sequence[Record]) -> list[Window]:
        """The windows that these records fill."""
        from memctx.strategies._clusters import Window

        full: list[Window] = []
        for record in records:
            rest = known.rest.setdefault(record.thread, [])
            rest.append(record)
            if len(rest) == self.window:
                full.append(Window(tuple(each.id for each in rest), "\n".join(each.text for each in rest)))
                del known.rest[record.thread]
            known.newest = max(known.newest, record.id)
        return full


def _newer(than: int) -> Asks:
    """The episodic records written after that id, oldest first."""
    count = PAGE
    while True:
        hits: list[Hit] = yield Recall("", ("episodic",), count)
        newer = [hit.record for hit in hits if hit.record.id > than]
        if len(newer) < len(hits) or len(hits) < count:
            return newer[::-1]
        count *= 4
