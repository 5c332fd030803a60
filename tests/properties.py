"""What must hold of every view, whatever the history and the strategies. Used by tests and by benchmarks/validity.py."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from memctx import component
from memctx.errors import BudgetError
from memctx.pipeline import Pipeline
from memctx.session import Session
from memctx.validity import check
from tests.histories import as_anthropic, as_responses, chat

PROVIDERS = ("openai-chat", "openai-responses", "anthropic")
NAMES = component.names("strategies")


@st.composite
def cases(draw: st.DrawFn, provider: str) -> tuple[Any, list[Any], Pipeline]:
    """(system text, messages in the provider's form, a random stack of strategies under a random budget)."""
    history = draw(chat())
    thinking = draw(st.booleans())
    system, messages = None, history
    if provider == "anthropic":
        system, messages = as_anthropic(history, thinking)
    elif provider == "openai-responses":
        messages = as_responses(history, thinking)
    names = draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True))
    stack = [component.find("strategies", name)() for name in names]
    pipeline = Pipeline(
        stack,  # type: ignore[arg-type]  # found by name
        budget=draw(st.sampled_from([250, 500, 1_000, 4_000, 100_000])),
        edit_when=draw(st.sampled_from(["pays", "budget", "always"])),
        price=draw(st.sampled_from(["openai", "anthropic-5m", "none"])),
        provider=provider,
        pins=["flight HAT170"] if draw(st.integers(0, 9)) == 0 else [],
    )
    return system, messages, pipeline


def model(asked: Any) -> str:
    return "Facts: order W2378156, flight HAT170. Next: go on."


def holds(provider: str, system: Any, messages: list[Any], pipeline: Pipeline) -> int:
    """Walk the run call by call and assert every promise; return how many views were made."""
    session = pipeline.session(generate=model)
    before = copy.deepcopy(messages)
    made = 0
    for end in range(1, len(messages) + 1):
        if end < len(messages) and end % 3:
            continue
        made += _one_call(session, provider, system, messages[:end])
    assert messages == before, "the host's messages were changed"
    return made


def _one_call(session: Session, provider: str, system: Any, seen: list[Any]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            view = session.view(seen, system=system)
        except BudgetError:
            return 0
        again = session.view(seen, system=system)
    assert again.messages == view.messages
    assert again.plan == view.plan
    violations = check(view.messages, provider, system=system)
    assert not violations, violations
    assert view.tokens <= session.limit
    _unedited_are_the_hosts(view.messages, seen)
    for handle in view.handles:
        assert isinstance(session.reopen(handle), str)
    return 1


def _unedited_are_the_hosts(shown: Sequence[Any], hosts: Sequence[Any]) -> None:
    """Messages that are the host's own objects stand in the host's order, each once."""
    places = {id(raw): index for index, raw in reversed(list(enumerate(hosts)))}
    order = [places[id(raw)] for raw in shown if id(raw) in places]
    assert len(order) == len(set(order)), "a message was doubled"
