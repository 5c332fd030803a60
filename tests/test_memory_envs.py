"""Environments that need memory: the same seed gives the same task, positions are values, and only what was kept can be told."""

from __future__ import annotations

import re
from typing import Any

import pytest

from memctx.component import load
from memctx.errors import ConfigError
from memctx.train.envs import position
from memctx.train.envs.multi_objective import MultiObjective

ENVS: list[Any] = [
    MultiObjective(),
    MultiObjective(questions=16),
    MultiObjective(questions=4, hops=2, scoring="count"),
]


# -- what all of them promise --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", ENVS, ids=repr)
def test_the_expert_has_the_full_reward_and_positions_are_values(env: Any) -> None:
    best = env.questions if getattr(env, "scoring", "") == "count" else 1.0
    for seed in range(20):
        answers = env.expert(seed)
        state, path = env.start(seed), []
        for number, answer in enumerate(answers):
            assert not state.rewards, f"over after {number} of {len(answers)}"
            path.append((state, state.observation))
            state.after("")  # a branch changes nothing
            state = state.after(answer)
        assert state.rewards == (best,)
        assert position(env, seed, answers) == state
        assert [(each, each.observation) for each, _ in path] == path
        assert load("train.envs", env.dump()) == env
    assert env.start(1).after(answers[0]) != env.start(2).after(answers[0])


@pytest.mark.parametrize("env", ENVS, ids=repr)
@pytest.mark.parametrize("text", ["", "  ", "\x00", "answer", "{", "ö" * 5000, '{"name": 3}', "[[[", "search:", "null"])
def test_whatever_is_said_is_answered_and_ends_without_reward(env: Any, text: str) -> None:
    state = env.start(3)
    for _ in range(500):
        if state.rewards:
            break
        assert state.observation
        state = state.after(text)
    assert state.rewards[0] <= 0.05
    assert not state.observation


# -- multi_objective -----------------------------------------------------------------------------------------------------


def searched(env: MultiObjective, seed: int) -> Any:
    """After the expert's searches."""
    return position(env, seed, env.expert(seed)[:-1])


def test_the_answers_stand_in_the_passages_and_nowhere_else() -> None:
    env = MultiObjective(questions=16, hops=2)
    for seed in range(10):
        state, seen = env.start(seed), ""
        asked = {each.answer for each in env.asked(seed)}
        assert not any(re.search(rf"\b{each}\b", state.observation) for each in asked)
        for answer in env.expert(seed)[:-1]:
            state = state.after(answer)
            seen += state.observation
        assert all(each in seen for each in asked)


def test_who_remembers_the_last_passages_only_has_one_answer() -> None:
    env = MultiObjective(questions=8)
    total = 0.0
    for seed in range(20):
        state = searched(env, seed)
        known = [each.answer if each.answer in state.observation else "" for each in env.asked(seed)]
        total += state.after("answer: " + "; ".join(known)).rewards[0]
    assert 1 / 8 <= total / 20 < 0.3


@pytest.mark.parametrize("scoring", ["share", "count"])
def test_one_answer_counts_once_and_in_its_place(scoring: Any) -> None:
    env = MultiObjective(questions=4, scoring=scoring)
    unit = 1 if scoring == "count" else 1 / 4
    state, right = searched(env, 6), [each.answer for each in env.asked(6)]
    assert len(set(right)) == 4
    for given, worth in [
        ("; ".join(right * 3), 4),
        ("; ".join([right[0]] * 4), 1),
        ("; ".join(right[1:] + right[:1]), 0),
        ("; ".join(" ".join(right) for _ in right), 0),
        ("; ".join(f"The {each.upper()}!" for each in right), 4),
        (right[0], 1),
        ("; ; ;", 0),
    ]:
        assert state.after(f"answer: {given}").rewards == (worth * unit,), given


def test_turns_grow_with_the_questions_and_run_out() -> None:
    for count in (1, 5):
        state: Any = MultiObjective(questions=count).start(0)
        for left in range(3 * count, 0, -1):
            assert state.observation.startswith("[last turn: answer now]" if left == 1 else f"[{left} turns left]")
            state = state.after("search: nothing of the kind")
        assert state.rewards == (0.0,)


def test_the_last_line_that_acts_counts_and_other_words_are_notes() -> None:
    state: Any = MultiObjective().start(0)
    assert state.after("I know\nsearch: x\nno: SEARCH: Vukon").acts == (("search", "Vukon"),)
    assert "neither" in state.after("I would like to look for Vukon").observation
    assert "Nothing was found" in state.after("search: qqq").observation


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="questions"):
        MultiObjective(questions=17)
    with pytest.raises(ConfigError, match="people"):
        MultiObjective(people=3)
