"""What images, documents and sound cost, by each provider's published rule. Sizes come from the file's header.

| provider | image | page of a PDF | sound |
|---|---|---|---|
| OpenAI, tile models | base + tiles of 512 px after fitting 2048 and a short side of 768 | image + text | 10 a second |
| OpenAI, patch models | patches of 32 px up to a budget, times the model's factor | image + text | 10 a second |
| Anthropic | patches of 28 px after fitting the model's edge and budget | image + text | none |
| Gemini | 258 a tile of 768 px, or 258 in all up to 384 px | 258 | 32 a second, video 263 |

What cannot be seen (a URL, a file id, an unknown header) costs the most its rule can give. A page's text is taken as
1,500 tokens, the lower figure Anthropic publishes; OpenAI publishes none. Where a provider's bill and its page differ,
the page is followed and calibration takes up the rest. Sources: the vision, PDF and token pages of the three, 2026.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil, floor, sqrt

Size = tuple[int, int]
ImageRule = Callable[[Size | None, str], int]
PAGE_TEXT = 1_500
_BIGGEST_STREAM = 8_000_000


@dataclass(frozen=True, slots=True)
class MediaRule:
    """Tokens of an image by size in pixels and detail, of a PDF page, and of a second of sound and of video."""

    image: ImageRule
    page: int
    sound: float = 0.0
    video: float = 0.0


def _fit(size: Size, edge: int) -> tuple[float, float]:
    """The size with its longer side at most `edge`; that side comes out as `edge` itself, not a rounding above it."""
    longest = max(size)
    return size if longest <= edge else (size[0] * edge / longest, size[1] * edge / longest)


def _tiles(base: int, tile: int, size: Size | None, detail: str) -> int:
    """OpenAI's tile rule; the largest image is 4 x 2 tiles."""
    if detail == "low":
        return base
    if size is None:
        return base + 8 * tile
    width, height = _fit(size, 2048)
    scale = min(1.0, 768 / min(width, height))
    return base + tile * ceil(round(width * scale, 6) / 512) * ceil(round(height * scale, 6) / 512)


@dataclass(frozen=True, slots=True)
class Patch:
    """OpenAI's patch rule: at most `budget` patches and `edge` pixels, times `factor`.

    `full` patches and `full_edge` pixels bound detail "original", and "auto" too where `auto_full`.
    """

    factor: float
    budget: int = 1_536
    edge: int = 2_048
    full: int = 0
    full_edge: int = 6_000
    auto_full: bool = False

    def __call__(self, size: Size | None, detail: str) -> int:
        budget, edge = self.budget, self.edge
        if self.full and detail == "low":
            budget, edge = 256, 512
        elif self.full and (detail == "original" or (self.auto_full and detail != "high")):
            budget, edge = self.full, self.full_edge
        return ceil((min(budget, 10_000) if size is None else _patches(size, budget, edge)) * self.factor)


def _patches(size: Size, budget: int, edge: int) -> int:
    width, height = _fit(size, edge)
    if ceil(width / 32) * ceil(height / 32) > budget:
        shrink = sqrt(32 * 32 * budget / (width * height))
        across, down = width * shrink / 32, height * shrink / 32
        shrink *= min(floor(across) / across, floor(down) / down) if min(across, down) >= 1 else 1.0
        width, height = floor(width * shrink), floor(height * shrink)
    return max(1, min(budget, ceil(width / 32) * ceil(height / 32)))


def _visual(edge: int, budget: int, size: Size | None, _detail: str) -> int:
    """Anthropic's rule: the largest size of the same shape whose 28 px patches fit both the edge and the budget."""
    if size is None:
        return budget
    long, short = max(size), min(size)

    def patches(length: int) -> int:
        wide, high = ceil(length / 28), ceil(max(1, round(length * short / long)) / 28)
        return wide * high if wide * 28 <= edge and wide * high <= budget else 0

    low, high = 1, long
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if patches(middle) else (low, middle - 1)
    return patches(low)


def _crops(size: Size | None, _detail: str) -> int:
    """Gemini's rule. An unknown size is taken as 3072 px square, the largest Gemini keeps: 16 tiles."""
    width, height = size or (3072, 3072)
    if max(width, height) <= 384:
        return 258
    width_fit, height_fit = _fit((width, height), 3072)
    return 258 * ceil(width_fit / 768) * ceil(height_fit / 768)


def _with_pages(image: ImageRule, sound: float = 0.0) -> MediaRule:
    return MediaRule(image, page=image(None, "high") + PAGE_TEXT, sound=sound)


_OPENAI: tuple[tuple[str, ImageRule], ...] = (  # the first pattern that matches the model
    (r"gpt-5\.[6-9]", Patch(1.2, 2_500, full=10**9, full_edge=10**9, auto_full=True)),  # never resized
    (r"gpt-5\.5", Patch(1.2, 2_500, full=10_000, auto_full=True)),
    (r"gpt-5\.4-mini|gpt-5-mini|gpt-4\.1-mini", Patch(1.62)),
    (r"gpt-5\.4-nano|gpt-5-nano|gpt-4\.1-nano", Patch(2.46)),
    (r"gpt-5\.4", Patch(1.2, 2_500, full=10_000)),
    (r"gpt-5\.[23]|gpt-5(\.1)?-codex-mini", Patch(1.2)),
    (r"o4-mini", Patch(1.72)),
    (r"gpt-4o-mini", partial(_tiles, 2833, 5667)),
    (r"gpt-5", partial(_tiles, 70, 140)),
    (r"o[13]\b", partial(_tiles, 75, 150)),
    (r"", partial(_tiles, 85, 170)),
)
_CLAUDE_LARGE = re.compile(r"claude-(opus-4-[7-9]|(opus|sonnet|haiku|fable)-[5-9])")


def media_rule(model: str) -> MediaRule:
    """The rule of a model name. Names no rule knows, encodings among them, get the gpt-4o tile rule."""
    if "gemini" in model:
        return MediaRule(_crops, page=258, sound=32.0, video=263.0)
    if "claude" in model or "anthropic" in model:
        edge, budget = (2576, 4784) if _CLAUDE_LARGE.search(model) else (1568, 1568)
        return _with_pages(partial(_visual, edge, budget))
    return _with_pages(next(rule for pattern, rule in _OPENAI if re.search(pattern, model)), sound=10.0)


def image_size(data: bytes) -> Size | None:
    """(width, height) from the header of a PNG, JPEG, GIF or WebP; None where it cannot be read."""
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            size: Size = struct.unpack(">II", data[16:24])
        elif data[:6] in {b"GIF87a", b"GIF89a"}:
            size = struct.unpack("<HH", data[6:10])
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            size = _webp(data)
        elif data[:2] == b"\xff\xd8":
            size = _jpeg(data)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return size if min(size) > 0 else None


def _webp(data: bytes) -> Size:
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _jpeg(data: bytes) -> Size:
    """Walk the segments to the frame header. A camera's EXIF rotation swaps the sides, which no rule here minds."""
    at = 2
    while data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:
            at += 1
        elif 0xC0 <= kind <= 0xCF and kind not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        else:
            at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    raise IndexError


def pdf_pages(data: bytes) -> int:
    """Pages of a PDF, counted as page objects, compressed object streams included; at least 1."""
    found = len(re.findall(rb"/Type\s*/Page(?![a-zA-Z])", data))
    if not found:
        streams = re.finditer(rb"/ObjStm\b.{0,400}?stream\r?\n", data, re.DOTALL)
        found = sum(len(re.findall(rb"/Type\s*/Page(?![a-zA-Z])", _inflate(data[m.end() :]))) for m in streams)
    return max(1, found)


def _inflate(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _BIGGEST_STREAM)
    except zlib.error:
        return b""


def seconds(data: bytes, mime: str) -> float:
    """Length of sound or video: exact for WAV, else by size at 32 kbit/s for sound and 1 Mbit/s for video."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE" and len(data) >= 44:
        rate = struct.unpack("<I", data[28:32])[0]
        return (len(data) - 44) / rate if rate else 0.0
    return len(data) / (125_000 if mime.startswith("video") else 4_000)
