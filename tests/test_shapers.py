"""Reward shapers: what each pays, computed by hand, and that it cannot be farmed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

from memctx.errors import ConfigError
from memctx.train._matching import likeness, matched, transport
from memctx.train.memory_shapers import CallValidity, Compression, FoldProcess, Omission, Probed
from memctx.train.rollouts import Rollout, Turn
from memctx.train.shapers import (
    BipartiteMatch,
    ConstraintGate,
    EfficiencyDecay,
    Flagged,
    Graded,
    InfoGainCounterfactual,
    InfoGainGold,
    MultiTool,
    Novelty,
    Outcome,
    OverlongRamp,
    PotentialDiff,
    Repetition,
    Shaper,
    TurnDecay,
    WellFormed,
)


def run(
    *probes: dict[str, Any], task: float = 1.0, meta: dict[str, Any] | None = None, texts: Sequence[str] = ()
) -> Rollout:
    """A rollout of a turn of four tokens for each set of probes."""
    turns = [Turn(t, 0, (4 * t, 4 * t + 4), probe=dict(probe)) for t, probe in enumerate(probes)]
    for turn, text in zip(turns, texts, strict=False):
        turn.text = text
    return Rollout("r", "g", outcome={"task": task}, turns=turns, meta=meta or {})


def paid(shaper: Shaper, rollout: Rollout, name: str) -> list[float | None]:
    """What each turn was paid under `name`."""
    shaper([rollout])
    return [turn.reward.get(name) for turn in rollout.turns]


def ended(shaper: Shaper, rollout: Rollout) -> dict[str, float]:
    shaper([rollout])
    return rollout.outcome


def test_outcome_goes_to_the_last_turn_or_to_all() -> None:
    assert paid(Outcome(), run({}, {}, task=0.5), "task") == [None, 0.5]
    assert paid(Outcome(on="all"), run({}, {}, task=0.5), "task") == [0.5, 0.5]


def test_graded() -> None:
    assert ended(Graded(0.0, -10.0, -100.0), run({}, task=1.0))["task"] == 0
    assert ended(Graded(0.0, -10.0, -100.0), run({}, task=0.0))["task"] == -10
    assert ended(Graded(0.0, -10.0, -100.0), run({"malformed": True}, {"malformed": True}))["task"] == -100
    assert ended(Graded(), run({}, task=0.25))["task"] == 0.25
    cut = run({}, task=0.0)
    cut.status = "truncated"
    assert ended(Graded(), cut)["task"] == -1


def test_well_formed() -> None:
    assert ended(WellFormed(), run({}, {}))["format"] == 0.5
    assert ended(WellFormed(), run({}, {"malformed": True}))["format"] == 0


def test_a_potential_pays_its_fall() -> None:
    probes = [{"distance": 0.75}, {"distance": 1.0}, {"distance": 0.25}]
    assert paid(PotentialDiff(), run(*probes), "distance") == [0.25, -0.25, 0.75]
    assert paid(PotentialDiff(), run(*probes, meta={"distance": 0.5}), "distance") == [-0.25, -0.25, 0.75]


def test_information_gain_of_the_gold_answer() -> None:
    probes = [{"gold": math.log(0.5)}, {"gold": math.log(0.2)}, {"gold": 0.0}]
    start = {"gold": math.log(0.1)}
    assert paid(InfoGainGold(), run(*probes, meta=start), "gain") == [pytest.approx(0.4), pytest.approx(-0.3), None]
    assert paid(InfoGainGold(), run(*probes), "gain")[0] == pytest.approx(0.5)
    found = paid(InfoGainGold("logp"), run(*probes, meta=start), "gain")
    assert found == [pytest.approx(math.log(5)), pytest.approx(math.log(0.4)), None]


def test_counterfactual_gain_is_of_the_turn_that_asked_over_its_tokens() -> None:
    probes = [{}, {"with": -1.0, "without": -3.0}, {"with": -2.0, "without": -1.0}]
    assert paid(InfoGainCounterfactual(), run(*probes), "gain") == [0.5, -0.25, None]


def test_decays() -> None:
    assert ended(TurnDecay(), run({}, {}, {}))["task"] == 0.25
    assert ended(TurnDecay(), run({}))["task"] == 1
    assert paid(EfficiencyDecay(0.5), run({}, {}, {}, task=2.0), "efficiency") == [0.5, 1.0, 2.0]


def test_a_summary_is_no_attempt() -> None:
    """Turns of a strategy that asks the policy are no answers: they neither decay nor repeat."""
    rollout = run({}, {}, {}, texts=("a", "b", "b"))
    rollout.turns[1].module = "summarize"
    assert ended(TurnDecay(), rollout)["task"] == 0.5
    assert ended(Repetition(), rollout)["repetition"] == 0
    told = run({"distance": 0.5}, {}, {"distance": 0.25})
    told.turns[1].module = "summarize"
    assert paid(PotentialDiff(), told, "distance") == [0.5, None, 0.25]


def test_repetition() -> None:
    assert ended(Repetition(), run({}, {}, {}, {}, texts=("a", "b ", "b", "a")))["repetition"] == -0.25
    assert ended(Repetition(), run({}, {}, texts=("a", "b")))["repetition"] == 0


def test_flags() -> None:
    probes = [{"keep": True}, {}, {"keep": True}, {"keep": False}]
    assert paid(Flagged("keep", -0.3), run(*probes), "keep") == [-0.3, None, -0.3, None]
    assert paid(Flagged("keep", -4.0, shared=True), run(*probes), "keep") == [-1.0, None, -1.0, None]


def test_many_tools_are_worth_something_only_on_success() -> None:
    for task, tools, wanted in ((1.0, "ab", 0.1), (0.0, "ab", None), (1.0, "aa", None)):
        rollout = run({}, {}, task=task)
        for turn, name in zip(rollout.turns, tools, strict=True):
            turn.calls = [{"name": name}]
        assert ended(MultiTool(), rollout).get("tools") == wanted


def test_novelty_is_the_divergence_from_the_turn_before() -> None:
    probes = [{"features": {"a": 0.5, "b": 0.5}}, {"features": {"a": 0.25, "b": 0.75}}]
    wanted = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert paid(Novelty(2.0), run(*probes), "novelty") == [None, pytest.approx(2 * wanted)]
    other = [{"features": {"a": 1.0}}, {"features": {"b": 1.0}}]  # moves that the other has not: the floor stands in
    wanted = (1 / 1.001) * math.log(1000) + (0.001 / 1.001) * math.log(0.001)
    assert paid(Novelty(), run(*other), "novelty")[1] == pytest.approx(wanted)
    assert paid(Novelty(), run(*other[::-1], {"features": {"a": 1.0}}), "novelty")[2] == pytest.approx(0)


def test_soft_wishes_count_once_the_hard_ones_are_met() -> None:
    def gate(hard: float) -> float:
        rollout = run({})
        rollout.outcome = {"hard": hard, "soft": 1.0}
        return ended(ConstraintGate(), rollout)["task"]

    assert gate(0.5) == 1.0
    assert gate(1.0) == pytest.approx(1 + 1 / (1 + math.exp(-5)))
    assert gate(0.0) == pytest.approx(1 / (1 + math.exp(5)))


@pytest.mark.parametrize(("turns", "wanted"), [(1, 0.0), (2, -0.5), (3, -1.0), (5, -1.0)])
def test_a_ramp_of_length(turns: int, wanted: float) -> None:
    assert ended(OverlongRamp(4, 12), run(*[{}] * turns))["length"] == wanted


# Memory -------------------------------------------------------------------------------------------------------------


def test_omission_pays_a_share_and_only_on_success() -> None:
    saved = [{"saved": 0.25}, {}, {"saved": 0.25}]
    assert ended(Omission(), run(*saved)) == {"task": 0.8, "omission": pytest.approx(0.1)}
    assert ended(Omission(), run(*saved, task=0.0)) == {"task": 0.0, "omission": 0.0}


def test_omission_cannot_be_farmed() -> None:
    """Omitting all and failing earns nothing; omitting the same thing often earns no more than all there is."""
    all_gone = [{"saved": 1.0}] * 5
    assert sum(ended(Omission(), run(*all_gone, task=0.0)).values()) == 0
    assert sum(ended(Omission(), run(*all_gone)).values()) == pytest.approx(1.0)


def test_compression_pays_only_on_success() -> None:
    meta = {"memory_tokens": 25, "input_tokens": 100}
    assert ended(Compression(), run({}, meta=meta))["compression"] == pytest.approx(0.0375)
    empty = {"memory_tokens": 0, "input_tokens": 100}
    assert ended(Compression(), run({}, task=0.0, meta=empty))["compression"] == 0, "an empty store that fails"
    assert ended(Compression(), run({}, meta={"memory_tokens": 200, "input_tokens": 100}))["compression"] == 0
    assert ended(Compression(), run({}))["compression"] == 0


def test_calls_and_probes() -> None:
    rollout = run({"content": 0.5}, {})
    rollout.turns[0].calls = [{"ok": True}, {"ok": False}, {}, {"ok": True}]
    assert paid(CallValidity(), rollout, "calls") == [0.5, None]
    assert paid(Probed("content", 0.1), rollout, "content") == [0.05, None]


def test_folding() -> None:
    long = {"thread": "main", "tokens": 60}
    fold = FoldProcess(budget=100)
    probes = [long, {**long, "branches": True}, {"thread": "b", "in_scope": True}, {"thread": "b", "in_scope": False}]
    assert paid(fold, run(*probes), "fold") == [-1.0, 0.0, 0.2, -0.2]
    assert paid(fold, run(*probes, task=0.0), "fold") == [0.0, 0.0, 0.2, -0.2]
    assert paid(fold, run(long, {**long, "failed": True}, task=0.0), "fold") == [-1.0, -2.0], "never branched"


# Matching -----------------------------------------------------------------------------------------------------------


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def test_likeness_of_calls() -> None:
    gold = call("find", city="Rome", day=1)
    assert likeness(call("FIND", city="Rome", day=1), gold) == 1.0
    assert likeness(call("find", city="Rome", night=1), gold) == pytest.approx((1 + 1 / 3 + 1) / 4)
    assert likeness(call("find"), gold) == pytest.approx(1 / 4)
    assert likeness(call("seek", city="Rome", day=1), gold) == 0
    assert likeness(call("find"), call("find")) == 1.0


CALLS = [call("f", a=1, b=2, c=3), call("f", a=1, b=2)]
GOLD = [call("f", a=1, b=2, c=3), call("f", a=1, b=2, d=9)]


def test_exact_and_greedy_on_real_calls() -> None:
    grid = [[likeness(c, g) for g in GOLD] for c in CALLS]
    assert matched(CALLS, GOLD, "km", 0.0, 0.1) == matched(CALLS, GOLD, "greedy", 0.0, 0.1) == [1.0, grid[1][1]]
    calls = [call("f", a=1, b=2, c=3), call("f", a=1, b=2, c=3, d=4)]
    gold = [call("f", a=1, b=2, c=3, d=4), call("f", a=1, b=2, c=3, d=4, e=5, g=6)]
    grid = [[likeness(c, g) for g in gold] for c in calls]
    exact, greedy = (matched(calls, gold, how, 0.0, 0.1) for how in ("km", "greedy"))
    assert sum(exact) == pytest.approx(max(grid[0][0] + grid[1][1], grid[0][1] + grid[1][0]))
    assert greedy == [grid[0][1], 1.0]


def test_exact_beats_greedy_where_the_likest_pair_is_a_trap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likeness .9 .8 / .8 .1: greedy .9 + .1, exact .8 + .8."""
    table = {("p", "x"): 0.9, ("p", "y"): 0.8, ("q", "x"): 0.8, ("q", "y"): 0.1}
    monkeypatch.setattr("memctx.train._matching.likeness", lambda c, g: table[c["name"], g["name"]])
    calls, gold = [call("p"), call("q")], [call("x"), call("y")]
    assert matched(calls, gold, "greedy", 0.0, 0.1) == [0.9, 0.1]
    assert matched(calls, gold, "km", 0.0, 0.1) == [0.8, 0.8]


def test_calls_without_a_match() -> None:
    assert matched([call("f"), call("f")], [call("f")], "km", -0.5, 0.1).count(-0.5) == 1
    assert matched([call("f")], [], "km", -0.5, 0.1) == [-0.5]
    assert matched([], [call("f")], "km", -0.5, 0.1) == []
    assert matched([call("f")], [call("g")], "greedy", -0.5, 0.1) == [-0.5]


@pytest.mark.parametrize("reg", [0.05, 0.1, 10.0])
def test_transport_has_uniform_marginals(reg: float) -> None:
    grid = np.array([[1.0, 0.2, 0.0], [0.3, 0.9, 0.4]])
    plan = transport(grid, reg)
    assert plan.sum(0) == pytest.approx([1 / 3] * 3, abs=1e-6)
    assert plan.sum(1) == pytest.approx([1 / 2] * 2, abs=1e-6)
    assert np.isfinite(transport(grid, 1e-4)).all(), "exp(10000) is not a number; its logarithm is"


def test_transport_of_a_flat_grid_is_even_and_its_rewards_carry_one_over_calls() -> None:
    assert transport(np.ones((2, 4)), 0.1) == pytest.approx(np.full((2, 4), 1 / 8))
    same = [call("f", a=1), call("f", a=2)]
    assert matched(same, same, "ot", 0.0, 0.1) == pytest.approx([0.5, 0.5], abs=1e-2)


def test_a_turn_is_worth_the_mean_of_its_calls() -> None:
    rollout = run({}, {}, {}, meta={"gold_calls": [call("f", a=1), call("g")]})
    rollout.turns[0].calls = [call("f", a=1), call("h")]
    rollout.turns[2].calls = [call("g")]
    assert paid(BipartiteMatch(), rollout, "match") == [0.5, None, 1.0]
    assert paid(BipartiteMatch(unmatched=-0.5), rollout, "match") == [0.25, None, 1.0]


# Bad input ----------------------------------------------------------------------------------------------------------

BAD: dict[str, Callable[[], object]] = {
    "no distance": lambda: PotentialDiff()([run({})]),
    "no gold": lambda: InfoGainGold()([run({}, {})]),
    "no start for log-probs": lambda: InfoGainGold("logp")([run({"gold": -1.0}, {})]),
    "no counterfactual": lambda: InfoGainCounterfactual()([run({}, {"with": 0.0})]),
    "no features": lambda: Novelty()([run({}, {})]),
    "a ramp that falls backwards": lambda: OverlongRamp(8, 4),
    "no regularisation": lambda: transport(np.ones((2, 2)), 0.0),
}


@pytest.mark.parametrize("case", BAD)
def test_what_was_not_measured_is_named(case: str) -> None:
    with pytest.raises(ConfigError):
        BAD[case]()


EACH: list[Shaper] = [
    Outcome(), Graded(), WellFormed(), PotentialDiff(), InfoGainGold(), InfoGainCounterfactual(), BipartiteMatch(),
    TurnDecay(), EfficiencyDecay(), Repetition(), Flagged("x"), MultiTool(), Novelty(), ConstraintGate(),
    OverlongRamp(1, 2), Omission(), Compression(), CallValidity(), Probed("x"), FoldProcess(8),
]  # fmt: skip


@pytest.mark.parametrize("shaper", EACH, ids=lambda each: type(each).__name__)
def test_a_rollout_without_turns_is_borne(shaper: Shaper) -> None:
    empty = run(task=0.0)
    shaper([empty])
    assert all(math.isfinite(value) for value in empty.outcome.values())
