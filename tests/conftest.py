"""What every test shares: one thread for numeric libraries, a steady hypothesis, and the way to the shared data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports numpy: spinning threads slow a busy machine

import pytest
from hypothesis import HealthCheck, settings

from tests import postgres

ROOT = Path(__file__).resolve().parent.parent
_databases = count()

# No deadline: the checks share their cores. In CI the same cases each time, so that a red run can be repeated.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded runs beside the checkout; the test is skipped where there is none."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the recorded runs in ../shared")
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL for this worker's tests, where databases may be made."""
    given = os.environ.get(postgres.SERVER)
    if given:
        yield given
        return
    with postgres.server() as started:
        yield started.url("postgres")


@pytest.fixture
def postgres_url(postgres_server: str, worker_id: str) -> Iterator[str]:
    """The URL of an empty database of one test."""
    with postgres.database(postgres_server, f"memctx_{worker_id}_{next(_databases)}") as url:
        yield url
