"""The recall bench: loaders on small files in the formats of the sets, the measure by hand, baselines on the real data."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memctx._bench.conversations import Case, Entry, Question, load
from memctx._bench.memory import Line, bench
from memctx._bench.methods import METHODS
from memctx.embed import Embedder, embedder
from memctx.errors import ConfigError

SHARED = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"
FILES = {
    "locomo": "locomo/locomo10_conv1-7.json.gz",
    "beam": "beam/beam_100k.jsonl.gz",
    "realmem": "realmem/realmem_256k.jsonl.gz",
}

LOCOMO = [
    {
        "sample_id": "conv-1",
        "conversation": {
            "speaker_a": "Ana",
            "speaker_b": "Bo",
            "session_2_date_time": "2 pm on 3 May, 2023",
            "session_2": [{"speaker": "Bo", "dia_id": "D2:1", "text": "My sister paints boats."}],
            "session_1_date_time": "1 pm on 2 May, 2023",
            "session_1": [
                {"speaker": "Ana", "dia_id": "D1:1", "text": "I adopted a greyhound."},
                {"speaker": "Bo", "dia_id": "D1:2", "text": "Look at this!", "blip_caption": "a red kite"},
            ],
        },
        "qa": [
            {"question": "Which dog did Ana adopt?", "evidence": ["D1:1"], "category": 4},
            {"question": "Who paints, and what did Bo show?", "evidence": ["D1:2; D2:1"], "category": 1},
            {"question": "No evidence?", "evidence": [], "category": 5},
            {"question": "Evidence nowhere?", "evidence": ["D", "D9:9"], "category": 5},
        ],
    }
]
BEAM = {
    "id": "beam-1",
    "chat": [
        {
            "turns": [
                [
                    {"role": "user", "id": 0, "content": "My sprint ends on May 9.", "time_anchor": "March-1-2024"},
                    {"role": "assistant", "id": 1, "content": "Noted."},
                ]
            ]
        },
        {"turns": [[{"role": "user", "id": 2, "content": "The sprint moved to May 12."}]]},
    ],
    "probing_questions": {
        "knowledge_update": [{"question": "When does the sprint end?", "source_chat_ids": {"old": [0], "new": [[2]]}}],
        "abstention": [{"question": "Who is the lead?"}],
    },
}
REALMEM = {
    "id": "ana",
    "dialogues": [
        {
            "session_identifier": f"Topic:{n}",
            "session_uuid": f"u{n}",
            "current_time": f"2025-12-1{n} (Monday)",
            "dialogue_turns": [
                {"speaker": "User", "is_query": n > 0, "content": f"About the {thing}, what next?"},
                {"speaker": "Assistant", "content": "Let us see.", "memory_session_uuids": [f"u{n - 1}", "later"]},
            ],
        }
        for n, thing in enumerate(["harbour lease", "harbour lease", "garden"])
    ],
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {
        "locomo": tmp_path / "locomo.json",
        "beam": tmp_path / "beam.jsonl",
        "realmem": tmp_path / "realmem.jsonl.gz",
    }
    found["locomo"].write_text(json.dumps(LOCOMO), encoding="utf-8")
    found["beam"].write_text(json.dumps(BEAM) + "\n\n", encoding="utf-8")
    with gzip.open(found["realmem"], "wt", encoding="utf-8") as file:
        file.write(json.dumps(REALMEM))
    return found


@pytest.fixture(scope="module")
def letters() -> Embedder:
    return embedder(lambda texts: [[1e-3 + text.lower().count(chr(97 + i)) for i in range(26)] for text in texts])


# -- loaders -----------------------------------------------------------------------------------------------------------


def test_locomo(files: dict[str, Path]) -> None:
    (case,) = load("locomo", files["locomo"])
    assert case.entries == (
        Entry("D1:1", "1 pm on 2 May, 2023 Ana: I adopted a greyhound.", "session_1"),
        Entry("D1:2", "1 pm on 2 May, 2023 Bo: Look at this! a red kite", "session_1"),
        Entry("D2:1", "2 pm on 3 May, 2023 Bo: My sister paints boats.", "session_2"),
    )
    assert [(set(q.gold), q.seen) for q in case.questions] == [({"D1:1"}, 3), ({"D1:2", "D2:1"}, 3)]


def test_beam(files: dict[str, Path]) -> None:
    (case,) = load("beam", files["beam"])
    assert [(e.key, e.text, e.source) for e in case.entries] == [
        ("0", "March-1-2024 user: My sprint ends on May 9.", "user"),
        ("1", "assistant: Noted.", "assistant"),
        ("2", "user: The sprint moved to May 12.", "user"),
    ]
    assert [q.gold for q in case.questions] == [{"0", "2"}]


def test_realmem_asks_only_about_the_past(files: dict[str, Path]) -> None:
    (case,) = load("realmem", files["realmem"])
    assert [e.key for e in case.entries] == ["u0", "u1", "u2"]
    assert case.entries[0].text.startswith("2025-12-10 (Monday) User: About the harbour lease")
    assert [(set(q.gold), q.seen) for q in case.questions] == [({"u0"}, 1), ({"u1"}, 2)]


@pytest.mark.parametrize(
    ("dataset", "text", "says"),
    [
        ("hotpot", "[]", "dataset 'hotpot' is not known"),
        ("locomo", "nonsense", "cannot read"),
        ("locomo", '[{"conversation": 3}]', "not in the format of locomo"),
        ("beam", "[]", "no question"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, letters: Embedder, dataset: str, text: str, says: str) -> None:
    path = tmp_path / "data.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=says):
        list(bench(dataset, path, ["dense"], [5], letters))


# -- the measure -------------------------------------------------------------------------------------------------------


class Fixed:
    """Answers every question with the same keys, and sees how it is asked."""

    def __init__(self, case: Case, _: Embedder) -> None:
        self.seen: list[int] = []

    def upto(self, seen: int) -> None:
        self.seen.append(seen)

    def ask(self, question: str, k: int) -> list[str]:
        return ["D1:1", "D9:9", "D2:1"][:k]

    def close(self) -> None:
        pass


def test_recall_is_gold_found_over_gold_averaged(
    files: dict[str, Path], letters: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "fixed", Fixed)
    lines = list(bench("locomo", files["locomo"], ["fixed"], [1, 3], letters))
    assert [(line.k, line.recall, line.n) for line in lines] == [(1, 0.5, 2), (3, 0.75, 2)]


@pytest.mark.parametrize("dataset", list(FILES))
def test_every_own_method_runs_and_sees_nothing_of_later(
    files: dict[str, Path], letters: Embedder, dataset: str
) -> None:
    own = [name for name in METHODS if name.startswith("memctx")]
    lines = list(bench(dataset, files[dataset], ["dense", *own], [1, 3], letters))
    assert {line.method for line in lines} == {"dense", *own}
    assert all(line.recall == 1 for line in lines if line.k == 3 and line.method in ("dense", "memctx"))
    for case in load(dataset, files[dataset]):
        method = METHODS["memctx"](case, letters)
        for question in case.questions:
            method.upto(question.seen)
            assert set(method.ask(question.text, 10)) <= {e.key for e in case.entries[: question.seen]}
        method.close()


def test_entries_that_say_the_same_are_both_found(letters: Embedder) -> None:
    twice = tuple(Entry(str(n), "The gate code is 4711.", "t") for n in range(2))
    case = Case("twice", twice, (Question("gate code", frozenset({"0", "1"}), 2),))
    method = METHODS["memctx"](case, letters)
    method.upto(2)
    assert sorted(method.ask("gate code", 5)) == ["0", "1"]
    method.close()


def test_the_command_prints_a_json_object_a_line(files: dict[str, Path]) -> None:
    pytest.importorskip("wordllama", reason="the default embedder's package is not installed", exc_type=ImportError)
    command = [sys.executable, "-m", "memctx.cli", "bench", "memory", "--dataset", "locomo", str(files["locomo"])]
    options = ["--json", "--methods", "dense,memctx", "--k", "1,3"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [set(line) for line in lines] == [set(Line.__annotations__)] * 4
    assert [(line["method"], line["k"], line["n"]) for line in lines][2:] == [("memctx", 1, 2), ("memctx", 3, 2)]


def test_a_method_that_is_not_known_is_refused(files: dict[str, Path], letters: Embedder) -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        list(bench("locomo", files["locomo"], ["nonsense"], [5], letters))
    with pytest.raises(ConfigError, match="from 1"):
        list(bench("locomo", files["locomo"], ["dense"], [0], letters))


# -- the real data -----------------------------------------------------------------------------------------------------

BASELINES = {"locomo": (0.485, 0.552, 0.646), "beam": (0.342, 0.424, 0.497), "realmem": (0.587, 0.710, 0.814)}
QUESTIONS = {"locomo": 1_345, "beam": 250, "realmem": 980}


@pytest.mark.parametrize("dataset", list(FILES))
def test_the_baseline_is_the_published_one(dataset: str, letters: Embedder) -> None:
    pytest.importorskip("bm25s", reason="bm25s is not installed")
    path = SHARED / FILES[dataset]
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    lines: list[Any] = list(bench(dataset, path, ["bm25"], [5, 10, 20], letters))
    assert {line.n for line in lines} == {QUESTIONS[dataset]}
    assert [line.recall for line in lines] == pytest.approx(list(BASELINES[dataset]), abs=0.002)


def test_memory_beats_every_baseline_on_conversations(tmp_path: Path) -> None:
    pytest.importorskip("wordllama", reason="the default embedder's package is not installed", exc_type=ImportError)
    pytest.importorskip("bm25s", reason="bm25s is not installed")
    path = SHARED / FILES["locomo"]
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        small = tmp_path / "one.json"
        small.write_text(json.dumps(json.load(file)[:1]), encoding="utf-8")
    found = {
        line.method: line.recall
        for line in bench("locomo", small, ["bm25", "dense", "fused", "memctx"], [10], embedder())
    }
    assert found["memctx"] > max(found["bm25"], found["dense"], found["fused"]) + 0.05
