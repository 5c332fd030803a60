"""The learner: parts equal the whole, what it refuses, what it leaves alone; critics; checkpoints; presets as their cards say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch")

import torch

from memctx import Pipeline
from memctx.errors import ConfigError, TrainingError
from memctx.train import presets
from memctx.train.acting import Stage, play
from memctx.train.advantages import turn_advantages
from memctx.train.algorithm import Algorithm, Critic, PairLoss
from memctx.train.batch import Batch, collate
from memctx.train.codec import Symbols
from memctx.train.critics import hierarchical
from memctx.train.envs.bandit import Bandit
from memctx.train.envs.try_again import TryAgain
from memctx.train.envs.wason import Wason
from memctx.train.filters import reject_unprofiled
from memctx.train.learner import Learner
from memctx.train.losses import PolicyLoss, entropies, logprobs, spread
from memctx.train.models import Causal, Sampled, lora, tiny
from memctx.train.regularisers import KL, Entropy, EntropySmooth
from memctx.train.rollouts import Role, Rollout
from memctx.train.sampling import EntropyBranch, Group, PartialRestart, ReplayInject, ResampleFrom
from memctx.train.schedules import CriticThenActor, Joint
from memctx.train.shapers import TurnDecay
from memctx.train.trainer import resume, save, train
from memctx.train.values import HEADS, ValueModel, estimate
from tests.acting import Says
from tests.training import VOCABULARY, rollout

CODEC = Symbols("0123?")


def small(seed: int = 0) -> Causal:
    return tiny(CODEC, width=32, layers=1, context=256, seed=seed)


def stage(**changes: Any) -> Stage:
    return replace(Stage(Bandit(turns=2), Pipeline(), CODEC, tokens=1, turns=2), **changes)


def mixed(n: int = 6, **facts: Any) -> list[Rollout]:
    """Rollouts of unequal lengths and segments, in two groups, half of them good."""
    found = [
        rollout(
            i, group=f"task{i % 2}", turns=1 + i % 3, rewrite=(1,), tokens=3 + i % 2, outcome=float(i % 3 == 0), **facts
        )
        for i in range(n)
    ]
    for i, each in enumerate(found):
        each.meta |= {"pair": i // 4, "from": 0}
    return found


def gradient(algorithm: Algorithm, tokens: int, rounds: int = 1) -> list[torch.Tensor]:
    """Of the last update, after some with a step."""
    policy = small()
    learner = Learner(policy, algorithm, lr=1e-2, norm=1e9, tokens=tokens)
    ready = learner.ready(mixed())
    for _ in range(rounds):
        learner.update(ready, None)
    return [each.grad.clone() for each in policy.parameters() if each.grad is not None]


PARTS = ["grpo", "dr_grpo", "flow_grpo", "st_ppo", "so_grpo", "epo", "hiper", "m_dpo", "m_kto", "refuel", "rise"]


def loud() -> Algorithm:
    """EPO with a band so narrow, and a weight so high, that the history decides the gradient."""
    return replace(presets.preset("epo"), smooth=lambda: EntropySmooth(100.0, 0.99, 1.01, 1.0, start=0.0))


@pytest.mark.parametrize("name", [*PARTS, "loud"])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(name: str) -> None:
    """Two updates, so that ratios differ from 1, tokens are clipped and EPO has a history."""
    made = loud() if name == "loud" else presets.preset(name)
    one, many = (gradient(made, tokens, rounds=2) for tokens in (65_536, 12))
    whole, parts = (torch.cat([each.flatten() for each in found]) for found in (one, many))
    assert float(whole.norm()) > 0
    assert float((whole - parts).norm() / whole.norm()) < 1e-4


def test_a_rollout_is_never_torn_apart_between_minibatches() -> None:
    seen: list[set[int]] = []

    class Spy(Learner):
        def update(self, ready: Any, members: torch.Tensor | None) -> dict[str, float]:
            rows = ready.batch.rows
            assert members is not None
            taken = torch.isin(rows.rollout, members)
            seen.append(set(rows.rollout[taken].tolist()))
            assert not seen[-1] & set(rows.rollout[~taken].tolist())
            return super().update(ready, members)

    Joint(epochs=2, minibatches=3).run(Spy(small(), Algorithm(), lr=1e-3), mixed())
    assert [len(each) for each in seen] == [2] * 6
    assert seen[0] | seen[1] | seen[2] == set(range(6))


def test_minibatches_are_of_what_filters_left() -> None:
    sizes: list[int] = []

    class Spy(Learner):
        def update(self, ready: Any, members: torch.Tensor | None) -> dict[str, float]:
            assert members is not None
            sizes.append(int(torch.isin(ready.batch.rows.rollout, members).sum()))
            return super().update(ready, members)

    half = Algorithm(filters=(lambda rollouts: [each for each in rollouts if each.group == "task0"],))
    Joint(minibatches=3).run(Spy(small(), half, lr=1e-3), mixed())
    assert len(sizes) == 3
    assert min(sizes) > 0


# What it leaves alone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["agent_omit", "mem_alpha", "br_rm", "arpo_gui"])
def test_shapers_write_into_copies_so_rollouts_can_come_again(name: str) -> None:
    rollouts = mixed()
    learner = Learner(small(), presets.preset(name))
    one, two = (learner.ready(rollouts).batch.table for _ in range(2))
    assert [each.outcome for each in rollouts] == [{"task": float(i % 3 == 0)} for i in range(6)]
    assert not any(turn.reward for each in rollouts for turn in each.turns)
    assert all(torch.equal(one.signal(name), two.signal(name)) for name in ("sum", "outcome"))


def test_a_replayed_rollout_is_paid_once_and_kept_once() -> None:
    inject = ReplayInject(Group(3))
    won = rollout(0, group="5", turns=3, outcome=1.0)
    inject.restore([won])
    learner = Learner(small(), Algorithm(shapers=(TurnDecay(),), sampling=inject))
    for _ in range(3):
        found = inject.collect(stage(env=Bandit(best=0.0, turns=2)), learner.policy, [5], 7)
        assert [each.source for each in found] == ["replay", "policy", "policy"]
        ready = learner.ready(found)
        assert ready.rollouts[0].outcome == {"task": 0.25}
    assert inject.held() == [won]
    assert (won.outcome, won.source) == ({"task": 1.0}, "policy")


def test_replay_keeps_a_bounded_number_of_tasks_and_none_without_success() -> None:
    inject = ReplayInject(Group(2), tasks=3)
    inject.restore([rollout(0, group=group, turns=1, outcome=1.0) for group in "abcda"])
    assert list(inject.past) == ["c", "d", "a"]
    none = ReplayInject(Group(2))
    none.collect(stage(env=Bandit(best=0.0, turns=2)), small(), range(6), 0)
    assert not none.past


@pytest.mark.parametrize("mask", ["overlong", "protect"])
def test_masked_tokens_get_neither_kl_nor_entropy(mask: str) -> None:
    spec = PolicyLoss(overlong=True) if mask == "overlong" else PolicyLoss(protect=Role.FORMAT)
    algorithm = Algorithm(loss=spec, kl=KL("k1", 1.0), entropy=Entropy(1.0), terms=Algorithm().terms)
    rollouts = [rollout(i, turns=1, outcome=float(i), roles=[int(Role.FORMAT)] * 4) for i in range(2)]
    rollouts[0].status = "truncated" if mask == "overlong" else "finished"
    learner = Learner(small(), algorithm, lr=0.0, norm=1e9)
    ready = learner.ready(rollouts)
    bad = ready.batch.rows.rollout == 0
    assert float(spec.weights(ready.batch, ready.advantage)[bad].abs().sum()) == 0
    learner.update(ready, None)
    both = [each.grad.clone() for each in learner.policy.parameters() if each.grad is not None]
    learner.optimizer.zero_grad()
    learner.update(ready, torch.tensor([1]))
    alone = [each.grad for each in learner.policy.parameters() if each.grad is not None]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(both, alone, strict=True))


# What it refuses ----------------------------------------------------------------------------------------------------


def _cut(rollouts: list[Rollout]) -> list[Rollout]:
    for each in rollouts:
        each.status = "truncated"
    return rollouts


BAD: dict[str, tuple[Algorithm, list[Rollout], str]] = {
    "a reward that is no number": (Algorithm(), [rollout(i, outcome=math.nan) for i in range(2)], "not finite"),
    "all cut off": (presets.preset("supo"), _cut(mixed()), "cut off"),
    "groups of one": (Algorithm(), [rollout(i, group=str(i), outcome=1.0) for i in range(3)], "one rollout"),
    "no turns": (Algorithm(), [Rollout("a", "g"), Rollout("b", "g")], "no token"),
    "modules that never speak": (Algorithm(train_modules=frozenset({"planner"})), mixed(), "planner"),
    "pairs without a partner": (presets.preset("refuel"), [rollout(0, outcome=1.0), rollout(1, outcome=0.0)], "pair"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_teach_is_refused_and_no_weight_changes(case: str) -> None:
    algorithm, rollouts, said = BAD[case]
    policy = small()
    before = [each.detach().clone() for each in policy.parameters()]
    with pytest.raises(TrainingError, match=said):
        algorithm.schedule.run(Learner(policy, algorithm, lr=1.0), rollouts)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))


def test_a_loss_that_is_not_finite_changes_no_weight_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    policy, algorithm = small(), Algorithm()
    train(policy, stage(), algorithm, steps=1, tasks=2, out=tmp_path)
    saved = {path.name: path.read_bytes() for path in (tmp_path / "checkpoint-1").iterdir()}
    with torch.no_grad():
        next(policy.parameters())[0, 0] = math.inf
    learner = Learner(policy, algorithm)
    before = [each.detach().clone() for each in policy.parameters()]
    with pytest.raises(TrainingError, match="unchanged"):
        learner.update(learner.ready(mixed()), None)
    assert all(torch.equal(a, b) for a, b in zip(before, policy.parameters(), strict=True))
    assert {path.name: path.read_bytes() for path in (tmp_path / "checkpoint-1").iterdir()} == saved


def test_all_correct_teaches_kto_nothing() -> None:
    algorithm = replace(presets.preset("m_kto"))
    policy = small()
    learner = Learner(policy, algorithm, lr=0.0)
    facts = learner.update(learner.ready([rollout(i, outcome=1.0) for i in range(3)]), None)
    assert facts["grad_norm"] == 0
    assert isinstance(algorithm.loss, PairLoss)


# Acting -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["policy", "probe"])
def test_a_failure_while_acting_is_raised_and_nobody_waits_for_ever(where: str) -> None:
    asked = 0

    class Counting(Causal):
        def sample(self, prompts: Sequence[Sequence[int]], **rest: Any) -> list[Sampled]:
            nonlocal asked
            asked += 1
            return super().sample(prompts, **rest)

    def fail(*given: Any) -> str:
        raise RuntimeError("out of memory")

    def probe(actor: Any, turn: Any) -> None:
        if actor.task == 1:
            fail()

    policy: Any = Says(fail, CODEC) if where == "policy" else Counting(small().model, CODEC.pad)
    runs = [stage(probe=probe).actor(task, 0, task) for task in range(4)]
    with pytest.raises(RuntimeError, match="out of memory"):
        play(runs, policy)
    assert asked <= 2, "those that were called off are not sampled for"


def test_roles_of_tokens_are_recorded() -> None:
    marked = stage(roles=lambda ids: [int(Role.ACTION)] * len(ids))
    run = marked.actor(0, 0, 1)
    play([run], small())
    (segment,) = run.finish().segments
    assert set(segment.roles[segment.mask].tolist()) == {int(Role.SAMPLED | Role.ACTION)}


def test_how_sure_a_turn_began_is_the_mean_over_its_opening_and_at_most_one() -> None:
    run = stage(tokens=4).actor(0, 0, 0)
    policy = small()
    with torch.no_grad():
        for each in policy.parameters():
            each.zero_()
    play([run], policy)
    assert run.recorder.rollout.turns[0].probe["entropy"] == pytest.approx(1.0)


def test_pairs_part_at_a_turn_that_was_played_though_runs_end_at_different_turns() -> None:
    """Wason ends with the first answer that is not three numbers, so most runs are over before the last turn."""
    talk = stage(env=Wason(), turns=5, tokens=6)
    found = ResampleFrom(pairs=4).collect(talk, small(), [0, 1], 3)
    assert all(each.meta["from"] < len(each.turns) for each in found)
    algorithm = replace(presets.preset("refuel"), sampling=ResampleFrom(pairs=4))
    assert math.isfinite(algorithm.schedule.run(Learner(small(), algorithm), found)["loss"])


def test_partial_rollouts_start_where_something_was_omitted() -> None:
    def probe(actor: Any, turn: Any) -> None:
        turn.probe["saved"] = float(turn.t == 1 and actor.task == 0)

    found = PartialRestart(4, restarts=3).collect(stage(probe=probe), small(), [0, 1], 7)
    assert [each.group for each in found] == ["0"] * 7 + ["1"] * 4
    assert len({each.id for each in found}) == 11
    firsts = {each.turns[0].text for each in found[:4]}
    again = [each for each in found if each.source == "branch"]
    assert len(again) == 3
    assert all(each.turns[0].text in firsts and each.status == "finished" for each in again)


def test_a_wrong_answer_is_asked_again_and_late_answers_are_worth_less() -> None:
    state: Any = TryAgain(attempts=3).start(0)
    assert "number of an arm" in state.observation
    wrong = state.after("0")
    assert (wrong.rewards, wrong.observation) == ((), "Incorrect. Think again.\narm?")
    assert wrong.after("3").rewards == (1.0,)
    assert wrong.after("1").after("2").rewards == (0.0,), "no more than three"
    run = stage(env=TryAgain(attempts=3), turns=3).actor(0, 0, 0)
    play([run], small())
    done = run.finish()
    assert done.status == "finished"
    TurnDecay()([done])
    assert done.outcome["task"] == (0.5 ** (len(done.turns) - 1) if done.turns[-1].text == "3" else 0.0)


def test_a_branch_keeps_what_was_measured() -> None:
    def probe(actor: Any, turn: Any) -> None:
        if turn.t == 0:
            actor.recorder.rollout.meta["gold"] = -1.0

    found = EntropyBranch(start=2, budget=6, threshold=1.0).collect(stage(probe=probe), small(), [0], 7)
    assert all(each.meta == {"gold": -1.0} for each in found)


def test_rejected_turns_are_not_trained_but_their_rewards_count() -> None:
    whole = rollout(0, turns=3, outcome=1.0, rewards=(1.0, 1.0, 1.0))
    for turn, coverage in zip(whole.turns, (0.3, 0.4, None), strict=True):
        turn.probe |= {} if coverage is None else {"coverage": coverage}
    (kept,) = reject_unprofiled()([whole])
    batch = collate([kept])
    assert torch.unique(batch.rows.turn[batch.rows.mask]).tolist() == [1, 2]
    assert batch.table.signal("turns").tolist() == [1.0, 1.0, 1.0]


# Critics ------------------------------------------------------------------------------------------------------------


def test_q_sees_what_was_done_and_v_does_not() -> None:
    model = ValueModel(small(), HEADS["utterance_q"], after=2)
    torch.nn.init.normal_(model.head.weight)
    rows = collate([rollout(0, turns=1)]).rows
    other = replace(rows, ids=rows.ids.clone())
    other.ids[0, -1] = (other.ids[0, -1] + 1) % VOCABULARY
    with torch.no_grad():
        gap = (model(rows) - model(other)).abs()[0, -2]  # at the token itself; the last place tells of what follows it
    assert float(gap[:2].min()) > 0
    assert float(gap[2:].max()) == 0
    ahead = {name: Learner(small(), presets.preset(name)).critic for name in ("archer", "ppo")}
    assert {name: critic.after for name, critic in ahead.items() if critic is not None} == {"archer": 2, "ppo": 0}


def test_archer_leaves_the_actor_alone_while_the_critic_warms_up() -> None:
    algorithm = replace(presets.preset("archer"), schedule=CriticThenActor(2, 1, 1))
    learner = Learner(small(), algorithm, lr=1e-2)
    moved = []
    for _ in range(4):
        before = [each.detach().clone() for each in learner.policy.parameters()]
        algorithm.schedule.run(learner, mixed())
        moved.append(any(not torch.equal(a, b) for a, b in zip(before, learner.policy.parameters(), strict=True)))
    assert moved == [False, False, True, True]


def test_archers_critic_sees_earlier_rollouts_again_which_teach_its_q_alone() -> None:
    schedule = CriticThenActor(warmup=9, critic_epochs=1, actor_epochs=1, keep=8)
    algorithm = replace(presets.preset("archer"), schedule=schedule)
    learner = Learner(small(), algorithm, lr=1e-2)
    seen, fit = list[tuple[int, int]](), learner.fit_critic

    def noted(ready: Any) -> Any:
        heads = ready.critic.at.any(1).any(0).tolist()
        seen.append((len(ready.rollouts), sum(heads)))
        return fit(ready)

    learner.fit_critic = noted  # type: ignore[method-assign]
    for _ in range(3):
        schedule.run(learner, mixed())
    assert seen == [(6, 4), (6, 2), (6, 4), (6, 2), (6, 4)], "the first batch has none before it"
    assert len(schedule.past) == 8, "the newest of all that were seen"
    other = CriticThenActor(keep=8)
    other.restore(schedule.held())
    assert other.held() == schedule.held()


def test_what_the_critic_remembers_is_in_the_checkpoint(tmp_path: Path) -> None:
    def learner() -> Learner:
        return Learner(small(), replace(presets.preset("archer"), schedule=CriticThenActor(0, 1, 1)), lr=1e-2)

    one, two = learner(), learner()
    one.algorithm.schedule.run(one, mixed())
    save(one, stage(), tmp_path, 1)
    resume(two, tmp_path)
    held = [each.algorithm.schedule.held() for each in (one, two)]  # type: ignore[attr-defined]
    assert [each.id for each in held[0]] == [each.id for each in held[1]] != []


SWITCH, SUBGOAL, ACTION = (int(each) for each in (Role.SWITCH, Role.SUBGOAL, Role.ACTION))


def no_values(batch: Batch, heads: int) -> torch.Tensor:
    """As a critic gives them that knows nothing."""
    rows, width = batch.rows.ids.shape
    return torch.zeros(rows, width + 1, heads, dtype=torch.float64)


def hierarchy(outcome: float, normed: bool = False, status: Any = "finished") -> tuple[Any, Any]:
    """Four turns of four tokens, switch, tag, subgoal, action; a subgoal begins at turns 0 and 2."""
    made = rollout(0, turns=4, outcome=outcome, roles=[SWITCH, 0, SUBGOAL, ACTION])
    made.turns[2].probe["switch"] = True
    made.status = status
    batch = collate([made])
    values = no_values(batch, 3)
    for turn, (low, high) in enumerate([(0.4, 0.3), (0.5, 9.0), (0.6, 0.7), (0.8, 9.0)]):
        tokens = (batch.rows.turn[0] == turn).nonzero()[:, 0]
        values[0, tokens[3], 0], values[0, tokens[0], 1] = (
            low,
            high,
        )  # low at the action, high at the turn's first token
    return batch, estimate(batch, values, Critic("hierarchical", lam_high=0.95, normed=normed))


def test_hiper_gives_each_level_to_its_own_tokens() -> None:
    batch, found = hierarchy(1.0)
    grid = found.advantage[0][batch.rows.mask[0]].reshape(4, 4)
    assert grid[:, 3].tolist() == pytest.approx([0.3, 0.2, 0.4, 0.2])
    assert grid[:, 2].tolist() == pytest.approx([0.685, 0.0, 0.30, 0.0])
    assert grid[:, 0].tolist() == pytest.approx([0.7, 0.7, 1.0, 1.0])
    assert grid[:, 1].tolist() == [0.0] * 4, "a tag between the parts belongs to no level"


def test_hiper_norms_over_the_turns_that_own_tokens_of_a_level() -> None:
    batch, found = hierarchy(1.0, normed=True)
    grid = found.advantage[0][batch.rows.mask[0]].reshape(4, 4)
    assert grid[:, 2].tolist() == pytest.approx([1.0, 0.0, -1.0, 0.0])
    assert float(grid[:, 3].std(correction=0)) == pytest.approx(1.0)


def test_hiper_fits_the_upper_value_of_failures_too() -> None:
    """A return of 0 is a target like any other; left out, the value of hopeless subgoals would never fall."""
    batch, found = hierarchy(0.0)
    first = [int((batch.rows.turn[0] == turn).nonzero()[0, 0]) for turn in (0, 2)]
    assert found.at[0, :, 1].nonzero()[:, 0].tolist() == first
    assert float(found.targets[0, first[1], 1]) == 0


def test_a_rollout_that_was_cut_off_is_bootstrapped_with_its_own_values() -> None:
    table = collate([rollout(0, turns=2, rewards=(0.0, 0.0))]).table
    low, high = torch.tensor([0.4, 0.8]).double(), torch.tensor([0.3, 0.0]).double()
    start = torch.tensor([True, False])
    cut = hierarchical(table, table.signal("turns"), start, low, high, 0 * low, bootstrap=torch.tensor([True]))
    assert cut.low.tolist() == pytest.approx([0.8 - 0.4, 0.0])
    assert cut.high.tolist() == pytest.approx([0.0, 0.0])
    _, found = hierarchy(0.0, status="truncated")
    assert float(found.targets[0, :, 1].max()) == pytest.approx(0.7)


def cut_and_ended() -> Batch:
    """Two rollouts of one turn and four tokens that earn 1: one was cut off, one came to its end."""
    pair = [rollout(0, turns=1, outcome=1.0), rollout(1, turns=1, outcome=1.0)]
    pair[0].status = "truncated"
    return collate(pair)


@pytest.mark.parametrize("level", ["token", "turn", "bilevel"])
def test_only_a_rollout_that_was_cut_off_goes_on_to_be_worth_something(level: Any) -> None:
    """Its last state is worth 0.5: that stands after the row's last token, where a row that is full has no place."""
    batch = cut_and_ended()
    values = no_values(batch, 1)
    values[:, batch.rows.attend[0].sum()] = 0.5
    settings = Critic(level, gamma=0.9 if level == "turn" else 1.0, gamma_high=0.9, normed=False)
    found = estimate(batch, values, settings)
    worth = found.advantage[batch.rows.mask].reshape(2, 4)
    assert worth[0].tolist() == pytest.approx([1 + 0.5 * (1.0 if level == "token" else 0.9)] * 4)
    assert worth[1].tolist() == pytest.approx([1.0] * 4)
    ends = estimate(batch, values, replace(settings, bootstrap=False))
    assert ends.advantage[batch.rows.mask].tolist() == pytest.approx([1.0] * 8)


def test_archers_q_looks_beyond_a_cut_by_the_slow_copys_smaller_v() -> None:
    batch = cut_and_ended()
    values, slow = no_values(batch, 4), no_values(batch, 4)
    end = batch.rows.attend[0].sum()
    slow[:, end, 2], slow[:, end, 3] = 0.5, 0.7
    found = estimate(batch, values, Critic("utterance_q", gamma=0.9, normed=False), slow)
    targets = [found.targets[row][found.at[row, :, 0], 0].tolist() for row in (0, 1)]
    assert targets == [pytest.approx([1 + 0.9 * 0.5]), pytest.approx([1.0])]


def test_a_value_is_told_of_the_state_in_which_a_row_ends() -> None:
    """The same as that before the next token, had there been one."""
    batch, policy = collate(mixed()), small()
    critic = ValueModel(policy)
    torch.nn.init.normal_(critic.head.weight)
    whole = batch.rows
    cut = replace(
        whole, **{name: getattr(whole, name)[:, :-1] for name in ("ids", "attend", "turn", "roles", "sampler", "old")}
    )
    assert torch.allclose(critic(cut), critic(whole)[:, :-1], atol=1e-5)


def test_a_turns_value_is_read_before_it_begins() -> None:
    """Read later it would tell of the action, and the advantage would not be one."""
    batch = collate([rollout(0, turns=1, outcome=1.0)])
    values = no_values(batch, 1)
    values[0, batch.rows.mask[0].nonzero()[0, 0]] = 0.25
    found = estimate(batch, values, Critic("turn", normed=False))
    assert found.advantage[batch.rows.mask].tolist() == pytest.approx([0.75] * 4)
    assert found.at[0, :, 0].nonzero()[:, 0].tolist() == [int(batch.rows.mask[0].nonzero()[0, 0])]


# Kinds of models ----------------------------------------------------------------------------------------------------


def test_losses_of_a_bf16_model_are_float32() -> None:
    policy = small()
    policy.model = policy.model.to(torch.bfloat16)
    logits = policy.logits(torch.tensor([[1, 2, 3]]), torch.ones(1, 3, dtype=torch.long))
    assert logits.dtype == torch.bfloat16
    assert logprobs(logits, torch.tensor([[1, 2, 3]])).dtype == entropies(logits).dtype == torch.float32
    for name in ("epo", "ppo"):
        algorithm = presets.preset(name)
        facts = algorithm.schedule.run(Learner(policy, algorithm), mixed())
        assert math.isfinite(facts["loss"])
        assert facts["grad_norm"] > 0


def test_bf16_computes_low_and_learns_high() -> None:
    policy = Causal(small().model, CODEC.pad, bf16=True)
    ids = torch.tensor([[1, 2, 3]])
    assert policy.logits(ids, torch.ones_like(ids)).dtype == torch.bfloat16
    before = [each.detach().clone() for each in policy.parameters()]
    train(policy, stage(), presets.preset("grpo"), steps=2, tasks=2, lr=1e-6)
    assert all(each.dtype == torch.float32 for each in policy.parameters())
    moved = [float((a - b.detach()).abs().max()) for a, b in zip(before, policy.parameters(), strict=True)]
    assert 0 < max(moved) < 1e-5


def adapted(seed: int = 0) -> Causal:
    torch.manual_seed(seed)
    return Causal(lora(small().model, rank=2, targets=["q_proj", "v_proj"]), CODEC.pad)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft reads an old name
@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_adapters_alone_are_trained_and_come_back(name: str, tmp_path: Path) -> None:
    policy, algorithm = adapted(), presets.preset(name)
    base = {k: v.clone() for k, v in policy.model.state_dict().items() if "lora" not in k}
    learner = Learner(policy, algorithm, lr=1e-2)
    algorithm.schedule.run(learner, mixed())
    folder = save(learner, stage(), tmp_path, 1)
    assert all(torch.equal(v, policy.model.state_dict()[k]) for k, v in base.items())
    other = Learner(adapted(1), algorithm, lr=1e-2)
    assert resume(other, tmp_path) == 1
    trained = [each for each in policy.model.state_dict() if "lora" in each]
    assert trained
    assert all(torch.equal(policy.model.state_dict()[k], other.policy.model.state_dict()[k]) for k in trained)
    if learner.reference is not None:
        held = learner.reference.model.state_dict()
        back = other.reference.model.state_dict() if other.reference is not None else {}
        assert all(torch.equal(held[k], back[k]) for k in trained)
    weights = sum(path.stat().st_size for path in folder.glob("adapter*"))
    assert weights < sum(each.numel() * 4 for each in base.values()), "the model itself is not kept"


def test_dropout_is_off() -> None:
    policy = small()
    assert not policy.model.training


# Checkpoints --------------------------------------------------------------------------------------------------------


def test_a_run_with_replay_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path) -> None:
    """Tasks come again, old successes are put in, and what is kept of them is in the checkpoint."""
    hard = stage(env=Bandit(best=0.3, turns=2))

    def made() -> Algorithm:
        return replace(presets.preset("arpo_gui"), sampling=ReplayInject(Group(2)))

    settings: dict[str, Any] = {"tasks": 3, "pool": 6, "lr": 1e-2, "seed": 3}
    whole = train(small(), hard, made(), steps=8, out=tmp_path / "whole", **settings)
    train(small(), hard, made(), steps=4, out=tmp_path / "cut", **settings)
    resumed = train(small(1), hard, made(), steps=8, out=tmp_path / "cut", **settings)
    assert [facts["grad_norm"] for facts in resumed] == [facts["grad_norm"] for facts in whole]
    assert list((tmp_path / "whole" / "checkpoint-8" / "replay").glob("*.jsonl"))


def test_a_pool_smaller_than_a_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="pool"):
        train(small(), stage(), Algorithm(), steps=1, tasks=4, pool=2)


# Small things -------------------------------------------------------------------------------------------------------


def test_aggregation_by_response_and_by_sum() -> None:
    short, long = rollout(0, turns=1, tokens=2), rollout(1, turns=3, rewrite=(1,), tokens=4)
    batch = collate([short, long])
    ones = torch.where(batch.rows.mask, 1.0, 0.0)
    response, added = (PolicyLoss(agg=agg, length=10.0).weights(batch, ones) for agg in ("response", "sum"))
    mine = batch.rows.rollout == 1
    assert torch.unique(response[mine][batch.rows.mask[mine]]).tolist() == pytest.approx([1 / 24])
    assert torch.unique(response[~mine][batch.rows.mask[~mine]]).tolist() == pytest.approx([1 / 4])
    assert torch.unique(added[batch.rows.mask]).tolist() == pytest.approx([1 / 20]), "cutting changes no weight"


def test_smoothing_fades() -> None:
    smooth = EntropySmooth(fade=100)
    wanted = [1.0, 1 - 0.2 * (1 - math.exp(-1)), 0.8, 0.8 * math.exp(-1.5), 0.8 * math.exp(-3), 0.8 * math.exp(-3)]
    assert [smooth.share(step) for step in (0, 25, 50, 75, 100, 400)] == pytest.approx(wanted)
    assert EntropySmooth().share(99) == 1
    batch = collate([rollout(0)])
    ones = torch.where(batch.rows.mask, 1.0, 0.0)
    smooth = EntropySmooth(low=0.8, high=1.2, start=0.0, fade=100)
    smooth.note(ones, batch.rows, batch.table)
    early, late = (float(smooth.of(3 * ones, batch.rows, batch.table, ones, step)) for step in (0, 50))
    assert late / early == pytest.approx(0.8)


def test_advantages_of_the_turns_of_one_prompt() -> None:
    paid, ends = [[0.2, 0.1, 1.0], [0.0, 0.0], [0.3, -0.1, 1.0]], [1.0, 0.0, 1.0]
    wanted = {
        "grpo": [[0.5773] * 3, [-1.1547] * 2, [0.5773] * 3],
        "rloo": [[0.5] * 3, [-1.0] * 2, [0.5] * 3],
        "trloo": [[0.70, 0.65, 0], [-1.25, -1.00], [0.55, 0.35, 0]],
        "mica": [[0.2590, 0.1960, 0.8310], [-1.0832, -1.0745], [0.2953, -0.2548, 0.8310]],
        "matchtir": [[0.6432, 0.7005, 0.3225], [-1.1521, -1.1429], [0.5089, 0.4424, 0.2534]],
        "igpo": [[0.8198, 1.0742, 1.5547], [-1.4134, -0.7067], [0.5936, 0.6219, 1.5547]],
        "seeupo": [[0.5773] * 3, [-1.1547] * 2, [0.5773] * 3],
    }
    for name, each in wanted.items():
        for found, right in zip(turn_advantages(name, turn_rewards=paid, outcomes=ends), each, strict=True):
            assert found == pytest.approx(right, abs=6e-5), name
    with pytest.raises(ConfigError, match="critic"):
        turn_advantages("ppo", turn_rewards=paid, outcomes=ends)
    with pytest.raises(ConfigError, match="outcomes"):
        turn_advantages("grpo", turn_rewards=paid, outcomes=[1.0])


def test_a_chunk_of_mem_alpha_is_normed_with_all_it_earned() -> None:
    """One z-score over the rows' sums, not a sum of z-scores."""
    made = presets.preset("mem_alpha")
    rollouts = [rollout(i, turns=2, outcome=float(i)) for i in range(2)]
    for each in rollouts:
        each.turns[0].calls = [{"ok": True}]
    ready = Learner(small(), made).ready(rollouts)
    rows = torch.tensor([1.0, 0.0, 2.0, 1.0])
    wanted = (rows - rows.mean()) / rows.std()
    by_turn = [float(ready.advantage[ready.batch.rows.turn == turn][0]) for turn in range(4)]
    assert by_turn == pytest.approx(wanted.tolist(), abs=1e-4)
    assert spread(ready.batch.rows, wanted).shape == ready.advantage.shape


CARDS: dict[str, dict[str, Any]] = {
    "memagent": {"sampling": Group(16), "kl": KL(coef=0.001), "layout": "per_turn"},
    "seeupo": {"loss": PolicyLoss(ratio="segment", agg="segment"), "kl": KL(coef=0.002)},
    "epo": {"kl": KL(coef=0.01), "entropy": Entropy(0.001)},
    "igpo": {"sampling": Group(16), "kl": KL(coef=0.001), "entropy": Entropy(0.001)},
    "hiper": {"critic": Critic("hierarchical", lam=1.0, lam_high=0.95), "kl": KL(coef=0.01)},
    "arpo": {"sampling": EntropyBranch(8, 16, 2, 0.2, 0.5), "kl": None},
    "arpo_gui": {
        "sampling": ReplayInject(Group(8), 8, 0.05, 0.2, 0.1),
        "loss": PolicyLoss(clip=(0.2, 0.3)),
        "kl": None,
    },
    "flow_grpo": {"loss": PolicyLoss(clip=(0.2, 0.3), agg="rollout"), "kl": KL(coef=0.001), "entropy": None},
    "refuel": {"loss": PairLoss("refuel", 1000.0)},
    "matchtir": {"sampling": Group(16), "kl": KL(coef=0.001), "entropy": Entropy(0.001)},
    "infopo": {"sampling": Group(5), "kl": None, "entropy": Entropy(0.001)},
    "trloo": {"sampling": Group(16), "kl": None, "entropy": None},
    "archer": {"schedule": CriticThenActor(20, 50, 3), "kl": None},
    "ufo": {"sampling": Group(16), "loss": PolicyLoss(clip=(0.2, 0.28)), "entropy": Entropy(0.001), "kl": None},
    "mua_rl": {"sampling": Group(8), "kl": KL(coef=0.001), "entropy": None},
    "br_rm": {"sampling": Group(8), "kl": KL(coef=0.001)},
    "mem1": {"layout": "per_turn", "kl": KL(coef=0.001)},
    "mint": {"kl": KL(coef=0.01)},
    "gigpo": {"kl": KL(coef=0.01), "layout": "per_turn"},
    "agent_omit": {"sampling": PartialRestart(8), "kl": KL(coef=0.001)},
}


@pytest.mark.parametrize("name", CARDS)
def test_presets_have_the_values_of_their_papers(name: str) -> None:
    made = presets.preset(name)
    assert {slot: getattr(made, slot) for slot in CARDS[name]} == CARDS[name]
