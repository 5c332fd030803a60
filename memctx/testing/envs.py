"""What every environment keeps to. Give the fixture `env` an instance and subclass `EnvTests`."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from memctx import component
from memctx.train.envs import State, position

JUNK = (
    "",
    " \n",
    "\x00",
    "null",
    "{",
    '{"name": 3}',
    "[[[",
    "answer: ",
    "ü" * 3000,
    "DONE? no",
    '{"name": "x", "arguments": "{"}',
)
SEEDS = range(4)
LONGEST = 2000  # turns


def played(env: Any, seed: int, words: tuple[str, ...] = JUNK) -> tuple[list[State], list[str]]:
    """The positions and answers of one whole run: legal actions where there are any, else `words`, drawn by the seed."""
    chance, states, answers = Random(seed), [env.start(seed)], list[str]()
    while not states[-1].rewards:
        assert len(answers) < LONGEST, "it never ends"
        answers.append(chance.choice(states[-1].actions or words))
        states.append(states[-1].after(answers[-1]))
    return states, answers


class EnvTests:
    """Positions are values, the seed decides everything, whatever is said is answered, and every run ends."""

    @pytest.fixture
    def env(self) -> Any:
        raise NotImplementedError("override the fixture env")

    def test_it_is_its_own_configuration(self, env: Any) -> None:
        assert component.load("train.envs", env.dump()) == env
        assert env.players >= 1
        assert env.rules.strip()

    @pytest.mark.parametrize("seed", SEEDS)
    def test_it_ends_with_a_reward_for_every_player(self, env: Any, seed: int) -> None:
        states, _ = played(env, seed)
        assert all(len(state.rewards) == 0 for state in states[:-1])
        assert len(states[-1].rewards) == env.players
        assert all(isinstance(each, float) for each in states[-1].rewards)
        assert not states[-1].actions

    @pytest.mark.parametrize("seed", SEEDS)
    def test_whoever_is_to_move_has_something_to_read(self, env: Any, seed: int) -> None:
        for state in played(env, seed)[0][:-1]:
            assert state.player in range(env.players)
            assert state.observation.strip()

    @pytest.mark.parametrize("seed", SEEDS)
    def test_the_seed_and_the_answers_bring_a_position_back(self, env: Any, seed: int) -> None:
        states, answers = played(env, seed)
        for number in {0, len(answers) // 2, len(answers)}:
            again = position(component.load("train.envs", env.dump()), seed, answers[:number])
            assert again == states[number]
            assert (again.observation, again.rewards) == (states[number].observation, states[number].rewards)

    @pytest.mark.parametrize("seed", SEEDS)
    def test_a_branch_changes_nothing(self, env: Any, seed: int) -> None:
        states, answers = played(env, seed)
        before = [(state.player, state.observation, state.actions, state.rewards) for state in states]
        for state in states[:-1]:
            for text in (*JUNK[:4], *state.actions[:3]):
                state.after(text)
        assert [(state.player, state.observation, state.actions, state.rewards) for state in states] == before
        assert position(env, seed, answers) == states[-1]

    @pytest.mark.parametrize("text", JUNK, ids=repr)
    def test_whatever_is_said_is_answered(self, env: Any, text: str) -> None:
        state = env.start(1).after(text)
        assert state.rewards or state.observation.strip()
