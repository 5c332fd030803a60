"""What a database complains about, as one kind of error: which faults pass if tried again, and which sentence says the rest."""

from __future__ import annotations

import json
import random
import time
from typing import Any

from sqlalchemy import exc

from memctx.errors import ConfigError, MemctxError, StoreError
from memctx.stores._where import Where

# SQLite's primary result codes, https://sqlite.org/rescode.html
BUSY, LOCKED, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB = 5, 6, 8, 10, 11, 13, 14, 26
# PostgreSQL's SQLSTATEs, appendix A of its manual: serialization failure, deadlock, lock not available
PASSING = {"40001", "40P01", "55P03"}
READONLY_STATE = "25006"
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode  # made once: half the time of json.dumps
FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.5  # seconds


def as_json(value: Any) -> str:
    """What a JSON column holds: JSON as others read it, so no NaN; all ASCII, so that any Python text can be in it."""
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as cause:
        raise ConfigError(f"a value cannot be stored as JSON: {cause}", code="not_json") from None


class Tries:
    """How often and until when a transaction is tried again: full jitter, doubling, bounded by a deadline."""

    def __init__(self, where: Where, timeout: float, *, write: bool) -> None:
        self._where = where
        self._write = write
        self._timeout = timeout
        self._end = time.monotonic() + timeout
        self._ceiling = FIRST_PAUSE

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(self._end - time.monotonic(), 0.0)

    def pause(self, fault: BaseException) -> float:
        """Seconds to wait before the next try; raises what the caller should see if there is none.

        Call it outside the handler: an error raised here must not carry the driver's, whose text may hold a password.
        """
        if not passing(fault):
            raise explained(fault, self._where, write=self._write)
        if not self.left:
            text = f"{self._where} stayed busy for {self._timeout:g} s: another writer holds it; try again, or later"
            raise StoreError(text, code="store_busy", seconds=self._timeout)
        wait = random.uniform(0, min(self._ceiling, self.left))
        self._ceiling = min(self._ceiling * 2, LONGEST_PAUSE)
        return wait


def passing(fault: BaseException) -> bool:
    """Whether the same transaction may succeed if it is run again from its start."""
    if not isinstance(fault, exc.DBAPIError):
        return False
    return _sqlite_code(fault) in {BUSY, LOCKED} or _sqlstate(fault) in PASSING


def explained(fault: BaseException, where: Where, *, write: bool) -> BaseException:
    """A database's fault as ours; what is not a fault of the store (a work function's own error) comes back as it is."""
    if isinstance(fault, exc.TimeoutError):
        text = f"every connection to {where} was in use for too long: raise `pool`, or hold transactions shorter"
        return StoreError(text, code="store_busy")
    if isinstance(fault, UnicodeEncodeError):
        return ConfigError(f"a text cannot be stored: {fault.reason} at character {fault.start}", code="bad_value")
    if isinstance(fault, exc.StatementError) and isinstance(fault.orig, MemctxError):
        return fault.orig
    if not isinstance(fault, exc.DBAPIError) or isinstance(fault, exc.IntegrityError | exc.ProgrammingError):
        return fault
    if _sqlite_code(fault) == READONLY or _sqlstate(fault) == READONLY_STATE:
        return _readonly(where, write)
    if isinstance(fault, exc.DataError):
        return ConfigError(f"a value cannot be stored: {_hidden(str(fault.orig), where)}", code="bad_value")
    return _by_sqlite_code(fault, where) or _by_kind(fault, where)


def _by_sqlite_code(fault: exc.DBAPIError, where: Where) -> MemctxError | None:
    code, said = _sqlite_code(fault), str(fault.orig)
    if code in {CORRUPT, NOTADB}:
        text = f"{where} is damaged or no memctx store ({said}): restore it from a backup, or give another path"
        return StoreError(text, code="store_corrupt", path=str(where))
    if code == FULL:
        text = f"no space left for {where}: nothing of this transaction was stored; free space and try again"
        return StoreError(text, code="store_full", path=str(where))
    if code == CANTOPEN:
        text = f"{where} cannot be opened ({said}): give a path that this user may write"
        return ConfigError(text, field="where", path=str(where))
    if code == IOERR:
        text = f"reading or writing {where} failed ({said}): nothing of this transaction was stored; look at the disk"
        return StoreError(text, code="store_io", path=str(where))
    return None


def _readonly(where: Where, write: bool) -> ConfigError:
    if not write:
        return ConfigError("a function given to `read` writes: give it to `write`", code="read_only")
    return ConfigError(f"{where} is read-only: give a place that this user may write", field="where", path=str(where))


def _by_kind(fault: exc.DBAPIError, where: Where) -> MemctxError:
    said = " ".join(_hidden(str(fault.orig), where).split())
    if where.dialect == "postgresql" and (fault.connection_invalidated or _sqlstate(fault) is None):
        text = f"no connection to {where} ({said}): look at the server, the address and the password"
        return StoreError(text, code="store_unreachable")
    return StoreError(f"{where} refused ({said})", code="store_failed", sqlstate=_sqlstate(fault))


def _hidden(text: str, where: Where) -> str:
    return text.replace(where.password, "***") if where.password else text


def _sqlite_code(fault: exc.DBAPIError) -> int | None:
    code: Any = getattr(fault.orig, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _sqlstate(fault: exc.DBAPIError) -> str | None:
    return getattr(fault.orig, "sqlstate", None)
