"""Mlp: a small network that was taught by recorded runs what later steps need. NumPy runs it; torch only trains it."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from memctx.component import Component
from memctx.policies._weights import LOSS, load, worth


class Mlp(Component):
    """`dir`: a folder that `memctx train keep` wrote, or "default", the policy that ships (see its card).

    `loss`: tokens that losing a needed result is taken to cost.
    """

    kind: ClassVar[str] = "mlp"  # what the folder's card must say
    dir: str = "default"
    loss: float = Field(default=LOSS, gt=0)

    @field_validator("dir")
    @classmethod
    def _readable(cls, value: str) -> str:
        load(value, cls.kind)
        return value

    def needs(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 2): the chance that a later step needs a result; that it needs what a skim of it would lose."""
        return load(self.dir, self.kind)(rows)

    def worth(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n,) 0 to 1: worth of keeping each result: the chance that it is needed, with its tokens weighed in."""
        return worth(rows, self.needs(rows), self.loss)
