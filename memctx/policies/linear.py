"""Linear: one weight a feature, taught by recorded runs what later steps need. Its weights can be read by eye."""

from __future__ import annotations

from typing import ClassVar

from memctx.policies._network import Network


class Linear(Network):
    """A folder that `memctx train keep --kind linear` wrote, or "default"."""

    kind: ClassVar[str] = "linear"
