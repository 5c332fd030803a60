"""Omit: what the model names leaves the view, and nothing else; what it was trained on is what it saw."""

from __future__ import annotations

import asyncio
import json
import re
from copy import deepcopy
from random import Random
from typing import Any

import pytest

from memctx.edits import Clear, Insert
from memctx.errors import ConfigError
from memctx.formats.openai_chat import FORMAT
from memctx.messages import Transcript
from memctx.pipeline import Pipeline
from memctx.plan import Plan
from memctx.session import Session
from memctx.strategies.omit import Omit, ranges, skips_thought
from memctx.testing.strategies import CASES, HISTORIES, StrategyTests
from memctx.train.memory_shapers import Omission
from memctx.train.sampling import omits
from tests.acting import CODEC, Says, played

TAGS = ("<omit>", "</omit>")
PROMPT = [{"role": "system", "content": "You look."}, {"role": "user", "content": "Find the page."}]


class TestOmit(StrategyTests):
    @pytest.fixture
    def strategy(self) -> Any:
        return Omit()

    @pytest.fixture(params=CASES, ids=str)
    def case(self, request: pytest.FixtureRequest) -> Any:
        """The suite's histories, in which the assistant omits all it can."""
        messages = deepcopy(HISTORIES[request.param[0]])
        for message in messages:
            if message["role"] == "assistant":
                message["content"] = "<omit>1-999</omit>" + message["content"]
        return messages, request.param[1]


def size(text: str) -> int:
    return len(text) // 4 + 1


def page(number: int) -> str:
    return f"page {number} says {number * 31} " * 20


def turn(number: int, text: str = "", *, calls: int = 1, answered: int | None = None) -> list[dict[str, Any]]:
    ids = [f"c{number}-{place}" for place in range(calls)]
    function = {"name": "look", "arguments": f'{{"page": {number}}}'}
    made = [{"id": name, "type": "function", "function": function} for name in ids]
    results = [{"role": "tool", "tool_call_id": name, "content": f"{name}: {page(number)}"} for name in ids]
    return [
        {"role": "assistant", "content": text, "tool_calls": made},
        *results[: calls if answered is None else answered],
    ]


def session(pins: Any = (), edit_when: Any = "always", **fields: Any) -> Session:
    pipeline = Pipeline([Omit(**fields)], budget=50_000, edit_when=edit_when, counter=size, pins=pins)
    return pipeline.session()


def omitted(thread: Session) -> list[str]:
    """The calls whose results are omitted."""
    found = (thread.transcript.find(edit.target) for edit in thread.plan.edits if isinstance(edit, Clear))
    return [message.call_id for message in found if message]


def test_what_is_named_leaves_and_comes_back() -> None:
    thread = session()
    messages = [*PROMPT, *turn(1), *turn(2), *turn(3), *turn(4, "<omit>1, 3</omit> Next.")]
    view = thread.view(messages)
    assert omitted(thread) == ["c1-0", "c3-0"]
    assert [edit.content for edit in thread.plan.edits if isinstance(edit, Clear)] == [
        "Omitted as asked.\n[cut r1]",
        "Omitted as asked.\n[cut r2]",
    ]
    assert thread.reopen("r2") == messages[7]["content"]
    assert messages[8] in view.messages  # the message that said so stays as it was said


def test_each_turn_is_numbered_once_and_numbers_never_change() -> None:
    thread, messages, old = session(), list(PROMPT), list[Any]()
    for number in range(1, 12):
        messages += turn(number, "<omit>2</omit>" if number == 5 else "")
        shown = thread.view(list(messages)).messages
        assert shown[-1] == {"role": "user", "content": f"[turn {number}]"}
        if number != 5:
            assert shown[: len(old)] == old  # the prefix is stable but where something was omitted
        old = shown
    labels = [edit for edit in thread.plan.edits if isinstance(edit, Insert)]
    assert [edit.content for edit in labels] == [f"[turn {number}]" for number in range(1, 12)]


def test_the_number_can_be_left_to_the_host() -> None:
    thread = session(number=False)
    thread.view([*PROMPT, *turn(1), *turn(2)])
    assert thread.plan == Plan()


@pytest.mark.parametrize(
    "text",
    [
        "<omit></omit>", "<omit>all</omit>", "<omit>1,</omit>", "<omit>1;2</omit>", "<omit>-1</omit>", "<omit>1.5</omit>",
        "<omit>1 2</omit>", "<omit>1", "1</omit>", "</omit>1<omit>", "<omit>1-2-3</omit>", "<omit>1, all</omit>",
        "<omit>turn 1</omit>", "<omit><omit>1</omit></omit>", "< omit>1</omit>", "<OMIT>1</OMIT>", "<omit>9999999</omit>",
    ],
)  # fmt: skip
def test_malformed_tags_change_nothing(text: str) -> None:
    thread = session(number=False)
    thread.view([*PROMPT, *turn(1), *turn(2), *turn(3, text)])
    assert thread.plan == Plan()


def test_one_bad_tag_spoils_no_other() -> None:
    assert list(ranges("<omit>x</omit> and <omit> 2 - 4 ,7, 9-8 </omit>", TAGS)) == [(2, 4), (7, 7), (8, 9)]


@pytest.mark.parametrize("named", ["0", "3", "4-90", "000000"])
def test_only_earlier_turns_can_be_named(named: str) -> None:
    thread = session()
    thread.view([*PROMPT, *turn(1), *turn(2), *turn(3, f"<omit>{named}</omit>"), *turn(4)])
    assert omitted(thread) == []


def test_pins_and_calls_without_an_answer_are_refused() -> None:
    thread = session(pins=["c1-0:"])
    messages = [*PROMPT, *turn(1), *turn(2, calls=2, answered=1), *turn(3, "<omit>1-2</omit>")]
    thread.view(messages)
    assert omitted(thread) == ["c2-0"]
    late = {"role": "tool", "tool_call_id": "c2-1", "content": "late: " + page(2)}
    thread.view([*messages, late])
    assert omitted(thread) == ["c2-0"]  # it came after it was named: nobody has read it
    fresh = session(pins=["c1-0:"])
    fresh.view([*messages, late])
    assert omitted(fresh) == ["c2-0"]


def test_only_the_assistant_can_omit() -> None:
    thread = session()
    sly = [*turn(2)[:1], {**turn(2)[1], "content": "<omit>1</omit>" + page(2)}]
    thread.view([*PROMPT, *turn(1), *sly, {"role": "user", "content": "<omit>1</omit>"}, *turn(3)])
    assert omitted(thread) == []


def test_plain_loops_omit_what_the_user_side_said_but_not_the_task_nor_the_newest() -> None:
    thread = session(observations="user")
    messages = [{"role": "user", "content": "Task: " + page(0)}]
    for number in range(1, 5):
        text = "<omit>0-4</omit>" if number == 4 else f"look {number}"
        messages += [{"role": "assistant", "content": text}, {"role": "user", "content": page(number)}]
    view = thread.view(messages)
    contents = [str(message["content"]) for message in view.messages]
    assert [text.startswith("Omitted") for text in contents if text.startswith(("page", "Omitted"))] == [True] * 3 + [
        False
    ]
    assert messages[0] in view.messages
    assert contents[-1] == "[turn 4]"


def test_omissions_are_a_function_of_the_transcript() -> None:
    messages = [*PROMPT]
    for number in range(1, 9):
        messages += turn(number, f"<omit>{number // 2}</omit>")
    stepwise = session()
    for end in range(3, len(messages) + 1):
        stepwise.view(messages[:end])
    once = session()
    once.view(messages)
    assert sorted(omitted(stepwise)) == sorted(omitted(once)) == ["c1-0", "c2-0", "c3-0", "c4-0"]


def test_a_fork_forgets_what_it_rewound_and_a_restart_goes_on() -> None:
    thread = session()
    base = [*PROMPT, *turn(1), *turn(2), *turn(3)]
    plan = thread.view(base).plan
    said = thread.view([*base, *turn(4, "<omit>1</omit>")]).plan
    other = thread.view([*base, *turn(4, "<omit>2</omit>")], plan=plan)
    assert omitted(thread) == ["c2-0"]
    assert page(1) in str(other.messages)
    stored = json.loads(json.dumps(said.to_dict()))
    fresh = session()
    view = fresh.view([*base, *turn(4, "<omit>1</omit>"), *turn(5, "<omit>3</omit>")], plan=stored)
    assert omitted(fresh) == ["c1-0", "c3-0"]
    assert len({*view.handles}) == 2


def test_async_is_the_same() -> None:
    messages = [*PROMPT, *turn(1), *turn(2), *turn(3, "<omit>1</omit>")]
    assert asyncio.run(session().aview(messages)).messages == session().view(messages).messages


def test_where_it_must_pay_it_waits_until_it_pays() -> None:
    thread = session(edit_when="budget")
    thread.view([*PROMPT, *turn(1), *turn(2), *turn(3, "<omit>1</omit>")])
    assert omitted(thread) == []


def test_tags_can_be_the_smallest_there_are() -> None:
    thread = session(tags=("⟨", "⟩"))
    thread.view([*PROMPT, *turn(1), *turn(2), *turn(3, "⟨1⟩")])
    assert omitted(thread) == ["c1-0"]
    assert "⟨3, 5-7⟩" in Omit(tags=("⟨", "⟩")).instructions
    with pytest.raises(ConfigError, match="tags"):
        Omit(tags=("", "⟩"))


# Training -----------------------------------------------------------------------------------------------------------


def test_what_was_omitted_is_not_in_the_context_that_trains() -> None:
    """The released trainer edits what it generates from and trains on the whole."""
    policy = Says(lambda prompt, _: f"<omit>1-{prompt.count('[turn ')}</omit>")
    (done,) = played(Omit(observations="user"), policy, tool="")
    assert len(done.segments) > 4
    last = CODEC.text([*done.segments[-1].prompt, *done.segments[-1].response])
    assert last.count("Omitted as asked.") >= 5
    assert len(re.findall(r"This is page", last)) <= 3


def test_a_group_of_runs_differs() -> None:
    """The released rollout forces temperature 0 for some engines: all of a group say the same, and nothing is learned."""
    policy = Says(lambda _, chance: f"<omit>{chance.randrange(1, 9)}</omit> {chance.random():.3f}")
    runs = played(Omit(observations="user"), policy, runs=6, tool="")
    assert len({tuple(turn.text for turn in run.turns) for run in runs}) == 6
    assert len({len(run.segments) for run in runs}) > 1
    assert policy.temperature == 1.0


def transcript(messages: list[dict[str, Any]]) -> Transcript:
    made = Transcript(FORMAT, lambda message: size(message.text))
    made.sync(messages)
    return made


def test_what_is_saved_is_the_share_of_text_that_goes() -> None:
    history = transcript([*PROMPT, *turn(1), *turn(2, "<omit>1</omit>"), *turn(3)])
    whole = sum(len(message.text) for message in history.messages)
    parts = {message.call_id: len(message.text) for message in history.messages if message.role == "tool"}
    assert Omit().saved(history, "<omit>2</omit>") == pytest.approx(parts["c2-0"] / whole)
    assert Omit().saved(history, "<omit>1-9</omit>") == pytest.approx((parts["c2-0"] + parts["c3-0"]) / whole)
    for nothing in ("<omit>1</omit>", "<omit>4</omit>", "<omit>x</omit>", "look on"):
        assert Omit().saved(history, nothing) == 0.0
    assert Omit().saved(transcript([]), "<omit>1</omit><think></think>") == 0.0


@pytest.mark.parametrize(
    ("text", "skips"),
    [
        ("<think></think><call>a</call>", True),
        ("<think>\n\n</think>\nI look.", True),
        ("<thinking> </thinking>", True),
        ("<think>Where to?</think><call>a</call><call>b</call>", False),  # two calls in a row skip no thought
        ("<call>a</call><call>b</call>", False),
        ("<think></thinking>", False),
    ],
)
def test_a_skipped_thought_is_an_empty_one(text: str, skips: bool) -> None:
    """The released rule looks for two calls in a row, and so practically never fires."""
    assert skips_thought(text) is skips
    history = transcript([*PROMPT, *turn(1)])
    mean = 1 / len(history.messages)
    assert Omit().saved(history, text) == pytest.approx(mean if skips else 0.0)


def test_the_measure_feeds_the_reward_and_the_restarts() -> None:
    def say(prompt: str, chance: Random) -> str:
        return "<omit>1</omit>" if chance.random() < 0.5 else "look on"

    (done,) = played(Omit(observations="user"), Says(say), tool="")
    for turn_ in done.turns:
        turn_.probe["saved"] = 0.25 if "<omit>" in turn_.text else 0.0
    done.outcome = {"task": 1.0}
    Omission(weight=0.2)([done])
    assert {omits(each) for each in done.turns} == {True, False}
    assert done.outcome["omission"] > 0
