"""An httpx2 transport under the OpenAI and Anthropic SDKs: one place for chat, responses and messages calls.

    session = Pipeline.safe(budget=32_000).session()
    client = OpenAI(http_client=httpx2.Client(transport=Transport(session)))
    client = AsyncAnthropic(http_client=httpx2.AsyncClient(transport=AsyncTransport(session)))

The request's history and tools are replaced by those of the session's view; every other field is sent as it came. The answer's bytes pass
untouched, streams included; usage is read on the side. Requests without a history, and errors, pass as they are.

A view that cannot be made (`BudgetError`, `InvalidMessage`, ...) leaves the SDK's call as itself, without a retry. Any
other exception, say of a callable given as `session`, the Anthropic SDK wraps: it is the `__cause__` of an
`APIConnectionError`, after the SDK's retries (`max_retries=0` for none).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, cast

import httpx2

from memctx.adapters import _wire_body as wire
from memctx.adapters._wire_tee import AsyncTee, Ear, Tee
from memctx.errors import MemctxError
from memctx.view import View

THREAD_HEADER = "x-memctx-thread"


class Viewer(Protocol):
    """What a transport needs of a `memctx.session.Session`.

    A viewer that also has `shrink(to: int | None)` is asked to lower its budget, to `to` tokens where that is known,
    when the provider says that the context was too long; the request is then sent once more. `accounts.observe(usage)`
    is told what a call cost whose history the provider holds (`previous_response_id`, `conversation`). `view` also gets
    `forced`, the names of tools, for a request whose `tool_choice` names some.
    """

    @property
    def accounts(self) -> Any: ...
    def view(self, messages: list[Any], tools: list[Any] | None = None, *, system: Any = None) -> View: ...
    async def aview(self, messages: list[Any], tools: list[Any] | None = None, *, system: Any = None) -> View: ...
    def observe(self, reply: Any = None, usage: Any = None) -> Any: ...
    async def aobserve(self, reply: Any = None, usage: Any = None) -> Any: ...


# One session, or a choice by request body and by the value of the header `x-memctx-thread` ("" where it is absent).
# The header never reaches the provider. None: this request is left alone.
Source = Viewer | Callable[[dict[str, Any], str], Viewer | None]


class Transport(httpx2.BaseTransport):
    """For `httpx2.Client`. `session`: a session, or a callable `(body, thread) -> session | None` for many threads.

    `inner` sends the requests; by default an `httpx2.HTTPTransport()`. Proxy, TLS and pool settings belong there.
    """

    def __init__(self, session: Source, inner: httpx2.BaseTransport | None = None) -> None:
        self._source = session
        self._inner = inner or httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        flow = _exchange(self._source, request)
        try:
            step = next(flow)
            while True:
                try:
                    done = self._do(step)
                except MemctxError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(done)
        except StopIteration as end:
            response: httpx2.Response = end.value[0]
            ear: Ear | None = end.value[1]
            if ear and response.is_closed:
                ear.tell()
            elif ear:
                response.stream = Tee(response.stream, ear)
            return response

    def _do(self, step: _Step) -> Any:
        if isinstance(step, _Read):
            return step.message.read()
        if isinstance(step, _See):
            return step.viewer.view(step.ask.messages, step.ask.tools, **step.ask.beside)
        return self._inner.handle_request(step.request)

    def close(self) -> None:
        self._inner.close()


class AsyncTransport(httpx2.AsyncBaseTransport):
    """For `httpx2.AsyncClient`; as `Transport`, with an `httpx2.AsyncHTTPTransport()` inside by default."""

    def __init__(self, session: Source, inner: httpx2.AsyncBaseTransport | None = None) -> None:
        self._source = session
        self._inner = inner or httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        flow = _exchange(self._source, request)
        try:
            step = next(flow)
            while True:
                try:
                    done = await self._do(step)
                except MemctxError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(done)
        except StopIteration as end:
            response: httpx2.Response = end.value[0]
            ear: Ear | None = end.value[1]
            if ear and response.is_closed:
                await ear.atell()
            elif ear:
                response.stream = AsyncTee(response.stream, ear)
            return response

    async def _do(self, step: _Step) -> Any:
        if isinstance(step, _Read):
            return await step.message.aread()
        if isinstance(step, _See):
            return await step.viewer.aview(step.ask.messages, step.ask.tools, **step.ask.beside)
        return await self._inner.handle_async_request(step.request)

    async def aclose(self) -> None:
        await self._inner.aclose()


# One exchange, for both drivers ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Read:
    message: httpx2.Request | httpx2.Response


@dataclass(frozen=True, slots=True)
class _See:
    viewer: Any
    ask: wire.Ask


@dataclass(frozen=True, slots=True)
class _Send:
    request: httpx2.Request


_Step = _Read | _See | _Send


_Answer = tuple[httpx2.Response, Ear | None]  # an ear where somebody is to be told what the answer was


@dataclass(frozen=True, slots=True)
class _Biller:
    """Takes in only what a call cost: of a history the session never saw, its counting can learn nothing."""

    viewer: Any

    def observe(self, reply: Any = None, usage: Any = None) -> None:
        self.viewer.accounts.observe(usage)

    async def aobserve(self, reply: Any = None, usage: Any = None) -> None:
        self.observe(reply, usage)


def _exchange(source: Source, request: httpx2.Request) -> Generator[_Step, Any, _Answer]:
    service = wire.service_of(request.method, request.url.path)
    if service is None:
        return (yield _Send(_rebuilt(request, None))), None
    ask = wire.read(service, (yield _Read(request)))
    viewer = _viewer(source, ask, request) if ask else None
    if ask is None or viewer is None:
        return (yield _Send(_rebuilt(request, None))), None
    response: httpx2.Response
    if not ask.planned:
        response = yield _Send(_rebuilt(request, None))
        return response, Ear(_Biller(viewer), service, response) if response.is_success else None
    try:
        view = yield _See(viewer, ask)
        content = wire.write(ask, view, _ttl(viewer))
    except MemctxError as error:
        _make_passable(error)
        raise
    response = yield _Send(_rebuilt(request, content))
    if response.status_code == 400 and hasattr(viewer, "shrink"):
        response = yield from _again(viewer, ask, view, request, response)
    return response, Ear(viewer, service, response) if response.is_success else None


def _again(
    viewer: Any, ask: wire.Ask, view: View, request: httpx2.Request, refused: httpx2.Response
) -> Generator[_Step, Any, httpx2.Response]:
    """Once more with a smaller view, where the context was too long and a smaller one can be made."""
    yield _Read(refused)
    if not wire.overflowed(refused.text):
        return refused
    try:
        viewer.shrink(wire.smaller(refused.text, view.tokens))
        view = yield _See(viewer, ask)
    except MemctxError:
        return refused
    response: httpx2.Response = yield _Send(_rebuilt(request, wire.write(ask, view, _ttl(viewer))))
    return response


def _viewer(source: Any, ask: wire.Ask, request: httpx2.Request) -> Viewer | None:
    if hasattr(source, "view"):
        return cast(Viewer, source)
    chosen: Viewer | None = source(ask.body, request.headers.get(THREAD_HEADER, ""))
    return chosen


def _ttl(viewer: Any) -> str:
    """Anthropic's name of the cache lifetime that the pipeline's price was made for."""
    price = getattr(getattr(viewer, "pipeline", None), "price", None)
    return "1h" if getattr(price, "ttl", 0) >= 3600 else ""


def _rebuilt(request: httpx2.Request, content: bytes | None) -> httpx2.Request:
    """The request to send. The client keeps its own, so that a redirect or a retry starts from the host's history."""
    if content is None and THREAD_HEADER not in request.headers:
        return request
    headers = request.headers.copy()
    dropped = (THREAD_HEADER,) if content is None else (THREAD_HEADER, "content-length", "transfer-encoding")
    for name in dropped:
        headers.pop(name, None)
    body: dict[str, Any] = {"stream": request.stream} if content is None else {"content": content}
    return httpx2.Request(request.method, request.url, headers=headers, extensions=request.extensions, **body)


def _make_passable(error: MemctxError) -> None:
    """Make the error one of the Anthropic SDK's as well: that SDK wraps, and retries, all others."""
    sdk = sys.modules.get("anthropic")
    kind: Any = type(error)
    if sdk is not None and not issubclass(kind, sdk.AnthropicError):
        error.__class__ = _both(kind, sdk.AnthropicError)


@cache
def _both(ours: Any, theirs: Any) -> Any:
    return type(ours.__name__, (ours, theirs), {"__module__": ours.__module__, "__doc__": ours.__doc__})
