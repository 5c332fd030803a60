"""The experience bench: actions in normal form, runs as steps, the split, and methods that differ in what they look at."""

from __future__ import annotations

import gzip
import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from memctx._bench import experience as module
from memctx._bench._experience_actions import household, shell, sql
from memctx._bench._experience_methods import AGAIN, METHODS, Example, Experiences, bound
from memctx._bench._experience_runs import KINDS, Kind, Step, Story, split, stories
from memctx._bench.experience import Line, bench, outcomes
from memctx._experience_words import shared, words_of
from memctx.errors import ConfigError

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
SQL = KINDS[0]
TAU = next(kind for kind in KINDS if kind.name == "tau_retail")


# -- actions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("SHOW TABLES;", "SHOW TABLES"),
        ("DESC singer", "DESCRIBE"),
        ("show columns from singer", "DESCRIBE"),
        ("SELECT name FROM singer WHERE country = 'where count('", "SELECT WHERE"),
        ("select count(*), max(age) from a join b on a.x = b.x group by y", "SELECT AGG COUNT JOIN GROUP"),
        ("SELECT a FROM t WHERE x IN (SELECT x FROM u) ORDER BY a LIMIT 3", "SELECT WHERE ORDER LIMIT NESTED"),
        ("", ""),
    ],
)
def test_sql_is_its_statement_and_clauses(text: str, form: str) -> None:
    assert sql(text) == form


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("find /a -name '*.py | x' | sort -u | head -n 3", "find | sort | head"),
        ("sudo LANG=C /usr/bin/du -a && ls", "du | ls"),
        ("# nothing to run", "#"),
        ("", "#"),
    ],
)
def test_a_command_line_is_its_programs(text: str, form: str) -> None:
    assert shell(text) == form


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ('<execute>\nfor x in y:\n  goto(x)\n  goto("bed 1")\nput("a 1", "b 2")</execute>', "goto put"),
        ("<thought>I goto(x)</thought><solution>done</solution>", "solution"),
        ("I do not know.", "none"),
    ],
)
def test_a_block_of_code_is_the_functions_it_calls(text: str, form: str) -> None:
    assert household(text) == form


# -- words -------------------------------------------------------------------------------------------------------------


def test_words_in_common_are_the_cosine_of_two_sets() -> None:
    query = words_of("Unknown column 'x12' in where clause 7")  # unknown column x 0 in where clause
    rows = [words_of("UNKNOWN column WHERE 99"), words_of("unknown unknown"), words_of("!"), query]
    assert shared(query, rows).tolist() == pytest.approx([4 / (4 * 7) ** 0.5, 1 / 7**0.5, 0.0, 1.0])
    assert shared(words_of(""), rows).tolist() == [0.0] * 4


# -- runs --------------------------------------------------------------------------------------------------------------


def intercode(number: int, query: str, turns: list[tuple[str, str]], reward: float = 1.0) -> dict[str, Any]:
    history = {"actions": [a for a, _ in turns], "observations": [o for _, o in turns]}
    return {
        "id": f"sql-{number}",
        "environment": "ic_sql",
        "query": query,
        "turn_history": history,
        "summary": {"max_reward": reward},
    }


def tau(task: str, messages: list[dict[str, Any]], reward: float = 1.0) -> dict[str, Any]:
    return {"id": f"run-{task}", "task_id": task, "reward": reward, "messages": messages}


def call(name: str, result: str) -> list[dict[str, Any]]:
    made = {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}
    asked = {"role": "assistant", "content": None, "tool_calls": [made]}
    return [asked, {"role": "tool", "tool_call_id": name, "content": result}]


def write(folder: Path, name: str, records: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / name, "wt", encoding="utf-8") as file:
        file.write("\n".join(map(json.dumps, records)))
    return folder


def test_a_step_is_what_was_done_and_seen_and_what_came_then(tmp_path: Path) -> None:
    turns = [("SELECT a FROM t", "Error: no a"), ("DESC t", "a1"), ("SELECT a1 FROM t", "[1]")]
    write(tmp_path / "trajectories", "intercode_sql_x.jsonl.gz", [intercode(1, "Which a?", turns, reward=0.5)])
    (story,) = stories(tmp_path, SQL)
    assert (story.id, story.task, story.asked, story.outcome) == ("sql-1", "sql-1", "Which a?", 0.5)
    assert [(step.did, step.saw, step.form, step.before) for step in story.steps] == [
        ("", "Which a?", "SELECT", ""),
        ("SELECT a FROM t", "Error: no a", "DESCRIBE", "SELECT"),
        ("DESC t", "a1", "SELECT", "DESCRIBE"),
    ]


def test_what_the_agent_says_is_no_action_and_its_calls_are(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Your name?"}]
    told = [*said, {"role": "user", "content": "Ana"}, *call("find", "u1"), *call("cancel", "ok")]
    write(tmp_path, "tau1_retail_x.jsonl.gz", [tau("7", told), tau("8", said)])
    (story,) = stories(tmp_path, TAU)
    assert [(step.did, step.saw, step.form) for step in story.steps] == [
        ("Your name?", "Ana", "find"),
        ("find {}", "u1", "cancel"),
    ]


def test_no_task_is_on_both_sides(tmp_path: Path) -> None:
    runs = [tau(str(n % 40), [{"role": "user", "content": "Hi"}, *call("find", "u1")]) for n in range(80)]
    one = write(tmp_path / "one", "tau1_retail_x.jsonl.gz", runs)
    known, asked = split(one, one, TAU)
    assert known
    assert asked
    assert len(known) + len(asked) == 80
    assert not {story.task for story in known} & {story.task for story in asked}
    other = write(
        tmp_path / "other",
        "tau2_retail_x.jsonl.gz",
        [tau("3", runs[0]["messages"]), runs[0], tau("90", [*runs[0]["messages"]])],
    )
    known, asked = split(one, other, TAU)
    assert (len(known), [story.task for story in asked]) == (80, ["90"])


# -- methods -----------------------------------------------------------------------------------------------------------


def made(number: int, asked: str, *steps: tuple[str, str]) -> Story:
    """A run of (seen, action) whose actions are their own form."""
    found: list[Step] = []
    for saw, action in steps:
        before = found[-1].action if found else ""
        found.append(Step(before, saw, action, action, before))
    return Story(f"run-{number}", str(number), asked, tuple(found), 1.0)


LIGHTS = ("the lamp is dark", "press switch")
DOORS = ("the door is locked", "turn key")
KNOWN = [
    *(made(n, "leave the house", DOORS, LIGHTS) for n in range(6)),
    *(
        made(6 + n, "cook a soup of beans", (f"an empty pot {n}", verb))
        for n, verb in enumerate(["boil", "fry", "chop"] * 3)
    ),
]


def hits(method: str, story: Story) -> list[bool]:
    return predicted(method, [story])[0]


def predicted(method: str, asked: list[Story]) -> list[list[bool]]:
    with closing(Experiences(KNOWN)) as kept:
        return list(outcomes(method, kept, asked))


def test_the_votes_for_doing_the_same_again_are_for_what_this_run_did() -> None:
    again = Example(1, Step("x", "y", "find", "find", "find"))
    assert again.vote == AGAIN
    present = Step("", "", "", "", "sort")
    assert bound([(AGAIN, 1.0), ("cut", 0.4), ("cut", 0.5), ("wc", 0.2), ("tr", 0.1)], present) == ["sort", "cut", "wc"]
    assert bound([(AGAIN, 1.0)], Step("", "", "", "", "")) == []


def test_counts_name_what_is_frequent_over_all_or_after_the_same() -> None:
    story = made(99, "write a letter", ("a blank page", "boil"), ("a hot pot", "press switch"), ("a knife", "chop"))
    assert hits("none", story) == [True, True, False]  # chop is as frequent as boil, and came later
    after_key = made(99, "write a letter", ("?", "turn key"), ("?", "press switch"))
    assert hits("previous", after_key) == [True, True]


def test_retrieval_at_a_step_sees_the_observation_and_by_task_does_not() -> None:
    elsewhere = made(99, "cook a soup of beans", ("the door is locked now", "turn key"))
    assert hits("step", elsewhere) == [True]
    assert hits("task", elsewhere) == [False]
    assert hits("slea", elsewhere) == [True]  # the first that were stored, whatever is seen


def test_a_run_joins_the_library_online_only_after_it_ended() -> None:
    fresh = made(99, "feed the cat", ("the bowl is empty", "fill bowl"))
    same = made(100, "feed the cat", ("the bowl is empty", "fill bowl"))
    assert predicted("step-online", [fresh, same]) == [[False], [True]]
    assert predicted("step", [fresh, same]) == [[False], [False]]


# -- the bench ---------------------------------------------------------------------------------------------------------


def test_lines_of_a_small_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = [("SHOW TABLES", "[t]"), ("SELECT a FROM t", "[1]")]
    bad = [("DROP TABLE t", "no"), ("DROP TABLE u", "no")]
    runs = [intercode(n, f"question {n}", good if n % 2 else bad, reward=float(n % 2)) for n in range(40)]
    folder = write(tmp_path, "intercode_sql_x.jsonl.gz", runs)
    lines = list(bench(folder, folder, ["none", "step"]))
    asked = [story for story in split(folder, folder, SQL)[1] if story.outcome == 1.0]
    assert [asdict(line) for line in lines] == [
        {"dataset": "intercode_sql", "method": name, "hit3": 1.0, "n": 2 * len(asked)} for name in ("none", "step")
    ]


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no runs of intercode_sql"):
        list(bench(tmp_path, tmp_path))
    with pytest.raises(ConfigError, match=r"methods \['magic'\] are not known"):
        list(bench(tmp_path, tmp_path, ["magic"]))


@pytest.mark.skipif(not (SHARED / "trajectories").is_dir(), reason="the public slice is not here")
@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind.name in {"intercode_bash", "alfworld"}], ids=lambda kind: kind.name
)
def test_on_real_runs_a_step_knows_more_than_a_task_and_that_more_than_nothing(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KINDS", (kind,))
    found: dict[str, Line] = {line.method: line for line in bench(SHARED, SHARED, ["none", "task", "step"])}
    assert found["step"].hit3 > found["task"].hit3 > found["none"].hit3
    assert len({line.n for line in found.values()}) == 1


def test_every_method_is_listed_once() -> None:
    assert {"none", "task", "step", "slea"} <= set(METHODS)


@pytest.mark.parametrize("text", ["garbage {", '{"messages": [{"role": "user", "content": "hi"}], "reward": 1}\n'])
def test_broken_runs_are_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "tau2_airline.jsonl").write_text(text)
    with pytest.raises(ConfigError, match=r"runs of tau_airline"):
        list(bench(tmp_path, tmp_path, ["none"]))
