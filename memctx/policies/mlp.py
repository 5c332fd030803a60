"""Mlp: a small network that was taught by recorded runs what later steps need. NumPy runs it; torch only trains it."""

from __future__ import annotations

from typing import ClassVar

from memctx.policies._network import Network


class Mlp(Network):
    """A folder that `memctx train keep` wrote, or "default"."""

    kind: ClassVar[str] = "mlp"
