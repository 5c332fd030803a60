"""The transcript: calls find their results whatever the order, edits are noticed, and only what is new is read."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memctx.errors import InvalidMessage, LimitError
from memctx.formats import load
from memctx.messages import AUDIT, MAX_CHARACTERS, Message, Transcript
from memctx.validity import check
from tests.test_validity import asked, call, fcall, fout, given_back, reasoning, result, use, used

USER = {"role": "user", "content": "go"}


class Watched:
    """A format that counts how often it reads."""

    def __init__(self, name: str) -> None:
        self.form = load(name)
        self.groups_heads = self.form.groups_heads
        self.read: list[int] = []

    def parse(self, raw: Any, index: int) -> list[Message]:
        self.read.append(index)
        return self.form.parse(raw, index)

    def rename(self, message: Message) -> Any:
        return self.form.rename(message)

    def acceptable(self, call_id: str) -> bool:
        return self.form.acceptable(call_id)


class Thread:
    """A transcript, with what it read and counted."""

    def __init__(self, name: str = "openai-chat") -> None:
        self.form = Watched(name)
        self.counted: list[Message] = []
        self.transcript = Transcript(self.form, self.count)

    def count(self, message: Message) -> int:
        self.counted.append(message)
        return 0 if not message.text else len(message.text)

    def sync(self, hosts: list[Any]) -> Transcript:
        self.transcript.sync(hosts)
        return self.transcript

    def view(self) -> list[Any]:
        steps = [step for step in self.transcript.steps if step.heads]
        return self.form.form.assemble([(m, m.out) for step in steps for m in step.messages])


def shape(transcript: Transcript) -> list[tuple[list[str], list[str]]]:
    """Texts of heads and results, step by step; an emptied step is left out."""
    steps = [([h.text for h in s.heads], [r.text for r in s.results]) for s in transcript.steps]
    return [step for step in steps if step != ([], [])]


def chat(*ids: str) -> dict[str, Any]:
    return asked(*(call(each) for each in ids))


# Binding -----------------------------------------------------------------------------------------------------------


def test_parallel_results_in_any_order() -> None:
    thread = Thread()
    thread.sync([USER, chat("a", "b"), result("b", "B"), result("a", "A")])
    assert shape(thread.transcript) == [(["go"], []), ([""], ["B", "A"])]
    assert thread.transcript.steps[1].pending == ()
    assert [r.tool for r in thread.transcript.steps[1].results] == ["search", "search"]


def test_late_and_interleaved_results_join_their_step() -> None:
    hosts = [USER, chat("a", "b"), result("a", "A"), {"role": "user", "content": "wait"}, result("b", "B"), chat("c")]
    thread = Thread()
    transcript = thread.sync(hosts)
    assert shape(transcript) == [(["go"], []), ([""], ["A", "B"]), (["wait"], []), ([""], [])]
    assert [each.id for each in transcript.steps[3].pending] == ["c"]
    assert transcript.calls_made == 2
    changed = transcript.sync([*hosts, result("c", "C")])
    assert changed == 3
    assert check(thread.view(), "openai-chat") == []


def test_a_late_result_marks_its_step_as_changed() -> None:
    thread = Thread()
    hosts: list[Any] = [USER, chat("a"), {"role": "user", "content": "wait"}]
    thread.sync(hosts)
    assert thread.transcript.sync([*hosts, result("a")]) == 1


def test_an_orphan_waits_and_is_adopted() -> None:
    thread = Thread()
    hosts: list[Any] = [USER, result("a", "early")]
    transcript = thread.sync(hosts)
    assert transcript.steps[1].role == "tool"
    assert thread.view() == [USER]
    transcript.sync([*hosts, chat("a")])
    assert transcript.steps[2].pending == ()
    assert shape(transcript) == [(["go"], []), ([""], ["early"])]
    assert transcript.messages[1].tool == "search"
    assert check(thread.view(), "openai-chat") == []


def test_an_early_result_follows_its_call_to_a_new_id() -> None:
    thread = Thread("anthropic")
    transcript = thread.sync([USER, given_back("bad id"), used(use("bad id"))])
    (answer,) = transcript.steps[2].results
    assert answer.call_id == answer.out["tool_use_id"] == transcript.steps[2].calls[0].id != "bad id"
    assert transcript.find(answer.id) is answer
    assert check(thread.view(), "anthropic") == []


def test_the_later_of_two_results_stays() -> None:
    thread = Thread()
    transcript = thread.sync([USER, chat("a"), result("a", "one"), result("a", "two")])
    assert shape(transcript)[1] == ([""], ["two"])
    assert check(thread.view(), "openai-chat") == []


def test_ids_used_again_in_a_later_turn() -> None:
    thread = Thread()
    transcript = thread.sync(
        [USER, chat("a"), result("a", "1"), chat("a"), result("a", "2"), chat("a"), result("a", "3")]
    )
    assert [texts for _, texts in shape(transcript)] == [[], ["1"], ["2"], ["3"]]
    assert len({each.id for step in transcript.steps for each in step.calls}) == 3
    assert check(thread.view(), "openai-chat") == []


def test_twins_in_one_message_and_a_pending_namesake() -> None:
    twins = Thread()
    transcript = twins.sync([USER, chat("a", "a"), result("a", "1"), result("a", "2")])
    assert shape(transcript)[1] == ([""], ["1", "2"])
    assert transcript.steps[1].pending == ()
    assert check(twins.view(), "openai-chat") == []
    named = Thread()
    transcript = named.sync([USER, chat("a"), USER, chat("a"), result("a", "new"), result("a", "late")])
    assert [texts for _, texts in shape(transcript)] == [[], ["late"], [], ["new"]]


@pytest.mark.parametrize("name", ["openai-chat", "anthropic"])
def test_two_unusable_twins_keep_their_own_results(name: str) -> None:
    bad = "x" * 41 if name == "openai-chat" else "a b"
    hosts: list[Any] = [USER, chat(bad, bad), result(bad, "1"), result(bad, "2")]
    if name == "anthropic":
        hosts = [USER, used(use(bad), use(bad)), given_back(bad, bad)]
    thread = Thread(name)
    (_, step) = thread.sync(hosts).steps
    assert [answer.call_id for answer in step.results] == [each.id for each in step.calls]
    assert check(thread.view(), name) == []


def test_new_ids_are_the_same_when_read_again() -> None:
    hosts = [USER, chat("x" * 41), result("x" * 41), chat("x" * 41), result("x" * 41)]
    one, two = Thread(), Thread()
    one.sync(hosts)
    for end in range(1, len(hosts) + 1):
        two.sync(copy.deepcopy(hosts[:end]))
    assert one.view() == two.view()
    assert [m.id for m in one.transcript.messages] == [m.id for m in two.transcript.messages]


def test_message_ids_do_not_depend_on_what_came_before() -> None:
    one, two = Thread(), Thread()
    one.sync([USER, chat("a"), result("a"), chat("a"), result("a", "x")])
    two.sync([chat("a"), result("a", "x")])
    assert two.transcript.messages[1].id == one.transcript.messages[4].id


def test_consecutive_items_make_one_step() -> None:
    hosts = [USER, reasoning(), fcall("a"), fcall("b"), fout("b", "B"), fout("a", "A"), reasoning(id="r2"), fcall("c")]
    thread = Thread("openai-responses")
    transcript = thread.sync(hosts)
    assert [(len(step.heads), len(step.results)) for step in transcript.steps] == [(1, 0), (3, 2), (2, 0)]
    assert transcript.calls_made == 2
    assert transcript.sync([*hosts, fout("c", "C")]) == 2


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_order_of_results_is_sendable(data: st.DataObject) -> None:
    hosts = [USER, *(asked(*(call(f"c{turn}_{n}") for n in range(2))) for turn in range(3)), USER]
    answers = [result(f"c{turn}_{n}", f"{turn}{n}") for turn in range(3) for n in range(2)]
    for answer in data.draw(st.permutations(answers)):
        hosts.insert(data.draw(st.integers(0, len(hosts))), answer)
    thread = Thread()
    cut = data.draw(st.integers(0, len(hosts)))
    thread.sync(hosts[:cut])
    transcript = thread.sync(hosts)
    assert check(thread.view(), "openai-chat") == []
    for step in transcript.steps:
        assert [answer.text for answer in step.results] == [answer.out["content"] for answer in step.results]
        assert {answer.call_id for answer in step.results} == {each.id for each in step.calls}
    assert sum(len(step.results) for step in transcript.steps) == 6


# Reading only what is new --------------------------------------------------------------------------------------------


def turns(count: int) -> list[Any]:
    hosts: list[Any] = [USER]
    for turn in range(count):
        hosts += [chat(f"c{turn}"), result(f"c{turn}", f"r{turn}")]
    return hosts


def test_each_message_is_read_and_counted_once() -> None:
    thread, hosts = Thread(), turns(40)
    for end in range(1, len(hosts) + 1):
        thread.sync(hosts[:end])
    assert thread.form.read == list(range(len(hosts)))
    assert len(thread.counted) == len(hosts)
    assert thread.transcript.tokens == sum(len(message.text) for message in thread.transcript.messages)


def test_equal_copies_are_not_read_again() -> None:
    thread, hosts = Thread(), turns(10)
    thread.sync(hosts)
    for _ in range(3):
        assert thread.transcript.sync(json.loads(json.dumps(hosts))) == len(thread.transcript.steps)
    thread.sync([*json.loads(json.dumps(hosts)), USER])
    assert len(thread.form.read) == len(hosts) + 1
    assert thread.transcript.forks == 0
    assert thread.view()[0] is hosts[0]


def test_a_rewind_reads_nothing_and_a_fork_what_differs() -> None:
    thread, hosts = Thread(), turns(10)
    thread.sync(hosts)
    thread.sync(hosts[:5])
    assert len(thread.transcript.messages) == 5
    assert thread.transcript.forks == 1
    assert thread.view() == hosts[:5]
    thread.sync([*hosts[:5], chat("other"), result("other")])
    assert thread.form.read == [*range(len(hosts)), 5, 6]
    thread.sync([*hosts[:3], USER, *hosts[5:7]])
    assert thread.form.read[-3:] == [3, 4, 5]
    assert check(thread.view(), "openai-chat") == []
    assert len(thread.counted) == len(thread.form.read)


def test_a_fork_forgets_ids_and_results() -> None:
    thread = Thread()
    thread.sync([USER, chat("a"), result("a", "old")])
    transcript = thread.sync([USER, chat("a")])
    assert [each.id for each in transcript.steps[1].pending] == ["a"]
    transcript = thread.sync([USER, chat("a"), result("a", "new")])
    assert shape(transcript)[1] == ([""], ["new"])


def test_an_edit_in_place_is_noticed() -> None:
    thread, hosts = Thread(), turns(10)
    thread.sync(hosts)
    hosts[6]["content"] = "edited"
    transcript = thread.sync(hosts)
    assert "edited" in [message.text for message in transcript.messages]
    assert thread.form.read[len(hosts) :] == list(range(6, len(hosts)))
    hosts[5]["tool_calls"][0]["function"]["arguments"] = '{"deep": 1}'
    transcript = thread.sync(hosts)
    assert '{"deep": 1}' in [each.arguments for step in transcript.steps for each in step.calls]


def test_an_old_edit_in_place_is_noticed_within_a_round() -> None:
    thread, hosts = Thread(), turns(200)
    thread.sync(hosts)
    hosts[150] = hosts[150]
    hosts[150]["content"] = "edited"
    for _ in range(len(hosts) // AUDIT + 2):
        thread.sync(hosts)
    assert thread.transcript.forks == 1
    assert "edited" in [message.text for message in thread.transcript.messages]


# What goes wrong changes nothing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [{"role": "narrator"}, {"role": "user", "content": "x" * (MAX_CHARACTERS + 1)}])
def test_a_refused_message_changes_nothing(bad: Any) -> None:
    thread, hosts = Thread(), turns(3)
    thread.sync(hosts)
    before = (thread.view(), [m.id for m in thread.transcript.messages], thread.transcript.forks)
    for wrong in ([*hosts, USER, bad], [*hosts[:3], bad]):
        with pytest.raises((InvalidMessage, LimitError)):
            thread.sync(wrong)
    assert (thread.view(), [m.id for m in thread.transcript.messages], thread.transcript.forks) == before
    thread.sync([*hosts, USER])
    assert thread.view() == [*hosts, USER]


def test_a_count_that_fails_changes_nothing() -> None:
    thread, hosts = Thread(), turns(3)
    thread.sync(hosts)

    def fail(message: Message) -> int:
        raise RuntimeError(message.text)

    healthy, thread.transcript._count = thread.transcript._count, fail
    with pytest.raises(RuntimeError):
        thread.sync([*hosts[:3], USER, USER])
    assert thread.view() == hosts
    thread.transcript._count = healthy
    thread.sync([*hosts[:3], USER])
    assert thread.view() == [*hosts[:3], USER]


def test_self_holding_and_deep_messages_are_refused() -> None:
    loop: dict[str, Any] = {"role": "user", "content": "x"}
    loop["self"] = loop
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    for bad in (loop, {"role": "user", "content": "x", "metadata": deep}):
        with pytest.raises(InvalidMessage) as caught:
            Thread().sync([bad])
        assert caught.value.code == "not_json"


def test_long_arguments_count_towards_the_bound() -> None:
    with pytest.raises((LimitError, InvalidMessage)):
        Thread("openai-responses").sync([fcall(arguments="x" * (MAX_CHARACTERS + 1))])
