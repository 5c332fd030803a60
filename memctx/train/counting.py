"""Counts as a codec writes, so that a pipeline's budget is of the very ids that a policy sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memctx.train.codec import Codec, written


@dataclass(frozen=True, slots=True)
class CodecCounter:
    """A `memctx.tokens.Counter`. Give it to a pipeline as `counter=CodecCounter(codec)`."""

    codec: Codec
    name: str = "codec"
    exact: bool = True
    ratio: float = 1.0

    @property
    def priming(self) -> int:
        return len(self.codec.head("assistant"))

    def text(self, text: str) -> int:
        return len(self.codec.body(text))

    def message(self, raw: Mapping[str, Any]) -> int:
        return len(written(self.codec, raw))

    def tools(self, tools: Sequence[Any]) -> int:
        return 0  # a tape writes none

    def total(self, counted: int) -> int:
        return counted

    def calibrate(self, estimated: int, reported: int | None) -> None:
        """Nothing to learn."""
