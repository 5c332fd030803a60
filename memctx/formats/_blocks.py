"""What Anthropic and Gemini share: one host message may carry several results, and text beside them.

Such a message becomes one tool `Message` a result, whose `out` is the bare block, and one user `Message` for the rest,
whose `out` is a message of the remaining blocks. `runs` finds what belongs together again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from memctx.messages import Message

Item = tuple[Message, Any]


def split(raw: Any, index: int, results: list[Message], rest: Message | None) -> list[Message]:
    """The parts of one host message, numbered. `results` and `rest` need only what is in them."""
    found = [*results, rest] if rest is not None else results
    return [replace(m, raw=raw, host=index, part=part, parts=len(found)) for part, m in enumerate(found)]


def runs(items: Sequence[Item]) -> Iterator[tuple[list[Item], list[Item]]]:
    """`(results, rest)`: neighbouring results, with the rest of the host messages they came in; or one other item."""
    at = 0
    while at < len(items):
        start = at
        while at < len(items) and items[at][0].role == "tool":
            at += 1
        results = list(items[start:at])
        if not results:
            yield [], [items[at]]
            at += 1
            continue
        hosts = {id(message.raw) for message, _ in results}
        start = at
        while at < len(items) and items[at][0].parts > 1 and id(items[at][0].raw) in hosts:
            at += 1
        yield results, list(items[start:at])


def host_of(run: Sequence[Item], blocks: list[Any], blocks_of: Callable[[Any], Any]) -> Any | None:
    """The host's own message, where `blocks` are all it holds, in its order and as it wrote them."""
    raw = run[0][0].raw
    if any(message.raw is not raw for message, _ in run):
        return None
    return raw if blocks_of(raw) == blocks else None
