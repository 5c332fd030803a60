"""Training as a whole: acting is what trains, every preset learns, runs repeat and go on from where they stopped."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch")

import torch

from benchmarks.presets import learned
from memctx import Pipeline, component
from memctx.errors import ConfigError, NotFound
from memctx.replay import replay
from memctx.strategies.internal_state import InternalState
from memctx.strategies.summarize import Summarize
from memctx.train import presets, storage
from memctx.train.acting import Stage, play
from memctx.train.algorithm import Algorithm
from memctx.train.batch import collate
from memctx.train.codec import Bytes, Symbols, Tape
from memctx.train.envs.bandit import Bandit
from memctx.train.envs.carry import KEYS, Carry
from memctx.train.envs.wason import RULES, Wason
from memctx.train.filters import top_spread, with_spread
from memctx.train.learner import Learner
from memctx.train.losses import logprobs
from memctx.train.models import Causal, tiny
from memctx.train.rollouts import Rollout
from memctx.train.sampling import EntropyBranch, Group, PartialRestart, ReplayInject, ResampleFrom, Sampling, Tree
from memctx.train.trainer import train
from tests.acting import Endless, Says, babble, listing
from tests.training import rollout

DIGITS = Symbols("0123?")
MARKS = Symbols(KEYS[:4] + "?")


def stage(**changes: Any) -> Stage:
    """Two pulls of a bandit with four arms."""
    made = Stage(Bandit(turns=2), Pipeline(budget=100_000), DIGITS, tokens=1, turns=2)
    return replace(made, **changes)


def small(seed: int = 0, codec: Any = DIGITS) -> Causal:
    return tiny(codec, width=32, layers=1, context=256, seed=seed)


# Acting is what trains ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", ["", "look"])
@pytest.mark.parametrize("name", component.names("strategies"))
def test_a_policy_is_trained_on_exactly_the_context_it_acted_on(name: str, tool: str) -> None:
    """Ids, mask and places: what a turn's segment holds before the turn is what the policy was shown, token for token."""
    strategy = component.load("strategies", {"use": name})
    pipeline = Pipeline([strategy], budget=1_500, edit_when="always", low=0.5)
    codec, policy = Bytes(), Says(babble)
    talk = Stage(Endless(listing), pipeline, codec, tokens=40, turns=10, tool=tool)
    actors = [talk.actor(task, 0, task) for task in range(3)]
    play(actors, policy)
    seen = set(policy.shown)
    turns = 0
    for actor in actors:
        done = actor.finish()
        done.check()
        for turn in done.turns:
            segment = done.segments[turn.segment]
            before = (*segment.prompt.tolist(), *segment.response[: turn.span[0]].tolist())
            assert before in seen
            seen.discard(before)
            turns += 1
        rows = collate([done]).rows
        assert int(rows.mask.sum()) == sum(turn.span[1] - turn.span[0] for turn in done.turns)
    assert turns >= 30
    assert not seen, "the policy was shown a context that nothing was recorded for"


def test_rewriting_strategies_do_cut_segments() -> None:
    """Else the test above would hold for nothing."""
    for name, tool in (("internal_state", ""), ("window", "look"), ("skim", "look")):
        pipeline = Pipeline([component.load("strategies", {"use": name})], budget=1_500, edit_when="always")
        actor = Stage(Endless(listing), pipeline, Bytes(), tokens=40, turns=10, tool=tool).actor(0, 0, 0)
        play([actor], Says(babble))
        assert len(actor.finish().segments) > 2, name


def test_the_log_probs_of_acting_are_those_of_training() -> None:
    carry = Stage(
        Carry(), Pipeline([InternalState(tag="")], budget=10_000, edit_when="always"), MARKS, tokens=2, turns=3
    )
    policy = small(codec=MARKS)
    actors = [carry.actor(task, 0, task) for task in range(8)]
    play(actors, policy)
    rollouts = [actor.finish() for actor in actors]
    assert 2 in {len(each.segments) for each in rollouts}
    rows = collate(rollouts, pad=policy.pad).rows
    with torch.no_grad():
        found = logprobs(policy.logits(rows.ids, rows.attend), rows.ids)
    assert float((found - rows.sampler)[rows.mask].abs().max()) < 1e-4


def test_who_acts_beside_it_changes_nothing() -> None:
    policy = small()
    alone = stage().actor(3, 0, 11)
    play([alone], policy)
    crowd = [stage().actor(task, 0, 11 if task == 3 else task) for task in range(6)]
    play(crowd, policy)
    assert [turn.text for turn in alone.finish().turns] == [turn.text for turn in crowd[3].finish().turns]


def test_a_sampled_message_is_never_tokenised_again() -> None:
    codec = Bytes()
    tape, said = Tape(codec), {"role": "assistant", "content": "b"}
    odd = [*b"a", 256]
    tape.keep(said, odd)
    assert tape.prompt([said]) == [*codec.head("assistant"), *odd, *codec.head("assistant")]
    assert tape.prompt([dict(said)]) == [*codec.head("assistant"), *b"b", 256, *codec.head("assistant")]


def test_a_strategy_that_asks_is_answered_by_the_policy_and_its_turn_recorded() -> None:
    summarize = Summarize(at=0.5, keep=1, min_tokens=100)
    actor = Stage(
        Endless(listing), Pipeline([summarize], budget=3_000), Bytes(), tokens=40, turns=12, tool="look"
    ).actor(0, 0, 0)
    play([actor], Says(babble))
    modules = {turn.module for turn in actor.finish().turns}
    assert modules == {"agent", "summarize"}


# Presets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_learns(name: str) -> None:
    """One seed; `python -m benchmarks.presets` takes three."""
    first, last = learned(name, seed=0)
    assert last > max(0.3, first + 0.1)


def _gradient(name: str, rollouts: Sequence[Rollout], pad: int = 0) -> list[torch.Tensor]:
    algorithm = presets.preset(name)
    policy = small()
    learner = Learner(policy, algorithm, lr=0.0, norm=1e9)
    ready = learner.ready([storage_copy(each) for each in rollouts])
    learner.update(ready, None)
    return [each.grad.clone() if each.grad is not None else torch.zeros_like(each) for each in policy.parameters()]


def storage_copy(each: Rollout) -> Rollout:
    """Shapers write into rollouts; each look starts from the same."""
    turns = [replace(turn, reward=dict(turn.reward), probe=dict(turn.probe)) for turn in each.turns]
    return replace(each, turns=turns, outcome=dict(each.outcome))


def sampled(outcomes: Sequence[float]) -> list[Rollout]:
    """Rollouts of one task, acted by the policy that `_gradient` updates, with these outcomes and what presets probe."""
    found = Group(len(outcomes)).collect(stage(), small(), [0], 3)
    for number, (each, outcome) in enumerate(zip(found, outcomes, strict=True)):
        each.outcome["task"] = outcome
        each.meta |= {"pair": number // 2, "from": 0, "gold": -1.0}
        for turn in each.turns:
            turn.probe |= {"distance": 0.5, "gold": -1.0, "with": 0.0, "without": 0.0, "features": {"any": 1.0}}
    return found


POLICY_GRADIENT = [
    name
    for name in presets.names()
    if presets.preset(name).critic is None and type(presets.preset(name).loss).__name__ == "PolicyLoss"
]


# REINFORCE has no baseline; the others pay the turns of one rollout differently.
PAY_TURNS = {"reinforce", "mica", "fold_grpo", "iter_research"}


@pytest.mark.parametrize("name", sorted(set(POLICY_GRADIENT) - PAY_TURNS))
def test_equal_rewards_give_no_gradient(name: str) -> None:
    algorithm = presets.preset(name)
    if algorithm.entropy is not None or name == "igpo":
        pytest.skip("an entropy bonus has a gradient of its own")
    assert max(float(each.abs().max()) for each in _gradient(name, sampled([1.0] * 4))) < 1e-6
    assert max(float(each.abs().max()) for each in _gradient(name, sampled([1.0, 0.0, 1.0, 0.0]))) > 1e-6


@pytest.mark.parametrize("name", POLICY_GRADIENT)
def test_padding_and_the_order_of_rollouts_change_nothing(name: str) -> None:
    mixed = sampled([1.0, 0.0, 1.0, 0.0])
    one, two = _gradient(name, mixed), _gradient(name, mixed[::-1])
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one, two, strict=True))


def test_each_preset_says_its_paper_in_at_most_ten_lines() -> None:
    import inspect

    for name, made in presets.makers().items():
        lines = inspect.getsource(made).splitlines()
        text = inspect.getdoc(made) or ""
        code = len(lines) - len(text.splitlines()) - 1
        assert code <= 10, name
        assert re.search(r"\(.*\d{4}|Ours", text), name


def test_each_preset_has_one_home() -> None:
    """All are known by name, and none is handed on by a second file."""
    makers = presets.makers()
    assert {"grpo", "archer", "supo", "mem_alpha", "memory_policy"} <= makers.keys()
    homes = {name: made.__module__ for name, made in makers.items()}
    assert {hasattr(presets, name) for name, home in homes.items() if home != presets.__name__} == {False}


def test_unknown_presets_are_said() -> None:
    with pytest.raises(NotFound, match="supo"):
        presets.preset("supo2")


def test_seeupo_of_one_turn_is_one_joint_update_with_the_segment_ratio() -> None:
    single = [rollout(i, turns=1, tokens=3, outcome=o) for i, o in enumerate((1.0, 0.0, 1.0, 0.0))]
    by_turn = replace(presets.preset("seeupo"), kl=None)
    joint = replace(by_turn, schedule=Algorithm().schedule)
    found = []
    for algorithm in (by_turn, joint):
        policy = small()
        learner = Learner(policy, algorithm, lr=1e-3)
        algorithm.schedule.run(learner, single)
        found.append([each.detach().clone() for each in policy.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))


# Sampling -----------------------------------------------------------------------------------------------------------


def test_branching_with_no_budget_left_is_a_group() -> None:
    policy = small()
    group = Group(4).collect(stage(), policy, [0, 1], 7)
    branched = EntropyBranch(start=4, budget=4).collect(stage(), policy, [0, 1], 7)
    assert [[t.text for t in each.turns] for each in group] == [[t.text for t in each.turns] for each in branched]


def test_branches_share_what_came_before_and_fill_the_budget() -> None:
    found = EntropyBranch(start=2, budget=6, threshold=1.0).collect(stage(turns=2), small(), [0], 7)
    assert len(found) == 6
    branches = [each for each in found if each.source == "branch"]
    assert branches
    firsts = {each.turns[0].text for each in found if each.source == "policy"}
    assert all(each.turns[0].text in firsts for each in branches)
    assert all(each.status == "finished" for each in found)


def test_a_tree_is_pruned_and_no_wider_than_asked() -> None:
    found = Tree(branch=3, width=2, keep=lambda actor: actor.messages[-1] is not None).collect(stage(), small(), [0], 7)
    assert len(found) == 6  # three children, two kept, three leaves each
    assert Tree(branch=3, keep=lambda _: False).collect(stage(), small(), [0], 7) == []


def test_pairs_part_where_they_say() -> None:
    found = ResampleFrom(pairs=3).collect(stage(), small(), [0, 1], 7)
    assert len(found) == 12
    for first, second in zip(found[::2], found[1::2], strict=True):
        at = first.meta["from"]
        assert first.meta == second.meta
        assert [turn.text for turn in first.turns[:at]] == [turn.text for turn in second.turns[:at]]


def test_an_old_success_is_put_into_a_group_that_fails() -> None:
    policy = small()
    inject = ReplayInject(Group(4))
    won = rollout(0, group="5", turns=1, outcome=1.0)
    inject.past["5"] = deque([won])
    hopeless = stage(env=Bandit(best=0.0, turns=2))
    found = inject.collect(hopeless, policy, [5, 6], 7)
    assert [each.source for each in found] == ["replay"] + ["policy"] * 7
    ready = Learner(policy, Algorithm(sampling=inject)).ready([storage_copy(each) for each in found])
    with torch.no_grad():
        rows = ready.batch.rows
        now = logprobs(policy.logits(rows.ids, rows.attend), rows.ids)
    assert float((now - rows.old)[rows.mask].abs().max()) < 1e-5, "a replayed rollout starts at ratio 1"


def test_filters() -> None:
    flat = [rollout(i, group="flat", outcome=1.0) for i in range(2)]
    wide = [rollout(i, group="wide", outcome=float(i)) for i in range(2)]
    assert {each.group for each in with_spread([*flat, *wide])} == {"wide"}
    assert {each.group for each in top_spread(0.5)([*flat, *wide])} == {"wide"}
    assert len(with_spread(flat)) == 2


@pytest.mark.parametrize(
    "sampling",
    [Group(2), EntropyBranch(start=2, budget=4), Tree(branch=3, width=2), ResampleFrom(2), PartialRestart(2, 2, bool)],
    ids=lambda each: type(each).__name__,
)
def test_what_else_is_sampled_changes_nothing(sampling: Sampling) -> None:
    def told(tasks: list[int]) -> list[Any]:
        found = sampling.collect(stage(turns=3), small(), tasks, 7)
        return [(each.id, each.meta, [turn.text for turn in each.turns]) for each in found]

    assert told([0, 1, 2, 3]) == told([0, 1]) + told([2, 3])


def test_neighbouring_seeds_share_no_draw() -> None:
    """Not a step, not a task, not a rollout and not a turn of theirs."""

    def draws(seed: int) -> list[int]:
        policy, found = small(), []
        sample = policy.sample

        def noted(prompts: Any, *, seeds: Any, **rest: Any) -> Any:
            found.extend(seeds)
            return sample(prompts, seeds=seeds, **rest)

        policy.sample = noted  # type: ignore[method-assign]
        train(policy, stage(), Algorithm(), steps=3, tasks=4, seed=seed, evaluate_tasks=1)
        return found[:-2]  # the evaluation's are the same in all runs

    drawn = [each for seed in range(3) for each in draws(seed)]
    assert len(drawn) == 3 * 3 * 4 * 8 * 2
    assert len(set(drawn)) == len(drawn)


def test_tokens_are_drawn_as_likely_as_they_are() -> None:
    policy = small()
    prompt = DIGITS.body("0?12")
    with torch.no_grad():
        ids = torch.tensor([prompt])
        chance = policy.logits(ids, torch.ones_like(ids))[0, -1].softmax(-1)
    found = policy.sample([prompt] * 4_000, tokens=1, stop=(), seeds=range(4_000))
    share = torch.bincount(torch.tensor([each.ids[0] for each in found]), minlength=len(chance)) / 4_000
    assert float((share - chance).abs().max()) < 4 * (0.25 / 4_000) ** 0.5
    (likeliest,) = policy.sample([prompt], tokens=1, stop=(), seeds=None)
    assert likeliest.ids == [int(chance.argmax())]


def test_a_prompt_that_is_done_leaves_the_batch_and_the_others_go_on_as_alone() -> None:
    policy = small()
    prompts = [DIGITS.body(text) for text in ("0", "1?2", "33", "012?")]
    together = policy.sample(prompts, tokens=12, stop=DIGITS.stop, seeds=[1, 2, 3, 4])
    alone = [policy.sample([p], tokens=12, stop=DIGITS.stop, seeds=[n])[0] for n, p in enumerate(prompts, 1)]
    assert [each.ids for each in together] == [each.ids for each in alone]
    assert len({len(each.ids) for each in together}) > 1, "else nobody left early"


# The trainer --------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_run() -> None:
    one, two = (train(small(), stage(), Algorithm(), steps=3, tasks=4, lr=1e-2, seed=5) for _ in range(2))
    assert one == two
    assert train(small(), stage(), Algorithm(), steps=3, tasks=4, lr=1e-2, seed=6) != one


@pytest.mark.parametrize("name", ["grpo", "ppo", "epo"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    algorithm = presets.preset(name)
    settings: dict[str, Any] = {"tasks": 4, "lr": 1e-2, "seed": 5}
    whole = train(small(), stage(layout=algorithm.layout), algorithm, steps=6, out=tmp_path / "whole", **settings)
    train(small(), stage(layout=algorithm.layout), algorithm, steps=3, out=tmp_path / "cut", **settings)
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as lines:
        lines.write('{"step": 3.0, "task": 99}\n')  # a step that was noted but not saved
    resumed = train(small(1), stage(layout=algorithm.layout), algorithm, steps=6, out=tmp_path / "cut", **settings)
    keys = set(whole[0]) & {"step", "task", "loss", "grad_norm", "entropy"}
    assert [{k: f[k] for k in keys} for f in resumed] == [{k: f[k] for k in keys} for f in whole]
    kept = sorted(path.name for path in (tmp_path / "cut").glob("checkpoint*"))
    assert kept == ["checkpoint-6"]
    assert not list((tmp_path / "cut").rglob("*.pt"))
    assert not list((tmp_path / "cut").rglob("*.bin"))


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="temperature"):
        tiny(DIGITS, temperature=0.0)


# Storage ------------------------------------------------------------------------------------------------------------


def test_rollouts_come_back_as_they_were(tmp_path: Path) -> None:
    actors = [stage().actor(task, 0, task) for task in range(3)]
    play(actors, small())
    done = [actor.finish() for actor in actors]
    storage.write(tmp_path, done[:2])
    storage.write(tmp_path, done[2:])
    for a, b in zip(done, storage.read(tmp_path), strict=True):
        assert (a.id, a.group, a.status, a.outcome, a.turns, a.messages) == (
            b.id,
            b.group,
            b.status,
            b.outcome,
            b.turns,
            b.messages,
        )
        for x, y in zip(a.segments, b.segments, strict=True):
            assert all((getattr(x, name) == getattr(y, name)).all() for name in storage.ARRAYS)


def test_stored_rollouts_can_be_replayed(tmp_path: Path) -> None:
    actor = Stage(Endless(listing), Pipeline(budget=10_000), Bytes(), tokens=40, turns=4, tool="look").actor(0, 0, 0)
    play([actor], Says(babble))
    lines = storage.write(tmp_path, [actor.finish()])
    (row,) = list(replay([lines], {"lean": Pipeline.lean()}, jobs=1))
    assert row.calls > 0


@pytest.mark.parametrize("damage", ["missing", "short", "schema"])
def test_damaged_storage_is_said(damage: str, tmp_path: Path) -> None:
    lines = storage.write(tmp_path, [rollout(0, outcome=1.0)])
    tokens = lines.with_suffix(".safetensors")
    if damage == "missing":
        tokens.unlink()
    elif damage == "short":
        other = storage.write(tmp_path / "b", [rollout(0, turns=1)])
        tokens.write_bytes(other.with_suffix(".safetensors").read_bytes())
    else:
        lines.write_text(lines.read_text().replace('"schema": 1', '"schema": 9'))
    with pytest.raises(ConfigError):
        list(storage.read(tmp_path))


# Environments -------------------------------------------------------------------------------------------------------


def test_a_triple_tells_rules_apart() -> None:
    state = Wason(tests=2).start(4)
    state = state.after("is it 1 2 3?")
    assert state.observation.startswith("1 2 3:")
    assert state.after(state.rule).rewards == (1.0,)
    wrong = next(name for name in RULES if name != state.rule)
    assert state.after(wrong).rewards == (0.0,)
    assert state.after("no idea").rewards == (0.0,)
    assert state.after("3 2 1").after("4 4 4").rewards == (0.0,), "no tests left: only a name counts"


def test_the_key_is_nowhere_but_in_the_note() -> None:
    carry = Stage(
        Carry(), Pipeline([InternalState(tag="")], budget=10_000, edit_when="always"), MARKS, tokens=1, turns=3
    )
    policy = Says(lambda prompt, chance: "?", MARKS)
    shown = {}
    for task in range(12):
        actor = carry.actor(task, 0, 0)
        play([actor], policy)
        shown[actor.state.key] = policy.shown[-1]  # type: ignore[attr-defined]
    assert len(shown) > 1
    assert len(set(shown.values())) == 1, "what is asked last does not tell the key"
