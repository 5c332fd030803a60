"""DriftMonitor: what it measures, what it fits, and when it speaks up."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.drift import TRUE, errors, series
from memctx.edits import Insert, Replace
from memctx.effects import Embed, Logprobs
from memctx.errors import ConfigError
from memctx.pipeline import Pipeline
from memctx.plan import Plan
from memctx.session import Session
from memctx.strategies._equilibrium import Equilibrium, divergence, fit
from memctx.strategies.drift import DriftMonitor
from memctx.testing.strategies import StrategyTests

GOAL = "Book a flight to Oslo. Never pay more than 300 euros."
PROMPT = [
    {"role": "system", "content": "You are an agent. You must confirm each booking."},
    {"role": "user", "content": GOAL},
]


class TestDrift(StrategyTests):
    @pytest.fixture
    def strategy(self) -> Any:
        return DriftMonitor(level=0.0, noise=0.0)


def size(text: str) -> int:
    return len(text) // 4 + 1


def turn(number: int, drift: float) -> list[dict[str, Any]]:
    """A turn whose words say how far it has drifted."""
    function = {"name": "look", "arguments": "{}"}
    call = {"id": f"c{number}", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": f"drift {drift}", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": f"result {number}"},
    ]


def said(text: str) -> float:
    return float(text.split()[1])


class Model:
    """Log-probabilities of two tokens whose KL from the reference is what the answer says."""

    def __init__(self) -> None:
        self.asked: list[Logprobs] = []

    def __call__(self, effect: Logprobs) -> list[dict[str, float]]:
        self.asked.append(effect)
        whole = len(self.asked) % 2 == 1
        even = {"a": math.log(0.5), "b": math.log(0.5)}
        if whole:
            return [even, even]
        # KL((.5, .5) || (q, 1 - q)) = d  =>  4 q (1 - q) = exp(-2 d)
        q = (1 - math.sqrt(1 - math.exp(-2 * said(effect.answer)))) / 2
        return [{"a": math.log(q), "b": math.log(1 - q)}] * 2


def embed(effect: Embed) -> list[list[float]]:
    goal, answer = effect.texts
    assert goal.startswith(GOAL)
    cosine = 1 - said(answer)
    return [[2.0, 0.0], [cosine, math.sqrt(1 - cosine * cosine)]]


def session(pins: Any = (), handlers: Any = None, **fields: Any) -> Session:
    pipeline = Pipeline([DriftMonitor(**fields)], budget=50_000, counter=size, pins=pins)
    given: dict[str, Any] = {"embed": embed} if handlers is None else handlers
    return pipeline.session(**given)


def walk(*drifts: float) -> list[dict[str, Any]]:
    return [*PROMPT, *(message for number, drift in enumerate(drifts) for message in turn(number, drift))]


def play(thread: Session, *drifts: float) -> list[str]:
    """A run, shown call by call; the reminders it had."""
    old: list[Any] = []
    for end in range(len(drifts) + 1):
        messages = walk(*drifts[:end])
        shown = thread.view(messages).messages
        assert shown[: len(old)] == old, "a reminder changed the prefix"
        assert thread.view(messages).messages == shown
        old = shown
    return reminders(thread)


def reminders(thread: Session) -> list[str]:
    return [edit.content for edit in thread.plan.edits if isinstance(edit, Insert)]


def measured(thread: Session) -> list[float]:
    return [round(value[2], 6) for value in thread.plan.notes["drift"]["values"]]


# The series


@pytest.mark.parametrize("true", TRUE[1:], ids=lambda true: f"rate {true.rate}")
def test_the_parameters_of_a_made_up_series_are_recovered_within_ten_percent(true: Equilibrium) -> None:
    for seed in range(10):
        assert max(errors(true, runs=100, turns=80, seed=seed).values()) < 0.1


def test_a_series_without_noise_is_recovered_exactly() -> None:
    true = Equilibrium(0.3, 2.0, 0.0, 0.25)
    found = fit(*series(true, runs=2, turns=20, seed=0))
    assert found is not None
    assert (found.rate, found.level, found.relief) == pytest.approx((0.3, 2.0, 0.25))
    assert found.noise < 1e-9


def test_a_reminder_each_turn_lowers_the_level_by_its_relief_over_the_rate() -> None:
    true, rng, drift, late = Equilibrium(0.4, 1.0, 0.05, 0.1), np.random.default_rng(0), 0.0, list[float]()
    for number in range(4_000):
        drift += -true.rate * (drift - true.level) - true.relief + float(rng.normal(0, true.noise))
        late += [drift] * (number > 100)
    assert np.mean(late) == pytest.approx(1.0 - 0.1 / 0.4, abs=0.01)
    assert np.var(late) == pytest.approx(0.05**2 / (1 - 0.6**2), rel=0.1)


def test_where_nothing_pulls_back_the_band_is_what_was_seen() -> None:
    found = fit([[float(number) for number in range(10)]])
    assert found is not None
    assert (found.rate, found.level) == (0.0, 4.5)
    steady = fit([[0.5] * 8])
    assert steady is not None
    assert (steady.level, steady.band) == (0.5, 0.5)


@pytest.mark.parametrize("runs", [[], [[1.0]], [[1.0, 2.0, 1.0]], [[1.0], [2.0], [3.0], [1.0]]])
def test_too_few_values_fit_nothing(runs: list[list[float]]) -> None:
    assert fit(runs) is None
    with pytest.raises(ConfigError, match="too few"):
        DriftMonitor.fitted(runs)


# The measure

LOGP = st.dictionaries(st.sampled_from("abcdef"), st.floats(-20, 0), min_size=1)


@given(LOGP, LOGP)
def test_divergence_is_never_negative_and_nothing_only_between_equals(p: dict[str, float], q: dict[str, float]) -> None:
    assert 0 <= divergence([p], [q]) < 50
    assert divergence([p], [p]) == 0


def test_divergence_is_the_textbook_one_where_all_is_known() -> None:
    p, q = {"a": math.log(0.7), "b": math.log(0.3)}, {"a": math.log(0.2), "b": math.log(0.8)}
    exact = 0.7 * math.log(0.7 / 0.2) + 0.3 * math.log(0.3 / 0.8)
    assert divergence([p], [q]) == pytest.approx(exact, abs=1e-6)
    assert divergence([p, q, p], [q, q]) == pytest.approx(exact / 2, abs=1e-6)


def test_tokens_that_only_one_names_are_far() -> None:
    near = divergence([{"a": -0.1, "b": -3.0}], [{"a": -0.1, "c": -3.0}])
    far = divergence([{"a": -0.1, "b": -3.0}], [{"c": -0.1, "d": -3.0}])
    assert 0 < near < 0.5 < far


def test_with_log_probabilities_drift_is_the_divergence_from_the_goal_and_the_newest_turns() -> None:
    model = Model()
    thread = session(handlers={"logprobs": model, "embed": embed}, turns=2, pins=["result 1"])
    play(thread, 0.1, 0.2, 0.3, 0.4, 0.5)
    assert measured(thread) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    whole, reference = ([m["content"] for m in asked.messages] for asked in model.asked[-2:])
    assert whole[:2] == reference[:2] == [message["content"] for message in PROMPT]
    assert [text for text in whole if "result" in text] == [f"[result of look] result {n}" for n in range(4)]
    assert [text for text in reference if "result" in text] == [f"[result of look] result {n}" for n in (1, 2, 3)]
    assert model.asked[-1].answer == "drift 0.5\n[call look] {}"
    assert thread.plan.notes["drift"]["by"] == "logprobs"


def test_without_them_it_is_the_distance_of_embeddings() -> None:
    thread = session()
    play(thread, 0.1, 0.2, 0.3)
    assert measured(thread) == [0.1, 0.2, 0.3]
    assert thread.plan.notes["drift"]["by"] == "embed"


def test_vectors_of_numpy_leave_a_plan_that_can_be_saved() -> None:
    thread = session(handlers={"embed": lambda effect: np.array(embed(effect), dtype=np.float32)})
    play(thread, 0.1, 0.2)
    assert Plan.from_dict(json.loads(json.dumps(thread.plan.to_dict()))) == thread.plan


def test_the_two_measures_are_never_mixed() -> None:
    model, down = Model(), [False]

    def logprobs(effect: Logprobs) -> Any:
        if down[0]:
            raise ConnectionError("gone")
        return model(effect)

    thread = session(handlers={"logprobs": logprobs, "embed": embed})
    play(thread, 0.1, 0.2)
    down[0] = True
    thread.view(walk(0.1, 0.2, 0.3))
    down[0] = False
    thread.view(walk(0.1, 0.2, 0.3, 0.4))
    turns = [(value[0], round(value[2], 6)) for value in thread.plan.notes["drift"]["values"]]
    assert turns == [(1, 0.1), (2, 0.2), (4, 0.4)]
    later = session()  # nobody answers for log-probabilities here, and embeddings would be another scale
    assert later.view(walk(0.1, 0.2, 0.3, 0.4, 0.5), plan=thread.plan).plan == thread.plan


def test_what_is_measured_is_the_view() -> None:
    model = Model()
    thread = session(handlers={})
    thread.view(walk(0.1, 0.2, 0.3, 0.4))
    ids = [step.messages[0].id for step in thread.transcript.steps]
    plan = Plan(1, (Replace(ids[2], ids[3], "what two turns brought", "r1"),), {}, 1)
    session(handlers={"logprobs": model}).view(walk(0.1, 0.2, 0.3, 0.4), plan=plan)
    contents = [message["content"] for message in model.asked[0].messages]
    assert contents[2:] == ["what two turns brought", "drift 0.3\n[call look] {}", "[result of look] result 2"]


@pytest.mark.parametrize("handlers", [{}, {"embed": lambda _: 1 / 0}, {"logprobs": lambda _: [], "embed": embed}])
def test_where_nobody_measures_nothing_changes(handlers: Any) -> None:
    thread = session(handlers=handlers)
    messages = walk(0.1, 0.2, 0.3)
    assert thread.view(messages).messages == messages
    assert thread.plan.notes == {}


# The reminder

CALM = (0.1, 0.12, 0.09, 0.11, 0.1, 0.12, 0.09, 0.1, 0.11, 0.1, 0.12, 0.1)


def test_outside_the_band_the_goal_and_the_rules_are_quoted_at_the_tail() -> None:
    thread = session(level=0.1, noise=0.1)
    (text,) = play(thread, 0.1, 0.29, 0.31)
    assert text == (
        "[drift] A reminder: the last turns have moved away from what was asked.\nThe task, word for word:\n"
        f"{GOAL}\nRules, word for word:\n- You must confirm each booking.\n- Never pay more than 300 euros."
    )
    assert thread.view(walk(0.1, 0.29, 0.31)).messages[-1]["content"].startswith("[drift]")


def test_the_band_is_learned_from_the_threads_own_beginning() -> None:
    thread = session()
    assert play(thread, *CALM, 0.11, 0.12, 0.1) == []
    assert thread.plan.notes["drift"]["band"] < 0.2
    assert len(play(session(), *CALM, 0.5)) == 1
    assert play(session(), *CALM[:11], 0.9) == [], "one value short of the warm-up"


def test_a_band_fitted_on_earlier_runs_holds_from_the_first_turn() -> None:
    true = Equilibrium(0.3, 0.4, 0.05)
    monitor = DriftMonitor.fitted(series(true, runs=50, turns=40, seed=0)[0], rest=1)
    assert monitor.level == pytest.approx(0.4, rel=0.1)
    thread = Pipeline([monitor], budget=50_000, counter=size).session(embed=embed)
    assert len(play(thread, 0.3, 0.45, 0.7)) == 1


def test_reminders_rest() -> None:
    thread = session(level=0.1, noise=0.1, rest=3)
    assert len(play(thread, *[0.9] * 8)) == 3
    assert [value[0] for value in thread.plan.notes["drift"]["values"] if value[3]] == [1, 4, 7]


def test_a_reminder_is_bounded_and_quotes_pins_whole() -> None:
    thread = session(level=0.0, noise=0.0, pins=["PIN"], max_tokens=120)
    messages = [
        PROMPT[0],
        {"role": "user", "content": "Do this: " + "word " * 400},
        {"role": "assistant", "content": "drift 0.5"},
        {"role": "user", "content": "PIN: budget 300"},
        {"role": "assistant", "content": "drift 0.5"},
        {"role": "user", "content": "Go on."},
    ]
    handlers: Any = {"embed": lambda effect: [[1.0, 0.0], [0.5, 0.5]]}
    thread = session(handlers=handlers, level=0.0, noise=0.0, pins=["PIN"], max_tokens=120)
    thread.view(messages)
    (text,) = reminders(thread)
    assert size(text) <= 120
    assert "- PIN: budget 300" in text
    assert "- You must confirm each booking." in text


def test_a_restart_goes_on_and_a_rewound_thread_forgets() -> None:
    thread = session()
    play(thread, *CALM)
    stored = json.loads(json.dumps(thread.plan.to_dict()))
    fresh = session()
    fresh.view(walk(*CALM, 0.5), plan=stored)
    assert len(reminders(fresh)) == 1
    thread.view(walk(*CALM[:5], 0.3))
    assert measured(thread) == pytest.approx([*CALM[:5], 0.3])


def test_async_is_the_same() -> None:
    async def later(effect: Embed) -> Any:
        return embed(effect)

    plain, waited = session(level=0.1, noise=0.1), session(handlers={"embed": later}, level=0.1, noise=0.1)
    messages = walk(0.1, 0.5)
    assert asyncio.run(waited.aview(messages)).messages == plain.view(messages).messages
    assert len(reminders(waited)) == 1


def test_half_a_band_is_refused() -> None:
    with pytest.raises(ConfigError, match="level and noise together"):
        DriftMonitor(level=0.3)
