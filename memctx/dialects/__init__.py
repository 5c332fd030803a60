"""Dialects: the tools through which a model reads and writes one scope of memory.

This file says what one is; every other file here is one; a leading _ marks a helper. All dialects work on the same rows: what
one wrote the others show. A dialect has the scope it was made with and takes none from the model. What it writes carries the
trust of its source, by default "model". Records that are pinned, or that the host vouches for, the model can read, not change.
"""

from __future__ import annotations

from typing import Any, Protocol


class Dialect(Protocol):
    """One file, one class, made of a `Scoped` memory and settings."""

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """The tools, as they go into a request."""
        ...

    def call(self, name: str, arguments: Any) -> str:
        """Answer a tool call. `arguments`: JSON text or a mapping.

        What the model did wrong is answered in words that say what to do. A store that fails raises `StoreError`.
        """
        ...

    async def acall(self, name: str, arguments: Any) -> str:
        """As `call`, off the event loop."""
        ...
