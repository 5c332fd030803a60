"""Effects: what a strategy asks for by yielding, and the two drivers that answer.

A strategy is a generator, so there is one code path for sync and async (the way httpx drives authentication). An answer
that is missing, late, empty or too long raises `EffectError` inside the generator; a strategy that does not catch it
proposes nothing, and the plan stays as it was.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from memctx.errors import EffectError
from memctx.records import Kind


@dataclass(frozen=True, slots=True)
class Generate:
    """Ask a model. `messages` are role/content dicts; the answer is its text. `module` says which part asks."""

    messages: tuple[dict[str, Any], ...]
    max_tokens: int
    module: str
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Embed:
    """Ask for vectors of texts; the answer is one sequence of floats a text."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Ask a model how it would have said `answer` after `messages`: for each token, {token: log-probability} of its `k` likeliest.

    An answer for the first tokens only will do.
    """

    messages: tuple[dict[str, Any], ...]
    answer: str
    k: int


@dataclass(frozen=True, slots=True)
class Recall:
    """Ask memory for the `k` records nearest to `query`; the answer is `memctx.records.Hit`s, best first.

    An empty query asks for the newest. `kinds`: of these only; `min_trust`: a level, 0 to 3, or a source's name; `within`:
    only among these record ids.
    """

    query: str
    kinds: tuple[Kind, ...] = ()
    k: int = 10
    min_trust: int | str = 0
    within: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Remember:
    """Hand records to memory: items of `Scoped.write_many`. The answer is their ids, once all of them are durable.

    Kind "result" is no record but a text that leaves the view, kept as it is under its `handle`.
    """

    records: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """Take records back by id: they no longer hold, and nothing takes their place. Their history stays."""

    ids: tuple[int, ...]
    why: str = ""


@dataclass(frozen=True, slots=True)
class Later:
    """Drive `asks` off the path of the call. The answer comes at once and is None; the session waits for it on close."""

    asks: Asks


@dataclass(frozen=True, slots=True)
class Stored:
    """Call a method of the session's store for its scope and thread: what the session itself asks for."""

    method: str
    args: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Graph:
    """Ask memory for the tool graph kept under `name`; the answer is a `ToolGraph`, for reading only, empty where there is none."""

    name: str


@dataclass(frozen=True, slots=True)
class Advise:
    """Ask the library of experience in memory for the `k` nearest to an observation; the answer is `memctx.experience.Retrieved`s."""

    observation: str
    task: str = ""
    k: int = 3
    min_trust: int | str = 0


@dataclass(frozen=True, slots=True)
class Index:
    """Ask for the `Catalogue` of these tools, made off the event loop; only async calls have somebody who answers."""

    tools: tuple[Any, ...]


Effect = Generate | Embed | Logprobs | Recall | Remember | Forget | Later | Stored | Graph | Advise | Index
Asks = Generator[Effect, Any, Any]


@dataclass(frozen=True, slots=True)
class Handlers:
    """Who answers: a callable (plain or async) by effect type. `timeout` in seconds bounds each answer."""

    by_type: Mapping[type, Callable[[Any], Any]]
    timeout: float = 60.0

    def find(self, effect: Effect) -> Callable[[Any], Any]:
        handler = self.by_type.get(type(effect))
        if handler is None:
            name = type(effect).__name__
            raise EffectError(f"nobody answers {name}: give the session {name.lower()}=...", code="no_handler")
        return handler


def drive(asks: Asks, handlers: Handlers) -> Any:
    """Run a generator to its end, answering what it yields, and return what it returns. Whatever happens, it is closed."""
    answer: Any = None
    failed: BaseException | None = None
    with closing(asks):
        while True:
            try:
                effect = asks.throw(failed) if failed else asks.send(answer)
            except StopIteration as done:
                return done.value
            answer, failed = None, None
            try:
                answer = _checked(effect, _call(handlers.find(effect), effect, handlers.timeout))
            except Exception as cause:  # whatever a handler raises becomes one error kind for the strategy
                failed = _failure(effect, cause)


async def adrive(asks: Asks, handlers: Handlers) -> Any:
    """As `drive`; an async handler is awaited, a plain one runs in a thread."""
    answer: Any = None
    failed: BaseException | None = None
    with closing(asks):
        while True:
            try:
                effect = asks.throw(failed) if failed else asks.send(answer)
            except StopIteration as done:
                return done.value
            answer, failed = None, None
            try:
                answer = _checked(effect, await _acall(handlers.find(effect), effect, handlers.timeout))
            except Exception as cause:
                failed = _failure(effect, cause)


def _call(handler: Callable[[Any], Any], effect: Effect, timeout: float) -> Any:
    pool = ThreadPoolExecutor(1, thread_name_prefix="memctx-effect")
    try:
        return pool.submit(_run, handler, effect).result(timeout)
    except LateError:
        raise EffectError(f"no answer within {timeout} s", code="effect_timeout") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _run(handler: Callable[[Any], Any], effect: Effect) -> Any:
    answer = handler(effect)
    return asyncio.run(_awaited(answer)) if inspect.isawaitable(answer) else answer


async def _awaited(answer: Any) -> Any:
    return await answer


async def _acall(handler: Callable[[Any], Any], effect: Effect, timeout: float) -> Any:
    plain = not inspect.iscoroutinefunction(handler)
    answer = asyncio.to_thread(handler, effect) if plain else handler(effect)
    try:
        value = await asyncio.wait_for(answer, timeout)
        return await asyncio.wait_for(value, timeout) if inspect.isawaitable(value) else value
    except TimeoutError:
        raise EffectError(f"no answer within {timeout} s", code="effect_timeout") from None


def _checked(effect: Effect, answer: Any) -> Any:
    if isinstance(effect, Generate) and not (isinstance(answer, str) and answer.strip()):
        raise EffectError(f"the model answered {answer!r:.60} where text was asked for", code="empty_answer")
    if isinstance(effect, Embed) and len(answer) != len(effect.texts):
        raise EffectError(f"{len(answer)} vectors for {len(effect.texts)} texts", code="wrong_count")
    return answer


def _failure(effect: Effect, cause: BaseException) -> EffectError:
    if isinstance(cause, EffectError):
        return cause
    failure = EffectError(f"{type(effect).__name__} failed: {type(cause).__name__}: {cause}", code="effect_failed")
    failure.__cause__ = cause
    return failure
