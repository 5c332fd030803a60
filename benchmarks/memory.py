"""Row 3: memctx beside mem0 (its FAISS store, infer=False) and LangGraph's InMemoryStore: same embedder, same data.

    python benchmarks/memory.py                    recall on LoCoMo, times at 20,000 records, ten rows beside a louder neighbour
    python benchmarks/memory.py --records 2000 --dataset beam PATH

A peer that is not installed is left out, with the reason. Times are medians of single calls, embedding included; memctx is on
a file (SQLite with FULL synchronisation), mem0 on its files, LangGraph's store in memory. mem0 is filled by one call to its
vector store, because its `add` writes the whole index each time.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from memctx._bench.memory import bench
from memctx._bench.peers import LangGraphStore, Mem0
from memctx.embed import Embedder, embedder
from memctx.errors import MissingDependency
from memctx.memory import Memory

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data" / "locomo" / "locomo10_conv1-7.json.gz"
TIMED = 20  # calls of each kind
MANY = 100
LOUD = 300  # rows of a neighbour; mem0 fetches some more than it was asked for before it looks whose they are
WORDS = "harbour lantern copper meadow signal garden winter bridge violin paper engine market river stone falcon"


class Ours:
    """memctx on a file."""

    def __init__(self, chosen: Embedder) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="memctx-bench-")
        self.memory = Memory(Path(self._folder.name) / "memory.db", embedder=chosen)

    def add(self, user: str, text: str, key: str) -> str:
        return str(self.memory.at("bench", user).write(text, kind="episodic", meta={"key": key}).id)

    def fill(self, user: str, texts: Sequence[str]) -> None:
        scoped = self.memory.at("bench", user)
        for start in range(0, len(texts), 1_000):
            scoped.write_many([{"text": text, "kind": "episodic"} for text in texts[start : start + 1_000]])

    def search(self, user: str, query: str, k: int) -> list[dict[str, Any]]:
        found = self.memory.at("bench", user).search(query, k=k)
        return [{"id": str(hit.record.id), "text": hit.record.text} for hit in found]

    def delete(self, user: str, row: str) -> None:
        self.memory.at("bench", user).forget(int(row))

    def add_many(self, user: str, texts: Sequence[str]) -> list[str]:
        made = self.memory.at("bench", user).write_many([{"text": text, "kind": "episodic"} for text in texts])
        return [str(each.id) for each in made]

    def delete_many(self, user: str, rows: Sequence[str]) -> None:
        self.memory.at("bench", user).forget(*map(int, rows))

    def close(self) -> None:
        self.memory.close()
        self._folder.cleanup()


Store = Ours | Mem0 | LangGraphStore
STORES: dict[str, Callable[[Embedder], Store]] = {"memctx": Ours, "mem0": Mem0, "langgraph": LangGraphStore}


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of one call, the median, with `records` rows in the scope."""

    store: str
    records: int
    ms_write: float
    ms_write_in_100: float  # a row, when a hundred are written in one call
    ms_delete: float
    ms_delete_in_100: float
    ms_search: float
    tenant: str  # of the ten rows of a tenant whose neighbour has three hundred nearer ones, how many come back


def measured(name: str, chosen: Embedder, records: int) -> Times:
    """Fill a scope, then time single calls; a warm-up search first, which may build an index."""
    store = STORES[name](chosen)
    try:
        store.fill("ana", sentences(records))
        store.search("ana", "warm up", 10)
        queries = sentences(TIMED, seed=2)
        search = [timed(lambda q=query: store.search("ana", q, 10)) for query in queries]  # type: ignore[misc]
        rows: list[str] = []
        write = [timed(lambda t=text: rows.append(store.add("ana", t, ""))) for text in sentences(TIMED, seed=3)]  # type: ignore[misc]
        delete = [timed(lambda r=row: store.delete("ana", r)) for row in rows]  # type: ignore[misc]
        middle = {
            f"ms_{kind}": round(statistics.median(each), 3)
            for kind, each in (("write", write), ("delete", delete), ("search", search))
        }
        middle |= hundred(store)
        return Times(name, records, **middle, tenant=tenant(STORES[name](chosen)))
    finally:
        store.close()


def hundred(store: Store) -> dict[str, float]:
    """Milliseconds a row where a hundred are written, and deleted, in one call; the middle of three."""
    rows: list[list[str]] = []
    texts = [sentences(MANY, seed=seed) for seed in (4, 5, 6)]
    write = [timed(lambda t=some: rows.append(store.add_many("ana", t))) for some in texts]  # type: ignore[misc]
    delete = [timed(lambda r=some: store.delete_many("ana", r)) for some in rows]  # type: ignore[misc]
    each = {"ms_write_in_100": write, "ms_delete_in_100": delete}
    return {name: round(statistics.median(found) / MANY, 3) for name, found in each.items()}


def timed(call: Callable[[], Any]) -> float:
    begin = perf_counter()
    call()
    return 1000 * (perf_counter() - begin)


def tenant(store: Store) -> str:
    """Ten rows of one tenant, three hundred of another that say the question itself; how many of the ten are found by k = 10."""
    question = "where is the copper lantern of the harbour"
    try:
        for number in range(LOUD):
            store.add("bob", f"{question} {number}", "")
        own = {store.add("alice", f"note {number}: the lantern was moved near the water", "") for number in range(10)}
        found = {hit["id"] for hit in store.search("alice", question, 10)}
        return f"{len(found & own)} of 10, {len(found - own)} of others"
    finally:
        store.close()


def sentences(count: int, seed: int = 1) -> list[str]:
    """Different short texts."""
    chance = random.Random(seed)
    return [f"{' '.join(chance.choices(WORDS.split(), k=9))} {seed}-{number}" for number in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, nargs="?", default=DATA)
    parser.add_argument("--dataset", default="locomo")
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--stores", default=",".join(STORES))
    given = parser.parse_args()
    chosen = embedder()
    for name in given.stores.split(","):
        try:
            if given.path.exists():
                for line in bench(given.dataset, given.path, [name], (5, 10, 20), chosen):
                    print(json.dumps(asdict(line)), flush=True)
            print(json.dumps(asdict(measured(name, chosen, given.records))), flush=True)
        except MissingDependency as cause:
            sys.stderr.write(f"{name} left out: {cause}\n")


if __name__ == "__main__":
    main()
