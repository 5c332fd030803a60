"""Wire formats: what is read comes back untouched, what cannot be sent is mended or refused, edits keep their form."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from anthropic.types import TextBlock, ThinkingBlock, ToolUseBlock
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from openai.types.chat import ChatCompletionMessage
from openai.types.responses import ResponseFunctionToolCall, ResponseReasoningItem

from memctx.errors import ConfigError, InvalidMessage
from memctx.formats import EMPTY, NAMES, Format, detect, faults, load
from memctx.messages import Message, ToolCall, Transcript
from memctx.validity import check
from tests.test_validity import (
    BUILDERS,
    CATALOGUE,
    JSON,
    ODD,
    SIGNED,
    STEPS,
    asked,
    call,
    fcall,
    fout,
    gcall,
    given_back,
    gout,
    reasoning,
    spoil,
    text,
    use,
    used,
)  # fmt: skip

USER = {"role": "user", "content": "go"}
GO = {"role": "user", "parts": [{"text": "go"}]}


def langchain(steps: Any) -> list[BaseMessage]:
    out: list[BaseMessage] = [HumanMessage("go")]
    for at, (kind, words) in enumerate(steps):
        if type(kind) is int:
            ids = [f"c{at}_{i}" for i in range(kind)]
            out.append(AIMessage("", tool_calls=[{"id": each, "name": "f", "args": {"q": words}} for each in ids]))
            out += [ToolMessage(words, tool_call_id=each) for each in ids[::-1]]
        else:
            out.append({"user": HumanMessage, "say": AIMessage, "system": SystemMessage}[kind](words))
    return out


HISTORIES: dict[str, Any] = {**BUILDERS, "langchain": langchain}


def rendered(form: Format, hosts: Sequence[Any]) -> list[Any]:
    """The history as a view without edits shows it: steps in order, orphans left out, nothing invented."""
    transcript = Transcript(form, lambda _: 1)
    transcript.sync(hosts)
    return form.assemble([(m, m.out) for step in transcript.steps if step.heads for m in step.messages])


def only(name: str, raw: Any) -> Message:
    (message,) = load(name).parse(raw, 0)
    return message


def back(name: str, *raws: Any) -> list[Any]:
    """Parsed and put together again."""
    form = load(name)
    messages = [message for index, raw in enumerate(raws) for message in form.parse(raw, index)]
    return form.assemble([(message, message.out) for message in messages])


# Round trip --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_an_unedited_history_comes_back_as_the_very_same_objects(name: str, steps: Any) -> None:
    hosts = HISTORIES[name](steps)
    view = rendered(load(name), hosts)
    if name == "openai-responses":  # reasoning that nothing follows does not occur in these histories
        assert len(view) == len(hosts)
    order = [id(host) for host in hosts]
    assert sorted(map(id, view)) == sorted(order)
    if name != "openai-chat":
        assert [id(host) for host in view] == order


@pytest.mark.parametrize("name", [name for name in NAMES if name != "langchain"])
@settings(max_examples=60, deadline=None)
@given(steps=STEPS.filter(bool))
def test_the_form_is_detected(name: str, steps: Any) -> None:
    assert detect(HISTORIES[name](steps)) in (name, None)
    assert detect(HISTORIES[name]([(2, "x")])) == name


def test_detection_of_objects() -> None:
    sdk = ChatCompletionMessage.model_validate(asked(call()))
    assert detect([HumanMessage("hi")]) == "langchain"
    assert detect([AIMessageChunk(content="hi")]) == "langchain"
    assert detect([USER, sdk]) == "openai-chat"
    assert detect([USER, ResponseReasoningItem(id="rs_1", type="reasoning", summary=[])]) == "openai-responses"
    block = ToolUseBlock(id="t1", name="f", input={}, type="tool_use")
    assert detect([USER, {"role": "assistant", "content": [block]}]) == "anthropic"
    assert detect([USER, {"role": "assistant", "content": "hi"}]) is None
    assert detect([5, None, "x"]) is None


def test_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="openai-responses"):
        load("xml")


def test_sdk_objects_are_read_and_handed_back() -> None:
    chat = ChatCompletionMessage.model_validate(asked(call("c1", "search", '{"q": 1}')))
    message = only("openai-chat", chat)
    assert message.out is chat
    assert message.calls == (ToolCall("c1", "search", '{"q": 1}'),)
    item = ResponseFunctionToolCall(type="function_call", call_id="c1", name="f", arguments="{}")
    assert only("openai-responses", item).out is item
    blocks = [ThinkingBlock(type="thinking", thinking="so", signature="s"), TextBlock(type="text", text="hi")]
    host = {"role": "assistant", "content": [*blocks, ToolUseBlock(id="t1", name="f", input={"a": 1}, type="tool_use")]}
    message = only("anthropic", host)
    assert message.out is host
    assert message.sealed
    assert message.calls == (ToolCall("t1", "f", '{"a": 1}'),)
    changed = load("anthropic").with_arguments(message, {"t1": '{"a": 2}'})
    assert changed["content"][2]["input"] == {"a": 2}
    assert host["content"][2].input == {"a": 1}


# Mending and refusing ----------------------------------------------------------------------------------------------


def readable(form: Format, raw: Any, index: int) -> list[Message]:
    """What is read of a host message; nothing where it is refused, which must name the place."""
    try:
        return form.parse(raw, index)
    except InvalidMessage as refused:
        if refused.index != index:
            raise
        return []


@pytest.mark.parametrize(("provider", "messages"), [(name, messages) for _, name, messages, _ in CATALOGUE])
def test_the_catalogue_is_sendable_or_refused(provider: str, messages: Any) -> None:
    if not isinstance(messages, list) or len(messages) > 1000:
        return
    form = load(provider)
    for index, raw in enumerate(messages):
        for message in readable(form, raw, index):
            assert faults(message.out, provider) is None, raw


@pytest.mark.parametrize("name", list(BUILDERS))
@settings(max_examples=60, deadline=None)
@given(steps=STEPS, value=JSON | ODD, data=st.data())
def test_garbage_is_mended_or_refused_and_nothing_else_is_raised(
    name: str, steps: Any, value: Any, data: st.DataObject
) -> None:
    hosts = spoil(HISTORIES[name](steps), value, lambda choices: data.draw(st.sampled_from(choices)))
    for index, raw in enumerate(hosts if type(hosts) is list else [hosts]):
        whole = load(name).assemble([(message, message.out) for message in readable(load(name), raw, index)])
        assert not any(faults(out, name) for out in whole)


REFUSED: list[tuple[str, Any, str]] = [
    ("openai-chat", "hello", "bad_role"),
    ("openai-chat", {"content": "x"}, "bad_role"),
    ("openai-chat", {"role": "narrator", "content": "x"}, "bad_role"),
    ("openai-chat", {"role": "user", "content": None}, "bad_content_type"),
    ("openai-chat", {"role": "user", "content": 5}, "bad_content_type"),
    ("openai-chat", {"role": "user", "content": []}, "empty_content_list"),
    ("openai-chat", {"role": "user", "content": [{"text": "x"}]}, "bad_part"),
    ("openai-chat", {"role": "tool", "content": "x"}, "bad_tool_call_id"),
    ("openai-chat", asked(call(call_id=7)), "bad_tool_call_id"),
    ("openai-chat", asked(call(name="")), "bad_tool_name"),
    ("openai-chat", {"role": "assistant", "content": "", "tool_calls": {"a": 1}}, "empty_tool_calls"),
    ("openai-chat", asked(*[call(f"c{i}") for i in range(129)]), "too_many_tool_calls"),
    ("openai-chat", {"role": "user", "content": "x", "more": {1}}, "not_json"),
    ("openai-responses", {"content": "x"}, "bad_role"),
    ("openai-responses", {"type": "smell"}, "bad_item"),
    ("openai-responses", fcall(""), "bad_tool_call_id"),
    ("openai-responses", fout(output=None), "bad_content_type"),
    ("anthropic", {"role": "tool", "content": "x"}, "bad_role"),
    ("anthropic", {"role": "user", "content": []}, "empty_content_list"),
    ("anthropic", used(use(call_id=None)), "bad_tool_call_id"),
    ("anthropic", used(use(name="")), "bad_tool_name"),
    ("anthropic", {"role": "user", "content": [{"type": "video"}]}, "bad_part"),
    ("gemini", {"parts": [{"text": "x"}]}, "bad_role"),
    ("gemini", {"role": "user", "parts": []}, "empty_content_list"),
    ("gemini", {"role": "user", "parts": gcall("f")["parts"]}, "bad_part"),
    ("gemini", {"role": "model", "parts": gout("f")["parts"]}, "bad_part"),
    ("langchain", USER, "bad_role"),
    ("langchain", RemoveMessage("x"), "bad_role"),
]


@pytest.mark.parametrize(("name", "raw", "code"), REFUSED)
def test_what_cannot_be_read_is_refused_by_name(name: str, raw: Any, code: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        load(name).parse(raw, 3)
    assert caught.value.code == code
    assert caught.value.index == 3
    assert "3" in str(caught.value)


MENDED: list[tuple[str, Any, Any]] = [
    ("openai-chat", {"role": "user", "content": "a\ud800"}, {"role": "user", "content": "a�"}),
    ("openai-chat", {"role": "user", "content": "x", "name": "a b"}, {"role": "user", "content": "x", "name": "a_b"}),
    ("openai-chat", {"role": "assistant", "content": "x", "tool_calls": []}, {"role": "assistant", "content": "x"}),
    ("openai-chat", {"role": "assistant", "content": None}, {"role": "assistant", "content": ""}),
    ("openai-chat", asked(call(arguments={"q": "é"})), asked(call(arguments='{"q": "é"}'))),
    ("openai-chat", asked(call(name="a b!")), asked(call(name="a_b_"))),
    ("openai-chat", asked({"id": "c1", "function": {"name": "f", "arguments": "{}"}}), asked(call(name="f"))),
    ("openai-responses", {"type": "reasoning", "id": "r"}, {"type": "reasoning", "id": "r", "summary": []}),
    ("openai-responses", fcall(arguments={"a": 1}), fcall(arguments='{"a": 1}')),
    (
        "openai-responses",
        {"role": "assistant", "content": [text("x")]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "x"}]},
    ),
    ("anthropic", {"role": "user", "content": [text(" "), text("x")]}, {"role": "user", "content": [text("x")]}),
    ("anthropic", {"role": "user", "content": "  "}, {"role": "user", "content": EMPTY}),
    ("anthropic", used(text("x"), SIGNED), used(SIGNED, text("x"))),
    ("anthropic", used({"type": "thinking", "thinking": "so"}, text("x")), used(text("x"))),
    ("anthropic", used(use(arguments='{"a": 1}')), used(use(arguments={"a": 1}))),
    ("anthropic", used(use(arguments="{broken")), used(use(arguments={"_raw": "{broken"}))),
    ("anthropic", used(use(name="a.b")), used(use(name="a_b"))),
    ("gemini", {"role": "model", "parts": [{"text": ""}, {"text": "x"}]}, {"role": "model", "parts": [{"text": "x"}]}),
    ("gemini", gcall("1 f"), gcall("_1_f")),
]


@pytest.mark.parametrize(("name", "raw", "expected"), MENDED)
def test_what_can_be_mended_is(name: str, raw: Any, expected: Any) -> None:
    before = repr(raw)
    assert only(name, raw).out == expected
    assert repr(raw) == before, "the host's message was changed"
    assert only(name, raw).raw is raw


def test_an_empty_assistant_message_says_nothing_and_is_left_out() -> None:
    for content in ("", " ", [], [text(" ")]):
        message = only("anthropic", {"role": "assistant", "content": content})
        assert (message.text, message.calls, message.sealed) == ("", (), False)
        assert back("anthropic", USER, {"role": "assistant", "content": content}, USER) == [USER, USER]
    assert back("gemini", GO, {"role": "model", "parts": [{"text": ""}]}, GO) == [GO, GO]


# Responses ---------------------------------------------------------------------------------------------------------


def test_reasoning_that_nothing_follows_is_left_out() -> None:
    assert back("openai-responses", USER, reasoning()) == [USER]
    assert back("openai-responses", USER, reasoning(), USER) == [USER, USER]
    assert back("openai-responses", USER, reasoning(), reasoning(id="rs_2"), USER) == [USER, USER]
    whole = [USER, reasoning(), fcall(), fout()]
    assert back("openai-responses", *whole) == whole


@pytest.mark.parametrize("kind", ["computer_call", "shell_call", "apply_patch_call", "local_shell_call"])
def test_calls_of_other_kinds_are_paired(kind: str) -> None:
    made = {"type": kind, "call_id": "c1", "action": {"type": "exec", "commands": ["ls"]}}
    form = load("openai-responses")
    head = only("openai-responses", made)
    assert head.calls[0].name == kind.removesuffix("_call")
    stub = form.result(head.calls[0], "no result", head)
    assert stub.out["type"] == f"{kind}_output"
    whole = [USER, made, stub.out]
    assert check(whole, "openai-responses") == []
    assert only("openai-responses", stub.out).call_id == "c1"
    assert form.with_text(stub, "short")["type"] == f"{kind}_output"


def test_an_output_takes_the_kind_of_its_call() -> None:
    made = {"type": "custom_tool_call", "call_id": "c1", "name": "sh", "input": "ls"}
    view = rendered(load("openai-responses"), [USER, made, fout("c1", "files")])
    assert view[2] == {"type": "custom_tool_call_output", "call_id": "c1", "output": "files"}
    assert check(view, "openai-responses") == []


def test_a_renamed_item_loses_its_own_id() -> None:
    view = rendered(load("openai-responses"), [fcall(id="fc_1"), fout(), fcall(id="fc_1"), fout(output="b")])
    assert view[2]["call_id"] == view[3]["call_id"] != "c1"
    assert "id" not in view[2]
    assert check([USER, *view], "openai-responses") == []


# Anthropic ---------------------------------------------------------------------------------------------------------


def test_results_of_one_host_message_are_parts() -> None:
    host = given_back("t1", "t2", more=(text("and"), text("more")))
    one, two, rest = load("anthropic").parse(host, 4)
    assert [(m.role, m.call_id, m.part, m.parts, m.host) for m in (one, two, rest)] == [
        ("tool", "t1", 0, 3, 4),
        ("tool", "t2", 1, 3, 4),
        ("user", "", 2, 3, 4),
    ]
    assert one.out is host["content"][0]
    assert rest.text == "and\nmore"
    form = load("anthropic")
    edited = form.assemble([(one, form.with_text(one, "short")), (two, two.out), (rest, rest.out)])
    assert edited == [{"role": "user", "content": [{**host["content"][0], "content": "short"}, *host["content"][1:]]}]
    assert form.assemble([(rest, rest.out)]) == [{"role": "user", "content": [text("and"), text("more")]}]


def test_results_go_first_and_into_one_message() -> None:
    early = {"role": "user", "content": [text("while I wait"), *given_back("t2")["content"]]}
    view = rendered(load("anthropic"), [USER, used(use("t1"), use("t2")), early, given_back("t1")])
    assert check(view, "anthropic") == []
    blocks = [block for message in view[2:] for block in message["content"]]
    assert [block.get("tool_use_id", "text") for block in blocks] == ["t2", "t1", "text"]


def test_stand_ins_and_notes() -> None:
    form = load("anthropic")
    head = only("anthropic", used(use("t1"), use("t2")))
    stubs = [form.result(call, "none", head) for call in head.calls]
    view = form.assemble([(head, head.out), *((stub, stub.out) for stub in stubs)])
    note = form.note("go", None)
    assert check([note.out, *view], "anthropic") == []
    assert len(view) == 2


# Gemini ------------------------------------------------------------------------------------------------------------


def test_calls_go_by_name() -> None:
    message = only("gemini", gcall("f", "g", "f"))
    assert [call.id for call in message.calls] == ["f", "g", "f~2"]
    found = load("gemini").parse(gout("f", "f", "g"), 1)
    assert [(m.call_id, m.tool) for m in found] == [("f", "f"), ("f~2", "f"), ("g", "g")]


def test_turns_repeat_names_and_stay_untouched() -> None:
    hosts = [GO, gcall("f"), gout("f"), gcall("f"), gout("f")]
    transcript = Transcript(load("gemini"), lambda _: 1)
    transcript.sync(hosts)
    assert [step.pending for step in transcript.steps] == [(), (), ()]
    assert len({call.id for step in transcript.steps for call in step.calls}) == 2
    assert [a is b for a, b in zip(rendered(load("gemini"), hosts), hosts, strict=True)] == [True] * 5


@pytest.mark.parametrize(("asks", "answers"), [({"id": "x"}, {}), ({}, {"id": "x"}), ({"id": "x"}, {"id": "x"})])
def test_a_response_finds_its_call_by_id_or_name(asks: Any, answers: Any) -> None:
    for hosts in ([GO, gcall("f", **asks), gout("f", **answers)] * 2, [GO, gcall("f", **asks), gout("f", **answers)]):
        view = rendered(load("gemini"), hosts)
        assert len(view) == len(hosts)
        assert check(view, "gemini") == []


def test_responses_stand_alone_and_call_turns_join_the_turn_before() -> None:
    mixed = {"role": "user", "parts": [*gout("f")["parts"], {"text": "and"}]}
    view = rendered(load("gemini"), [GO, {"role": "model", "parts": [{"text": "hm"}]}, gcall("f"), mixed])
    assert check(view, "gemini") == []
    assert [len(content["parts"]) for content in view] == [1, 2, 1, 1]
    separate = [GO, gcall("f", "f"), gout("f"), gout("f")]
    assert check(rendered(load("gemini"), separate), "gemini") == []


# LangChain ---------------------------------------------------------------------------------------------------------


def ai(**fields: Any) -> AIMessage:
    made = {"name": "f", "args": {"q": 1}, "id": "bad id!", "type": "tool_call"}
    return AIMessage(**{"content": "", "tool_calls": [made], **fields})


def test_a_renamed_call_is_renamed_wherever_it_stands() -> None:
    blocks = [text("x"), use("bad id!"), {"type": "function_call", "call_id": "bad id!", "arguments": "{}"}]
    host = ai(content=blocks, additional_kwargs={"tool_calls": [call("bad id!")]}, id="m1")
    answer = ToolMessage("found", tool_call_id="bad id!", name="f", status="error", artifact={"a": 1}, id="m2")
    view = rendered(load("langchain"), [HumanMessage("go"), host, answer])
    new = view[1].tool_calls[0]["id"]
    assert new != "bad id!"
    assert view[1].content[1]["id"] == view[1].content[2]["call_id"] == new
    assert view[1].additional_kwargs["tool_calls"][0]["id"] == new
    assert (view[2].tool_call_id, view[2].name, view[2].status, view[2].artifact) == (new, "f", "error", {"a": 1})
    assert (view[1].id, view[2].id) == ("m1", "m2")
    assert host.tool_calls[0]["id"] == "bad id!"
    assert answer.tool_call_id == "bad id!"
    for provider in BUILDERS:
        assert not [found for found in check(view, provider) if "id" in found.rule]


def test_missing_ids_and_twins_get_ids_and_results() -> None:
    made = [{"name": "f", "args": {"n": n}, "id": None, "type": "tool_call"} for n in range(2)]
    twins: list[Any] = [use("t1", arguments={"n": 0}), use("t1", arguments={"n": 1})]
    for host in (AIMessage("", tool_calls=made), AIMessage(twins, tool_calls=[{**each, "id": "t1"} for each in made])):
        message, *_ = load("langchain").parse(host, 0)
        view = rendered(load("langchain"), [HumanMessage("go"), host])
        ids = [each["id"] for each in view[1].tool_calls]
        assert len(set(ids)) == 2
        assert all(ids)
        if isinstance(host.content, list):
            assert [block["id"] for block in view[1].content] == ids
        assert len(message.calls) == 2


def test_malformed_calls_count_and_edits_reach_every_copy() -> None:
    broken = {"name": "f", "args": "{oops", "id": "c2", "error": None, "type": "invalid_tool_call"}
    host = ai(
        tool_calls=[{"name": "f", "args": {"q": 1}, "id": "c1", "type": "tool_call"}],
        invalid_tool_calls=[broken],
        content=[use("c1", "f", {"q": 1})],
        additional_kwargs={"tool_calls": [call("c1", "f", '{"q": 1}'), call("c2", "f", "{oops")]},
    )
    message = only("langchain", host)
    assert [(each.id, each.arguments) for each in message.calls] == [("c1", '{"q": 1}'), ("c2", "{oops")]
    out = load("langchain").with_arguments(message, {"c1": '{"q": 2}', "c2": "{}"})
    assert (out.tool_calls[0]["args"], out.invalid_tool_calls[0]["args"]) == ({"q": 2}, "{}")
    assert out.content[0]["input"] == {"q": 2}
    assert [each["function"]["arguments"] for each in out.additional_kwargs["tool_calls"]] == ['{"q": 2}', "{}"]
    assert host.tool_calls[0]["args"] == {"q": 1}


def test_edits_of_a_result_keep_the_rest() -> None:
    host = ToolMessage("found", tool_call_id="c1", name="f", artifact={"a": 1}, status="error", id="m")
    out = load("langchain").with_text(only("langchain", host), "short")
    assert out == host.model_copy(update={"content": "short"})
    form = load("langchain")
    made = only("langchain", ai())
    assert isinstance(form.result(made.calls[0], "none", made).out, ToolMessage)
    assert isinstance(form.note("x", host).out, HumanMessage)


def test_surrogates_roles_and_seals() -> None:
    host = HumanMessage("a\ud800")
    assert only("langchain", host).out.content == "a�"
    assert host.content == "a\ud800"
    assert only("langchain", AIMessageChunk(content="x")).role == "assistant"
    assert only("langchain", AIMessage([SIGNED, text("x")])).sealed
    assert only("langchain", AIMessage("x", additional_kwargs={"reasoning_content": "so"})).sealed
    assert not only("langchain", AIMessage("x")).sealed


# Edits, in every form -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_edits_keep_the_request_valid(name: str) -> None:
    form = load(name)
    hosts = HISTORIES[name]([(2, "words"), ("user", "x")])
    if name == "anthropic":
        hosts = [USER, used(text("x"), use("t1"), use("t2")), given_back("t1", "t2", more=(text("more"),))]
    transcript = Transcript(form, lambda _: 1)
    transcript.sync(hosts)
    items: list[tuple[Message, Any]] = []
    for step in transcript.steps:
        for message in step.messages:
            out = message.out
            if message.role == "tool":
                out = form.with_text(message, "short")
            elif message.calls:
                out = form.with_arguments(message, {each.id: '{"cut": true}' for each in message.calls})
            items.append((message, out))
    view = form.assemble(items)
    assert check(view, form.provider) == []
    again = [message for index, raw in enumerate(view) for message in form.parse(raw, index)]
    assert {message.text for message in again if message.role == "tool"} == {"short"}
    cut = [json.loads(each.arguments) for message in again for each in message.calls]
    assert cut == [{"cut": True}] * 2
    assert [message.raw for message in transcript.messages] != view
