"""Any history in which the model omits, folds and branches, well or badly: every view is valid, in budget, reversible."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from memctx.pipeline import Pipeline
from memctx.strategies.branch import Branch
from memctx.strategies.chunked import ChunkedOverwrite
from memctx.strategies.clear import ClearResults
from memctx.strategies.fold import Fold
from memctx.strategies.omit import Omit
from memctx.strategies.summarize import Summarize
from memctx.strategies.truncate import Truncate
from tests.histories import as_anthropic, as_responses, chat
from tests.properties import PROVIDERS, holds

STACK = (
    ChunkedOverwrite(over=60, chunk=40, memory=30),
    Omit(),
    Fold(),
    Branch(budget=200),
    Summarize(at=0.5, keep=2, max_tokens=100, min_tokens=100),
    ClearResults(keep=1),
    Truncate(high=0.5, low=0.3, keep=1),
)
NAMES = ("branch", "return", "look")
CALLED = {"description": "x", "prompt": "y", "message": "z"}


@st.composite
def cases(draw: st.DrawFn, provider: str) -> tuple[Any, list[Any], Pipeline]:
    """(system text, messages in the provider's form, some of the strategies under a random budget)."""
    history = draw(chat())
    numbers = st.integers(0, len(history))
    for message in history:
        if message["role"] == "assistant":
            a, b = draw(numbers), draw(numbers)
            said = draw(
                st.sampled_from(
                    ["", f"<omit>{a}-{b}</omit>", f"<fold>{a}-{b}: seen</fold>", "<fold>", "<fold>x</fold>"]
                )
            )
            if isinstance(message.get("content"), str):
                message["content"] += said
            for call in message.get("tool_calls") or ():
                if draw(st.booleans()) and isinstance(call.get("function"), dict):
                    call["function"] = {"name": draw(st.sampled_from(NAMES)), "arguments": json.dumps(CALLED)}
    system, messages = None, history
    if provider == "anthropic":
        system, messages = as_anthropic(history, draw(st.booleans()))
        names = {call["id"]: call["function"] for each in history for call in each.get("tool_calls") or ()}
        for block in (
            block for message in messages if isinstance(message["content"], list) for block in message["content"]
        ):
            if block["type"] == "tool_use" and names.get(block["id"], {}).get("name") in NAMES:
                block |= {"name": names[block["id"]]["name"], "input": CALLED}
    elif provider == "openai-responses":
        messages = as_responses(history, draw(st.booleans()))
    pipeline = Pipeline(
        draw(st.lists(st.sampled_from(STACK), min_size=1, max_size=4, unique=True)),
        budget=draw(st.sampled_from([250, 500, 1_000, 4_000])),
        edit_when=draw(st.sampled_from(["pays", "budget", "always"])),
        provider=provider,
    )
    return system, messages, pipeline


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_view_is_valid_within_budget_and_reversible(provider: str) -> None:
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(cases(provider))
    def run(case: tuple[Any, list[Any], Pipeline]) -> None:
        system, messages, pipeline = case
        holds(provider, system, messages, pipeline)

    run()
