"""FAISS: exact search for small scopes, an inverted file or a graph for large ones, a GPU where there is one.

Each scope is a partition of its own. An index is a cache: what cannot be trusted on disk is empty here, `applied` is 0 and
`damaged` says why, and whoever feeds the index fills it from SQL.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from memctx.errors import ConfigError, StoreError, require
from memctx.stores import Batch
from memctx.stores import _faiss_fast as fasts
from memctx.stores import _vectors as check
from memctx.stores._faiss_builder import Builder
from memctx.stores._faiss_disk import METRIC, Disk
from memctx.stores._faiss_gpu import LEAST, Gpu, present
from memctx.stores._faiss_rows import Part, part
from memctx.stores._faiss_search import search
from memctx.stores._together import Together
from memctx.stores._vectors import Ids, Scores, Vectors

log = logging.getLogger("memctx")
TRIES = 3  # searches that a removal disturbed, before one is made while nothing can be removed


class FaissIndex:
    """Nearest vectors with FAISS, in memory, saved to `folder` if one is given.

    `kind` auto: exact up to 100,000 rows a scope; above it, once that is built in the background, a graph, and above 1,000,000
    an inverted file, over 8-bit codes; their candidates are scored exactly, and they are searched as far as recall@10 0.995
    needs. flat, hnsw and ivf ask for one; below 1,000 rows all are exact. `device` gpu without one raises `ConfigError`;
    `float16` halves the copies on the GPU, scores stay exact.
    """

    def __init__(
        self,
        dim: int,
        folder: Path | str | None = None,
        *,
        device: Literal["auto", "cpu", "gpu"] = "auto",
        kind: Literal["auto", "flat", "hnsw", "ivf"] = "auto",
        float16: bool = False,
    ) -> None:
        self._dim = check.width(dim)
        if kind not in {"auto", "flat", "hnsw", "ivf"}:
            raise ConfigError(f"kind={kind!r:.40}: give auto, flat, hnsw or ivf", field="kind")
        self._faiss, self._kind, self.applied, self.damaged = require("faiss", extra="cpu"), kind, 0, ""
        self._gpu = _gpu(self._faiss, device, self._dim, float16=float16)
        self._parts: dict[str, Part] = {}
        self._lock = threading.RLock()  # held by whoever writes; readers hold nothing
        self._together = Together(self._search, "memctx-faiss-index")
        self._builder = Builder(self._build)
        self._process, self._closed, self._erased = os.getpid(), False, False
        self.folder = None if folder is None else Path(folder)
        self._disk = None if folder is None else Disk(self._faiss, self._dim, Path(folder))
        if self._disk is not None:
            self._parts, self.applied, self.damaged = self._disk.load()
        for scope, mine in self._parts.items():
            self._tend(scope, mine)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self._dim

    @property
    def device(self) -> str:
        """Where large scopes are searched: cpu or gpu."""
        return "cpu" if self._gpu is None else "gpu"

    def add(self, batch: Batch) -> None:
        """Add or replace rows. Raises `EmbeddingError`; then nothing was added. A large scope is made fast in the background."""
        ready = check.checked(batch, self._dim)
        with self._writing():
            if len(ready.ids):
                mine = self._parts.get(ready.scope) or part(self._dim)
                mine.add(ready.ids, ready.vectors)
                self._parts[ready.scope] = mine
                self._tend(ready.scope, mine)

    def remove(self, scope: str, ids: Sequence[int]) -> int:
        """Remove rows; returns how many were there. They are struck out, and copied away once they are a quarter."""
        gone, scope = check.row_ids(ids, unique=False), check.inside(scope)
        with self._writing():
            mine = self._parts.get(scope)
            if mine is None or not len(gone):
                return 0
            count = mine.remove(np.unique(gone))
            if not mine.rows:
                del self._parts[scope]
            else:
                self._tend(scope, mine)
            return count

    def drop(self, scope: str) -> int:
        """Remove a scope and all below it; returns how many rows went. On disk they go with the next `save`."""
        check.inside(scope)
        with self._writing():
            self._erased = True
            return sum(self._parts.pop(name).rows for name in list(self._parts) if name.startswith(scope))

    def search(self, queries: Vectors, k: int, scope: str, only: Ids | None = None) -> tuple[Ids, Scores]:
        """The k nearest rows for queries (m, dim): ids and inner products, (m, k), best first, -1 and -inf for none."""
        self._check()
        ready, scope = check.rows(queries, self._dim, "queries"), check.inside(scope)
        k, chosen = check.limit(k), check.allowed(only)
        if self._on_gpu(scope):
            return self._together.ask(scope, ready, k, chosen).result()
        return self._search(scope, ready, k, chosen)

    async def asearch(self, queries: Vectors, k: int, scope: str, only: Ids | None = None) -> tuple[Ids, Scores]:
        """As `search`, off the loop; requests that wait together are answered by one call."""
        self._check()
        ready, scope = check.rows(queries, self._dim, "queries"), check.inside(scope)
        return await asyncio.wrap_future(self._together.ask(scope, ready, check.limit(k), check.allowed(only)))

    def count(self, scope: str | None = None) -> int:
        """Rows in a scope, or in all."""
        self._check()
        if scope is None:
            return sum(mine.rows for mine in list(self._parts.values()))
        mine = self._parts.get(check.inside(scope))
        return mine.rows if mine else 0

    def rebuild(self, batches: Iterable[Batch]) -> None:
        """Replace everything by these rows; on an error nothing changed."""
        self._check()
        parts: dict[str, Part] = {}
        for batch in (check.checked(given, self._dim) for given in batches):
            if len(batch.ids):
                parts.setdefault(batch.scope, part(self._dim)).add(batch.ids, batch.vectors)
        with self._writing():
            self._parts, self.damaged = parts, ""
            for scope, mine in parts.items():
                self._tend(scope, mine)

    def verify(self, batches: Iterable[Batch]) -> list[str]:
        """How the index differs from these rows."""
        with self._writing():
            return check.differences(batches, self._dim, list(self._parts), self._held)

    def save(self) -> None:
        """Publish what changed since the last time, whole or not at all. Raises `StoreError`; then the last one is true."""
        with self._writing():
            if self._disk is not None:
                self._disk.save(self._parts, self.applied, erased=self._erased)
                self._erased = False

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until no scope is being made fast; whether that came about within `timeout` seconds."""
        self._check()
        return self._builder.settle(timeout)

    def files(self) -> list[Path]:
        """Every file the vectors may lie in."""
        return [] if self._disk is None else self._disk.files()

    def close(self) -> None:
        """Free the rows; what was not saved is fed again. Every later call raises `StoreError`."""
        if self._process == os.getpid():
            self._builder.close()
            self._together.close()
        self._closed, self._parts, self._gpu = True, {}, None

    def describe(self, scope: str | None = None) -> dict[str, Any]:
        """What is searched how, and why: of a scope, or counted over all."""
        self._check()
        if scope is not None:
            return self._described(check.inside(scope))
        scopes = [self._described(name) for name in list(self._parts)]
        kinds = dict(Counter(str(each["kind"]) for each in scopes))
        sizes = {"rows": sum(each["rows"] for each in scopes), "scopes": len(scopes), "files": len(self.files())}
        return {
            "dim": self._dim,
            "metric": METRIC,
            "device": self.device,
            "kinds": kinds,
            **sizes,
            "damaged": self.damaged,
        }

    def _described(self, scope: str) -> dict[str, Any]:
        mine = self._parts.get(scope) or part(self._dim)
        fast, rows = mine.view.fast, len(mine.view.ids)
        kind = "gpu flat" if self._on_gpu(scope) else fast.kind if fast else "flat"
        why = "exact search on the GPU" if self._on_gpu(scope) else mine.why or fasts.reason(self._kind, rows)
        tail = 0 if fast is None else rows - fast.rows
        return {"kind": kind, "why": why, "rows": mine.rows, "removed": mine.dead, "tail": tail}

    def _check(self) -> None:
        if self._closed:
            raise StoreError("the index is closed", code="store_closed")
        if self._process != os.getpid():
            text = "the index was opened before this process was forked: open one here"
            raise StoreError(text, code="forked_store")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._check()
        with self._lock:
            yield

    def _tend(self, scope: str, mine: Part) -> None:
        """Copy removed rows away when they are many, and have a large scope made fast when it is time."""
        if mine.crowded():
            mine.compact()
        if self._wanted(mine) != "flat":
            self._builder.want(scope)

    def _wanted(self, mine: Part) -> str:
        """The kind that is worth building for these rows now; flat for none."""
        rows = len(mine.view.ids)
        kind = "flat" if self._gpu is not None and self._kind == "auto" else fasts.wanted(self._kind, rows)
        return kind if fasts.due(mine.view.fast, mine.tried, rows) else "flat"

    def _build(self, scope: str) -> None:
        """Build or extend what makes a scope fast, while others read and write; on the builder's thread."""
        with self._lock:
            mine = self._parts.get(scope)
            if mine is None or (kind := self._wanted(mine)) == "flat":
                return
            fast = mine.view.fast
            anew = fast is None or (kind == "ivf" and len(mine.view.ids) >= 4 * fast.trained)  # its lists are few then
            if anew and (mine.dead or not mine.view.ascending):
                mine.compact()
            view, why, stopped = mine.view, mine.why, self._builder.stopped
        if fast is None or anew:
            fast, why = fasts.build(self._faiss, kind, view.vectors, forced=self._kind != "auto", stopped=stopped)
        else:
            fast = fasts.extended(self._faiss, fast, view.vectors, stopped=stopped)
        with self._lock:
            if mine.view.epoch == view.epoch:
                mine.speed(fast, why, len(view.ids))
            if self._parts.get(scope) is mine:
                self._tend(scope, mine)

    def _on_gpu(self, scope: str) -> bool:
        mine = self._parts.get(scope)
        return self._gpu is not None and mine is not None and mine.rows >= LEAST

    def _search(self, scope: str, queries: Vectors, k: int, only: Ids | None) -> tuple[Ids, Scores]:
        """Search, again if a row was struck out meanwhile."""
        mine = self._parts.get(scope)
        if mine is None:
            return check.blank(len(queries), k)
        for _ in range(TRIES):
            version = mine.version
            answer = self._once(scope, mine, queries, k, only)
            if mine.version == version and not version % 2:
                return answer
        with self._lock:
            return self._once(scope, mine, queries, k, only)

    def _once(self, scope: str, mine: Part, queries: Vectors, k: int, only: Ids | None) -> tuple[Ids, Scores]:
        if self._on_gpu(scope) and self._together.on_thread() and (gpu := self._gpu) is not None:
            try:
                gpu.forget(self._parts)
                return gpu.search(scope, mine.view, queries, k, only)
            except RuntimeError as problem:
                log.warning("the GPU failed and searches go on on the CPU: %s", str(problem)[:200])
                self._gpu = None
        return search(self._faiss, mine.view, queries, k, only)

    def _held(self, scope: str) -> tuple[Ids, Vectors]:
        view = (self._parts.get(scope) or part(self._dim)).view
        return view.ids[view.live], view.vectors[view.live]


def _gpu(faiss: Any, device: str, dim: int, *, float16: bool) -> Gpu | None:
    """The GPU, where there is one and it is wanted."""
    if device not in {"auto", "cpu", "gpu"}:
        raise ConfigError(f"device={device!r:.40}: give auto, cpu or gpu", field="device")
    if device != "cpu" and present(faiss):
        return Gpu(faiss, dim, float16=float16)
    if device == "gpu":
        text = (
            "device='gpu': this FAISS sees no GPU. Install memctx-agents[gpu] alone, without [cpu], or use device='cpu'"
        )
        raise ConfigError(text, field="device")
    return None
