"""Linear: one weight a feature, taught by recorded runs what later steps need. Its weights can be read by eye."""

from __future__ import annotations

from typing import ClassVar

from memctx.policies.mlp import Mlp


class Linear(Mlp):
    """As `Mlp`, of a folder that `memctx train keep --kind linear` wrote: a network without a hidden layer."""

    kind: ClassVar[str] = "linear"
