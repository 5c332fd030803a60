"""Memory-guided exploration: annealed to nothing, drawn the same each time, and paid for success only."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctx.errors import ConfigError
from memctx.graphs.tool_graph import ToolGraph, Visit
from memctx.train.exploration import Guidance, TransitionBonus, bonuses, shares
from memctx.train.rollouts import Rollout, Turn

names = st.sampled_from("abcd")
paths = st.lists(names, max_size=12)
guidances = st.builds(Guidance, start=st.floats(0, 1), steps=st.integers(1, 500), seed=st.integers(0, 99))


def graph_of(*runs: str) -> ToolGraph:
    graph = ToolGraph()
    for run in runs:
        graph.learn([Visit(tool) for tool in run], now=0.0)
    return graph


GRAPH = graph_of("abc", "abc", "abd", "cc")


@given(guidances, st.integers(0, 2_000), st.integers(0, 2_000))
def test_the_share_falls_from_start_to_exactly_nothing(guidance: Guidance, one: int, other: int) -> None:
    early, late = sorted((one, other))
    assert guidance.share(0) == guidance.start
    assert guidance.start >= guidance.share(early) >= guidance.share(late) >= 0
    assert guidance.share(guidance.steps) == guidance.share(guidance.steps + late) == 0.0
    assert not guidance.guided(guidance.steps + late, "r1")
    assert guidance.line(GRAPH, "ab", step=guidance.steps, rollout="r1") == ""


@given(guidances, st.integers(0, 400), st.text(max_size=8))
def test_the_draw_is_the_same_each_time(guidance: Guidance, step: int, rollout: str) -> None:
    again = Guidance(guidance.start, guidance.steps, guidance.seed)
    assert guidance.guided(step, rollout) == again.guided(step, rollout)


def test_as_many_are_guided_as_the_share_says_and_the_seed_says_which() -> None:
    guidance, other = Guidance(0.5, 100, seed=1), Guidance(0.5, 100, seed=2)
    for step in (0, 50, 90):
        drawn = [guidance.guided(step, f"r{n}") for n in range(4_000)]
        assert sum(drawn) / 4_000 == pytest.approx(guidance.share(step), abs=0.03)
    assert [guidance.guided(0, f"r{n}") for n in range(99)] != [other.guided(0, f"r{n}") for n in range(99)]


def test_a_guided_rollout_sees_the_line_of_next_tool() -> None:
    always = Guidance(start=1.0)
    assert "called b (" in always.line(GRAPH, "a", step=0, rollout="r1", k=1)
    assert always.line(GRAPH, "a", step=0, rollout="r1", available=["z"]) == ""
    assert always.line(ToolGraph(), "a", step=0, rollout="r1") == ""


@given(paths, st.floats(0, 10))
def test_a_failed_rollout_earns_nothing(path: list[str], eta: float) -> None:
    assert bonuses(shares(GRAPH), path, eta=eta, success=False) == [0.0] * len(path)


@given(paths, st.floats(0, 10))
def test_a_bonus_is_bounded_and_none_for_what_never_worked(path: list[str], eta: float) -> None:
    earned = bonuses(shares(GRAPH), path, eta=eta, success=True)
    known = shares(GRAPH)
    assert len(earned) == len(path)
    for at, value in enumerate(earned):
        share = known.get((path[at - 1] if at else "", path[at]), 0.0)
        assert value == pytest.approx(eta * math.log(1 + share))
        assert 0 <= value <= eta * math.log(2) + 1e-9


def test_shares_of_what_leaves_a_tool_sum_to_one() -> None:
    found = shares(GRAPH)
    for tool in {u for u, _ in found}:
        assert sum(share for (u, _), share in found.items() if u == tool) == pytest.approx(1)
    weights = {"c": 2 + 2 / 3, "d": 1 + 1 / 3}
    assert found["b", "c"] == pytest.approx(weights["c"] / sum(weights.values()))


def rollout(task: float) -> Rollout:
    turns = [
        Turn(0, 0, (0, 1), calls=[{"name": "a"}, {"name": "b"}]),
        Turn(1, 0, (1, 2)),
        Turn(2, 0, (2, 3), calls=[{"name": "c"}]),
    ]
    return Rollout("r", "g", turns=turns, outcome={"task": task})


def test_the_shaper_pays_a_turn_for_its_calls() -> None:
    bonus = TransitionBonus.of(GRAPH, eta=0.2)
    good, bad = rollout(1.0), rollout(0.4)
    bonus([good, bad])
    each = bonuses(shares(GRAPH), "abc", eta=0.2, success=True)
    assert [turn.reward["graph"] for turn in good.turns] == [each[0] + each[1], 0.0, each[2]]
    assert [turn.reward["graph"] for turn in bad.turns] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("fields", [{"start": 1.5}, {"start": -0.1}, {"steps": 0}])
def test_bad_settings(fields: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="start = "):
        Guidance(**fields)  # type: ignore[arg-type]
