"""The tool window: its cap, what moves it, what stands in the request, and that it follows from plan and transcript."""

from __future__ import annotations

import asyncio
import json
import threading
import warnings
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memctx import catalogue
from memctx.component import Component
from memctx.edits import Note
from memctx.effects import Generate
from memctx.errors import ConfigError
from memctx.graphs.tool_graph import Visit
from memctx.memory import Memory
from memctx.offer import name_of
from memctx.pipeline import Pipeline
from memctx.plan import Plan
from memctx.strategies._tool_news import Uses
from memctx.strategies._tool_prune import latest, useful
from memctx.strategies.next_tool import learn_run
from memctx.strategies.tool_window import ToolWindow
from memctx.testing.strategies import StrategyTests
from memctx.view import View

VERBS = ("create", "delete", "find", "send", "print", "archive", "translate", "price")
THINGS = (
    "invoice",
    "ticket",
    "recipe",
    "flight",
    "song",
    "contract",
    "planet",
    "garden",
    "photo",
    "parcel",
    "horse",
    "bridge",
)


def tool(name: str, description: str = "") -> dict[str, Any]:
    properties = {"reference": {"type": "string", "description": "which one"}}
    schema = {"type": "object", "properties": properties}
    function = {
        "name": name,
        "description": description or name.replace("_", " ") + " of the customer",
        "parameters": schema,
    }
    return {"type": "function", "function": function}


TOOLS = [tool(f"{verb}_{thing}") for verb in VERBS for thing in THINGS]
MODES = ("autonomous", "workflow", "hybrid")


class Host:
    """A loop that keeps the whole history and hands all its tools to each view."""

    def __init__(self, window: ToolWindow, tools: Sequence[Any] = TOOLS, **settings: Any) -> None:
        handlers = {"generate": settings.pop("generate", None)}
        self.pipeline = Pipeline([window], **settings)
        self.session = self.pipeline.session("a", **handlers)
        self.own = self.session.search_tools(4)
        self.tools = [*tools, *self.own.schemas]
        self.messages: list[dict[str, Any]] = []

    def view(self, **settings: Any) -> View:
        return self.session.view(self.messages, self.tools, now=0.0, **settings)

    def names(self, **settings: Any) -> list[str]:
        return [name_of(each) for each in self.view(**settings).tools or ()]

    def ask(self, text: str) -> list[str]:
        self.messages.append({"role": "user", "content": text})
        return self.names()

    def call(self, name: str, arguments: Any = None, answer: str | None = "done") -> list[str]:
        number = len(self.messages)
        function = {"name": name, "arguments": json.dumps(arguments or {})}
        calls = [{"id": f"call_{number}", "type": "function", "function": function}]
        self.messages.append({"role": "assistant", "content": "", "tool_calls": calls})
        if answer is not None:
            self.messages.append({"role": "tool", "tool_call_id": f"call_{number}", "content": answer})
        return self.names()

    def search(self, query: str) -> list[str]:
        return self.call("search_tools", {"query": query}, self.own.search(query))

    def remove(self, *names: str) -> list[str]:
        return self.call("remove_tools", {"names": names}, self.own.remove(list(names)))


WINDOWS = {
    "workflow": ToolWindow(mode="workflow", k=3, cap=8),
    "autonomous": ToolWindow(mode="autonomous", k=2, cap=6, keep=("lookup",)),
    "utility": ToolWindow(prune="utility", k=2, cap=6),
    "model": ToolWindow(prune="model", k=2, cap=6, delivery="allow"),
    "defer": ToolWindow(delivery="defer"),
}


@pytest.mark.filterwarnings("ignore:tool_window pruned by rule")
class TestWindows(StrategyTests):
    @pytest.fixture(params=list(WINDOWS.values()), ids=list(WINDOWS))
    def strategy(self, request: pytest.FixtureRequest) -> Component:
        found: Component = request.param
        return found


# -- promises under any course of events

EVENTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("ask"), st.sampled_from([f"please {verb} the {thing}" for verb in VERBS for thing in THINGS])
        ),
        st.tuples(st.just("call"), st.sampled_from([name_of(each) for each in TOOLS])),
        st.tuples(st.just("search"), st.sampled_from(THINGS)),
        st.tuples(st.just("flood"), st.integers(0, 60)),
        st.tuples(st.just("remove"), st.sampled_from(THINGS)),
        st.tuples(
            st.just("garbage"), st.sampled_from(["", "[]", '{"tools": 3}', '{"tools": [1, {"name": 2}]}', "no JSON"])
        ),
    ),
    max_size=8,
)


def happen(host: Host, event: tuple[str, Any]) -> None:
    kind, value = event
    if kind == "ask":
        host.ask(value)
    elif kind == "call":
        host.call(value)
    elif kind == "search":
        host.search(value)
    elif kind == "remove":
        host.remove(*[name for name in host.session.front.usable if value in name])
    elif kind == "flood":
        host.call("search_tools", {}, json.dumps({"tools": [{"name": name_of(each)} for each in TOOLS[value:]]}))
    else:
        host.call("search_tools", {}, value)


@settings(max_examples=40, deadline=None)
@given(
    EVENTS, st.sampled_from(MODES), st.integers(1, 6), st.integers(0, 8), st.sampled_from(["pays", "budget", "always"])
)
def test_cap_determinism_resume_and_idempotence(events: Any, mode: Any, k: int, spare: int, when: Any) -> None:
    window = ToolWindow(mode=mode, k=k, cap=k + spare + 3, keep=("create_invoice",))
    host, twin = Host(window, edit_when=when), Host(window, edit_when=when)
    for each in (host, twin):
        each.ask("hello")
    for event in events:
        happen(host, event)
        view = host.view()
        names = [name_of(each) for each in view.tools or ()]
        assert len(names) <= window.cap
        assert len(names) == len(set(names))
        assert "create_invoice" in names
        assert host.view() is view
        resumed = host.pipeline.session("a").view(
            json.loads(json.dumps(host.messages)),
            json.loads(json.dumps(host.tools)),
            plan=json.loads(json.dumps(view.plan.to_dict())),
        )
        assert resumed.tools == view.tools
        assert resumed.plan == view.plan
        happen(twin, event)
        assert twin.names() == names


@pytest.mark.parametrize("mode", MODES)
def test_a_rewound_thread_has_the_window_it_had(mode: Any) -> None:
    host = Host(ToolWindow(mode=mode, k=3, cap=9))
    host.ask("hello")
    seen = []
    for thing in THINGS[:6]:
        host.ask(f"please find the {thing}")
        host.search(f"archive {thing}")
        seen.append((list(host.messages), host.names()))
    for messages, names in reversed(seen[2:]):
        host.messages = messages
        assert host.names() == names


# -- the modes


def test_workflow_chooses_for_each_request_and_then_freezes() -> None:
    host = Host(ToolWindow(mode="workflow", k=3, cap=12))
    first = host.ask("please send the parcel")
    assert "send_parcel" in first
    assert not {"search_tools", "remove_tools"} & set(first)
    assert host.call("send_parcel") == first
    assert host.search("translate the contract") == first
    second = host.ask("now translate the contract")
    assert {"translate_contract", "send_parcel"} <= set(second)


def test_hybrid_may_search_within_the_turn_but_not_remove() -> None:
    host = Host(ToolWindow(k=3, cap=12))
    first = host.ask("please send the parcel")
    assert "search_tools" in first
    assert "remove_tools" not in first
    second = host.search("price of a horse")
    assert second[: len(first)] == first
    assert "price_horse" in second
    assert "price_horse" in host.remove("price_horse")


def test_autonomous_moves_only_as_the_model_says() -> None:
    host = Host(ToolWindow(mode="autonomous", k=3, cap=12), edit_when="always")
    assert host.ask("please send the parcel") == ["search_tools", "remove_tools"]
    assert "send_parcel" in host.search("send the parcel")
    assert "send_parcel" in host.ask("and now something else")
    assert "send_parcel" not in host.remove("send_parcel")


def test_a_removal_alone_waits_until_it_pays_and_the_next_addition_takes_it_along() -> None:
    host = Host(ToolWindow(mode="autonomous", k=3, cap=12))
    host.ask("long ago " * 2_000)
    host.search("send the parcel")
    before = host.names()
    assert host.remove("send_parcel") == before
    assert "send_parcel" not in host.session.front.usable
    assert "send_parcel" not in host.search("price of a horse")


def test_one_who_asks_for_too_many_evicts_what_was_touched_least_recently() -> None:
    host = Host(ToolWindow(k=4, cap=10))
    host.ask("please send the parcel")
    host.call("send_parcel")
    flood = [{"name": name_of(each)} for each in TOOLS[:50]]
    names = host.call("search_tools", {}, json.dumps({"tools": flood}))
    assert len(names) == 10
    assert name_of(TOOLS[0]) in names
    evicted = [record["evicted"] for record in host.session.accounts.records if "evicted" in record]
    assert "send_parcel" in evicted[-1]


def test_a_short_answer_is_read_with_what_was_said_before() -> None:
    host = Host(ToolWindow(mode="workflow", k=3, cap=6))
    host.ask("hello there")
    host.messages.append({"role": "assistant", "content": "Shall I translate the contract for you?"})
    assert "translate_contract" in host.ask("yes")


def test_what_is_awaited_or_forced_stays() -> None:
    host = Host(ToolWindow(mode="workflow", k=2, cap=4), edit_when="always")
    host.ask("please send the parcel")
    host.call("send_parcel", answer=None)
    for thing in THINGS[:4]:
        assert "send_parcel" in host.ask(f"please find the {thing}")
    assert "price_horse" in host.names(forced=("price_horse",))
    assert len(host.names(forced=("price_horse", "find_photo"))) <= 4


def test_all_stand_where_all_fit() -> None:
    host = Host(ToolWindow(cap=32), TOOLS[:20])
    first = host.ask("please send the parcel")
    assert set(first) == {*map(name_of, TOOLS[:20]), "search_tools"}
    assert host.ask("now translate the contract") == first


# -- pruning


def test_rules() -> None:
    uses = Uses(9, {"a": 3, "b": 1, "c": 2}, {"c": 2}, {"a": 1, "b": 5, "c": 7})
    assert latest(["a", "b", "c", "new"], uses, 2) == ["b", "c"]
    likeness = {"a": -3.0, "b": 3.0, "c": 3.0, "new": 9.0}
    assert useful(["a", "b", "c", "new"], uses, likeness, 1) == ["b"]
    assert useful(["a", "b", "c", "new"], uses, likeness, 9) == ["a", "b"]


def test_a_model_says_what_goes_and_words_the_search() -> None:
    asked: list[Any] = []

    def generate(effect: Generate) -> str:
        assert effect.module == "tool_window"
        asked.append(json.loads(effect.messages[-1]["content"]))
        return '```json\n{"drop": ["send_parcel", "unknown"], "queries": ["price of a horse"]}\n```'

    host = Host(ToolWindow(prune="model", k=4, cap=20), generate=generate, edit_when="always")
    host.ask("please send the parcel")
    host.call("send_parcel")
    names = host.ask("what would that animal cost me")
    assert "send_parcel" in asked[-1]["tools"]
    assert "send_parcel" not in names
    assert "price_horse" in names
    assert len(asked) == 2


@pytest.mark.parametrize("answer", ["", "I would drop nothing", '{"drop": "all"}', '{"drop": [], "queries": [3]}'])
def test_a_bad_answer_falls_back_to_the_rule_with_one_warning(answer: str) -> None:
    host, plain = Host(ToolWindow(prune="model", k=4, cap=20), generate=lambda _: answer), Host(ToolWindow(k=4, cap=20))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for text in ("please send the parcel", "now price the horse", "translate the song"):
            assert host.ask(text) == plain.ask(text)
    assert len(found) == 1


def test_a_tool_graph_is_a_prior() -> None:
    run = [{"role": "user", "content": "please send the parcel"}]
    for number, name in enumerate(("send_parcel", "polish_horn")):
        call = {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": "{}"}}
        run += [{"role": "assistant", "content": "", "tool_calls": [call]}]  # type: ignore[dict-item]
        run += [{"role": "tool", "tool_call_id": f"c{number}", "content": "done"}]
    tools = [*TOOLS, tool("polish_horn", "makes brass shine")]

    def second(graph: str) -> list[str]:
        session = Pipeline([ToolWindow(mode="workflow", k=2, cap=6, graph=graph)]).session(
            f"t{graph}", memory=memory.at("acme")
        )
        messages = [*run[:3], {"role": "user", "content": "go on with the parcel, please"}]
        return [name_of(each) for each in session.view(messages, tools).tools or ()]

    with Memory() as memory:
        for _ in range(4):
            learn_run(memory.at("acme"), "agent", run)
        assert "polish_horn" in second("agent")
        assert "polish_horn" not in second("")


LEARNED = [Visit(name, "prepare the quarterly meeting") for name in ("archive_song", "polish_horn", "price_planet")]
MEETING = [{"role": "user", "content": "prepare the yearly meeting"}]


def window_of_a_graph(k: int = 12) -> Pipeline:
    return Pipeline([ToolWindow(mode="workflow", k=k, cap=16, graph="agent")])


def served(view: View) -> set[str]:
    return {name_of(each) for each in view.tools or ()} & {visit.tool for visit in LEARNED}


async def test_a_request_gets_the_tools_that_served_requests_like_it_in_this_scope_alone() -> None:
    tools = [*TOOLS, tool("polish_horn", "makes brass shine")]
    with Memory() as memory:
        before = window_of_a_graph().session("before", memory=memory.at("acme")).view(MEETING, tools)
        assert learn_run(memory.at("acme"), "agent", LEARNED)
        learned = window_of_a_graph().session("after", memory=memory.at("acme")).view(MEETING, tools)
        twin = await window_of_a_graph().session("twin", memory=memory.at("acme")).aview(MEETING, tools)
        other = window_of_a_graph().session("other", memory=memory.at("umbrella")).view(MEETING, tools)
        none = window_of_a_graph().session("none").view(MEETING, tools)
    assert served(learned) == {visit.tool for visit in LEARNED}
    assert twin.tools == learned.tools
    assert before.tools == other.tools == none.tools
    assert len(served(none)) < len(LEARNED)


def test_what_was_learned_takes_a_quarter_of_the_places_at_most() -> None:
    run = [Visit(name, "prepare the quarterly meeting") for name in sorted(name_of(each) or "" for each in TOOLS)[:40]]
    with Memory() as memory:
        plain = window_of_a_graph().session("plain", memory=memory.at("acme")).view(MEETING, TOOLS)
        learn_run(memory.at("acme"), "agent", run)
        learned = window_of_a_graph().session("learned", memory=memory.at("acme")).view(MEETING, TOOLS)
    assert len(learned.tools or ()) == len(plain.tools or ()) == 12
    assert 1 <= len({*map(name_of, learned.tools or ())} - {*map(name_of, plain.tools or ())}) <= 3


# -- a catalogue that changes, and bad ones


def test_tools_that_vanish_appear_and_change() -> None:
    host = Host(ToolWindow(mode="workflow", k=3, cap=12))
    assert "send_parcel" in host.ask("please send the parcel")
    size = host.view().tokens
    changed = tool("send_parcel", "send the parcel of the customer by horse, slowly, over land, at a fixed price")
    host.tools = [changed if name_of(each) == "send_parcel" else each for each in host.tools]
    view = host.view()
    assert changed in (view.tools or ())
    assert view.tokens > size
    host.tools = [each for each in host.tools if name_of(each) != "send_parcel"]
    assert "send_parcel" not in host.names()
    host.tools = [*host.tools, tool("polish_moon", "polish the moon until it shines")]
    assert "polish_moon" not in host.names()
    assert "polish_moon" in host.ask("please polish the moon")


@pytest.mark.parametrize("mode", MODES)
def test_two_tools_of_one_name_are_refused(mode: Any) -> None:
    host = Host(ToolWindow(mode=mode), [*TOOLS, tool("send_parcel", "another server's")])
    with pytest.raises(ConfigError, match="send_parcel"):
        host.ask("please send the parcel")


def test_the_cap_holds_where_the_catalogue_cannot_be_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> Any:
        raise RuntimeError("no index")

    monkeypatch.setattr("memctx.catalogue.shared", broken)
    host = Host(ToolWindow(k=3, cap=8))
    with pytest.warns(UserWarning, match="no index"):
        names = host.ask("please send the parcel")
    assert names == ["search_tools", *reversed([name_of(each) for each in TOOLS[:3]])]


def test_no_tools_and_tools_without_a_name() -> None:
    host = Host(ToolWindow(k=3, cap=8))
    host.tools = []
    assert host.ask("hello") == []
    host.tools = [*TOOLS, {"type": "web_search"}]
    view = host.view()
    assert {"type": "web_search"} in (view.tools or ())
    assert len(view.tools or ()) <= 8


def test_settings_that_cannot_hold_are_named() -> None:
    with pytest.raises(ConfigError, match="cap"):
        ToolWindow(k=8, cap=8)
    with pytest.raises(ConfigError, match="defer"):
        ToolWindow(mode="workflow", delivery="defer")


# -- what stands, and what it costs


def test_additions_keep_the_tools_before_them_cached() -> None:
    host = Host(ToolWindow(k=3, cap=12), price="deepseek")
    host.ask("please send the parcel " + "at once " * 300)
    host.messages.append({"role": "assistant", "content": "Sent."})
    before = host.view()
    assert before.prefix > before.tokens // 2
    host.search("price of a horse")
    after = host.view()
    kept = len(before.tools or ())
    assert (after.tools or ())[:kept] == before.tools
    counted = host.session.counter.tools(before.tools or ())
    assert counted // 2 < after.prefix <= counted


def test_only_what_stands_is_counted() -> None:
    host = Host(ToolWindow(k=3, cap=12))
    host.ask("please send the parcel")
    view, count = host.view(), host.session.counter
    messages = sum(count.message(each) for each in view.messages)
    assert view.tokens == count.priming + messages + count.tools(view.tools or ())


def test_tools_take_at_most_half_of_a_small_budget() -> None:
    host = Host(ToolWindow(k=30, cap=60), budget=900)
    host.ask("please send the parcel")
    assert 0 < host.session.counter.tools(host.view().tools or ()) <= 475  # half of it, and what frames them


def test_an_allow_list_leaves_the_block_alone() -> None:
    host = Host(ToolWindow(mode="autonomous", k=3, cap=12, delivery="allow"))
    host.ask("long ago " * 2_000)
    host.search("send the parcel")
    before = host.view()
    host.remove("send_parcel")
    after = host.view()
    assert after.tools == before.tools
    assert "send_parcel" in (before.allowed or ())
    assert "send_parcel" not in (after.allowed or ())


def test_deferral_sends_everything_and_never_changes() -> None:
    host = Host(ToolWindow(delivery="defer", keep=("send_parcel",)))
    host.ask("please send the parcel")
    first = host.view()
    assert first.tools == host.tools
    assert set(map(name_of, host.tools)) - set(first.deferred) == {"search_tools", "send_parcel"}
    assert first.tokens < host.session.counter.tools(host.tools)
    host.search("price of a horse")
    second = host.view()
    assert (second.tools, second.deferred) == (first.tools, first.deferred)
    assert second.prefix == first.tokens


def test_a_plan_written_before_offers_had_a_block_still_loads() -> None:
    data = {"version": 3, "edits": [{"kind": "offer", "tools": ["send_parcel"]}], "notes": {}, "serial": 2}
    view = Pipeline().session("a").view([{"role": "user", "content": "hello"}], TOOLS, plan=data)
    assert [name_of(each) for each in view.tools or ()] == ["send_parcel"]
    assert Plan.from_dict(json.loads(json.dumps(view.plan.to_dict()))) == view.plan


def test_five_thousand_tools_cost_little_where_nothing_is_new() -> None:
    tools = [tool(f"{name_of(each)}_{number}") for number in range(53) for each in TOOLS][:5_000]
    window = ToolWindow(mode="autonomous")
    host, times = Host(window, tools), []
    host.ask("please send the parcel")
    for _ in range(15):
        host.messages.append({"role": "assistant", "content": "Wait."})
        start = perf_counter()
        host.view()
        times.append(perf_counter() - start)
    assert median(times) < 0.005  # about 0.5 ms on an idle machine


# -- what must not loosen the cap


def many_found(host: Host) -> None:
    host.messages.append({"role": "user", "content": "please send the parcel"})
    host.call("search_tools", {}, json.dumps({"tools": [{"name": name_of(each)} for each in TOOLS]}))


def test_a_plan_of_a_wider_window_is_cut_to_the_cap() -> None:
    host = Host(ToolWindow(k=3, cap=40))
    many_found(host)
    plan = host.view().plan.to_dict()
    narrow = Host(ToolWindow(k=3, cap=8))
    narrow.messages = host.messages
    assert len(narrow.names(plan=plan)) == 8


def test_a_plan_that_deferred_is_followed_by_a_list() -> None:
    host = Host(ToolWindow(delivery="defer"))
    host.ask("please send the parcel")
    plan = host.view().plan.to_dict()
    listing = Host(ToolWindow(k=3, cap=8))
    listing.messages = host.messages
    assert len(listing.names(plan=plan)) <= 8
    back = listing.view().plan.to_dict()
    assert host.view(plan=back).deferred


def test_a_tool_without_a_name_that_comes_later_takes_a_place() -> None:
    host = Host(ToolWindow(k=3, cap=8))
    many_found(host)
    assert len(host.names()) == 8
    host.tools.append({"type": "web_search"})
    assert len(host.names()) == 8


@pytest.mark.parametrize("graph", ["none.graphml", "support"])
def test_a_graph_that_fails_does_not_open_the_window(graph: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no graph today")

    monkeypatch.setattr("memctx.graphs._saved.shared", fails)
    session = Pipeline([ToolWindow(k=3, cap=8, graph=graph)]).session("a", memory=Memory().at("acme"))
    with pytest.warns(UserWarning, match="without its graph"):
        view = session.view([{"role": "user", "content": "please send the parcel"}], TOOLS)
    assert 0 < len(view.tools or ()) <= 8


def test_a_catalogue_that_cannot_be_read_does_not_open_the_window() -> None:
    unreadable = {"name": "odd", "input_schema": {}, "function_declarations": [5]}
    messages: list[dict[str, Any]] = []
    session = Pipeline([ToolWindow(k=3, cap=8, prune="utility")], counter=len).session("a")
    for text in ("please send the parcel", "and now the price of a horse"):
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "done"}]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert len(session.view(messages, [*TOOLS, unreadable]).tools or ()) <= 8


def test_a_tool_too_large_for_the_budget_makes_no_other_leave() -> None:
    wide = {f"parcel_{number}": {"type": "string", "description": "send the parcel"} for number in range(2_000)}
    large = {"type": "function", "function": {"name": "send_any_parcel", "parameters": {"properties": wide}}}
    host = Host(ToolWindow(k=3, cap=8), [*TOOLS, large], budget=6_000)
    names = host.ask("please send the parcel")
    assert "send_parcel" in names
    assert "send_any_parcel" not in names


def test_names_shared_by_two_tools_fail_every_time() -> None:
    host = Host(ToolWindow(k=3, cap=8))
    host.ask("please send the parcel")
    host.tools.append(tool("send_parcel", "another server's"))
    for _ in range(3):
        with pytest.raises(ConfigError, match="both called 'send_parcel'"):
            host.view()
    host.tools.pop()
    assert "send_parcel" in host.names()


def test_copies_of_a_schema_that_holds_itself() -> None:
    def looped() -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "object", "properties": {}}
        schema["properties"]["child"] = schema
        return {"type": "function", "function": {"name": "walk_tree", "description": "walks", "parameters": schema}}

    host = Host(ToolWindow(k=3, cap=8, keep=("walk_tree",)))
    host.messages.append({"role": "user", "content": "please send the parcel"})
    for _ in range(3):
        host.tools = [*TOOLS, looped()]
        assert "walk_tree" in host.names()
        host.messages.append({"role": "assistant", "content": "Wait."})


def test_the_allow_list_names_no_tool_that_went_away() -> None:
    host = Host(ToolWindow(k=3, cap=12, delivery="allow"))
    host.ask("please send the parcel")
    assert "send_parcel" in (host.view().allowed or ())
    host.tools = [each for each in host.tools if name_of(each) != "send_parcel"]
    host.messages.append({"role": "assistant", "content": "Wait."})
    view = host.view()
    assert set(view.allowed or ()) <= {name_of(each) for each in view.tools or ()}
    host.messages.append({"role": "assistant", "content": "Wait."})
    assert host.session.view(host.messages, None, now=0.0).allowed == ()


def test_an_async_call_makes_the_index_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []
    shared = catalogue.shared

    def noted(tools: Sequence[Any]) -> catalogue.Catalogue:
        made.append(threading.current_thread() is threading.main_thread())
        return shared(tools)

    monkeypatch.setattr(catalogue, "shared", noted)
    messages = [{"role": "user", "content": "please send the parcel"}]
    session = Pipeline([ToolWindow(k=3, cap=8)]).session("a")
    view = asyncio.run(session.aview(messages, TOOLS))
    assert made == [False]
    assert [name_of(each) for each in view.tools or ()] == [
        name_of(each) for each in Pipeline([ToolWindow(k=3, cap=8)]).session("b").view(messages, TOOLS).tools or ()
    ]


def test_a_view_that_fails_keeps_the_plan_it_had() -> None:
    """Also where the tools cannot be read, after a plan of the host was taken."""
    session = Pipeline(budget=10_000).session()
    history = [{"role": "user", "content": "hello"}]
    before = session.view(history).plan
    other = Plan().accept([Note("key", "value")], 0)
    with pytest.raises(ConfigError):
        session.view(history, [object()], plan=other)
    assert session.plan == before
    assert session.view(history).plan == before
