"""Who speaks in a rollout: modules that learn and modules that do not, limits by module, and other players."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import pytest

pytest.importorskip("torch", reason="training needs torch")

from memctx import Pipeline
from memctx.component import Component
from memctx.effects import Generate
from memctx.errors import ConfigError
from memctx.strategies.summarize import Summarize
from memctx.train.acting import Stage, play
from memctx.train.algorithm import Algorithm
from memctx.train.batch import collate
from memctx.train.codec import Bytes, Symbols
from memctx.train.envs.bandit import Bandit
from memctx.train.models import tiny
from memctx.train.rollouts import Rollout
from memctx.train.sampling import EntropyBranch, Group, PartialRestart, ResampleFrom, Sampling, Tree
from memctx.train.trainer import train
from tests.acting import Endless, Says, babble, listing

NOTES = "order 17 is paid and nothing is open"


def talk(**changes: Any) -> Stage:
    """Long observations, and a summary of them every few turns."""
    pipeline = Pipeline([Summarize(at=0.5, keep=1, min_tokens=100)], budget=3_000, edit_when="always")
    made = Stage(Endless(listing), pipeline, Bytes(), tokens=40, turns=12, tool="look")
    return replace(made, **changes)


def played(stage: Stage, policy: Any) -> Rollout:
    actor = stage.actor(0, 0, 0)
    play([actor], policy)
    return actor.finish()


# Modules ------------------------------------------------------------------------------------------------------------


def test_only_the_modules_that_learn_are_trained() -> None:
    both = played(talk(), Says(babble))
    spans = {
        name: sum(t.span[1] - t.span[0] for t in both.turns if t.module == name) for name in ("agent", "summarize")
    }
    assert all(spans.values())
    for names in ({"agent"}, {"summarize"}, {"agent", "summarize"}):
        rows = collate([both], train_modules=names).rows
        assert int(rows.mask.sum()) == sum(spans[name] for name in names)


def test_each_module_has_its_own_limit() -> None:
    done = played(talk(limits={"summarize": 90}), Says(partial(babble, words=60)))
    sizes = {name: {t.span[1] - t.span[0] for t in done.turns if t.module == name} for name in ("agent", "summarize")}
    assert max(sizes["agent"]) == 40
    assert max(sizes["summarize"]) == 90


def test_who_may_write_little_is_not_sampled_longer() -> None:
    """Though others of the same batch may write more."""
    asked: dict[int, int] = {}

    class Noted(Says):
        def sample(self, prompts: Any, *, tokens: int, **rest: Any) -> Any:
            asked[tokens] = asked.get(tokens, 0) + len(prompts)
            return super().sample(prompts, tokens=tokens, **rest)

    actors = [talk(limits={"summarize": 90}).actor(task, 0, task) for task in range(4)]
    play(actors, Noted(babble))
    turns = [turn.module for actor in actors for turn in actor.finish().turns]
    assert asked == {40: turns.count("agent"), 90: turns.count("summarize")}


@pytest.mark.parametrize("wait", [False, True])
def test_a_frozen_module_is_answered_by_another_and_its_words_are_context(wait: bool) -> None:
    asked: list[Generate] = []

    def plain(effect: Generate) -> str:
        asked.append(effect)
        return NOTES

    async def awaited(effect: Generate) -> str:
        return plain(effect)

    done = played(talk(others={"summarize": awaited if wait else plain}), Says(babble))
    assert {effect.module for effect in asked} == {"summarize"}
    assert {turn.module for turn in done.turns} == {"agent"}
    prompts = [Bytes().text(segment.prompt.tolist()) for segment in done.segments]
    assert any(NOTES in prompt for prompt in prompts)
    assert not any(NOTES in turn.text for turn in done.turns)


# Other players ------------------------------------------------------------------------------------------------------


class Guess(Component):
    """The first player asks, the second knows the secret and answers; whoever asked for it by name has won."""

    players: ClassVar[int] = 2
    rules: ClassVar[str] = "Find out the secret."

    def start(self, seed: int) -> Asked:
        return Asked(str(seed % 4))


@dataclass(frozen=True)
class Asked:
    secret: str
    player: int = 1
    heard: str = ""
    turn: int = 0
    actions: tuple[str, ...] = ()
    rewards: tuple[float, ...] = ()

    @property
    def observation(self) -> str:
        return f"secret {self.secret}: {self.heard}" if self.player else self.heard

    def after(self, text: str) -> Asked:
        won = self.player == 0 and text == self.secret
        rewards = (float(won), 0.0) if won or self.turn == 4 else ()
        return replace(self, player=1 - self.player, heard=text, turn=self.turn + 1, rewards=rewards)


def knows(effect: Generate) -> str:
    """Says hello, and then what it counts to be the messages it has seen, and the secret."""
    return f"!{len(effect.messages)}{effect.messages[-1]['content'].split(':')[0][-1]}"


GUESS = Stage(Guess(), Pipeline(), Symbols("0123?! "), tokens=1, turns=4)


def test_whoever_else_plays_is_asked_and_never_trained() -> None:
    policy = tiny(GUESS.codec, width=32, layers=1, context=256)
    found = Group(2).collect(replace(GUESS, others={"user": knows}), policy, range(4), 5)
    assert len(found) == 8
    for each in found:
        secret = str(int(each.group) % 4)
        heard = [m["content"] for m in each.messages if m["role"] == "user"]
        assert heard[0] == f"!1{secret}", "the other player opens"
        assert heard[1:2] in ([], [f"!3{secret}"]), "it is shown what it read and said before"
    rows = collate(found).rows
    assert int(rows.mask.sum()) == sum(len(each.turns) for each in found), "one token a turn, and no other"


def test_a_policy_learns_beside_another_player() -> None:
    policy = tiny(GUESS.codec, width=32, layers=1, context=256)
    with_user = replace(GUESS, others={"user": knows})
    history = train(policy, with_user, Algorithm(), steps=25, tasks=8, lr=1e-2, seed=0, evaluate_tasks=1)
    assert history[-1]["task"] > history[0]["task"] + 0.2


def test_the_trainer_acts_in_the_layout_of_the_algorithm() -> None:
    seen: list[Rollout] = []

    class Noted(Group):
        def collect(self, *args: Any, **rest: Any) -> list[Rollout]:
            seen.extend(found := Group.collect(self, *args, **rest))
            return found

    bandit = Stage(Bandit(turns=2), Pipeline(), GUESS.codec, tokens=1, turns=2)
    policy = tiny(GUESS.codec, width=32, layers=1, context=256)
    train(policy, bandit, Algorithm(sampling=Noted(2), layout="per_turn"), steps=1, tasks=1, evaluate_tasks=1)
    assert {len(each.segments) for each in seen} == {2}


def test_an_environment_with_more_players_asks_for_them() -> None:
    with pytest.raises(ConfigError, match="user"):
        played(GUESS, tiny(GUESS.codec, width=32, layers=1, context=256))


# The budget -----------------------------------------------------------------------------------------------------------


SAMPLINGS: list[Sampling] = [
    Group(2),
    EntropyBranch(2, 4),
    Tree(2, 2),
    ResampleFrom(1),
    PartialRestart(2, 2, select=lambda _: True),
]


@pytest.mark.parametrize("long", [0, 2])
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda each: type(each).__name__)
def test_a_run_whose_context_no_longer_fits_ends_in_every_sampling(sampling: Sampling, long: int) -> None:
    """From turn `long` on what is shown fits into no context."""
    grows = Endless(lambda task, turn: "and so on " * (5_000 if turn >= long else 5))
    stage = Stage(grows, Pipeline(budget=1_000), Bytes(), tokens=40, turns=6)
    found = sampling.collect(stage, Says(babble), [0, 1], 1)
    assert {each.group for each in found} == {"0", "1"}
    assert {(len(each.turns), each.status) for each in found} == {(long, "truncated")}


def test_a_tree_counts_the_turns_of_the_agent_alone() -> None:
    found = Tree(1, 1).collect(talk(), Says(babble), [0], 1)
    assert [sum(turn.module == "agent" for turn in each.turns) for each in found] == [12]
    assert len(found[0].turns) > 12
