"""TurnBudget: few reminders that never change, more turns on demand, and what a limit would have saved on real runs."""

from __future__ import annotations

import gzip
import json
from math import log2
from pathlib import Path
from typing import Any

import pytest

from memctx import runs
from memctx.edits import Insert
from memctx.errors import ConfigError
from memctx.pipeline import Pipeline
from memctx.session import Session
from memctx.strategies.turn_budget import TurnBudget, calibrate

PROMPT = [{"role": "user", "content": "Fix the bug."}]


def size(text: str) -> int:
    return len(text) // 4 + 1


def turn(n: int, text: str = "", result: str | None = None) -> list[dict[str, Any]]:
    call = {"id": f"c{n}", "type": "function", "function": {"name": "run", "arguments": f'{{"n": {n}}}'}}
    answer = f"output {n}" if result is None else result
    return [
        {"role": "assistant", "content": text or f"step {n}", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{n}", "content": answer},
    ]


def session(strategy: TurnBudget) -> Session:
    return Pipeline([strategy], budget=1_000_000, edit_when="always", counter=size).session()


def said(thread: Session) -> list[str]:
    return [edit.content for edit in thread.plan.edits if isinstance(edit, Insert)]


def play(strategy: TurnBudget, turns: int, **texts: str) -> tuple[Session, list[int]]:
    """A run of `turns` turns; `t12="..."` is what turn 12 says. Also the turns after which a reminder came."""
    thread, messages, at = session(strategy), list(PROMPT), []
    for n in range(turns):
        before = len(said(thread))
        thread.view(list(messages))
        at += [n] * (len(said(thread)) - before)
        messages += turn(n, texts.get(f"t{n}", ""))
    thread.view(list(messages))
    return thread, at


def test_reminders_come_when_half_of_the_rest_is_gone() -> None:
    thread, at = play(TurnBudget(limit=40, extend=()), 45)
    assert at == [20, 30, 35, 38, 39, 40, 41, 43]
    texts = said(thread)
    assert "20 of 40 turns left" in texts[0]
    assert "Stop exploring" not in texts[1]
    assert "5 of 40 turns left. Stop exploring" in texts[2]
    assert texts[4].startswith("[turn budget] This is the last turn of 40. Finish now")
    assert all(text.startswith("[turn budget] No turns left of 40. Finish now") for text in texts[5:])
    assert "MORE TURNS" not in " ".join(texts)


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 100, 1_000])
def test_reminders_are_few_and_the_last_turn_is_always_announced(limit: int) -> None:
    strategy = TurnBudget(limit=limit, extend=())
    points = {p for p in strategy._points(limit, limit) if p <= limit}
    assert len(points) <= log2(limit) + 2
    assert limit in points
    assert limit == 1 or limit - 1 in points


def test_what_was_inserted_stays_so_the_prefix_is_stable() -> None:
    thread, messages = session(TurnBudget(limit=30)), list(PROMPT)
    old: list[Any] = []
    for n in range(60):
        view = thread.view(list(messages))
        assert view.messages[: len(old)] == old
        assert thread.view(list(messages)).messages == view.messages
        old = view.messages
        messages += turn(n)


def test_more_turns_are_granted_to_who_asks_with_a_reason() -> None:
    strategy = TurnBudget(limit=20, extend=(30, 40))
    asks = "I see.\nMORE TURNS: two tests still fail in parser.py"
    thread, _ = play(strategy, 16, t15=asks)
    assert "Granted. 14 of 30 turns left" in said(thread)[-1]
    assert thread.plan.notes["turn_budget"] == {"level": 1, "said": 16, "granted": 16}
    thread, _ = play(strategy, 32, t15=asks, t29=asks, t31=asks)
    granted = [text for text in said(thread) if "Granted" in text]
    assert len(granted) == 2
    assert "10 of 40" in granted[1]
    assert "MORE TURNS" not in granted[1]


@pytest.mark.parametrize("text", ["MORE TURNS:", "MORE TURNS: pls", "I may need more turns: there is a lot to do"])
def test_more_turns_need_the_phrase_and_a_reason(text: str) -> None:
    thread, _ = play(TurnBudget(limit=20), 16, t15=text)
    assert "Granted" not in " ".join(said(thread))


def test_a_request_before_the_first_reminder_is_no_request() -> None:
    thread, _ = play(TurnBudget(limit=20), 5, t3="MORE TURNS: because the task is long")
    assert said(thread) == []


def test_progress_extends_at_the_limit_and_going_in_circles_does_not() -> None:
    strategy = TurnBudget(limit=10, extend=(20,), progress=4)
    busy, _ = play(strategy, 10)
    assert any("Granted" in text for text in said(busy))
    thread, messages = session(strategy), list(PROMPT)
    for n in range(12):
        thread.view(list(messages))
        messages += turn(n, result="same output")
    assert not any("Granted" in text for text in said(thread))


def test_nothing_is_inserted_while_a_call_waits_for_its_result() -> None:
    strategy = TurnBudget(limit=2, extend=())
    thread = session(strategy)
    messages = [*PROMPT, *turn(0), turn(1)[0]]
    thread.view(messages)
    assert said(thread) == []


def test_calibration_gives_lengths_that_so_many_runs_did_not_exceed() -> None:
    lengths = [3, 9, 4, 100, 5, 6, 7, 8, 10, 11]
    assert calibrate(lengths, (10, 50, 75, 90, 100)) == {10: 3, 50: 7, 75: 10, 90: 11, 100: 100}
    assert calibrate([4]) == {50: 4, 75: 4, 90: 4, 100: 4}
    assert TurnBudget.fitted(lengths) == TurnBudget(limit=7, extend=(10, 11))
    for bad, percentiles in (([], (50,)), ([0, 3], (50,)), ([3], (0,)), ([3], (101,))):
        with pytest.raises(ConfigError):
            calibrate(bad, percentiles)
    with pytest.raises(ConfigError, match="rising"):
        TurnBudget(extend=(10, 9))


def recorded(shared: Path) -> list[tuple[list[int], bool]]:
    """(context characters at each model call, solved) of recorded SWE-agent runs."""
    path = shared / "data" / "trajectories" / "sweagent_gpt4_swebench_lite.jsonl.gz"
    if not path.is_file():
        pytest.skip("needs the recorded SWE-agent runs")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        solved = {row["id"]: bool(row["resolved"]) for row in map(json.loads, lines)}
    found = []
    for run in runs.load(path):
        total, calls = 0, []
        for message in run.messages:
            if message["role"] == "assistant":
                calls.append(total)
            total += len(str(message.get("content") or ""))
        found.append((calls, solved[run.id]))
    return found


def test_a_limit_on_recorded_runs_saves_more_than_it_loses(shared: Path) -> None:
    """A lower bound: agents would adapt to the reminders, here a run beyond the limit just counts as unsolved."""
    rows = recorded(shared)
    limits = calibrate([len(calls) for calls, _ in rows])
    whole = sum(sum(calls) for calls, _ in rows)
    solved = sum(won for _, won in rows)
    shares = {}
    for percentile, limit in limits.items():
        cost = sum(sum(calls[:limit]) for calls, _ in rows) / whole
        kept = sum(won and len(calls) <= limit for calls, won in rows) / solved
        shares[percentile] = (cost, kept)
    print({p: (limits[p], f"cost {c:.2f}", f"solved {k:.2f}") for p, (c, k) in shares.items()})
    assert shares[100] == (1.0, 1.0)
    assert shares[75][0] < 0.9
    assert shares[75][1] > shares[75][0]


def test_a_recorded_run_gets_few_reminders_and_valid_views(shared: Path) -> None:
    path = shared / "data" / "trajectories" / "livemcp_claude_sonnet4.jsonl.gz"
    if not path.is_file():
        pytest.skip("needs the recorded LiveMCP runs")
    from memctx.validity import check

    run = max(runs.load(path), key=lambda run: len(run.messages))
    ends = [i for i, message in enumerate(run.messages) if message["role"] == "assistant"]
    thread = session(TurnBudget(limit=len(ends) // 2, extend=()))
    for end in ends:
        view = thread.view(run.messages[:end])
        assert check(view.messages, "openai-chat") == []
    assert 3 <= len(said(thread)) <= 2 * log2(len(ends)) + 2
