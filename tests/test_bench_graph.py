"""`memctx bench graph` on small made folders, and on the shared data where it is."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from memctx._bench import graph as bench_graph
from memctx._bench._graph_data import DATASETS, held_out, read
from memctx._bench._graph_methods import METHODS
from memctx._bench.graph import Line, bench, sides
from memctx.errors import ConfigError

CHAINS = {
    "cancel the alarm and send a mail": ["clock_alarm_cancel", "send_mail"],
    "book a flight and send a mail": ["book_flight", "send_mail"],
    "book a flight, then book a hotel": ["book_flight", "book_hotel"],
}
TOOLS = ("book_flight", "book_hotel", "clock_alarm_cancel", "send_mail")


def write(folder: Path, name: str, records: list[Any]) -> None:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".gz"):
        file.write_bytes(gzip.compress("\n".join(map(json.dumps, records)).encode()))
    else:
        file.write_text(json.dumps(records[0]), encoding="utf-8")


def ultratool(folder: Path, ids: list[int]) -> Path:
    """Each chain once for each id, with the number in the request."""
    tasks = [
        {"id": f"{number}-{at}", "user_request": f"{asked} {number}", "task_nodes": [{"task": tool} for tool in tools]}
        for number in ids
        for at, (asked, tools) in enumerate(CHAINS.items())
    ]
    write(folder, "toolgraphs/ultratool_tasks.jsonl.gz", tasks)
    described = {"nodes": [{"id": tool, "desc": tool.replace("_", " ")} for tool in TOOLS]}
    write(folder, "toolgraphs/ultratool_tool_desc.json", [described])
    return folder


def test_every_method_gives_a_line(tmp_path: Path) -> None:
    lines = list(bench(ultratool(tmp_path / "a", [1, 2, 3]), ultratool(tmp_path / "b", [4, 5])))
    assert [line.method for line in lines] == list(METHODS)
    assert {(line.dataset, line.n) for line in lines} == {("ultratool", 12)}
    by = {line.method: line for line in lines}
    assert by["memctx"].hit1 == 1.0
    assert by["bigram"].hit1 < 1.0
    assert by["frequency"].hit1 < by["bigram"].hit1
    assert all(line.hit1 <= line.mrr and line.hit1 <= line.hit2 <= 1 for line in lines)
    assert set(asdict(Line("d", "m", 0.1, 0.2, 0.3, 4))) == {"dataset", "method", "hit1", "hit2", "mrr", "n"}


def test_what_is_predicted_is_counted_by_hand(tmp_path: Path) -> None:
    lines = bench(ultratool(tmp_path / "a", [1]), ultratool(tmp_path / "b", [2]), ["frequency"])
    # called: book_flight 2, send_mail 2, book_hotel 1, clock_alarm_cancel 1; equal ones by the alphabet
    ranks = [4, 2, 1, 2, 1, 3]
    (line,) = lines
    assert (line.hit1, line.hit2) == (round(2 / 6, 4), round(4 / 6, 4))
    assert line.mrr == round(sum(1 / rank for rank in ranks) / 6, 4)


def test_one_folder_is_split_by_task(tmp_path: Path) -> None:
    folder = ultratool(tmp_path, list(range(30)))
    learned, asked = sides(folder, folder, "ultratool")
    assert {run.task for run in learned} & {run.task for run in asked} == set()
    assert len(learned) + len(asked) == 90
    assert 15 <= len(asked) <= 45
    assert all(held_out(run.task) for run in asked)


def dialogue(tools: list[str], reward: float) -> dict[str, Any]:
    """A tau2 run: these calls by the agent, and one by the user."""
    calls = [{"id": str(at), "name": tool, "arguments": {}, "requestor": "assistant"} for at, tool in enumerate(tools)]
    said = [{"role": "user", "content": "look"}, *({"role": "assistant", "tool_calls": [call]} for call in calls)]
    theirs = {"role": "user", "tool_calls": [{"id": "u", "name": "unplug", "arguments": {}, "requestor": "user"}]}
    return {"id": "r", "task_id": "1", "domain": "airline", "reward": reward, "messages": [*said, theirs]}


def test_a_run_that_failed_is_tested_and_not_learned(tmp_path: Path) -> None:
    runs = {"a": [dialogue(["book"], 1.0), *[dialogue(["look"], 0.0)] * 2], "b": [dialogue(["look"], 0.0)]}
    for name, records in runs.items():
        write(tmp_path / name, "trajectories/tau2_airline.jsonl.gz", records)
        tools = [{"type": "function", "function": {"name": each, "description": each}} for each in ("book", "look")]
        write(tmp_path / name, "taubench/tau2_airline_tools.json", [tools])
    (line,) = bench(tmp_path / "a", tmp_path / "b", ["bigram"])
    assert (line.dataset, line.n) == ("tau2", 1)  # the user's own call is none of the agent's
    assert (line.hit1, line.hit2) == (0.0, 1.0)


def test_bfcl_calls_are_parsed(tmp_path: Path) -> None:
    record = {
        "id": "multi_turn_base_7",
        "question": [[{"role": "user", "content": "go to temp"}], [{"role": "user", "content": "and list it"}]],
        "ground_truth": [["cd(folder='temp')"], ["ls()"]],
        "involved_classes": ["GorillaFileSystem"],
        "excluded_function": ["cp"],
    }
    write(tmp_path, "bfcl/multi_turn_base.jsonl.gz", [record])
    documents = [{"name": name, "description": name} for name in ("cd", "cp", "ls")]
    write(tmp_path, "bfcl/func_docs.json", [{"gorilla_file_system": documents}])
    (run,) = read(tmp_path, "bfcl")
    assert [visit.tool for visit in run.visits] == ["cd", "ls"]
    assert [visit.state for visit in run.visits] == ["go to temp", "and list it"]
    assert (run.task, sorted(run.tools)) == ("7", ["cd", "ls"])


def test_what_cannot_be_measured_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="guess"):
        list(bench(tmp_path, tmp_path, ["guess"]))
    with pytest.raises(ConfigError, match="no runs"):
        list(bench(tmp_path, tmp_path))


def test_the_hybrid_is_better_than_its_arms_and_the_baselines(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = root.parent / "shared" / "data"
    if not shared.exists():
        pytest.skip("the shared data is not there")
    monkeypatch.setattr(bench_graph, "DATASETS", {"tau1": DATASETS["tau1"]})
    lines = {line.method: line for line in bench(shared, shared)}
    ours = lines.pop("memctx")
    assert all(ours.hit2 > line.hit2 for line in lines.values())
    assert ours.hit2 >= lines["bigram"].hit2 + 0.05


@pytest.mark.parametrize("text", ["garbage {", '{"messages": [{"role": "user", "content": "hi"}]}\n'])
def test_broken_runs_are_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "trajectories").mkdir()
    (tmp_path / "trajectories" / "tau2_airline.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    with pytest.raises(ConfigError, match="runs of tau2"):
        list(bench(tmp_path, tmp_path, ["bigram"]))
