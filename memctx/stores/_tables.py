"""The schema, once for SQLite and PostgreSQL. Alembic brings an older one up to it (`memctx/stores/_migrations`).

Every table has the scope. Order is the database's own sequence, never a clock; times are seconds since 1970 and only shown or
compared with times that a caller gave. JSON columns hold what `json` can carry and nothing else.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)  # fmt: skip

metadata = MetaData()

_Scope = String(collation=None).with_variant(Text(collation="C"), "postgresql")  # scopes sort by code point
_Id = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers only INTEGER keys by itself


def _sequence(name: str) -> Column[int]:
    """A key the database numbers; a number is never given twice."""
    return Column(name, _Id, primary_key=True, autoincrement=True)


record = Table(
    "record",
    metadata,
    _sequence("id"),
    Column("scope", _Scope, nullable=False),
    Column("kind", String(16), nullable=False),  # core, semantic, episodic, experience
    Column("text", Text, nullable=False),
    Column(
        "about", Text, nullable=False, default=""
    ),  # what it is a statement about, where the writer says: one is current
    Column("digest", String(64), nullable=False),  # of the text, white space and case aside
    Column("sources", JSON, nullable=False),  # ids of the messages, records or documents it comes from
    Column("trust", Integer, nullable=False),  # the least of its sources
    Column("valid_from", Float, nullable=False),
    Column("valid_to", Float),  # null: still so
    Column("ended", Float),  # when something last took its place or it was taken back; null: never
    Column("superseded_by", _Id),  # no foreign key: each delete would look through the table for who points to it
    Column("thread", Text, nullable=False, default=""),
    Column("run", Text, nullable=False, default=""),
    Column("checkpoint", Text, nullable=False, default=""),
    Column("pinned", Boolean, nullable=False, default=False, server_default=false()),
    Column("uses", Integer, nullable=False, default=0),
    Column("helped", Float, nullable=False, default=0.0),  # sum of the outcomes reported for its uses, each in -1..1
    Column("outcomes", Integer, nullable=False, default=0),  # how many were reported
    Column("meta", JSON, nullable=False),
    Column("created", Float, nullable=False),
    Column("version", Integer, nullable=False, default=1),
    Index("record_by_scope", "scope", "kind", "id"),
    Index("record_by_digest", "scope", "digest"),
    Index("record_by_subject", "scope", "about"),
    Index("record_by_thread", "scope", "thread", "id"),
    sqlite_autoincrement=True,
)

ending = Table(  # who ended a record: runs that were forked apart may each do so, and see only their own
    "ending",
    metadata,
    _sequence("seq"),
    Column("scope", _Scope, nullable=False),
    Column("record", _Id, ForeignKey("record.id", ondelete="CASCADE"), nullable=False),
    Column("until", Float, nullable=False),  # the record's validity ends here
    Column("by", _Id),  # the record in its place; null: taken back
    Column("thread", Text, nullable=False, default=""),
    Column("checkpoint", Text, nullable=False, default=""),
    Index("ending_by_record", "record"),
    Index("ending_by_scope", "scope"),
    sqlite_autoincrement=True,
)

history = Table(
    "history",
    metadata,
    _sequence("seq"),
    Column("scope", _Scope, nullable=False),
    Column("record", _Id, nullable=False),  # no foreign key: the history outlives a record that was forgotten
    Column("op", String(16), nullable=False),  # repeat, correct, supersede, retract, evict
    Column("text", Text),  # as it was before the change
    Column("why", Text, nullable=False, default=""),
    Column("at", Float, nullable=False),
    Column("thread", Text, nullable=False, default=""),
    Column("run", Text, nullable=False, default=""),
    Column("checkpoint", Text, nullable=False, default=""),
    Index("history_by_record", "scope", "record", "seq"),
    sqlite_autoincrement=True,
)

embedding = Table(
    "embedding",
    metadata,
    Column("record", _Id, ForeignKey("record.id", ondelete="CASCADE"), primary_key=True),
    Column("embedder", String(120), primary_key=True),
    Column("scope", _Scope, nullable=False),
    Column("vector", LargeBinary, nullable=False),  # float32, little-endian
    Index("embedding_by_scope", "embedder", "scope", "record"),
)

outbox = Table(  # what an index must still apply; a row is written in the transaction of the change it names
    "outbox",
    metadata,
    _sequence("seq"),
    Column("scope", _Scope, nullable=False),
    Column("op", String(8), nullable=False),  # add, remove; "erase", without a scope: read everything again
    Column("record", _Id, nullable=False),
    sqlite_autoincrement=True,
)

span = Table(
    "span",
    metadata,
    Column("scope", _Scope, primary_key=True),
    Column("thread", Text, primary_key=True),
    Column("handle", Text, primary_key=True),
    Column("content", Text, nullable=False),
    Column("created", Float, nullable=False),
)

document = Table(  # plans, tool graphs, a host's items: JSON under a name, with a version that a writer must know
    "document",
    metadata,
    _sequence("id"),
    Column("scope", _Scope, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("name", Text, nullable=False),
    Column("data", JSON, nullable=False),
    Column("version", Integer, nullable=False, default=1),
    Column("created", Float, nullable=False),
    Column("updated", Float, nullable=False),
    Column("expires", Float),
    UniqueConstraint("scope", "kind", "name"),
    Index("document_by_expiry", "expires"),
    sqlite_autoincrement=True,
)

item_vector = Table(  # of a host's items: a row for each text of an item that can be searched
    "item_vector",
    metadata,
    Column("document", _Id, ForeignKey("document.id", ondelete="CASCADE"), primary_key=True),
    Column("path", Text, primary_key=True),  # where in the item the text stands
    Column("embedder", String(120), nullable=False),
    Column("scope", _Scope, nullable=False),
    Column("vector", LargeBinary, nullable=False),  # float32, little-endian
    Index("item_vector_by_scope", "embedder", "scope", "document"),
)

request = Table(  # answers by idempotency key, so that a retried write has one effect
    "request",
    metadata,
    Column("scope", _Scope, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", String(64), nullable=False),  # of what was asked
    Column("answer", JSON, nullable=False),
    Column("created", Float, nullable=False),
)

trace = Table(
    "trace",
    metadata,
    _sequence("seq"),
    Column("scope", _Scope, nullable=False),
    Column("thread", Text, nullable=False, default=""),
    Column("at", Float, nullable=False),
    Column("data", JSON, nullable=False),
    Index("trace_by_thread", "scope", "thread", "seq"),
    sqlite_autoincrement=True,
)
