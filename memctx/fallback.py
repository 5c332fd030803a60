"""What the library itself does when the strategies leave a view over its limit: first whole old steps, then a cut of what
is newest and too large. Each is a pair of (last handle number used, edits), as reversible as any other edit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from memctx.edits import Clear, Drop, Edit, Replace, marker
from memctx.messages import Message, Transcript
from memctx.protect import Protection
from memctx.render import Renderer

Resort = Callable[[int, int, int], tuple[int, list[Edit]]]
KEPT_STEPS = 4  # newest steps that the first resort leaves alone


def last_resort(transcript: Transcript, renderer: Renderer, protection: Protection) -> Iterator[Resort]:
    """Ways to save tokens, the mildest first, each called with (serial, wanted to be far from the limit, needed)."""
    yield lambda serial, wanted, _: _drop_oldest(transcript, renderer, protection, serial, wanted, KEPT_STEPS)
    yield lambda serial, _, needed: _clip(transcript, renderer, protection, serial, needed, 400)
    yield lambda serial, _, needed: _drop_oldest(transcript, renderer, protection, serial, needed, 1)
    yield lambda serial, _, needed: _clip(transcript, renderer, protection, serial, needed, 0)


def _drop_oldest(
    transcript: Transcript, renderer: Renderer, protection: Protection, serial: int, excess: int, keep: int
) -> tuple[int, list[Edit]]:
    """One span of steps that may go, long enough to save `excess` tokens; an older gap grows, a summary is left alone."""
    steps = transcript.steps
    free = [i for i in range(len(steps) - keep) if steps[i].heads and not any(map(protection, steps[i].messages))]
    first, last, saved = -1, -1, 0
    for index in free:
        span = renderer.span_over(index)
        if isinstance(span, Replace):
            if first >= 0:
                break
            continue
        first = index if first < 0 else first
        last = index
        saved += 0 if span else renderer.sums[index + 1] - renderer.sums[index]
        if saved >= excess + 24:
            break
    if saved <= 24:
        return serial, []
    old = renderer.span_over(first)
    start = old.first if old else steps[first].messages[0].id
    handle = f"r{serial + 1}"
    return serial + 1, [Drop(start, steps[last].messages[-1].id, handle)]


def _clip(
    transcript: Transcript, renderer: Renderer, protection: Protection, serial: int, excess: int, leave: int
) -> tuple[int, list[Edit]]:
    """The largest results in sight keep head and tail, down to `leave` tokens each, until the excess is gone.

    Those of the newest step come last: the model has not read them yet.
    """
    newest = len(transcript.steps) - 1
    visible = [
        (i, m) for i, step in enumerate(transcript.steps) if renderer.shown(i) for m in step.results if step.heads
    ]
    sized = [
        (renderer.counter.text(renderer.text(m)), i, m) for i, m in visible if not (m.sealed or protection.pinned(m))
    ]
    edits: list[Edit] = []
    for size, _, message in sorted(sized, key=lambda item: (item[1] == newest, -item[0])):
        if excess <= 0:
            break
        if size <= leave + 16:
            continue
        serial += 1
        target = max(leave, size - excess - 16)
        edits.append(Clear(message.id, clipped(message, renderer, target, f"r{serial}"), f"r{serial}"))
        excess -= size - target - 8
    return serial, edits


def clipped(message: Message, renderer: Renderer, tokens: int, handle: str) -> str:
    """Head and tail of a result in about `tokens` tokens, with a mark that says so between them."""
    text: str = renderer.text(message)
    size: Any = max(1, renderer.counter.text(text))
    room = len(text) * tokens // size
    while room > 0:
        head, tail = text[: room * 2 // 3], text[len(text) - room // 3 :]
        cut = f"{head}\n{marker(handle)}\n{tail}"
        if renderer.counter.text(cut) <= tokens:
            return cut
        room = room * 9 // 10 - 1
    return marker(handle)
