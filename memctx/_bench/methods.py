"""What is compared: each method takes the entries of a conversation in their order, and answers questions with their keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from memctx._bench.conversations import Case
from memctx._bench.peers import langgraph, mem0
from memctx.errors import ConfigError, require

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from memctx.embed import Embedder
    from memctx.stores.hybrid import Hybrid

    Rows = NDArray[Any]

FUSED, TOP = 60, 100  # reciprocal ranks: the constant, and how much of each list counts


class Method(Protocol):
    """One conversation under one method."""

    def upto(self, seen: int) -> None:
        """The first `seen` entries are there, no others."""
        ...

    def ask(self, question: str, k: int) -> list[str]:
        """Keys of the k best entries."""
        ...

    def close(self) -> None: ...


Make = Callable[[Case, "Embedder"], Method]


class _Scores:
    """A method that scores every entry; those not yet said are masked."""

    def __init__(self, case: Case) -> None:
        self._keys = [entry.key for entry in case.entries]
        self._seen = len(self._keys)

    def upto(self, seen: int) -> None:
        self._seen = seen

    def ask(self, question: str, k: int) -> list[str]:
        return [self._keys[at] for at in self.order(question)[:k]]

    def order(self, question: str) -> Rows:
        """Places of the entries said so far, best first, equal ones in their order."""
        return np.argsort(-self.scores(question)[: self._seen], kind="stable")

    def scores(self, question: str) -> Rows:
        raise NotImplementedError

    def close(self) -> None:
        pass


class Bm25(_Scores):
    """bm25s as it comes, with English stop words."""

    def __init__(self, case: Case, _: Embedder) -> None:
        super().__init__(case)
        self._library = require("bm25s", extra="bench")
        self._index = self._library.BM25()
        texts = [entry.text for entry in case.entries]
        self._index.index(self._library.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)

    def scores(self, question: str) -> Rows:
        words = self._library.tokenize([question], stopwords="en", return_ids=False, show_progress=False)[0]
        return np.asarray(self._index.get_scores(words)) if words else np.zeros(len(self._keys))


class Dense(_Scores):
    """The cosine alone."""

    def __init__(self, case: Case, chosen: Embedder) -> None:
        super().__init__(case)
        self._embedder = chosen
        self._vectors = chosen.embed([entry.text for entry in case.entries])

    def scores(self, question: str) -> Rows:
        return np.asarray(self._vectors @ self._embedder.embed([question])[0])


class Fused(_Scores):
    """Reciprocal ranks of the two."""

    def __init__(self, case: Case, chosen: Embedder) -> None:
        super().__init__(case)
        self._both = (Bm25(case, chosen), Dense(case, chosen))

    def scores(self, question: str) -> Rows:
        summed = np.zeros(len(self._keys))
        for each in self._both:
            each.upto(self._seen)
            best = each.order(question)[:TOP]
            summed[best] += 1 / (FUSED + 1 + np.arange(len(best)))
        return summed


class Memctx:
    """A `Memory` of its own in memory, written as the conversation goes on."""

    def __init__(self, case: Case, chosen: Embedder, ranker: Hybrid | None = None, by: Any = "both") -> None:
        from memctx.memory import Memory

        self._memory = Memory(embedder=chosen, ranker=ranker)
        self._scope = self._memory.at("bench", case.name)
        self._by = by
        self._entries = case.entries
        self._keys: dict[int, list[str]] = {}  # two entries that say the same are one record
        self._written = 0

    def upto(self, seen: int) -> None:
        if seen < self._written:
            raise ConfigError(f"what was written cannot be unsaid: {self._written} entries, then {seen}", field="seen")
        new = self._entries[self._written : seen]
        for start in range(0, len(new), TOP):
            part = new[start : start + TOP]
            for thread in dict.fromkeys(entry.thread for entry in part):
                told = [entry for entry in part if entry.thread == thread]
                items = [{"text": entry.text, "kind": "episodic", "source": entry.source} for entry in told]
                for entry, record in zip(told, self._scope.during(thread).write_many(items), strict=True):
                    self._keys.setdefault(record.id, []).append(entry.key)
        self._written = seen

    def ask(self, question: str, k: int) -> list[str]:
        found = self._scope.search(question, k=k, by=self._by)
        return [key for hit in found for key in self._keys[hit.record.id]][:k]

    def close(self) -> None:
        self._memory.close()


def _memctx(by: str = "both", **settings: Any) -> Make:
    def make(case: Case, chosen: Embedder) -> Method:
        from memctx.stores.hybrid import Hybrid

        return Memctx(case, chosen, Hybrid(**settings), by)

    return make


METHODS: dict[str, Make] = {
    "bm25": Bm25,
    "dense": Dense,
    "fused": Fused,
    "memctx": _memctx(),
    "memctx-words": _memctx(by="words"),
    "memctx-meaning": _memctx(by="meaning"),
    "memctx-no-kin": _memctx(kin=0),
    "memctx-no-echo": _memctx(echo=0),
    "memctx-no-centring": _memctx(common=0),
    "memctx-no-neighbours": _memctx(before=0, after=0),
    "memctx-no-recency": _memctx(recency=0),
    "memctx-no-brevity": _memctx(brevity=0),
    "memctx-no-trust": _memctx(trust=0),
    "memctx-no-priors": _memctx(recency=0, brevity=0, trust=0),
    "mem0": mem0,
    "langgraph": langgraph,
}
