"""Vector indices against raw FAISS, killed processes, damaged files, neighbours, and a GPU where there is one.

    python benchmarks/indices.py                        # every row, about five minutes on one core
    python benchmarks/indices.py --rows overhead,kinds --json

Rows: overhead (4), crash (6), corruption (7), tenants (10), kinds (what the kinds cost and find), batching, gpu.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import faiss
import numpy as np

from memctx.stores import Batch, _faiss_gpu
from memctx.stores.exact import ExactIndex
from memctx.stores.faiss import FaissIndex
from tests.indices import crashes, damages, tenants

DIM, ROWS = 384, 100_000
SCOPE = "acme/ana/"
Row = dict[str, Any]


def corpus(count: int, dim: int = DIM, seed: int = 0) -> Any:
    """Rows of length one, float32: 32 hidden directions and noise, so that neighbours shade into each other as texts do."""
    rng = np.random.default_rng(seed)
    hidden = np.random.default_rng(99).standard_normal((32, dim), np.float32)
    rows = rng.standard_normal((count, 32), np.float32) @ hidden / np.float32(32**0.5)
    rows += np.float32(0.5) * rng.standard_normal((count, dim), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def side_by_side(ours: Callable[[], Any], raw: Callable[[], Any], repeats: int) -> tuple[float, float, float]:
    """(ours, raw, ours - raw) in ms: medians, the two called in turn so that a busy machine slows both."""
    times: list[tuple[float, float]] = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        ours()
        middle = time.perf_counter()
        raw()
        times.append((middle - start, time.perf_counter() - middle))
    mine, theirs = zip(*times[2:], strict=True)
    added = statistics.median(a - b for a, b in times[2:])
    return statistics.median(mine) * 1e3, statistics.median(theirs) * 1e3, added * 1e3


def overhead(_: argparse.Namespace) -> Iterator[Row]:
    """Row 4: one scope of 100,000 × 384 against a raw IndexFlatIP of the same rows."""
    rows, queries = corpus(ROWS), corpus(64, seed=1)
    raw, index = faiss.IndexFlatIP(DIM), FaissIndex(DIM, device="cpu")
    raw.add(rows)
    index.add(Batch(SCOPE, np.arange(1, ROWS + 1), rows))
    for count, repeats in ((1, 101), (64, 15)):
        some = queries[:count]
        ours, theirs, added = side_by_side(
            partial(index.search, some, 10, SCOPE), partial(raw.search, some, 10), repeats
        )
        same = bool((index.search(some, 10, SCOPE)[0] == raw.search(some, 10)[1] + 1).all())
        ok = added <= 0.3 if count == 1 else ours <= 1.2 * theirs
        yield {"row": "overhead", "batch": count, "ours_ms": ours, "raw_ms": theirs, "added_ms": added,
               "ratio": ours / theirs, "same": same, "ok": ok and same}  # fmt: skip


def kinds(_: argparse.Namespace) -> Iterator[Row]:
    """What each kind costs and finds at 100,000 × 384, k = 10, against exact search; also after removals and with `only`."""
    rows, queries = corpus(ROWS), corpus(200, seed=1)
    exact = FaissIndex(DIM, device="cpu", kind="flat")
    exact.add(Batch(SCOPE, np.arange(1, ROWS + 1), rows))
    some = np.arange(1, ROWS, 3)
    for kind in ("flat", "ivf", "hnsw"):
        start = time.perf_counter()
        index = FaissIndex(DIM, device="cpu", kind=kind)
        index.rebuild([Batch(SCOPE, np.arange(1, ROWS + 1), rows)])
        index.settle()
        built = time.perf_counter() - start
        one, many = _per_query(index, queries[:50], 1), _per_query(index, queries[:64], 64)
        found = [_recall(index, exact, queries, None), _recall(index, exact, queries, some)]
        gone = list(range(1, 20_000))
        index.remove(SCOPE, gone)
        exact.remove(SCOPE, gone)
        found.append(_recall(index, exact, queries, None))
        exact.add(Batch(SCOPE, np.arange(1, 20_000), rows[:19_999]))
        yield {"row": "kinds", "kind": kind, "build_s": built, "ms_batch_1": one, "ms_batch_64": many, "recall": found[0],
               "recall_only": found[1], "recall_removed": found[2], "why": index.describe(SCOPE)["why"]}  # fmt: skip


def _per_query(index: Any, queries: Any, size: int) -> float:
    """Median ms of a call with `size` queries."""
    times = []
    for start in range(0, len(queries), size):
        began = time.perf_counter()
        index.search(queries[start : start + size], 10, SCOPE)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def _recall(index: Any, exact: Any, queries: Any, only: Any) -> float:
    got, true = (each.search(queries, 10, SCOPE, only=only)[0] for each in (index, exact))
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(got.tolist(), true.tolist(), strict=True)]))


def crash(options: argparse.Namespace) -> Iterator[Row]:
    """Row 6, the index's part: SIGKILL at every write call of its saves, half of a write done."""
    with tempfile.TemporaryDirectory() as folder:
        found = list(crashes(Path(folder) / "index", options.trials))
    bad = [each for each in found if not each.good]
    yield {"row": "crash", "killed": len(found), "consistent": sum(not each.damaged for each in found),
           "empty_and_says_so": sum(bool(each.damaged) for each in found), "bad": len(bad), "ok": not bad}  # fmt: skip


def corruption(options: argparse.Namespace) -> Iterator[Row]:
    """Row 7: bit flips, zeroed pages and truncations of every file, of each kind of index."""
    for kind in ("flat", "hnsw", "ivf"):
        with tempfile.TemporaryDirectory() as folder:
            found = Counter(damages(Path(folder) / "index", options.trials, kind, 2_000))
        wrong = sum(count for (_, outcome), count in found.items() if outcome == "silently wrong")
        counts = {f"{name} {outcome}": count for (name, outcome), count in sorted(found.items())}
        yield {
            "row": "corruption",
            "kind": kind,
            "damages": found.total(),
            "silently_wrong": wrong,
            **counts,
            "ok": not wrong,
        }


def neighbours(_: argparse.Namespace) -> Iterator[Row]:
    """Row 10: 1,000 scopes whose neighbours hold the query itself; saved and opened again before the questions."""
    for kind in ("auto", "flat", "hnsw"):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "index"

            def opened_again(index: Any, place: Path = place, kind: Any = kind) -> Any:
                index.save()
                return FaissIndex(DIM, place, kind=kind)

            found = tenants(FaissIndex(DIM, place, kind=kind), 1_000, 30, DIM, opened_again)
        ok = not found.leaked and found.recall == 1.0
        yield {"row": "tenants", "kind": kind, "scopes": found.scopes, "leaked": found.leaked, "recall": found.recall,
               "files": found.files, "ok": ok}  # fmt: skip
    found = tenants(ExactIndex(DIM), 1_000, 30, DIM)
    yield {
        "row": "tenants",
        "kind": "ExactIndex",
        "scopes": found.scopes,
        "leaked": found.leaked,
        "recall": found.recall,
    }


def batching(_: argparse.Namespace) -> Iterator[Row]:
    """256 requests at once from one event loop, against the same one after the other."""
    index, queries = FaissIndex(DIM, device="cpu"), corpus(256, seed=1)
    index.add(Batch(SCOPE, np.arange(1, 20_001), corpus(20_000)))

    async def together() -> None:
        await asyncio.gather(*(index.asearch(query[None], 10, SCOPE) for query in queries))

    start = time.perf_counter()
    asyncio.run(together())
    middle = time.perf_counter()
    for query in queries:
        index.search(query[None], 10, SCOPE)
    end = time.perf_counter()
    yield {
        "row": "batching",
        "requests": 256,
        "calls": index._together.calls,
        "together_s": middle - start,
        "one_by_one_s": end - middle,
    }


def gpu(options: argparse.Namespace) -> Iterator[Row]:
    """Exact search on the GPU against the CPU: the same rows, throughput at 1,000,000 × 384, concurrent callers."""
    if not _faiss_gpu.present(faiss):
        yield {"row": "gpu", "skipped": "needs a GPU and faiss-gpu"}
        return
    count = options.gpu_rows
    rows, queries = corpus(count), corpus(1_024, seed=1)
    cpu = FaissIndex(DIM, device="cpu", kind="flat")
    cpu.add(Batch(SCOPE, np.arange(1, count + 1), rows))
    for float16 in (False, True):
        index = FaissIndex(DIM, device="gpu", float16=float16)
        index.add(Batch(SCOPE, np.arange(1, count + 1), rows))
        index.search(queries[:1], 10, SCOPE)
        for size in (1, 64, 1_024):
            yield {"row": "gpu", "float16": float16, "rows": count, "batch": size, "gpu_ms": _per_query(index, queries, size),
                   "cpu_ms": _per_query(cpu, queries[: max(size, 64)], size)}  # fmt: skip
        recall = _recall(index, cpu, queries[:256], None)
        start = time.perf_counter()
        asyncio.run(_ask(index, queries))
        spent = time.perf_counter() - start
        yield {"row": "gpu", "float16": float16, "recall": recall, "concurrent": 1_024, "per_second": 1_024 / spent,
               "calls": index._together.calls, "ok": recall >= 0.9999}  # fmt: skip
        index.close()


async def _ask(index: FaissIndex, queries: Any) -> None:
    await asyncio.gather(*(index.asearch(query[None], 10, SCOPE) for query in queries))


MEASURES = {
    "overhead": overhead, "crash": crash, "corruption": corruption, "tenants": neighbours, "kinds": kinds,
    "batching": batching, "gpu": gpu,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(MEASURES), help="which, with commas between")
    parser.add_argument("--trials", type=int, default=1_000, help="kills, and damages of each kind")
    parser.add_argument("--gpu-rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="one object a line")
    options = parser.parse_args()
    for name in options.rows.split(","):
        for row in MEASURES[name](options):
            print(json.dumps(row) if options.json else _line(row), flush=True)


def _line(row: Row) -> str:
    shown = {key: f"{value:.3f}" if isinstance(value, float) else value for key, value in row.items()}
    return f"{shown.pop('row'):<11}" + "  ".join(f"{key} {value}" for key, value in shown.items())


if __name__ == "__main__":
    main()
