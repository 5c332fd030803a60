"""The benchmark of MEM1 on several questions at once: what each arm keeps, what it costs, and the world of symbols."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch")

from benchmarks.multi_objective import ARMS, SYMBOLS, WORDS, Script, compared, stage
from memctx.train.counting import CodecCounter
from memctx.train.envs.multi_objective import ALPHABET, MultiObjective
from memctx.train.sampling import Group


def lines(words: int, tasks: int = 3) -> dict[tuple[str, int], dict[str, Any]]:
    players = {arm: Script(WORDS, notes=arm == "mem1") for arm in ARMS}
    return {(line["arm"], line["questions"]): line for line in compared(players, WORDS, words, tasks)}


def test_mem1_stays_small_and_knows_all_at_any_number_of_questions() -> None:
    found = lines(words=100)
    for questions in (2, 4, 8, 16):
        assert found["mem1", questions]["success"] == found["full", questions]["success"] == 1
        assert found["truncate", questions]["success"] <= 2 / questions
        assert found["truncate", questions]["peak"] <= found["mem1", questions]["peak"]
    assert found["mem1", 16]["peak_less_prompt"] <= 1.3 * found["mem1", 2]["peak_less_prompt"]
    assert found["full", 16]["peak_less_prompt"] >= 7 * found["full", 2]["peak_less_prompt"]


@pytest.mark.parametrize("arm", ["mem1", "full"])
def test_the_script_plays_the_world_of_symbols_as_its_expert_does(arm: str) -> None:
    made = stage(arm, SYMBOLS, questions=4, words=6)
    for run in Group(1).collect(made, Script(SYMBOLS, notes=arm == "mem1"), range(5), 0):
        assert run.outcome["task"] == 1
        said, best = [turn.text for turn in run.turns], made.env.expert(int(run.group))  # type: ignore[attr-defined]
        assert said == (best if arm == "mem1" else [*(f"?{each[-1]}" for each in best[:-1]), best[-1]])


def test_the_pipeline_counts_the_ids_of_words() -> None:
    made = stage("mem1", WORDS, questions=2, words=0)
    (run,) = Group(1).collect(made, Script(WORDS, notes=True), [0], 0)
    counter = CodecCounter(WORDS)
    first = sum(map(counter.message, run.messages[:2])) + counter.priming
    assert first == len(run.segments[0].prompt)
    assert WORDS.text(WORDS.body(run.messages[1]["content"])) == run.messages[1]["content"]


# The environment's own ------------------------------------------------------------------------------------------------


def test_symbols_are_all_in_the_alphabet_and_the_rules_are_not() -> None:
    env = MultiObjective(questions=16, form="symbols", words=9)
    assert not set(env.rules) & set(ALPHABET)
    state: Any = env.start(0)
    for text in env.expert(0):
        assert state.observation
        assert set(state.observation) <= set(ALPHABET)
        assert len(state.observation) == (27 if state.acts else 16)
        state = state.after(text)


def test_notes_without_a_value_or_with_a_wrong_one_earn_nothing() -> None:
    env = MultiObjective(questions=2, form="symbols")
    best = env.expert(6)[-1]
    one, other = best[:2], best[2:4]
    assert one[1] != other[1]
    for said, worth in [(best, 1), (f"{other}{one}!", 1), (f"{one}!", 0.5), ("!", 0), (f"{best[0]}{other[1]}!", 0)]:
        assert env.start(6).after(said).rewards == (worth,)
    assert env.start(6).after("?").observation == env.start(6).after("").observation == "?"


def test_passages_are_filled_and_say_the_same() -> None:
    short, long = MultiObjective(questions=3), MultiObjective(questions=3, words=80)
    assert short.asked(4) == long.asked(4)
    assert short.expert(4) == long.expert(4)
    query = short.expert(4)[0]
    brief, filled = (env.start(4).after(query).observation.splitlines()[1:] for env in (short, long))
    assert all(80 <= len(passage.split()) < 100 for passage in filled)
    assert sorted(brief) == sorted(".".join(passage.split(".")[:1]) + "." for passage in filled)
