"""Byte streams that pass an answer on as it comes, and tell an observer what it was once it has ended."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

import httpx2

from memctx.adapters._wire_body import Service
from memctx.adapters._wire_reply import Listener

log = logging.getLogger("memctx")


class Observer(Protocol):
    """Whom to tell."""

    def observe(self, reply: Any = None, usage: Any = None) -> Any: ...
    async def aobserve(self, reply: Any = None, usage: Any = None) -> Any: ...


class Ear:
    """Hears an answer and, once, what it came to. Compressed bytes are kept and read at the end."""

    def __init__(self, viewer: Observer, service: Service, headers: httpx2.Headers) -> None:
        self.viewer: Observer | None = viewer
        kind = headers.get("content-type", "")
        self._listener = Listener(service, stream=kind.startswith("text/event-stream"))
        self._encoding = headers.get("content-encoding", "identity")
        self._packed: list[bytes] = []

    def hear(self, chunk: bytes) -> None:
        if self._encoding == "identity":
            self._listener.feed(chunk)
        else:
            self._packed.append(chunk)

    def told(self) -> tuple[Observer | None, Any, Any]:
        """(whom to tell, reply, usage); the viewer is None from the second time on."""
        viewer, self.viewer = self.viewer, None
        if viewer is None:
            return None, None, None
        if self._packed:
            self._listener.feed(_unpacked(self._packed, self._encoding))
        return viewer, *self._listener.result()


def _unpacked(chunks: list[bytes], encoding: str) -> bytes:
    try:
        return httpx2.Response(200, headers={"content-encoding": encoding}, content=b"".join(chunks)).content
    except httpx2.DecodingError:
        return b""


class Tee(httpx2.SyncByteStream):
    def __init__(self, inner: httpx2.SyncByteStream, ear: Ear) -> None:
        self._inner, self._ear = inner, ear

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._inner:
            self._ear.hear(chunk)
            yield chunk

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            viewer, reply, usage = self._ear.told()
            if viewer is not None:
                try:
                    viewer.observe(reply, usage)
                except Exception:  # the answer is good and paid for: the host shall have it
                    log.warning("memctx could not take in an answer", exc_info=True)


class AsyncTee(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, ear: Ear) -> None:
        self._inner, self._ear = inner, ear

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            self._ear.hear(chunk)
            yield chunk

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            viewer, reply, usage = self._ear.told()
            if viewer is not None:
                try:
                    await viewer.aobserve(reply, usage)
                except Exception:  # the answer is good and paid for: the host shall have it
                    log.warning("memctx could not take in an answer", exc_info=True)
