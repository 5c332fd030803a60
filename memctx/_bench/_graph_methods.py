"""What `memctx bench graph` compares: a method takes the training runs and gives a function that scores the tools that may come next.

All vectors are of one embedder, so that methods differ in what they do with them. Where a baseline holds two tools for equal, the
more frequent one comes first.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice, pairwise

import numpy as np

from memctx._bench._graph_data import Recorded
from memctx.embed import Embedder
from memctx.graphs._rank import FACTS
from memctx.graphs.tool_graph import START, ToolGraph

NEAREST = 10  # states that vote in kNN
WEIGHT = 500.0  # H-EPM's constant
TIE = 1e-6  # of the share of a tool in all calls: only decides between equals

Score = Callable[[Sequence[str], str, Mapping[str, str]], Mapping[str, float]]  # path, state, tools -> higher is better
Train = Callable[[Sequence[Recorded], Embedder], Score]


def frequency(runs: Sequence[Recorded], _: Embedder) -> Score:
    """The share of a tool in all calls."""
    called = Counter(visit.tool for run in runs for visit in run.visits)
    return lambda path, state, tools: {tool: called[tool] / max(called.total(), 1) for tool in tools}


def _or_frequent(runs: Sequence[Recorded], chosen: Embedder, score: Score) -> Score:
    """`score`, with equal tools by their frequency."""
    usual = frequency(runs, chosen)

    def both(path: Sequence[str], state: str, tools: Mapping[str, str]) -> Mapping[str, float]:
        found = score(path, state, tools)
        return {tool: found.get(tool, 0.0) + TIE * share for tool, share in usual(path, state, tools).items()}

    return both


def bigram(runs: Sequence[Recorded], chosen: Embedder) -> Score:
    """How often a tool was called after the last one; the start of a run counts as a tool."""
    after: dict[str, Counter[str]] = defaultdict(Counter)
    for run in runs:
        trail = [START, *(visit.tool for visit in run.visits)]
        for before, tool in pairwise(trail):
            after[before][tool] += 1
    return _or_frequent(runs, chosen, lambda path, state, tools: after[path[-1] if path else START])


def knn(runs: Sequence[Recorded], chosen: Embedder) -> Score:
    """The tools called in the ten most similar states, by the sum of their cosines."""
    visits = [visit for run in runs for visit in run.visits]
    vectors = chosen.embed([visit.state or START for visit in visits])

    def score(path: Sequence[str], state: str, tools: Mapping[str, str]) -> Mapping[str, float]:
        likeness = vectors @ chosen.embed([state])[0]
        usable = (at for at in np.argsort(-likeness, kind="stable").tolist() if visits[at].tool in tools)
        found: dict[str, float] = defaultdict(float)
        for at in islice(usable, NEAREST):
            found[visits[at].tool] += float(likeness[at])
        return found

    return _or_frequent(runs, chosen, score)


def hepm(runs: Sequence[Recorded], chosen: Embedder) -> Score:
    """H-EPM's released rule: each edge out of the last tool has its best cosine with a stored state, or else its weight / 500.

    The rule asks a model whether states should be compared; here the answer is always yes. It starts after the first call; here the
    start counts as a tool, so that it may predict the first call as well.
    """
    weights: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    states: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for run in runs:
        trail = [START, *(visit.tool for visit in run.visits)]
        for before, visit in zip(trail, run.visits, strict=False):
            weights[before][visit.tool] += 1 + 1 / len(run.visits)
            states[before, visit.tool][visit.state] = None
    vectors = {edge: chosen.embed(list(texts)) for edge, texts in states.items()}

    def score(path: Sequence[str], state: str, tools: Mapping[str, str]) -> Mapping[str, float]:
        last = path[-1] if path else START
        asked = chosen.embed([state])[0]
        best = {tool: float((vectors[last, tool] @ asked).max()) for tool in weights[last]}
        return {tool: best[tool] if best[tool] > 0 else weight / WEIGHT for tool, weight in weights[last].items()}

    return _or_frequent(runs, chosen, score)


def memctx(runs: Sequence[Recorded], chosen: Embedder, fact: str = "") -> Score:
    """A `ToolGraph` as it comes; or one fact alone, for every call."""
    graph = ToolGraph(embedder=chosen, gate=1.0) if fact else ToolGraph(embedder=chosen)
    for run in runs:
        graph.describe(run.tools)
        graph.learn(run.visits, now=0.0)

    def score(path: Sequence[str], state: str, tools: Mapping[str, str]) -> Mapping[str, float]:
        graph.describe(tools)
        facts = graph.facts(path, state, available=tools)
        found = facts.rows[:, FACTS.index(fact)] if fact else facts.shares()
        return dict(zip(facts.names, found.tolist(), strict=True))

    return score


METHODS: dict[str, Train] = {
    "frequency": frequency,
    "bigram": bigram,
    "knn": knn,
    "hepm": hepm,
    "memctx-transitions": partial(memctx, fact="transitions"),
    "memctx-states": partial(memctx, fact="states"),
    "memctx-words": partial(memctx, fact="words"),
    "memctx": memctx,
}
