"""Fit what ranks tools, `memctx/_tool_rank.npz`, on the queries of four public sets: numpy, a few minutes on one core.

    python benchmarks/fit_tools.py ../shared/data/tools              # all queries; writes the file
    python benchmarks/fit_tools.py ../shared/data/tools --check      # three folds: recall on queries that were not seen

Two things are fitted, each set counting the same, whatever its size. First `adapt`, a matrix between the vectors of queries
and of tools, held near nothing. Then a weight for each of `NAMES`, on features whose `adapt` has not seen the query: each fold
is read with the matrix of the others. Both losses are listwise: a needed tool against all that are not needed.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import memctx._tool_rank as rank
from memctx._bench._tools_data import SETS, Query, ToolSet, load
from memctx._tool_rank_read import Tool, read
from memctx._tool_rank_words import kinds

Floats = NDArray[Any]
Flags = NDArray[np.bool_]

FOLDS = 3
MOST = 900  # queries of one set that the weights are fitted on
NEAR, SHARP = 0.02, 12.0  # how strongly `adapt` is held near nothing; what a cosine counts in its softmax
LIGHT = 1e-3  # how strongly the weights are held near nothing
KS = (5, 10)


@dataclass
class Fitting:
    """One set, ready to be fitted on."""

    name: str
    tools: list[Tool]
    queries: list[Query]
    gold: Flags  # (queries, tools)
    asked: Floats  # (queries, 256)
    offered: Floats  # (tools, 256)
    fold: NDArray[np.int64]


@dataclass
class Seen:
    """Queries by what was seen of their likely tools, padded to the same number."""

    features: Floats  # (queries, tools, NAMES)
    real: Flags  # (queries, tools): no padding
    gold: Flags


def ready(data: ToolSet) -> Fitting:
    tools = [tool for raw in data.tools for tool in read(raw)]
    place = {tool.id: at for at, tool in enumerate(tools)}
    gold = np.zeros((len(data.queries), len(tools)), bool)
    for row, query in enumerate(data.queries):
        gold[row, [place[each] for group in query.gold for each in group if each in place]] = True
    asked = rank.static().embed([kinds(query.text) for query in data.queries])
    offered = rank.static().embed([rank.told(tool) for tool in tools])
    fold = np.array([zlib.crc32(query.id.encode()) % FOLDS for query in data.queries])
    return Fitting(data.name, tools, data.queries, gold, asked, offered, fold)


def listwise(scores: Floats, gold: Flags) -> Floats:
    """The gradient of the mean loss by the scores: -log of each needed tool's share against those that are not needed."""
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    others = raised * ~gold
    total = others.sum(axis=1, keepdims=True)
    each = np.where(gold, 1 / np.maximum(raised + total, 1e-12), 0) / np.maximum(gold.sum(axis=1, keepdims=True), 1)
    slope: Floats = ((others * each.sum(axis=1, keepdims=True) - each * total) / len(scores)).astype(np.float32)
    return slope


def descend(start: Floats, gradient: Callable[[Floats], Floats], steps: int, rate: float) -> Floats:
    """Adam (Kingma & Ba 2015)."""
    at, mean, square = start, np.zeros_like(start), np.zeros_like(start)
    for step in range(1, steps + 1):
        slope = gradient(at)
        mean, square = 0.9 * mean + 0.1 * slope, 0.99 * square + 0.01 * slope**2
        at = at - rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
    return at


def fit_adapt(sets: Sequence[Fitting], rows: Sequence[NDArray[np.int64]], steps: int = 150) -> Floats:
    """(256, 256), on some queries of each set."""
    chance = np.random.default_rng(0)

    def gradient(adapt: Floats) -> Floats:
        slope = NEAR * adapt
        for one, of in zip(sets, rows, strict=True):
            batch = chance.choice(of, min(96, len(of)), replace=False)
            some = chance.choice(len(one.tools), min(400, len(one.tools)), replace=False)
            tools = np.union1d(some, np.flatnonzero(one.gold[batch].any(axis=0)))
            asked, offered = one.asked[batch], one.offered[tools]
            scores = SHARP * (asked @ offered.T + asked @ adapt @ offered.T)
            slope = slope + SHARP * asked.T @ (listwise(scores, one.gold[batch][:, tools]) @ offered) / len(sets)
        return slope

    return descend(np.zeros((256, 256), np.float32), gradient, steps, 2e-3)


def seen(one: Fitting, of: NDArray[np.int64], adapt: Floats) -> Seen:
    """What the ranking sees for some queries."""
    ranker = rank.Ranker(one.tools, rank.static(), rank.Weights(adapt, np.zeros(len(rank.NAMES), np.float32)))
    found = [ranker.features(one.queries[row].text) for row in of]
    most = max(len(likely) for likely, _ in found)
    features = np.zeros((len(of), most, len(rank.NAMES)), np.float32)
    real, gold = np.zeros((len(of), most), bool), np.zeros((len(of), most), bool)
    for at, (row, (likely, described)) in enumerate(zip(of, found, strict=True)):
        features[at, : len(likely)], real[at, : len(likely)] = described, True
        gold[at, : len(likely)] = one.gold[row, likely]
    met = gold.any(axis=1)
    return Seen(features[met], real[met], gold[met])


def fit_linear(parts: Sequence[Seen]) -> Floats:
    """One weight for each feature."""
    every = np.concatenate([part.features[part.real] for part in parts])
    middle, scale = every.mean(axis=0), every.std(axis=0) + 1e-6
    scaled = [(part.features - middle) / scale * part.real[..., None] for part in parts]

    def gradient(weights: Floats) -> Floats:
        slope = LIGHT * weights
        for part, features in zip(parts, scaled, strict=True):
            scores = np.where(part.real, features @ weights, -1e9).astype(np.float32)
            slope = slope + np.einsum("qt,qtf->f", listwise(scores, part.gold), features)
        return slope

    weights: Floats = descend(np.zeros(len(rank.NAMES), np.float32), gradient, 300, 0.05) / scale
    return weights


def fit(sets: Sequence[Fitting], rows: Sequence[NDArray[np.int64]]) -> rank.Weights:
    """Both, on some queries of each set."""
    chance = np.random.default_rng(1)
    mixed = [chance.permutation(of) for of in rows]
    parts: list[list[Seen]] = [[] for _ in sets]
    for fold in range(FOLDS):
        adapt = fit_adapt(sets, [of[np.arange(len(of)) % FOLDS != fold] for of in mixed])
        for one, of, found in zip(sets, mixed, parts, strict=True):
            found.append(seen(one, of[fold::FOLDS][: MOST // FOLDS], adapt))
    return rank.Weights(fit_adapt(sets, rows), fit_linear([joined(found) for found in parts]))


def joined(parts: Sequence[Seen]) -> Seen:
    most = max(part.real.shape[1] for part in parts)

    def wide(rows: NDArray[Any]) -> NDArray[Any]:
        return np.pad(rows, ((0, 0), (0, most - rows.shape[1]), *((0, 0),) * (rows.ndim - 2)))

    return Seen(
        *(np.concatenate([wide(getattr(part, each)) for part in parts]) for each in ("features", "real", "gold"))
    )


def recall(one: Fitting, of: NDArray[np.int64], weights: rank.Weights) -> list[float]:
    """Over some queries, at each of `KS`."""
    ranker = rank.Ranker(one.tools, rank.static(), weights)
    shares = []
    for row in of:
        likely, parts = ranker.scores(one.queries[row].text)
        best = [one.tools[at].id for at in likely[np.argsort(-parts.sum(axis=1), kind="stable")]]
        gold = one.queries[row].gold
        shares.append([sum(bool(group & set(best[:k])) for group in gold) / len(gold) for k in KS])
    return [float(share) for share in np.mean(shares, axis=0)]


def check(sets: Sequence[Fitting]) -> None:
    """Recall on what was not fitted on: the queries of one fold, and the sets one by one, tools and all."""
    every = [np.arange(len(one.queries)) for one in sets]
    folds: dict[str, list[list[float]]] = {one.name: [] for one in sets}
    for fold in range(FOLDS):
        weights = fit(sets, [rows[one.fold != fold] for one, rows in zip(sets, every, strict=True)])
        for one, rows in zip(sets, every, strict=True):
            left = rows[one.fold == fold]
            folds[one.name] += [[len(left), *recall(one, left, weights)]]
    for at, one in enumerate(sets):
        counts, *found = np.array(folds[one.name]).T
        print(f"{one.name:10} new queries " + told(np.average(each, weights=counts) for each in found))
        others = [*range(at), *range(at + 1, len(sets))]
        weights = fit([sets[other] for other in others], [every[other] for other in others])
        print(f"{one.name:10} new set     " + told(recall(one, every[at], weights)), flush=True)


def told(found: Iterable[float]) -> str:
    return "  ".join(f"@{k} {share:.3f}" for k, share in zip(KS, found, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    sets = [ready(load(given.path, name)) for name in SETS]
    if given.check:
        check(sets)
        return
    weights = fit(sets, [np.arange(len(one.queries)) for one in sets])
    for name, weight in zip(rank.NAMES, weights.linear, strict=True):
        print(f"{name:20} {weight:8.3f}")
    target = Path(rank.__file__).with_name("_tool_rank.npz")
    np.savez_compressed(target, adapt=weights.adapt.astype(np.float16), linear=weights.linear)


if __name__ == "__main__":
    main()
