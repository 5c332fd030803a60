"""Where a store lives: a path, `:memory:` or a database URL, checked before anything is opened."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from memctx.errors import ConfigError, require

MEMORY = ":memory:"


@dataclass(frozen=True, slots=True)
class Where:
    """One database, and its file where it is one."""

    dialect: str
    url: URL
    file: Path | None  # None: a server, or memory

    def __str__(self) -> str:
        if self.dialect == "sqlite":
            return str(self.file or MEMORY)
        return self.url.render_as_string(hide_password=True)

    @property
    def password(self) -> str | None:
        """What no message may hold."""
        return str(self.url.password) if self.url.password else None


def located(where: str | Path) -> Where:
    """Read what a user gave. Raises `ConfigError` for a place that cannot be one, `MissingDependency` without a driver."""
    text = os.fspath(where)
    if "://" not in text:
        return _sqlite(text)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None  # outside the handler: the text may hold a password, and a cause chain would show it
    if url is None:
        raise ConfigError("the store's URL cannot be read; give a path, sqlite:///… or postgresql://…", field="where")
    family = url.get_backend_name()
    if family == "sqlite":
        if url.query:
            raise ConfigError(f"the store's URL has options ({', '.join(url.query)}): give a plain path", field="where")
        return _sqlite(url.database or MEMORY)
    if family in {"postgresql", "postgres"}:
        require("psycopg", extra="postgres")
        url = url.set(drivername="postgresql+psycopg")
        return Where("postgresql", url, None)
    raise ConfigError(f"no store for {family!r}: use a SQLite path or postgresql://…", field="where", given=family)


def _sqlite(text: str) -> Where:
    if text == MEMORY:  # a database of its own, which several connections of this process can open
        name, query = f"file:/memctx-{uuid.uuid4().hex}", {"vfs": "memdb", "uri": "true"}
        return Where("sqlite", URL.create("sqlite+pysqlite", database=name, query=query), None)
    if not text or text.startswith("file:") or "\0" in text:
        raise ConfigError(f"{text!r:.80} is no path for a store: give a file's path or ':memory:'", field="where")
    path = Path(text).expanduser().absolute()
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: give the path of a file in it", field="where", path=str(path))
    if not path.parent.is_dir():
        raise ConfigError(f"the folder {path.parent} does not exist: create it first", field="where", path=str(path))
    return Where("sqlite", URL.create("sqlite+pysqlite", database=str(path)), path)
