"""Replay: what its columns mean, on a run small enough to reckon by hand, and on recorded ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memctx.pipeline import Pipeline
from memctx.pricing import PRICES
from memctx.replay import Row, Skipped, replay
from memctx.strategies.clear import ClearResults
from memctx.strategies.skim import Skim
from memctx.tokens import counter

KEYS = [
    "file", "pipeline", "calls", "recall", "reachable", "share", "peak_tokens", "money", "prefix_rewrites",
    "violations", "ms_per_call",
]  # fmt: skip


def turn(number: int, asked: str, told: str) -> list[dict[str, Any]]:
    """A call of `look` for `asked` and its result."""
    arguments = json.dumps({"key": asked})
    call = {"id": f"c{number}", "type": "function", "function": {"name": "look", "arguments": arguments}}
    asks = {"role": "assistant", "content": None, "tool_calls": [call]}
    return [asks, {"role": "tool", "tool_call_id": f"c{number}", "content": told}]


def told(number: int) -> str:
    """A result that names the key of the next call and one to spare; long enough for a cache."""
    prose = f"In the {number}th room there was nothing else to be seen but a table and some chairs. "
    return f"next is KEY-{number + 1:04}, spare is KEY-9{number:03}. {prose * 60}"


def run_of(keys: list[int]) -> list[dict[str, Any]]:
    """Calls with these keys, each result `told` by its place."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Follow the keys."}]
    for place, key in enumerate(keys):
        messages += turn(place, f"KEY-{key:04}", told(place))
    return [*messages, {"role": "assistant", "content": "Done."}]


def recorded(path: Path, runs: list[list[dict[str, Any]]]) -> Path:
    """A file of runs, one a line."""
    lines = (json.dumps({"id": f"run{i}", "messages": messages}) for i, messages in enumerate(runs))
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """Two runs: one uses each key at once, the other ends with one told long before."""
    runs = [run_of([0, 1, 2, 3, 4]), run_of([0, 1, 2, 3, 9000])]
    return recorded(tmp_path / "chain.jsonl", runs)


def clearing(keep: int) -> Pipeline:
    return Pipeline([ClearResults(keep=keep)], edit_when="always")


def one(path: Path, pipeline: Pipeline, **options: Any) -> Row:
    (row,) = replay([path], {"it": pipeline}, jobs=1, **options)
    return row


def test_a_row_has_the_keys_others_read(chain: Path) -> None:
    row = one(chain, Pipeline([])).to_dict()
    assert list(row) == KEYS
    assert list(row["money"]) == list(PRICES)
    assert json.loads(json.dumps(row)) == row


def test_without_edits_everything_is_as_in_the_record(chain: Path) -> None:
    row = one(chain, Pipeline([], edit_when="always"))
    assert (row.file, row.pipeline, row.calls) == ("chain.jsonl", "it", 12)
    assert (row.recall, row.reachable, row.share) == (1.0, 1.0, 1.0)
    assert (row.prefix_rewrites, row.violations) == (0, 0)
    assert set(row.money.values()) == {1.0}
    messages = run_of([0, 1, 2, 3, 4])[:-1]
    tokens = counter("o200k_base")
    assert row.peak_tokens == sum(map(tokens.message, messages)) + tokens.priming
    assert row.ms_per_call > 0


def test_what_was_cleared_is_missed_but_reachable(chain: Path) -> None:
    row = one(chain, clearing(keep=1))
    # Of 4 grounded keys a run, all but the last of the second run stand in the newest result or in a call.
    assert row.recall == pytest.approx(7 / 8)
    assert row.reachable == 1.0
    assert row.prefix_rewrites > 0
    assert row.violations == 0
    assert row.money["none"] < 1.0


def test_share_counts_results_at_the_calls_that_use_a_tool(chain: Path) -> None:
    row = one(chain, clearing(keep=1))
    # Before the 5 calls stand 0, 1, 2, 3, 4 results: 10 in all, of which 4 stay whole; placeholders are few tokens.
    assert 0.4 < row.share < 0.45


def test_a_pipeline_that_edits_when_it_pays_is_priced_under_each_shape(chain: Path) -> None:
    row = one(chain, Pipeline([Skim()]))
    assert list(row.money) == list(PRICES)
    assert all(ratio <= 1.0 for ratio in row.money.values())
    assert row.money["none"] < 0.9, "with no cache to break, a skim pays at once"


def test_the_price_given_decides_the_other_columns(chain: Path) -> None:
    pipeline = Pipeline([Skim(keep=3)])
    assert one(chain, pipeline, price="none").share < one(chain, pipeline, price="anthropic-1h").share


def test_processes_change_nothing(chain: Path) -> None:
    pipelines = {"clear": clearing(keep=1), "whole": Pipeline([])}
    alone = list(replay([chain], pipelines, jobs=1))
    together = list(replay([chain], pipelines, jobs=2))
    assert [replace(row, ms_per_call=0) for row in alone] == [replace(row, ms_per_call=0) for row in together]
    assert [row.pipeline for row in alone] == ["clear", "whole"]


def test_limit_and_progress(chain: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    row = one(chain, Pipeline([]), limit=1, watch=lambda *event: seen.append(event))
    assert row.calls == 6
    assert seen == [("chain.jsonl", 0, 1), ("chain.jsonl", 1, 1)]


def test_a_run_that_cannot_fit_is_left_out_and_told(tmp_path: Path) -> None:
    runs = [run_of([0, 1]), [{"role": "user", "content": "long " * 5000}, {"role": "assistant", "content": "No."}]]
    path = recorded(tmp_path / "two.jsonl", runs)
    told: list[Skipped] = []
    row = one(path, Pipeline([ClearResults()], budget=4000), skipped=told.append)
    assert row.calls == 3
    assert [(skip.run, skip.pipeline) for skip in told] == [("run1", "it")]
    assert "budget" in told[0].why


def test_calls_of_a_simulated_user_count(tmp_path: Path) -> None:
    path = tmp_path / "user.json"
    messages = run_of([0, 1])
    messages[3] = {**messages[3], "name": "user"}
    path.write_text(json.dumps({"messages": messages}), encoding="utf-8")
    row = one(path, Pipeline([]))
    assert row.calls == 3


def test_recorded_runs(shared: Path) -> None:
    files = [shared / "data" / "trajectories" / f"{name}.jsonl.gz" for name in ("tau1_airline_gpt4o", "tau2_telecom")]
    rows = list(replay(files, {"lean": Pipeline.lean(), "safe": Pipeline.safe()}, limit=3, jobs=1))
    assert [(row.file.partition(".")[0], row.pipeline) for row in rows] == [
        (name, pipeline) for name in ("tau1_airline_gpt4o", "tau2_telecom") for pipeline in ("lean", "safe")
    ]
    for row in rows:
        assert row.calls > 20
        assert row.reachable == 1.0
        assert row.violations == 0
        assert 0 < row.share <= 1
    assert all(row.share < 0.7 for row in rows if row.pipeline == "lean")
