"""Reading data that somebody else wrote."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memctx.errors import ConfigError, MemctxError

BROKEN = (OSError, EOFError, zlib.error, ValueError, TypeError, LookupError, AttributeError)


@contextmanager
def reading(what: str, path: Path) -> Iterator[None]:
    """A file below `path` that is missing or broken is one `ConfigError`."""
    try:
        yield
    except MemctxError:
        raise
    except BROKEN as cause:
        why = getattr(cause, "filename", None) or f"{type(cause).__name__}: {cause}"
        raise ConfigError(f"{path} does not hold {what} as it should: {why}", field="path", path=str(path)) from cause
