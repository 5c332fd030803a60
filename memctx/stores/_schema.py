"""The schema of an opened database: made if there is none, refused if it is another's, upgraded when asked."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select, text

from memctx.errors import ConfigError, StoreError
from memctx.stores._tables import metadata
from memctx.stores._where import Where

MIGRATIONS = Path(__file__).with_name("_migrations")
LOCK = 0x6D656D637478  # "memctx": the advisory lock of PostgreSQL under which the schema changes
version_table = Table("memctx_version", MetaData(), Column("version_num", String(32), primary_key=True))  # as Alembic's


@cache
def newest() -> str:
    """The newest revision this code has. Files are named `rNNNN.py`, so that opening a store needs no Alembic."""
    return max(path.stem[1:] for path in (MIGRATIONS / "versions").glob("r*.py"))


def found(conn: Connection) -> str | None:
    """The revision of a database, or None without one."""
    if not inspect(conn).has_table(version_table.name):
        return None
    return conn.execute(select(version_table.c.version_num)).scalar()


def check(revision: str, where: Where) -> None:
    """Raise `StoreError` unless this code can work with that revision."""
    if revision < newest():
        text = f"{where} has schema {revision}, this memctx needs {newest()}: run `memctx db upgrade {where}`"
        raise StoreError(text, code="schema_old", found=revision, needed=newest())
    if revision > newest():
        text = f"{where} has schema {revision}, newer than the {newest()} of this memctx: upgrade memctx-agents"
        raise StoreError(text, code="schema_too_new", found=revision, needed=newest())


def create(conn: Connection, where: Where) -> str:
    """Make the tables in a transaction that writes, unless another process was first. Returns the revision."""
    _alone(conn)
    revision = found(conn)
    if revision is not None:
        return revision
    taken = sorted(set(inspect(conn).get_table_names()) & set(metadata.tables))
    if taken:
        text = f"{where} has a table {taken[0]!r} that is not memctx's: give memctx a database of its own"
        raise ConfigError(text, field="where", tables=taken)
    metadata.create_all(conn)
    version_table.create(conn)
    conn.execute(insert(version_table).values(version_num=newest()))
    return newest()


def upgrade(conn: Connection) -> None:
    """Bring an older schema to the newest one, in the transaction of `conn`: all of it or nothing."""
    from alembic import command
    from alembic.config import Config

    _alone(conn)
    config = Config()
    config.set_main_option("script_location", "memctx.stores:_migrations")
    config.attributes["connection"] = conn
    command.upgrade(config, "head")


def _alone(conn: Connection) -> None:
    """Two processes never change the schema at once. On SQLite the write transaction is enough."""
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
