"""The core of training: golden vectors, and what must hold for every algorithm that is made of its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memctx.errors import ConfigError
from memctx.train.advantages import Term, advantages, clamp, times, where_outcomes_agree
from memctx.train.batch import Batch, collate, table_of
from memctx.train.critics import at_turns, bilevel_gae, gae, hierarchical, token_gae, turn_gae
from memctx.train.losses import (
    PolicyLoss,
    Rejection,
    logprobs,
    mdpo,
    mkto,
    pooled,
    refuel,
    span_sums,
    spread,
    weighted_nll,
)
from memctx.train.regularisers import KL, EntropySmooth
from memctx.train.rollouts import Recorder, Role, Rollout
from tests.training import VOCABULARY, rollout

OUTCOMES = (1.0, 0.0, 1.0)
REWARDS = ((0.2, 0.1, 1.0), (0.0, 0.0), (0.3, -0.1, 1.0))
TOGO = {"signal": "turns", "horizon": "togo"}
GOLDEN = {
    "grpo": ([Term()], [0.5773] * 3 + [-1.1547] * 2 + [0.5773] * 3),
    "dr_grpo": ([Term(scale="none")], [0.3333] * 3 + [-0.6667] * 2 + [0.3333] * 3),
    "rloo": ([Term(scale="none", baseline="loo")], [0.5] * 3 + [-1.0] * 2 + [0.5] * 3),
    "trloo": (
        [Term("turns", "togo", group="prompt+turn", baseline="loo", scale="none", singleton="raw")],
        [0.70, 0.65, 0, -1.25, -1.00, 0.55, 0.35, 0],
    ),
    "mica": (
        [
            Term("turns", "togo", group="prompt+turn", scale="popstd", weight=0.5),
            Term("turns", "immediate", scale="popstd", weight=0.5),
        ],
        [0.2590, 0.1960, 0.8310, -1.0832, -1.0745, 0.2953, -0.2548, 0.8310],
    ),
    "matchtir": (
        [Term("turns", weight=0.5), Term("turns", "togo", 0.9, group="prompt+turn", weight=0.5)],
        [0.6432, 0.7005, 0.3225, -1.1521, -1.1429, 0.5089, 0.4424, 0.2534],
    ),
    "igpo": (
        [Term("turns", "togo", order="norm_then_return")],
        [0.8198, 1.0742, 1.5547, -1.4134, -0.7067, 0.5936, 0.6219, 1.5547],
    ),
    "seeupo": ([Term(scale="batch")], [0.5773] * 3 + [-1.1547] * 2 + [0.5773] * 3),
}


def three() -> list[Rollout]:
    pairs = zip(OUTCOMES, REWARDS, strict=True)
    return [rollout(i, turns=len(r), outcome=o, rewards=r) for i, (o, r) in enumerate(pairs)]


def doubled(batch: Batch, seed: int = 0) -> tuple[Batch, torch.Tensor, torch.Tensor]:
    """(batch with float64 old log-probs, logits that can be differentiated, their log-probs)."""
    generator = torch.Generator().manual_seed(seed)
    shape = (*batch.rows.ids.shape, VOCABULARY)
    logits = torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)
    logp = logprobs(logits, batch.rows.ids)
    return batch.with_old(logp.detach()), logits, logp


def gradient(value: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(value, of, retain_graph=True)[0]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_vectors(name: str) -> None:
    terms, wanted = GOLDEN[name]
    found = advantages(table_of(three()), terms, [clamp(3)])
    assert found.tolist() == pytest.approx(wanted, abs=6e-5)


def test_golden_statistics_are_of_rollouts_not_of_turn_rows() -> None:
    """Outcomes 1, 0, 1 with 3, 2, 3 turns: over rows they would be .540 and -1.620 (Flow-GRPO's released code)."""
    found = advantages(table_of(three()), [Term()])
    assert found[0].item() == pytest.approx(0.5773, abs=1e-4)
    assert found[3].item() == pytest.approx(-1.1547, abs=1e-4)


def test_golden_hierarchy() -> None:
    table = table_of([rollout(0, turns=4, rewards=(0, 0, 0, 1))])
    boundary = torch.tensor([True, False, True, False])
    low, high = torch.tensor([0.4, 0.5, 0.6, 0.8]), torch.tensor([0.3, 0.0, 0.7, 0.0])
    found = hierarchical(table, table.signal("turns"), boundary, low, high, torch.zeros(4))
    assert found.low.tolist() == pytest.approx([0.3, 0.2, 0.4, 0.2], abs=1e-6)
    assert found.high.tolist() == pytest.approx([0.685, 0, 0.30, 0], abs=1e-6)


def test_golden_bilevel() -> None:
    batch = collate([rollout(0, turns=2, tokens=2, rewards=(0.0, 1.0))])
    values = torch.zeros(batch.rows.ids.shape, dtype=torch.float64)
    values[batch.rows.mask] = torch.tensor([0.2, 0.3, 0.5, 0.6], dtype=torch.float64)
    at = at_turns(batch.rows, values, 2)
    high, low = bilevel_gae(batch, at, values, batch.table.signal("turns"))
    assert high.tolist() == pytest.approx([0.65, 0.40])
    assert low[batch.rows.mask].tolist() == pytest.approx([0.75, 0.65, 0.50, 0.40])


def test_hierarchy_limits_are_turn_gae() -> None:
    table = table_of([rollout(0, turns=4, rewards=(0.1, 0, 0.2, 1))])
    values = torch.tensor([0.4, 0.5, 0.6, 0.8], dtype=torch.float64)
    signal, zero = table.signal("turns"), torch.zeros(4, dtype=torch.float64)
    always = hierarchical(table, signal, torch.ones(4, dtype=torch.bool), zero, values, zero)
    assert torch.allclose(always.high, turn_gae(table, values, signal, 1.0, 0.95)[0])
    never = hierarchical(table, signal, torch.zeros(4, dtype=torch.bool), values, zero, zero, lam_turn=0.9)
    assert torch.allclose(never.low, turn_gae(table, values, signal, 1.0, 0.9)[0])


# Properties ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GOLDEN)
def test_cutting_a_rollout_into_more_segments_changes_no_advantage(name: str) -> None:
    terms = GOLDEN[name][0]
    whole = [rollout(i, turns=3, outcome=float(i % 2), rewards=(0.1 * i, 0.3, 1.0)) for i in range(4)]
    cut = [rollout(i, turns=3, rewrite=(1, 2), outcome=float(i % 2), rewards=(0.1 * i, 0.3, 1.0)) for i in range(4)]
    assert [len(each.segments) for each in cut] == [3] * 4
    assert torch.equal(advantages(table_of(whole), terms), advantages(table_of(cut), terms))


def _split(whole: Rollout) -> Rollout:
    """The same rollout with a segment a turn: contexts equal, ids equal."""
    recorder = Recorder(whole.id, whole.group)
    (segment,) = whole.segments
    for turn in whole.turns:
        start, end = turn.span
        before = [*segment.prompt, *segment.response[:start]]
        recorder._end()
        recorder.turn(before, segment.response[start:end].tolist(), segment.logp[start:end].tolist())
    return recorder.finish(whole.outcome)


class _Causal(torch.nn.Module):
    """A model whose logits at a place depend on everything before it."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.embed = torch.nn.Parameter(torch.randn(VOCABULARY, 6, dtype=torch.float64, generator=generator))
        self.out = torch.nn.Parameter(torch.randn(6, VOCABULARY, dtype=torch.float64, generator=generator))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        place = torch.arange(1, ids.shape[1] + 1, dtype=torch.float64)[None, :, None]
        return torch.tanh(self.embed[ids].cumsum(1) / place.sqrt()) @ self.out


def _loss(model: _Causal, rollouts: list[Rollout], spec: PolicyLoss) -> torch.Tensor:
    batch = collate(rollouts)
    logp = logprobs(model(batch.rows.ids), batch.rows.ids)
    advantage = spread(batch.rows, advantages(batch.table, [Term()]))
    return spec.of(logp, batch.with_old(logp.detach()), advantage).value


def test_splitting_an_append_only_rollout_changes_no_gradient() -> None:
    whole = [rollout(i, outcome=float(i % 2)) for i in range(4)]
    model = _Causal()
    one = torch.autograd.grad(_loss(model, whole, PolicyLoss()), list(model.parameters()))
    two = torch.autograd.grad(_loss(model, [_split(each) for each in whole], PolicyLoss()), list(model.parameters()))
    assert all(float(a.abs().max()) > 0 for a in one)
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(one, two, strict=True))


def test_summed_segment_gradients_are_the_gradient_of_the_whole_objective() -> None:
    """SUPO's theorem: sum over segments of A * log pi, each in its own context, against autograd of the whole."""
    rollouts = [rollout(i, turns=4, rewrite=(2,), outcome=float(i % 2)) for i in range(4)]
    model, spec = _Causal(), PolicyLoss(surrogate="reinforce", agg="sum", length=1.0)
    batch = collate(rollouts)
    values = advantages(batch.table, [Term()])
    whole = torch.zeros((), dtype=torch.float64)
    index = 0
    for each in rollouts:
        for turn in each.turns:
            segment = each.segments[turn.segment]
            ids = torch.from_numpy(segment.ids).long()[None]
            logp = logprobs(model(ids), ids)[0, len(segment.prompt) :]
            whole = whole - values[index] * logp[turn.span[0] : turn.span[1]].sum()
            index += 1
    parts = _loss(model, rollouts, spec) * len(rollouts)
    wanted, found = (torch.autograd.grad(x, list(model.parameters())) for x in (whole, parts))
    for a, b in zip(wanted, found, strict=True):
        assert float((a - b).norm() / a.norm()) < 1e-6


def test_padding_and_the_order_of_rows_change_nothing() -> None:
    rollouts = [rollout(i, turns=1 + i % 3, rewrite=(1,), outcome=float(i % 2)) for i in range(5)]
    model = _Causal()
    for agg in ("token", "turn", "segment", "rollout", "sum"):
        spec = PolicyLoss(agg=agg)
        one = torch.autograd.grad(_loss(model, rollouts, spec), list(model.parameters()))
        long = rollout(9, group="alone", turns=3, tokens=9, outcome=1.0)  # alone in its group: teaches nothing
        two = torch.autograd.grad(_loss(model, rollouts[::-1], spec), list(model.parameters()))
        assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(one, two, strict=True)), agg
        padded = collate([*rollouts, long]).rows.ids.shape[1]
        assert padded > collate(rollouts).rows.ids.shape[1]


def test_what_was_not_sampled_changes_nothing() -> None:
    batch, logits, logp = doubled(collate([rollout(i, outcome=float(i)) for i in range(2)]))
    noise = torch.where(batch.rows.mask, 0.0, 7.0).double()
    advantage = spread(batch.rows, advantages(batch.table, [Term()]))
    for ratio in ("token", "turn", "segment"):
        spec = PolicyLoss(ratio=ratio)
        a, b = spec.of(logp, batch, advantage).value, spec.of(logp + noise, batch, advantage).value
        assert torch.equal(a, b)
        assert torch.equal(gradient(a, logits), gradient(b, logits))


def test_a_summary_is_trained_where_it_was_sampled_and_context_elsewhere() -> None:
    recorder = Recorder("r", "g")
    recorder.turn([1, 2, 3], [4, 5], [-1, -1])
    summary = recorder.turn([1, 2, 3, 4, 5, 6], [7, 8], [-1, -1], module="summarizer")
    recorder.turn([1, 2, 3, 7, 8], [2, 2], [-1, -1])
    rows = collate([recorder.finish({"task": 1.0})]).rows
    assert summary.segment == 0
    trained = [(int(row), int(rows.ids[row, at])) for row, at in rows.mask.nonzero()]
    assert trained == [(0, 4), (0, 5), (0, 7), (0, 8), (1, 2), (1, 2)]
    only = collate([recorder.rollout], train_modules={"summarizer"}).rows
    assert [int(only.ids[row, at]) for row, at in only.mask.nonzero()] == [7, 8]


def test_each_sampled_token_is_trained_exactly_once() -> None:
    rollouts = [rollout(i, turns=5, rewrite=(2, 4)) for i in range(3)]
    rows = collate(rollouts).rows
    assert int(rows.mask.sum()) == 3 * 5 * 4
    assert torch.equal(torch.bincount(rows.turn[rows.mask]), torch.full((15,), 4))


def test_turn_index_leave_one_out_is_rloo_for_one_turn() -> None:
    table = table_of([rollout(i, turns=1, outcome=float(i), rewards=(float(i),)) for i in range(4)])
    trloo, rloo = GOLDEN["trloo"][0], [Term(scale="none", baseline="loo")]
    assert torch.allclose(advantages(table, trloo), advantages(table, rloo))


def test_leave_one_out_is_the_mean_version_times_n_over_n_less_one() -> None:
    table = table_of([rollout(i, turns=2, rewards=(0.3 * i, i % 2)) for i in range(5)])
    loo = Term("turns", "togo", group="prompt+turn", baseline="loo", scale="none")
    mean = Term("turns", "togo", group="prompt+turn", scale="none")
    assert torch.allclose(advantages(table, [loo]), 5 / 4 * advantages(table, [mean]))


def test_matchtir_with_outcomes_only_and_equal_lengths_is_grpo() -> None:
    table = table_of([rollout(i, turns=3, rewards=(0, 0, i % 2)) for i in range(4)])
    assert torch.allclose(advantages(table, GOLDEN["matchtir"][0]), advantages(table, [Term("turns")]), atol=1e-4)


def test_infopo_without_its_term_is_grpo_and_its_gate_opens_where_outcomes_agree() -> None:
    rewards = ((0.2, 0.0), (0.0, 0.4), (0.1, 0.0))
    told = [rollout(i, turns=2, outcome=o, rewards=r) for i, (o, r) in enumerate(zip(OUTCOMES, rewards, strict=True))]
    same = [rollout(i, turns=2, outcome=1.0, rewards=r) for i, r in enumerate(rewards)]
    term = Term("turns", "immediate", nonzero=True, gate=where_outcomes_agree(), weight=0.5)
    off = Term("turns", "immediate", nonzero=True, gate=where_outcomes_agree(), weight=0.0)
    assert torch.equal(advantages(table_of(told), [Term(), off]), advantages(table_of(told), [Term()]))
    plain = advantages(table_of(same), [Term("turns", "immediate", nonzero=True, weight=0.5)])
    assert torch.allclose(advantages(table_of(same), [term]), 0.5 * plain, atol=1e-9)  # sigmoid(0) = 1/2
    assert float(advantages(table_of(told), [term]).abs().max()) < 1e-3
    assert advantages(table_of(same), [term])[1] == 0  # its reward is 0


def test_equal_rewards_give_nothing_and_a_group_of_one_gives_nothing() -> None:
    equal = table_of([rollout(i, outcome=1.0, rewards=(0.5, 0.5, 0.5)) for i in range(4)])
    alone = table_of([rollout(0, outcome=1.0, rewards=(0.1, 0.2, 0.3))])
    for name, (terms, _) in GOLDEN.items():
        if name != "igpo":  # rewards are compared over turns, so a group of one rollout has spread
            assert float(advantages(equal, terms).abs().max()) < 1e-6, name
    assert float(advantages(alone, [Term()]).abs().max()) == 0
    raw = Term("turns", "togo", group="prompt+turn", scale="none", singleton="raw")
    assert advantages(alone, [raw]).tolist() == pytest.approx([0.6, 0.5, 0.3])


def test_a_multiplier_is_a_detached_weight_a_rollout() -> None:
    table = table_of(three())
    factor = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    found = advantages(table, [Term()], [times(factor)])
    assert torch.equal(found, advantages(table, [Term()]) * factor[table.rollout])


# Losses -------------------------------------------------------------------------------------------------------------


def test_at_ratio_one_every_pooling_has_the_same_gradient() -> None:
    batch, logits, logp = doubled(collate([rollout(i, rewrite=(1,), outcome=float(i % 2)) for i in range(4)]))
    advantage = spread(batch.rows, advantages(batch.table, [Term()]))
    found = [
        gradient(PolicyLoss(ratio=r).of(logp, batch, advantage).value, logits) for r in ("token", "turn", "segment")
    ]
    assert float(found[0].abs().max()) > 0
    assert all(float((found[0] - each).norm() / found[0].norm()) < 1e-9 for each in found[1:])


@pytest.mark.parametrize("ratio", ["token", "turn", "segment"])
def test_the_clipped_gradient_is_the_unclipped_less_the_bias(ratio: Literal["token", "turn", "segment"]) -> None:
    batch, logits, logp = doubled(collate([rollout(i, outcome=float(i % 2)) for i in range(4)]))
    generator = torch.Generator().manual_seed(1)
    moved = batch.with_old(logp.detach() + 0.5 * torch.randn(logp.shape, dtype=torch.float64, generator=generator))
    advantage = spread(batch.rows, advantages(batch.table, [Term()]))
    clipped = PolicyLoss(ratio=ratio).of(logp, moved, advantage)
    free = PolicyLoss(ratio=ratio, clip=(1e9, 1e9)).of(logp, moved, advantage)
    bias = gradient(clipped.cut, logits)
    assert clipped.facts["clipped"] > 0
    assert float(bias.norm()) > 0
    assert torch.allclose(gradient(clipped.value, logits), gradient(free.value, logits) + bias, atol=1e-12)


def test_a_turn_is_clipped_whole_or_not_at_all() -> None:
    batch, _, logp = doubled(collate([rollout(i, outcome=float(i % 2)) for i in range(4)]))
    generator = torch.Generator().manual_seed(2)
    moved = batch.with_old(logp.detach() + 0.5 * torch.randn(logp.shape, dtype=torch.float64, generator=generator))
    ratio = pooled(logp - moved.rows.old, moved.rows, "turn")
    for turn in range(len(batch.table)):
        assert len(torch.unique(ratio[moved.rows.turn == turn])) == 1


def test_a_pooled_ratio_is_the_geometric_mean() -> None:
    batch, _, logp = doubled(collate([rollout(0)]))
    shift = torch.randn(logp.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    ratio = pooled(shift, batch.rows, "turn")
    first = batch.rows.turn == 0
    assert float(ratio[first][0]) == pytest.approx(float(shift[first].mean().exp()))


def test_dual_clip_bounds_what_a_bad_token_may_count() -> None:
    batch, _, logp = doubled(collate([rollout(i, outcome=float(i % 2)) for i in range(2)]))
    advantage = torch.where(batch.rows.mask, -1.0, 0.0).double()
    far = batch.with_old(logp.detach() - 5)
    plain, dual = (PolicyLoss(dual=d).of(logp, far, advantage).value for d in (None, 3.0))
    assert float(plain.detach()) == pytest.approx(np.exp(5), rel=1e-6)
    assert float(dual.detach()) == pytest.approx(3.0)


def test_cispo_loses_no_tokens_gradient() -> None:
    batch, logits, logp = doubled(collate([rollout(i, outcome=float(i % 2)) for i in range(2)]))
    advantage = torch.where(batch.rows.mask, 1.0, 0.0).double()
    far = batch.with_old(logp.detach() - 5)
    clipped = gradient(PolicyLoss().of(logp, far, advantage).value, logits)
    kept = gradient(PolicyLoss(surrogate="cispo").of(logp, far, advantage).value, logits)
    assert float(clipped.abs().max()) == 0
    assert float(kept.abs().max()) > 0


def test_aggregations_weigh_what_they_say() -> None:
    short, long = rollout(0, turns=1, tokens=2), rollout(1, turns=3, rewrite=(1,), tokens=4)
    batch = collate([short, long])
    ones = torch.where(batch.rows.mask, 1.0, 0.0).double()
    by = {agg: PolicyLoss(agg=agg).weights(batch, ones) for agg in ("token", "turn", "segment", "rollout")}
    of_short = {agg: float(weight[batch.rows.rollout == 0].sum()) for agg, weight in by.items()}
    assert of_short == pytest.approx({"token": 2 / 14, "turn": 1 / 4, "segment": 1 / 3, "rollout": 1 / 2})
    assert all(float(weight.sum()) == pytest.approx(1) for weight in by.values())


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    batch, _, logp = doubled(collate([rollout(i, rewrite=(1,), outcome=float(i % 2)) for i in range(4)]))
    advantage = spread(batch.rows, advantages(batch.table, [Term()]))
    spec = PolicyLoss(agg="rollout")
    weight = spec.weights(batch, advantage)
    moved = batch.with_old(logp.detach() - 0.1)
    whole = spec.of(logp, moved, advantage).value.detach()
    total = 0.0
    for index in (torch.tensor([0, 3, 5]), torch.tensor([1, 2, 4, 6, 7])):
        part = Batch(moved.table, moved.rows.take(index))
        width = part.rows.ids.shape[1]
        cut = [x[index][:, :width] for x in (logp, advantage, weight)]
        total += float(spec.of(cut[0], part, cut[1], cut[2]).value.detach())
    assert total == pytest.approx(float(whole), rel=1e-9)


def test_truncated_rollouts_teach_nothing_where_asked() -> None:
    rollouts = [rollout(i, outcome=float(i % 2)) for i in range(4)]
    rollouts[3].status = "truncated"
    batch, _, _ = doubled(collate(rollouts))
    advantage = spread(batch.rows, advantages(batch.table, [Term()]))
    weight = PolicyLoss(overlong=True).weights(batch, advantage)
    assert float(weight[batch.rows.rollout == 3].abs().max()) == 0
    assert float(weight[batch.rows.rollout == 2].sum()) > 0


def test_all_masked_is_a_finite_zero() -> None:
    only = rollout(0, outcome=1.0)
    only.status = "truncated"
    batch, logits, logp = doubled(collate([only]))
    loss = PolicyLoss(overlong=True, agg="rollout").of(logp, batch, torch.ones_like(logp)).value
    assert float(loss.detach()) == 0
    assert float(gradient(loss, logits).abs().max()) == 0


def test_format_tokens_are_pushed_up_but_never_down() -> None:
    mark = [int(Role.FORMAT), 0, 0, 0]
    batch, _, _ = doubled(collate([rollout(i, turns=1, outcome=float(i), roles=mark) for i in range(2)]))
    advantage = spread(batch.rows, advantages(batch.table, [Term()]))
    weight = PolicyLoss(protect=Role.FORMAT).weights(batch, advantage)
    is_format = (batch.rows.roles & int(Role.FORMAT)) != 0
    assert float(weight[is_format & (advantage < 0)].abs().max()) == 0
    assert float(weight[is_format & (advantage > 0)].min()) > 0
    assert float(weight[~is_format & batch.rows.mask].min()) > 0


def test_a_segment_that_trainer_and_sampler_disagree_on_is_left_out() -> None:
    batch = collate([rollout(i, turns=1, outcome=float(i % 2)) for i in range(3)])
    old = batch.rows.sampler.double().clone()
    old[1] += 0.01  # a geometric mean of 1.01
    first = batch.rows.mask[2].nonzero()[0, 0]
    old[2, first] -= 12.0
    rest = batch.rows.mask[2].nonzero()[1:, 0]
    old[2, rest] += 12.0 / len(rest)  # the mean is right, one token is not
    seen = PolicyLoss(reject=Rejection()).weights(batch.with_old(old), torch.ones_like(old))
    assert [float(row.sum()) > 0 for row in seen] == [True, False, False]


def test_truncated_importance_weights() -> None:
    batch = collate([rollout(0)])
    old = batch.rows.sampler.double() + torch.where(batch.rows.mask, 1.0, 0.0)
    weight = PolicyLoss(truncate=2.0).weights(batch.with_old(old), torch.ones_like(old))
    assert weight[batch.rows.mask].tolist() == pytest.approx([2.0 / 12] * 12)


def test_pair_losses_rise_and_fall_as_they_say() -> None:
    batch, logits, logp = doubled(collate([rollout(i) for i in range(2)]))
    turns = span_sums(logp, batch.rows, batch.table, "turn")
    a, b = torch.tensor([1]), torch.tensor([4])
    loss = refuel(turns, torch.tensor([1.0] * 6).double(), a, b, eta=2.0)
    assert float(loss.detach()) == pytest.approx(float((turns[1] - turns[4]).detach() ** 2))
    touched = gradient(loss, logits).abs().sum(-1)
    only = torch.isin(batch.rows.turn, torch.tensor([1, 4]))
    assert float(touched[:, :-1][~only[:, 1:]].max()) == 0
    whole = span_sums(logp, batch.rows, batch.table, "rollout")
    pushed = gradient(mdpo(whole, torch.tensor([0]), torch.tensor([1])), logp)
    assert float(pushed[0][batch.rows.mask[0]].max()) < 0 < float(pushed[1][batch.rows.mask[1]].min())
    kto = gradient(mkto(whole, torch.tensor([True, False])), logp)
    assert float(kto[0][batch.rows.mask[0]].max()) < 0 < float(kto[1][batch.rows.mask[1]].min())
    last = span_sums(logp, batch.rows, batch.table, "last_turn")
    count = span_sums(torch.ones_like(logp), batch.rows, batch.table, "last_turn")
    nll = weighted_nll(last, count, torch.tensor([1.0, -1.0]).double())
    found = gradient(nll, logp)
    assert float(found[0].min() / found[1].min()) == pytest.approx(np.exp(2 / 0.4))
    assert float(found[:, : int((batch.rows.turn == 2).nonzero()[0, 1])].abs().max()) == 0


# Critics ------------------------------------------------------------------------------------------------------------


def test_gae_chains_across_segments() -> None:
    """The last token of a segment looks to the first of the next; a row of its own would end with a return of 0."""
    whole, cut = (
        rollout(0, turns=2, tokens=2, rewards=(0, 1)),
        rollout(0, turns=2, tokens=2, rewrite=(1,), rewards=(0, 1)),
    )
    found = []
    for each in (whole, cut):
        batch = collate([each])
        values = torch.zeros(batch.rows.ids.shape, dtype=torch.float64)
        values[batch.rows.mask] = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
        advantage, returns = token_gae(batch, values, batch.table.signal("turns"), 0.9, 0.8)
        found.append((advantage[batch.rows.mask], returns[batch.rows.mask]))
    assert torch.allclose(found[0][0], found[1][0])
    assert torch.allclose(found[0][1], found[1][1])
    assert float(found[1][1][0]) > 0.1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=8),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_gae_is_its_definition(steps: list[tuple[float, float]], gamma: float, lam: float) -> None:
    reward = torch.tensor([[r for r, _ in steps]], dtype=torch.float64)
    value = torch.tensor([[v for _, v in steps]], dtype=torch.float64)
    found, _ = gae(reward, value, torch.ones_like(reward, dtype=torch.bool), gamma, lam)
    after = [*value[0, 1:].tolist(), 0.0]
    delta = [r + gamma * nxt - v for (r, v), nxt in zip(steps, after, strict=True)]
    wanted = [sum((gamma * lam) ** (k - n) * delta[k] for k in range(n, len(delta))) for n in range(len(delta))]
    assert found[0].tolist() == pytest.approx(wanted, abs=1e-9)


# Regularisers -------------------------------------------------------------------------------------------------------


def test_kl_estimates() -> None:
    batch, logits, logp = doubled(collate([rollout(0)]))
    weight = PolicyLoss().weights(batch, torch.ones_like(logp))
    assert all(float(KL(kind).of(logp, logp.detach(), weight).detach()) == 0 for kind in ("k1", "k2", "k3"))
    away = KL("k3", 1.0).of(logp, logp.detach() + 0.3, weight)
    assert float(away.detach()) == pytest.approx(np.exp(0.3) - 1 - 0.3)
    assert float(gradient(away, logits).abs().max()) > 0


@pytest.mark.parametrize(("entropy", "outside"), [(0.4, True), (1.0, False), (2.5, True)])
def test_smoothing_has_a_gradient_exactly_outside_the_band(entropy: float, outside: bool) -> None:
    """EPO's released penalty is a comparison and has none anywhere."""
    batch = collate([rollout(0)])
    smooth = EntropySmooth(low=0.8, high=1.2, start=0.0)
    ones = torch.where(batch.rows.mask, 1.0, 0.0).double()
    smooth.note(ones, batch.rows, batch.table)
    now = (ones * entropy).requires_grad_()
    loss = smooth.of(now, batch.rows, batch.table, ones)
    moved = gradient(loss, now)[batch.rows.mask]
    assert bool((moved != 0).all()) == outside
    assert bool((moved != 0).any()) == outside


# Bad input ----------------------------------------------------------------------------------------------------------

BAD: dict[str, Callable[[], object]] = {
    "no rollouts": lambda: collate([]),
    "an unknown signal": lambda: advantages(table_of(three()), [Term("profit")]),
    "episodes by turn": lambda: advantages(table_of(three()), [Term(group="prompt+turn")]),
    "lengths that differ": lambda: Recorder("r", "g").turn([1], [2, 3], [-1.0]),
    "nothing sampled": lambda: Recorder("r", "g").turn([1], [], []),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_said_in_one_sentence(case: str) -> None:
    with pytest.raises(ConfigError):
        BAD[case]()
