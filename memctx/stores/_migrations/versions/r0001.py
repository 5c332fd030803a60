"""The first schema: every table of `memctx/stores/_tables.py`."""

from __future__ import annotations

from alembic import op

from memctx.stores._tables import metadata

revision = "0001"
down_revision = None


def upgrade() -> None:
    metadata.create_all(op.get_bind())
