"""What a message costs beyond its text: overhead and media.

OpenAI publishes 3 tokens a message plus its role and 1 for a name, and 3 to prime the reply. Calls have no published
rule: these figures were fitted to what recorded gpt-4o and gpt-4.1 runs were billed (a test repeats the comparison).
Anthropic's and the chat template's are averages of recorded bills.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from memctx import _images, _wire

PER_MESSAGE = 3
PER_NAME = 1
BYTES_PER_HIDDEN = 4  # of encrypted reasoning, as plain text has about four a token


@dataclass(frozen=True, slots=True)
class Overhead:
    """Tokens: of a request's reply priming, of having tools at all, of a message, of a call (None: OpenAI's rule)."""

    priming: int = 3
    tools: int = 9
    message: int = PER_MESSAGE
    call: int | None = None


def message(shape: _wire.Shape, count: Callable[[str], int], media: _images.MediaRule, overhead: Overhead) -> int:
    """Text, calls, media and overhead of one message. A `function` message bills its name in place of its role."""
    total = overhead.message + ceil(shape.hidden / BYTES_PER_HIDDEN)
    total += sum(count(text) for text in shape.texts if text)
    if shape.role != "function":
        total += count(shape.role) + PER_NAME * shape.named
    if shape.calls:
        total += _calls(shape, count, overhead.call)
    return total + sum(_media(part, count, media) for part in shape.media)


def _calls(shape: _wire.Shape, count: Callable[[str], int], flat: int | None) -> int:
    """One call bills its name again in its result; several share one wrapper; text beside calls is a message more."""
    names = sum(count(name) for name, _ in shape.calls)
    many, arguments = len(shape.calls), sum(count(text) for _, text in shape.calls)
    if flat is not None:
        return names + arguments + flat * many
    if shape.legacy:
        return names + arguments + 3
    beside = 4 if any(shape.texts) else 0
    return beside + arguments + (2 * names + 5 if many == 1 else names + 23 + 3 * many)


def _media(part: _wire.Media, count: Callable[[str], int], rule: _images.MediaRule) -> int:
    if part.kind == "image" or part.mime.startswith("image/"):
        return rule.image(_images.image_size(part.data) if part.data else None, part.detail)
    if part.data is None:
        return rule.page if part.kind == "file" else 0
    if part.kind == "sound":
        rate = rule.video if part.mime.startswith("video") else rule.sound
        return ceil(_images.seconds(part.data, part.mime) * rate)
    if part.data[:5] == b"%PDF-" or part.mime == "application/pdf":
        return rule.page * _images.pdf_pages(part.data)
    return count(part.data.decode("utf-8", "replace")) if b"\0" not in part.data[:8_192] else rule.page
