"""Run by Alembic: everything happens on the connection, and in the transaction, of `memctx.stores._schema.upgrade`."""

from __future__ import annotations

from alembic import context

from memctx.stores._schema import version_table
from memctx.stores._tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=version_table.name,
    transactional_ddl=True,
    render_as_batch=True,  # SQLite changes a table by copying it
)
context.run_migrations()
