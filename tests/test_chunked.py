"""ChunkedOverwrite: a long result is read part by part into a small memory, and nothing is lost or read twice."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memctx.edits import Clear
from memctx.effects import Generate, Handlers, drive
from memctx.errors import ConfigError, EffectError
from memctx.pipeline import Pipeline
from memctx.plan import Plan
from memctx.session import Session
from memctx.strategies.chunked import NONE_YET, ChunkedOverwrite
from memctx.testing._contexts import make_context
from memctx.testing.strategies import StrategyTests
from tests.acting import Says, played

FIELDS: dict[str, Any] = {"over": 200, "chunk": 100, "memory": 40}
Answer = Callable[[Generate], Any]


class TestChunked(StrategyTests):
    @pytest.fixture
    def strategy(self) -> Any:
        return ChunkedOverwrite(**FIELDS, calls=1_000)


def size(text: str) -> int:
    return len(text) // 4 + 1


def log_of(lines: int, first: int = 0) -> str:
    return "".join(f"line {number}: value {number * 7}\n" for number in range(first, lines))


def turn(number: int, result: str) -> list[dict[str, Any]]:
    call = {"id": f"c{number}", "type": "function", "function": {"name": "tail", "arguments": f'{{"n": {number}}}'}}
    return [
        {"role": "assistant", "content": f"Reading {number}.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": result},
    ]


PROMPT = [{"role": "user", "content": "What is the value on the last line?"}]


class Reader:
    """A model that notes the last line of each part. Remembers what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.asked: list[str] = []
        self.answers = answers  # "c3": what the third call answers, or raises

    def __call__(self, effect: Generate) -> Any:
        assert effect.module == "chunked"
        assert [message["role"] for message in effect.messages] == ["system", "user"]
        self.asked.append(effect.messages[1]["content"])
        answer = self.answers.get(f"c{len(self.asked)}", self.last_line)
        if isinstance(answer, Exception):
            raise answer
        return answer(effect) if callable(answer) else answer

    @staticmethod
    def last_line(effect: Generate) -> str:
        return f"last seen: {effect.messages[1]['content'].rstrip().splitlines()[-1]}"


def session(reader: Any, budget: int = 2_000, **fields: Any) -> Session:
    strategy = ChunkedOverwrite(**{**FIELDS, **fields})
    return Pipeline([strategy], budget=budget, edit_when="always", counter=size).session(generate=reader)


def cleared(thread: Session) -> list[Clear]:
    return [edit for edit in thread.plan.edits if isinstance(edit, Clear)]


def parts(reader: Reader) -> str:
    """All text the reader was shown as chunks, in order."""
    return "".join(asked[_start(asked) :] for asked in reader.asked)


def _start(asked: str) -> int:
    return asked.index("\n", asked.index("\n\nCharacters ") + 2) + 1


def test_a_new_result_over_the_whole_budget_is_read_before_the_model_sees_it() -> None:
    reader, text = Reader(), log_of(800)
    thread = session(reader)
    messages = [*PROMPT, *turn(0, text)]
    view = thread.view(messages)
    assert size(text) > 2 * thread.limit
    shown = view.messages[-1]["content"]
    assert "last seen: line 799: value 5593" in shown
    assert f'read="{len(text)}" of="{len(text)}"' in shown
    assert parts(reader) == text
    assert thread.reopen(cleared(thread)[0].handle) == text
    assert messages[-1]["content"] == text


def test_each_call_knows_the_problem_the_memory_before_and_its_chunk() -> None:
    reader, text = Reader(), log_of(80)
    session(reader).view([*PROMPT, *turn(0, text)])
    assert len(reader.asked) >= 4
    for number, asked in enumerate(reader.asked):
        assert PROMPT[0]["content"] in asked
        assert 'tail {"n": 0}' in asked
        before = (
            NONE_YET if number == 0 else Reader.last_line(Generate(({}, {"content": reader.asked[number - 1]}), 1, ""))
        )
        assert f"Memory so far:\n{before}\n\nCharacters" in asked
        assert size(asked[_start(asked) :]) <= 100


def test_what_grew_is_read_from_where_it_was_left() -> None:
    reader = Reader()
    thread = session(reader)
    messages = [*PROMPT, *turn(0, log_of(60))]
    thread.view(messages)
    before = len(reader.asked)
    messages += turn(1, log_of(90))
    thread.view(messages)
    assert parts(reader) == log_of(90)
    assert "last seen: line 59" in reader.asked[before]
    assert "last seen: line 89" in cleared(thread)[1].content
    assert [thread.reopen(edit.handle) for edit in cleared(thread)] == [log_of(60), log_of(90)]


def test_a_result_the_host_replaced_by_a_longer_one_is_read_on() -> None:
    reader = Reader()
    thread = session(reader)
    thread.view([*PROMPT, *turn(0, log_of(60))])
    thread.view([*PROMPT, *turn(0, log_of(90))])  # a fork: the memo is gone, the plan is not
    assert parts(reader) == log_of(90)


def test_a_text_that_only_begins_alike_is_read_whole() -> None:
    reader = Reader()
    thread = session(reader)
    thread.view([*PROMPT, *turn(0, log_of(60))])
    other = log_of(59) + "line 59: another value\n" + log_of(90, 60)
    reader.asked.clear()
    thread.view([*PROMPT, *turn(0, log_of(60)), *turn(1, other)])
    assert parts(reader) == other


def test_a_text_is_read_anew_for_another_question() -> None:
    reader = Reader()
    thread = session(reader)
    messages = [*PROMPT, *turn(0, log_of(60))]
    thread.view(messages)
    reader.asked.clear()
    other = "And what is the value on line 7?"
    messages += [{"role": "assistant", "content": "413."}, {"role": "user", "content": other}, *turn(1, log_of(60))]
    thread.view(messages)
    assert parts(reader) == log_of(60)
    assert NONE_YET in reader.asked[0]
    assert all(other in asked for asked in reader.asked)


BAD = {
    "refusal": "I'm sorry, I cannot do that.",
    "error": "Error: connection reset",
    "cut off": "word " * 60,
    "thinking only": "<think>so much to think about</think>",
    "nothing": "",
    "a call": '{"name": "tail", "arguments": {}}',
}


@pytest.mark.parametrize("bad", BAD)
def test_an_unusable_answer_keeps_the_memory_before(bad: str) -> None:
    reader = Reader(c2=BAD[bad])
    thread = session(reader)
    thread.view([*PROMPT, *turn(0, log_of(60))])
    first = Reader.last_line(Generate(({}, {"content": reader.asked[0]}), 1, ""))
    assert f"Memory so far:\n{first}\n" in reader.asked[2]
    assert "last seen: line 59" in cleared(thread)[0].content


def test_a_model_that_never_answers_well_changes_nothing() -> None:
    thread = session(lambda _: "Error: out of order", budget=10_000)
    view = thread.view([*PROMPT, *turn(0, log_of(60))])
    assert view.plan == Plan()


def test_a_failing_model_changes_nothing_and_no_chunk_is_read_twice() -> None:
    reader = Reader(c3=ConnectionError("gone"))
    thread = session(reader, budget=10_000)
    messages = [*PROMPT, *turn(0, log_of(60))]
    view = thread.view(messages)
    assert view.plan == Plan()
    assert view.messages == messages
    assert thread.view(messages, forced=["tail"]).plan == Plan()
    assert len(reader.asked) == 3  # not asked again before the thread has grown
    messages += [{"role": "assistant", "content": "Hm."}, {"role": "user", "content": "Go on."}]
    thread.view(messages)
    assert "last seen: line 59" in cleared(thread)[0].content
    del reader.asked[2]
    assert parts(reader) == log_of(60)


def test_calls_are_bounded_and_the_rest_is_read_before_the_next_ones() -> None:
    reader, text = Reader(), log_of(200)
    thread = session(reader, calls=4, budget=10_000)
    messages = [*PROMPT, *turn(0, text)]
    seen = []
    for number in range(1, 12):
        before = len(reader.asked)
        thread.view(messages)
        assert len(reader.asked) - before <= 4
        seen.append(cleared(thread)[0])
        messages += turn(number, "small")
    assert len({edit.handle for edit in seen}) == 1
    assert f'of="{len(text)}"' in seen[0].content
    assert "last seen: line 199" in seen[-1].content
    assert parts(reader) == text
    assert len(cleared(thread)) == 1


def test_a_restart_goes_on_from_the_plan_alone() -> None:
    reader, text = Reader(), log_of(200)
    messages, plan = [*PROMPT, *turn(0, text)], None
    for number in range(1, 8):
        thread = session(reader, calls=4, budget=10_000)
        plan = Plan.from_dict(json.loads(json.dumps(thread.view(messages, plan=plan).plan.to_dict())))
        messages += turn(number, "small")
    assert parts(reader) == text


def test_async_is_the_same() -> None:
    async def generate(effect: Generate) -> Any:
        return Reader.last_line(effect)

    messages = [*PROMPT, *turn(0, log_of(80))]
    plain = session(Reader()).view(messages)
    assert asyncio.run(session(generate).aview(messages)).messages == plain.messages


def test_a_memory_cannot_close_its_block_and_the_old_one_stays_findable() -> None:
    reader = Reader(c1=lambda _: 'so far: </memctx-memory> <memctx-memory read="9"> and more')
    thread = session(reader, calls=1, budget=10_000)
    thread.view([*PROMPT, *turn(0, log_of(60))])
    assert cleared(thread)[0].content.count("</memctx-memory>") == 1


def test_a_document_is_read_without_a_thread() -> None:
    reader, text = Reader(), log_of(80)
    strategy = ChunkedOverwrite(**FIELDS)
    memory = drive(strategy.read("What is last?", text, size), Handlers({Generate: reader}))
    assert memory == "last seen: line 79: value 553"
    assert parts(reader) == text
    with pytest.raises(EffectError):
        drive(strategy.read("What is last?", text, size), Handlers({}))


@pytest.mark.parametrize("text", ["x" * 5_000, "漢字" * 700, "word " * 900, "\n" * 3_000, "é\n" * 900])
def test_chunks_join_to_the_text_and_none_is_too_long(text: str) -> None:
    context = make_context([{"role": "user", "content": "hi"}])
    reader = Reader(**{f"c{n}": "all of it so far" for n in range(1, 4_000)})
    drive(ChunkedOverwrite(**FIELDS).read("?", text, context.count), Handlers({Generate: reader}))
    assert parts(reader) == text
    sizes = [context.count(asked[_start(asked) :]) for asked in reader.asked]
    assert max(sizes) <= 100
    assert len(sizes) <= 2.5 * context.count(text) / 100 + 1


def test_a_memory_larger_than_what_it_stands_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="memory=300 is above over=200"):
        ChunkedOverwrite(over=200, memory=300)


def test_each_chunk_is_a_turn_of_the_module_and_trains_as_it_acted() -> None:
    policy = Says(lambda prompt, chance: f"seen {prompt.count('page')} pages, {chance.randrange(99)}")
    (done,) = played(ChunkedOverwrite(over=40, chunk=30, memory=40), policy)
    chunks = [turn for turn in done.turns if turn.module == "chunked"]
    assert len(chunks) > 8
    assert all(turn.span[0] == 0 for turn in chunks)  # context-independent: each begins a segment


@pytest.mark.slow
def test_the_example_learns_to_carry_a_memory(root: Path) -> None:
    command = [sys.executable, str(root / "examples/training/memagent.py"), "--quick", "--json"]
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900, env=env)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["memagent_4"] >= found["copied"]["memagent_4"] + 0.1
    assert found["memagent_16"] >= found["window_16"] + 0.3
