"""One thread that answers the searches of all callers, threads and event loops, those that wait together in one call."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from memctx.errors import StoreError
from memctx.stores._vectors import Ids, Scores, Vectors

Answer = tuple[Ids, Scores]
IDLE = 5.0  # seconds without a request, after which the thread ends; so an index that nobody closed can go
MOST_ROWS = 4_096  # queries in one call; more would keep the first ones waiting


@dataclass(frozen=True, slots=True)
class Request:
    """One search that waits."""

    scope: str
    queries: Vectors
    k: int
    only: Ids | None
    answer: Future[Answer] = field(default_factory=Future)

    @property
    def group(self) -> tuple[str, int, bytes | None]:
        """Requests of one group differ in their queries alone."""
        return self.scope, self.k, None if self.only is None else self.only.tobytes()


class Together:
    """The thread, started by the first request. `search(scope, queries, k, only)` is called on it and nowhere else."""

    def __init__(self, search: Callable[[str, Vectors, int, Ids | None], Answer], name: str) -> None:
        self._search, self._name = search, name
        self._waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.calls = 0  # how often `search` ran, so that batching can be seen

    def ask(self, scope: str, queries: Vectors, k: int, only: Ids | None) -> Future[Answer]:
        """The answer to come. After `close`: `StoreError`."""
        request = Request(scope, queries, k, only)
        with self._lock:
            if self._closed:
                raise StoreError("the index is closed", code="store_closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.put(request)
        return request.answer

    def on_thread(self) -> bool:
        """Whether the caller is this thread."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Answer what waits, then end the thread."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None and not self.on_thread():
            self._waiting.put(None)
            thread.join()

    def _run(self) -> None:
        while (first := self._next()) is not None:
            requests, last = self._drain(first)
            groups: dict[tuple[str, int, bytes | None], list[Request]] = {}
            for request in requests:
                if request.answer.set_running_or_notify_cancel():
                    groups.setdefault(request.group, []).append(request)
            for group in groups.values():
                self._answer(group)
            if last:
                return

    def _next(self) -> Request | None:
        """The next request; None at the end, or when nobody asked for long."""
        try:
            return self._waiting.get(timeout=IDLE)
        except queue.Empty:
            with self._lock:
                if self._waiting.empty():
                    self._thread = None
                    return None
            return self._waiting.get()

    def _drain(self, first: Request) -> tuple[list[Request], bool]:
        """Everything that waits by now, and whether the end was among it."""
        requests, rows = [first], len(first.queries)
        while rows < MOST_ROWS:
            try:
                request = self._waiting.get_nowait()
            except queue.Empty:
                break
            if request is None:
                return requests, True
            requests.append(request)
            rows += len(request.queries)
        return requests, False

    def _answer(self, group: list[Request]) -> None:
        first = group[0]
        try:
            self.calls += 1
            queries = first.queries if len(group) == 1 else np.concatenate([request.queries for request in group])
            ids, scores = self._search(first.scope, queries, first.k, first.only)
        except BaseException as problem:  # whoever waits must hear of it, whatever it is
            for request in group:
                request.answer.set_exception(problem)
            return
        start = 0
        for request in group:
            end = start + len(request.queries)
            request.answer.set_result((ids[start:end], scores[start:end]))
            start = end
