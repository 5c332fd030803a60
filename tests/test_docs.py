"""What is generated stands in the docs as it would be generated now."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch")

from memctx.train._table import page


def test_the_table_of_algorithms_is_the_one_that_the_presets_make(root: Path) -> None:
    """Write it anew with `memctx train presets > docs/algorithms.md`."""
    assert (root / "docs" / "algorithms.md").read_text(encoding="utf-8") == page()
