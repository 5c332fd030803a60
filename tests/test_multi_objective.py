"""The benchmark of MEM1 on several questions at once: what each arm keeps and what it costs; passages of a given length."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.multi_objective import QUESTIONS, Line, answer, compared, play
from memctx.train.envs.multi_objective import MultiObjective


@pytest.fixture(scope="module")
def lines() -> dict[tuple[str, int], Line]:
    return {(line.arm, line.questions): line for line in compared(words=250, tasks=2)}


def test_mem1_grows_by_less_than_a_third_where_the_whole_history_grows_eightfold(
    lines: dict[tuple[str, int], Line],
) -> None:
    assert lines["mem1", 16].peak <= 1.3 * lines["mem1", 2].peak
    assert lines["full", 16].peak >= 7 * lines["full", 2].peak


@pytest.mark.parametrize("questions", QUESTIONS)
def test_what_was_noted_is_known_and_what_was_cut_is_not(lines: dict[tuple[str, int], Line], questions: int) -> None:
    mem1, full, cut = (lines[arm, questions] for arm in ("mem1", "full", "truncate"))
    assert mem1.success == full.success == 1
    assert cut.success <= 2.5 / questions
    assert cut.largest <= mem1.largest + 2 + 8 * questions  # its last answer is written beyond the view
    assert mem1.prompt == full.prompt == cut.prompt
    assert mem1.tokens <= full.tokens


def test_the_player_knows_only_what_it_sees() -> None:
    env = MultiObjective(questions=2)
    state, best = env.start(3), env.expert(3)
    view = [{"content": env.rules}, {"content": state.observation}]
    assert answer(view, notes=True).strip() == best[0]
    view += [{"content": f"A;\n{best[1]}"}, {"content": "Nothing was found."}]
    assert answer(view, notes=True) == "answer: A;;"
    assert answer(view[:2] + view[3:], notes=True).strip() == best[0]


def test_sizes_are_of_each_prompt_with_its_answer() -> None:
    reward, sizes = play(MultiObjective(words=250), "full", seed=0, budget=10**6)
    assert reward == 1
    assert len(sizes) == 1 + 3
    assert sizes == sorted(sizes)
    said, first, second = (after - before for before, after in pairwise(sizes))
    assert said <= 10
    assert 700 <= min(first, second) <= max(first, second) <= 1000


def test_passages_are_filled_and_say_the_same() -> None:
    short, long = MultiObjective(questions=3), MultiObjective(questions=3, words=80)
    assert short.asked(4) == long.asked(4)
    assert short.expert(4) == long.expert(4)
    query = short.expert(4)[0]
    brief, filled = (env.start(4).after(query).observation.splitlines()[1:] for env in (short, long))
    assert all(80 <= len(passage.split()) < 100 for passage in filled)
    assert sorted(brief) == sorted(passage.partition(".")[0] + "." for passage in filled)


def test_it_runs(root: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.multi_objective", "--tasks", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, cwd=root)
    assert len([json.loads(line) for line in done.stdout.splitlines()]) == 24
