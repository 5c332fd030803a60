"""Any history in, a valid view out: every strategy and random stacks of them, three providers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from memctx.pipeline import Pipeline
from tests.properties import PROVIDERS, cases, holds


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_view_is_valid_within_budget_and_reversible(provider: str) -> None:
    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(cases(provider))
    def run(case: tuple[Any, list[Any], Pipeline]) -> None:
        system, messages, pipeline = case
        holds(provider, system, messages, pipeline)

    run()
