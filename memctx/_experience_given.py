"""What a caller of a library gives, checked, cut to its bounds, and as every database can hold it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from memctx._experience_items import LONGEST_ADVICE, LONGEST_SITUATION, POLARITY, Experience
from memctx._experience_ops import Add, Edit, Merge, Op
from memctx.errors import FilterError
from memctx.records import trust_of

MAX_K = 1_000


def outcome(given: Any) -> float:
    """How a run ended, in -1..1. Raises `FilterError` for anything else: there is no experience without an outcome."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not -1 <= given <= 1:
        raise FilterError(f"outcome = {given!r:.40}: give a number from -1 to 1, as the host knows it", field="outcome")
    return float(given)


def item(given: Experience, writer: str) -> Experience:
    """An experience as it is kept. Raises `FilterError`."""
    if not isinstance(given, Experience) or given.level not in POLARITY:
        known = ", ".join(POLARITY)
        raise FilterError(f"{given!r:.60} is no Experience with a level of {known}", field="items")
    if not isinstance(writer, str) or not writer:
        raise FilterError("writer: name on whose behalf this is written", field="writer")
    if not math.isfinite(given.score):
        raise FilterError(f"score = {given.score!r}: give a number from 0 to 1", field="score")
    return replace(
        given,
        advice=advice(given.advice),
        task=situation(given.task),
        observation=situation(given.observation),
        score=min(max(float(given.score), 0.0), 1.0),
        evidence=tuple(plain(str(each)) for each in given.evidence),
        writer=plain(writer),
        trust=trust_of(given.trust),
        uses=0,
        helped=0.0,
        outcomes=0,
        version=1,
        id=0,
    )


def op(given: Op, writer: str) -> Op:
    """An operation as it is applied. Raises `FilterError`."""
    if isinstance(given, Add):
        return Add(item(given.experience, writer))
    if isinstance(given, Edit) or (isinstance(given, Merge) and given.advice):
        return replace(given, advice=advice(given.advice))
    return given


def source(given: Any) -> str:
    """What experience may come from, as evidence names it. Raises `FilterError`."""
    if not isinstance(given, str) or not given:
        raise FilterError(f"source = {given!r:.40}: name the run, message or document as evidence does", field="source")
    return plain(given)


def texts(items: Iterable[Experience]) -> list[str]:
    """Every text that needs a vector."""
    return [text for each in items for text in (each.advice, each.observation, each.task) if text]


def k(given: Any) -> int:
    """How many are wanted. Raises `FilterError`."""
    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= MAX_K:
        raise FilterError(f"k = {given!r:.40}: give a number from 1 to {MAX_K}", field="k")
    return given


def advice(text: str) -> str:
    """An advice; what is too long loses its end. Raises `FilterError` for one that says nothing."""
    if not isinstance(text, str) or not text.strip():
        raise FilterError(f"advice = {text!r:.40}: give a text that says something", field="advice")
    said = plain(text).strip()
    return said if len(said) <= LONGEST_ADVICE else f"{said[: LONGEST_ADVICE - 1]}…"


def situation(text: str) -> str:
    """An observation or a task; what is too long loses its middle. Raises `FilterError`."""
    if not isinstance(text, str):
        raise FilterError(f"observation or task = {text!r:.40}: give a text", field="observation")
    if len(text) > LONGEST_SITUATION:
        tail = LONGEST_SITUATION // 4
        text = f"{text[: LONGEST_SITUATION - tail - 3]}\n…\n{text[-tail:]}"
    said = plain(text)
    return said if said.strip() else ""


def plain(text: str) -> str:
    """A lone surrogate or a NUL becomes U+FFFD."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
