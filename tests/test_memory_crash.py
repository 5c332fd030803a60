"""kill -9 while memory works on a SQLite file and its FAISS files. `benchmarks/crash.py` is the long form."""

from __future__ import annotations

import os

import pytest

from benchmarks.crash import trials


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # newer Pythons: the child only opens its own store
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_a_crash_loses_nothing_acknowledged_and_leaves_index_and_rows_agreed() -> None:
    writes, wrong = trials(8, seed=20_261_123)
    assert writes > 8
    assert wrong == []
