"""Every store through the shared suite, and what SQLite and PostgreSQL alone promise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memctx.stores.sql import SqlStore
from memctx.testing.stores import Opened, StoreTests


class TestMemory(StoreTests):
    @pytest.fixture
    def opened(self) -> Iterator[Opened]:
        store = SqlStore()
        yield lambda: store
        store.close()


class TestSqlite(StoreTests):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Opened:
        return lambda: SqlStore(tmp_path / "store.db")


class TestPostgres(StoreTests):
    @pytest.fixture
    def opened(self, postgres_url: str) -> Opened:
        return lambda: SqlStore(postgres_url)
