"""Recorded runs: every format loads, and a bad file gets one clear error."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from memctx.errors import ConfigError, InvalidMessage
from memctx.runs import FORMATS, Run, load, load_dir

DATA = Path(__file__).parents[1] / ".." / "shared" / "data" / "trajectories"
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "door 7"}'}}
CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "go"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "open"},
]


def write(path: Path, *values: Any) -> Path:
    text = "\n".join(v if isinstance(v, str) else json.dumps(v) for v in values)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def one(path: Path, format: str = "auto") -> Run:
    runs = list(load(path, format))
    assert len(runs) == 1
    return runs[0]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a.json", [{"messages": CHAT}]),
        ("a.json", [CHAT]),
        ("a.json", [[{"messages": CHAT}]]),
        ("a.json", ["\ufeff" + json.dumps(CHAT)]),
        ("a.jsonl", [{"messages": CHAT}]),
        ("a.jsonl.gz", [{"messages": CHAT}]),
        ("a.json.gz", [CHAT]),
        ("a.jsonl", CHAT),
        ("a.json", CHAT),
    ],
)
def test_chat_files(tmp_path: Path, name: str, values: list[Any]) -> None:
    run = one(write(tmp_path / name, *values))
    assert run.messages == CHAT
    assert run.id == "a-1"
    assert run.times is None


def test_langchain_dumps_become_chat(tmp_path: Path) -> None:
    ai = {"content": "", "tool_calls": [{"id": "c1", "name": "look", "args": {"at": "door 7"}}]}
    tool = {"content": [{"type": "text", "text": "open"}], "tool_call_id": "c1"}
    plain: list[dict[str, Any]] = [
        {"type": "human", "data": {"content": "go"}},
        {"type": "ai", "data": ai},
        {"type": "tool", "data": tool},
    ]
    names = ["HumanMessage", "AIMessageChunk", "ToolMessage"]
    lc = [
        {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", name], "kwargs": item["data"]}
        for name, item in zip(names, plain, strict=True)
    ]
    flat = [{"type": item["type"], **item["data"]} for item in plain]
    for number, dump in enumerate((plain, lc, flat)):
        assert one(write(tmp_path / f"{number}.json", dump)).messages == CHAT


def test_anthropic_lists_become_chat(tmp_path: Path) -> None:
    blocks = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "look", "input": {"at": "door 7"}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "open"}]},
                {"type": "text", "text": "and now?"},
            ],
        },
    ]
    run = one(write(tmp_path / "a.json", {"system": "be brief", "messages": blocks}))
    assert run.messages == [{"role": "system", "content": "be brief"}, *CHAT, {"role": "user", "content": "and now?"}]


def test_tau2_user_calls_are_named_calls(tmp_path: Path) -> None:
    raw = [
        {"role": "user", "tool_calls": [{"id": "u1", "name": "look", "arguments": {"at": "7"}, "requestor": "user"}]},
        {"id": "u1", "role": "tool", "content": "open", "requestor": "user", "timestamp": None},
    ]
    run = one(write(tmp_path / "a.jsonl", {"id": "x", "messages": raw}))
    assert run.messages[0]["role"] == "assistant"
    assert run.messages[0]["name"] == "user"
    assert run.messages[1] == {"role": "tool", "tool_call_id": "u1", "content": "open"}


def test_times_are_seconds_since_the_first(tmp_path: Path) -> None:
    stamps = ["2025-01-01T00:00:00", "2025-01-01T00:00:02.500", "2025-01-01T01:00:00"]
    raw: list[dict[str, Any]] = [{**m, "timestamp": s} for m, s in zip(CHAT, stamps, strict=True)]
    run = one(write(tmp_path / "a.json", raw))
    assert run.times == [0.0, 2.5, 3600.0]
    assert run.messages == CHAT
    raw[1].pop("timestamp")
    assert one(write(tmp_path / "a.json", raw)).times is None


@pytest.mark.parametrize(
    ("stated", "reward"),
    [
        ({"reward": 0.93}, 0.93),
        ({"reward": 0}, 0.0),
        ({"success": False}, 0.0),
        ({"success": "success"}, 1.0),
        ({"success": "failure"}, 0.0),
        ({"resolved": True}, 1.0),
        ({"reward": None, "success": True}, 1.0),
        ({"summary": {"max_reward": 0.8}}, 0.8),
        ({"reward": {"total": 1}}, None),
        ({}, None),
    ],
)
def test_the_outcome_a_record_states(tmp_path: Path, stated: dict[str, Any], reward: float | None) -> None:
    assert one(write(tmp_path / "a.json", {"messages": CHAT, **stated})).reward == reward


def test_pointers_become_the_values_they_point_to(tmp_path: Path) -> None:
    steps = [
        {"name": "find", "arguments": {"q": "San Diego"}, "label": "var1", "response": [{"at": {"lat": 32.87}}]},
        {"name": "rent", "arguments": {"lat": "$var1.at.lat$", "x": "$var1.none$"}, "label": "var2", "response": {}},
    ]
    run = one(write(tmp_path / "a.jsonl", {"input": "a car", "output": steps}))
    arguments = json.loads(run.messages[3]["tool_calls"][0]["function"]["arguments"])
    assert arguments == {"lat": 32.87, "x": "$var1.none$"}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", "", "empty"),
        ("a.json", "{", "line 1: not JSON"),
        ("a.jsonl", '{"messages": []}\n{oops', "line 2: not JSON"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", '{"foo": 1}', "known: tau2, langchain"),
        ("a.json", "3", "expected an object"),
        ("a.json", '[{"role": "robot", "content": "x"}]', "known format"),
        ("a.json", '[{"role": "assistant", "content": 3}]', "message 0: content must be"),
        ("a.json", '[{"role": "assistant", "tool_calls": [{"id": "x"}]}]', "message 0: a tool call needs"),
        ("a.json", '[{"role": "assistant", "tool_calls": 7}]', "must be a list of objects"),
    ],
)
def test_a_bad_file_gets_one_clear_error(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises((ConfigError, InvalidMessage), match=says) as caught:
        list(load(write(tmp_path / name, text)))
    assert "a.json" in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    cut = tmp_path / "a.jsonl.gz"
    cut.write_bytes(gzip.compress(json.dumps({"messages": CHAT}).encode())[:40])
    (tmp_path / "b.json").write_bytes(b'["\xff\xfe"]')
    (tmp_path / "c.json.gz").write_bytes(b"not gzip")
    for name in ("a.jsonl.gz", "b.json", "c.json.gz", "absent.json", "."):
        with pytest.raises(ConfigError, match="cannot read"):
            list(load(tmp_path / name))


def test_an_unknown_format_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="openai"):
        load(tmp_path / "a.json", format="nope")


def test_a_folder_gives_its_run_files(tmp_path: Path) -> None:
    good = write(tmp_path / "b.jsonl", {"messages": CHAT})
    write(tmp_path / "a.json", {"foo": 1})
    write(tmp_path / "c.txt", "x")
    assert load_dir([tmp_path]) == [good]
    with pytest.raises(ConfigError, match="no recorded runs"):
        load_dir([])


def _properly_paired(run: Run) -> bool:
    open_calls: set[str] = set()
    for message in run.messages:
        open_calls |= {c["id"] for c in message.get("tool_calls", ())}
        if message["role"] == "tool" and message["tool_call_id"] not in open_calls:
            return False
    return True


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared trajectories are not here")
def test_every_shared_trajectory_loads() -> None:
    files = load_dir([DATA])
    assert len(files) == 13
    for file in files:
        runs = list(load(file))
        assert len({run.id for run in runs}) == len(runs) > 0
        assert all(run.messages and _properly_paired(run) for run in runs), file
        assert all((run.times is not None) == file.name.startswith("tau2") for run in runs), file


def test_format_names_are_unique() -> None:
    assert set(FORMATS) == {"openai", "anthropic", "langchain", "tau2", "sweagent", "complexfuncbench", "intercode"}
