"""Strategies: each proposes edits for a transcript.

This file says what one is; every other file here is one; a leading _ marks a helper.
A strategy is a frozen `Component` with a `propose` generator. It changes nothing itself: the pipeline refuses what
touches protected text, prices the rest, and accepts. Per-thread state lives in the plan (`Note`), never on the strategy.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from memctx.edits import Clear, Edit, Offer
from memctx.effects import Effect
from memctx.messages import Message, Step, Transcript
from memctx.plan import Plan

Proposal = Generator[Effect, Any, list[Edit]]
Blocks = Sequence[tuple[str, ...]]


@dataclass(slots=True)
class Context:
    """What a strategy may look at. Sizes in tokens of the view as the plan now stands.

    `limit` is what the view may have, `tokens` what it has. `protected(message)` is true for what no edit may touch.
    `shown(step index)` is false where a span already hides the step. `cleared(message id)` is the Clear in force, if any.
    `tools` names the tools on offer; `catalogue` holds all the host gave, the same object until one changes; `offer` is the
    one in force. `forced` names tools that this request must hold. `weigh(name)` gives the tokens of one tool. `settle(blocks)` takes
    the one of several blocks of tools, from the one that changes least to the leanest, that is cheapest over the run.
    `memo` is scratch space of this strategy for this thread, emptied when the history forks: a cache, never state.
    """

    transcript: Transcript
    plan: Plan
    limit: int
    tokens: int
    tools: tuple[str, ...]
    protected: Callable[[Message], bool]
    shown: Callable[[int], bool]
    cleared: Callable[[str], Clear | None]
    count: Callable[[str], int]
    memo: dict[str, Any] = field(default_factory=dict)
    serial: int = 0
    record: Callable[[Mapping[str, Any]], None] = lambda _: None
    provider: str = ""
    catalogue: tuple[Any, ...] = ()
    offer: Offer | None = None
    forced: tuple[str, ...] = ()
    weigh: Callable[[str], int] = lambda _: 0
    settle: Callable[[Blocks], tuple[str, ...]] = lambda blocks: blocks[0]

    @property
    def excess(self) -> int:
        """Tokens over the limit; 0 where the view fits."""
        return max(0, self.tokens - self.limit)

    def handle(self) -> str:
        """A fresh handle, unique in the thread."""
        self.serial += 1
        return f"r{self.serial}"

    def results(self) -> Iterator[tuple[int, Step]]:
        """(step index, step) of the steps in sight that hold tool results, newest first."""
        steps = self.transcript.steps
        for index in range(len(steps) - 1, -1, -1):
            if steps[index].results and steps[index].heads and self.shown(index):
                yield index, steps[index]


class Strategy(Protocol):
    """One file, one frozen component. `propose` returns edits, the most dispensable first.

    It is asked when the budget or the price calls for edits. A strategy that steers rather than cuts sets a class
    variable `every_call = True` and is asked before each call. One that chooses the tools sets `offers = True` and is asked before
    all others; until it has offered some, `ctx.tokens` counts none. One that reads what is new before the model does sets
    `newest = True`: for it the newest step is not protected. One that looks back has two more generators of effects:
    `observe(ctx, reply)` after each call, where `reply` is the answer that ended a turn or None, and `close(ctx)` before the
    session ends. They change no plan; what takes long they yield as `Later`.
    """

    @property
    def name(self) -> str: ...

    def propose(self, ctx: Context) -> Proposal:
        """Edits for the coming call. What needs I/O is yielded as an effect and answered by the driver."""
        ...


def nothing() -> Proposal:
    """Lets a strategy without I/O be a generator: `yield from nothing()`."""
    return []
    yield
