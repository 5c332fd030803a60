"""Work that is written once and driven twice: a generator yields what may be done at the same time, a driver does it.

As `memctx.effects`, for games and tasks: here a step asks for many answers at once, and each may be steps itself.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeVar

from memctx.errors import ConfigError

R = TypeVar("R")


class Call(NamedTuple):
    """A function to call, plain or async."""

    function: Callable[..., Any]
    args: tuple[Any, ...]


Steps = Generator[Sequence["Call | Steps[Any]"], list[Any], R]


def run(steps: Steps[R]) -> R:
    """Drive to the end, one call after the other. What a call raises ends it."""
    answers: list[Any] | None = None
    while True:
        try:
            jobs = steps.send(answers)  # type: ignore[arg-type]  # None starts it
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        answers = [_called(job) if isinstance(job, Call) else run(job) for job in jobs]


async def arun(steps: Steps[R], at_once: int = 16) -> R:
    """As `run`, with up to `at_once` calls under way; plain functions run in threads.

    What a call raises calls the others off, and is raised as it is.
    """
    return await _arun(steps, asyncio.Semaphore(at_once))


async def _arun(steps: Steps[R], free: asyncio.Semaphore) -> R:
    answers: list[Any] | None = None
    while True:
        try:
            jobs = steps.send(answers)  # type: ignore[arg-type]  # None starts it
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_acalled(j, free) if isinstance(j, Call) else _arun(j, free)) for j in jobs]
        except ExceptionGroup as several:  # the first one's failure called the others off
            raise several.exceptions[0] from None
        answers = [task.result() for task in tasks]


def _called(job: Call) -> Any:
    answer = job.function(*job.args)
    if inspect.iscoroutine(answer):
        answer.close()
        raise ConfigError("an async function was given to a plain run: call the method that starts with an a")
    return answer


async def _acalled(job: Call, free: asyncio.Semaphore) -> Any:
    async with free:
        plain = not inspect.iscoroutinefunction(job.function)
        answer = await asyncio.to_thread(job.function, *job.args) if plain else job.function(*job.args)
        return await answer if inspect.isawaitable(answer) else answer
