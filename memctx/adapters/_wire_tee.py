"""Byte streams that pass an answer on as it comes, and tell an observer what it was once it has ended."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

import httpx2

from memctx.adapters._wire_body import Service
from memctx.adapters._wire_reply import Listener

log = logging.getLogger("memctx")
FAILED = "memctx could not take in an answer; the host has it"


class Observer(Protocol):
    """Whom to tell."""

    def observe(self, reply: Any = None, usage: Any = None) -> Any: ...
    async def aobserve(self, reply: Any = None, usage: Any = None) -> Any: ...


class Ear:
    """Hears an answer's bytes and, once, tells what it was. Compressed bytes are kept and read at the end."""

    def __init__(self, observer: Observer, service: Service, response: httpx2.Response) -> None:
        self._observer: Observer | None = observer
        kind = response.headers.get("content-type", "")
        self._listener = Listener(service, stream=kind.startswith("text/event-stream"))
        self._encoding = response.headers.get("content-encoding", "identity")
        self._packed: list[bytes] = []
        if response.is_closed:  # an inner transport, a mock or a cache, that has read it already
            self._listener.feed(response.content)

    def hear(self, chunk: bytes) -> None:
        if self._encoding == "identity":
            self._listener.feed(chunk)
        else:
            self._packed.append(chunk)

    def tell(self) -> None:
        observer, reply, usage = self._heard()
        if observer is not None:
            try:
                observer.observe(reply, usage)
            except Exception:  # the answer is good and paid for: the host shall have it
                log.warning(FAILED, exc_info=True)

    async def atell(self) -> None:
        observer, reply, usage = self._heard()
        if observer is not None:
            try:
                await observer.aobserve(reply, usage)
            except Exception:  # as above
                log.warning(FAILED, exc_info=True)

    def _heard(self) -> tuple[Observer | None, Any, Any]:
        """(whom to tell, reply, usage); nobody from the second time on."""
        observer, self._observer = self._observer, None
        if observer is None:
            return None, None, None
        if self._packed:
            self._listener.feed(_unpacked(self._packed, self._encoding))
        return observer, *self._listener.result()


def _unpacked(chunks: list[bytes], encoding: str) -> bytes:
    try:
        return httpx2.Response(200, headers={"content-encoding": encoding}, content=b"".join(chunks)).content
    except httpx2.DecodingError:
        return b""


class Tee(httpx2.SyncByteStream):
    """The inner stream's bytes, each handed on as soon as it was heard."""

    def __init__(self, inner: Any, ear: Ear) -> None:
        self._inner, self._ear = inner, ear

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._inner:
            self._ear.hear(chunk)
            yield chunk

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._ear.tell()


class AsyncTee(httpx2.AsyncByteStream):
    """As `Tee`."""

    def __init__(self, inner: Any, ear: Ear) -> None:
        self._inner, self._ear = inner, ear

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            self._ear.hear(chunk)
            yield chunk

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            await self._ear.atell()
