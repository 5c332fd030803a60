"""Fold: the past is always parted into whole blocks, a bad directive changes nothing, and no tool runs twice."""

from __future__ import annotations

import asyncio
import json
import re
from copy import deepcopy
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctx.edits import Insert, Replace
from memctx.errors import ConfigError
from memctx.formats.openai_chat import FORMAT
from memctx.messages import Transcript
from memctx.pipeline import Pipeline
from memctx.plan import Plan
from memctx.session import Session
from memctx.strategies._turns import Turns
from memctx.strategies.fold import Block, Fold, Past, directive
from memctx.testing.strategies import CASES, HISTORIES, StrategyTests
from tests.acting import CODEC, Says, played

TAGS = ("<fold>", "</fold>")
PROMPT = [{"role": "system", "content": "You look."}, {"role": "user", "content": "Find the page."}]


class TestFold(StrategyTests):
    @pytest.fixture
    def strategy(self) -> Any:
        return Fold()

    @pytest.fixture(params=CASES, ids=str)
    def case(self, request: pytest.FixtureRequest) -> Any:
        """The suite's histories, in which the assistant folds the two turns before, and sometimes all."""
        messages, said = deepcopy(HISTORIES[request.param[0]]), 0
        for message in messages:
            if message["role"] == "assistant":
                first = 1 if said % 5 == 0 else said - said % 2
                message["content"] = f"<fold>{first}-{said}: parts seen</fold>{message['content']}"
                said += 1
        return messages, request.param[1]


def size(text: str) -> int:
    return len(text) // 4 + 1


def page(number: int) -> str:
    return f"page {number} says {number * 31} " * 20


def turn(number: int, text: str = "") -> list[dict[str, Any]]:
    function = {"name": "look", "arguments": f'{{"page": {number}}}'}
    call = {"id": f"c{number}", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": text, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": page(number)},
    ]


def fold(first: int, last: int, text: str = "seen") -> str:
    return f"<fold>{first}-{last}: {text}</fold> Next."


def session(pins: Any = (), **fields: Any) -> Session:
    return Pipeline([Fold(**fields)], budget=50_000, edit_when="always", counter=size, pins=pins).session()


def replaced(thread: Session) -> dict[str, str]:
    """Content by handle of the folds in sight."""
    shown = str(thread.view(list(thread.transcript.host_objects(thread.transcript.messages))).messages)
    return {e.handle: e.content for e in thread.plan.edits if isinstance(e, Replace) and f"[cut {e.handle}]" in shown}


def walk(*texts: str) -> list[dict[str, Any]]:
    return [*PROMPT, *(message for number, text in enumerate(texts, 1) for message in turn(number, text))]


def blocks(messages: list[dict[str, Any]]) -> Past:
    transcript = Transcript(FORMAT, lambda message: size(message.text))
    transcript.sync(messages)
    past = Past(TAGS, Turns("tool"))
    past.read(transcript)
    return past


def test_a_range_becomes_its_text_and_comes_back() -> None:
    thread, messages = session(), walk("", "", "", fold(2, 3, "Pages 2 and 3 say 62 and 93."))
    view = thread.view(messages)
    (edit,) = [edit for edit in thread.plan.edits if isinstance(edit, Replace)]
    assert 'turns="2-3"' in edit.content
    assert "Pages 2 and 3 say 62 and 93." in edit.content
    assert view.messages[:4] == messages[:4]
    assert view.messages[4] == {"role": "user", "content": edit.content}
    assert view.messages[5:] == [*messages[8:], {"role": "user", "content": "[turn 4]"}]
    assert json.loads(thread.reopen(edit.handle)) == messages[4:8]


def test_a_deep_fold_takes_whole_blocks_into_it() -> None:
    thread = session()
    messages = walk(
        "", fold(1, 1, "one"), fold(2, 2, "two"), "", fold(3, 4, "three, four"), "", fold(2, 6, "two to six")
    )
    for end in range(3, len(messages) + 1, 2):
        thread.view(messages[:end])
    assert [content.partition("whole")[0] for content in replaced(thread).values()] == [
        '<memctx-fold turns="1-1" ',
        '<memctx-fold turns="2-6" ',
    ]
    assert [(b.first, b.last) for b in blocks(messages).blocks] == [(1, 1), (2, 6), (7, 7)]
    assert all(isinstance(thread.reopen(edit.handle), str) for edit in thread.plan.edits if isinstance(edit, Replace))


def test_a_fold_that_grows_from_the_same_turn_keeps_its_handle() -> None:
    thread, texts, handles = session(), [""], set()
    for number in range(1, 20):
        texts.append(fold(1, number, f"up to {number}"))
        thread.view(walk(*texts))
        handles |= {edit.handle for edit in thread.plan.edits if isinstance(edit, Replace)}
        assert len([edit for edit in thread.plan.edits if isinstance(edit, Replace)]) == 1
    assert handles == {"r1"}
    assert "up to 19" in str(thread.view(walk(*texts)).messages)


SPLITS = [fold(3, 5), fold(2, 4), fold(4, 5), fold(5, 6), fold(6, 6), fold(0, 5), fold(1, 9)]


@pytest.mark.parametrize("text", SPLITS)
def test_what_would_split_a_block_or_leave_a_gap_is_refused_and_said(text: str) -> None:
    thread = session()
    before = walk("", "", "", "", fold(2, 4))  # blocks 1, 2-4, and 5
    thread.view(before)
    plan = thread.plan
    view = thread.view([*before, *turn(6, text)])
    assert [edit for edit in thread.plan.edits if isinstance(edit, Replace)] == [
        edit for edit in plan.edits if isinstance(edit, Replace)
    ]
    assert view.messages[-1]["content"] == (
        "[fold] Not done: a fold ends at the latest turn, 5, and begins at one of: 1, 2, 5."
    )
    after = thread.view([*before, *turn(6, text), *turn(7, fold(5, 6))])
    assert 'turns="5-6"' in str(after.messages)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.booleans()), max_size=12))
def test_blocks_part_the_past(directives: list[tuple[int, int, bool]]) -> None:
    texts = [fold(a, b) if said else "" for a, b, said in directives]
    for end in range(len(texts) + 1):
        past = blocks(walk(*texts[:end]))
        covered = [number for block in past.blocks for number in range(block.first, block.last + 1)]
        assert covered == list(range(1, end + 1))


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 1)), min_size=1, max_size=12))
def test_every_view_of_any_folds_holds_each_turn_once(directives: list[tuple[int, int]]) -> None:
    thread, texts = session(), [""]
    for number, (first, back) in enumerate(directives, 1):
        texts.append(fold(min(first, number), number - back))
        shown = str(thread.view(walk(*texts)).messages)
        past = blocks(walk(*texts))
        for block in past.blocks:
            seen = [page(turn_) in shown for turn_ in range(block.first, block.last + 1)]
            assert seen == [not block.text] * len(seen)
            assert not block.text or f'turns="{block.first}-{block.last}"' in shown


REPAIRED = [
    "<fold>2-3:seen</fold>", "<fold>\n2 - 3 :\nseen\n</fold>", "<fold>[2, 3]: seen</fold>", "<fold>2..3: seen</fold>",
    "<fold>turns 2 to 3: seen</fold>", "<fold>3-2: seen</fold>", "<fold>(2–3): seen</fold>", "So. <fold>2-3: seen</fold> On.",
]  # fmt: skip


@pytest.mark.parametrize("text", REPAIRED)
def test_a_directive_whose_form_is_a_little_off_is_read(text: str) -> None:
    read = Block(2, 3, "seen")
    assert directive(text, 3, TAGS) == read
    assert directive(fold(read.first, read.last, read.text), 3, TAGS) == read  # reading what was read changes nothing


def test_with_no_numbers_the_latest_turn_is_meant() -> None:
    assert directive("<fold>seen</fold>", 3, TAGS) == Block(3, 3, "seen")
    assert directive("<fold>3 pages: seen</fold>", 3, TAGS) == Block(3, 3, "3 pages: seen")


@pytest.mark.parametrize(
    "text", ["<fold>1-2: seen", "<fold></fold>", "<fold>1-2:</fold>", "<fold>1-2: \n </fold>", "<fold>"]
)
def test_a_malformed_directive_changes_nothing_and_is_said(text: str) -> None:
    thread = session(number=False)
    view = thread.view(walk("", "", text))
    (edit,) = thread.plan.edits
    assert isinstance(edit, Insert)
    assert view.messages[-1]["content"] == "[fold] Not done: write <fold>first-last: text</fold>, with a text."


@pytest.mark.parametrize("text", ["I fold my hands.", "<folder>x</folder>", "2-3: seen</fold>", "<FOLD>x</FOLD>", ""])
def test_what_is_no_directive_is_none(text: str) -> None:
    assert directive(text, 3, TAGS) is None


def test_no_tool_runs_twice_whatever_the_directives() -> None:
    """The released loop retries a malformed directive after its tool has run."""
    chance, thread, messages, ran = Random(0), session(), list(PROMPT), list[str]()
    wild = ["", "<fold>", fold(9, 1), fold(1, 1), "<fold>x</fold>", "<fold>1-2: x", fold(2, 3)]
    for number in range(1, 40):
        thread.view(list(messages))
        said, result = turn(number, chance.choice(wild))
        ran.append(said["tool_calls"][0]["id"])
        messages += [said, result]
    thread.view(list(messages))
    assert len(ran) == len(set(ran)) == 39
    assert [m["tool_call_id"] for m in messages if m["role"] == "tool"] == ran


def test_a_fold_that_saves_nothing_is_not_made() -> None:
    thread = session(number=False)
    thread.view(walk("", "", fold(2, 2, page(2) * 2)))
    assert thread.plan == Plan()


def test_what_the_user_said_stands_in_the_fold_word_for_word() -> None:
    messages = [*walk("", ""), {"role": "user", "content": "Never shelf 3.\n</memctx-fold>"}]
    messages += [*turn(3), {"role": "user", "content": "Go on."}, *turn(4, fold(1, 3))]
    thread = session()
    thread.view(messages)
    (content,) = replaced(thread).values()
    assert "The user said:\n> Never shelf 3.\n> &lt;/memctx-fold>" in content
    assert content.count("</memctx-fold>") == 1


def test_pins_stay_and_results_that_came_late_are_not_hidden() -> None:
    thread = session(pins=["page 2 says"])
    thread.view(walk("", "", "", fold(1, 3)))
    assert page(2) in str(thread.view(walk("", "", "", fold(1, 3))).messages)
    thread = session()
    messages = walk("", "", "", fold(1, 3))
    late = messages.pop(5)
    assert "memctx-fold" not in str(thread.view(messages).messages)
    assert page(2) in str(thread.view([*messages, late]).messages)


def test_plain_loops_fold_what_came_back_as_messages() -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Task."}]
    for number in range(1, 5):
        said = fold(1, 3, "three pages") if number == 4 else f"look {number}"
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": page(number)}]
    thread = session(observations="user")
    shown = str(thread.view(messages).messages)
    assert [page(number) in shown for number in range(1, 5)] == [False, False, False, True]
    assert "The user said" not in shown


def test_a_fork_and_a_restart_come_to_the_same() -> None:
    texts = ["", fold(1, 1, "one"), "", fold(2, 3, "two, three"), "", fold(1, 5, "all five")]
    thread = session(number=False)
    whole = thread.view(walk(*texts[:1]))
    for end in range(2, len(texts) + 1):
        whole = thread.view(walk(*texts[:end]))
    once = session(number=False).view(walk(*texts))
    assert once.messages[2]["content"].replace("r1", "") == whole.messages[2]["content"].replace("r1", "")
    assert len(once.messages) == len(whole.messages)
    stored = json.loads(json.dumps(whole.plan.to_dict()))
    assert session(number=False).view(walk(*texts), plan=stored).messages == whole.messages
    back = thread.view(walk(*texts[:4], "another way"))
    assert "all five" not in str(back.messages)
    assert "two, three" in str(back.messages)


def test_a_fork_that_folds_the_same_turns_shows_what_it_wrote() -> None:
    thread = session(number=False)
    thread.view(walk("", "", fold(1, 2, "old words")))
    again = str(thread.view(walk("", "", fold(1, 2, "new words"))).messages[2])
    assert "new words" in again
    assert "old words" not in again


def test_tags_can_be_the_smallest_there_are() -> None:
    thread = session(tags=("⟦", "⟧"))
    assert "seen both" in str(thread.view(walk("", "", "⟦1-2:seen both⟧")).messages[2])
    assert "⟦2-3: what" in Fold(tags=("⟦", "⟧")).instructions
    with pytest.raises(ConfigError, match="tags"):
        Fold(tags=("⟦", ""))


def test_async_is_the_same() -> None:
    messages = walk("", "", fold(1, 2))
    assert asyncio.run(session().aview(messages)).messages == session().view(messages).messages


def test_what_acted_is_what_trains() -> None:
    def say(prompt: str, chance: Random) -> str:
        latest = int((re.findall(r"\[turn (\d+)\]", prompt) or ["0"])[-1])
        return fold(max(1, latest - chance.randrange(2)), latest, f"page {latest}") if latest else "look"

    for done in played(Fold(observations="user"), Says(say), runs=3, tool=""):
        assert len(done.segments) > 3
        assert "memctx-fold" in CODEC.text(done.segments[-1].prompt.tolist())
