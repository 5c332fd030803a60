"""What makes large scopes fast is built beside the work: one thread at a time, which ends when nothing is left to do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger("memctx")


class Stopped(Exception):
    """The index was closed while something was built."""


class Builder:
    """Calls `build(scope)` on a thread of its own for each scope given. Not a daemon: a native library is at work in it."""

    def __init__(self, build: Callable[[str], None]) -> None:
        self._build = build
        self._waiting: dict[str, None] = {}
        self._state = threading.Condition()
        self._running = self._closed = False

    def want(self, scope: str) -> None:
        """Build for this scope soon; asking twice is asking once."""
        with self._state:
            if self._closed:
                return
            self._waiting[scope] = None
            if not self._running:
                self._running = True
                threading.Thread(target=self._run, name="memctx-faiss-builder").start()

    def settle(self, timeout: float | None = None) -> bool:
        """Wait until nothing is being built; whether that came about within `timeout` seconds."""
        with self._state:
            return self._state.wait_for(lambda: not self._running, timeout)

    def stopped(self) -> bool:
        """Whether the work is in vain."""
        return self._closed

    def close(self) -> None:
        """Begin nothing more; what is being built ends at its next step."""
        with self._state:
            self._closed = True
            self._waiting.clear()

    def _run(self) -> None:
        while True:
            with self._state:
                scope = next(iter(self._waiting), None)
                if scope is None:
                    self._running = False
                    self._state.notify_all()
                    return
                del self._waiting[scope]
            try:
                self._build(scope)
            except Stopped:
                pass
            except Exception as problem:  # searches stay exact, which is slower and not wrong
                log.warning("a large scope stays searched exactly: %s", str(problem)[:200])
