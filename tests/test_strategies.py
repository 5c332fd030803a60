"""Every strategy through the shared suite, and what each of the deterministic ones promises beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memctx import component
from memctx.budget import Budget
from memctx.component import Component
from memctx.edits import Clear, Drop, Replace, marker
from memctx.effects import Handlers, Remember, drive
from memctx.errors import ConfigError, NotFound
from memctx.pipeline import Pipeline
from memctx.plan import Plan
from memctx.policies import Features
from memctx.policies.rules import Rules
from memctx.reopen import ReopenTool
from memctx.strategies.clear import ClearResults
from memctx.strategies.discard import DiscardAll
from memctx.strategies.offload import Offload
from memctx.strategies.skim import Skim
from memctx.strategies.truncate import Truncate
from memctx.strategies.window import SlidingWindow
from memctx.testing._contexts import make_context
from memctx.testing.strategies import StrategyTests, call, proposed, result, run


class TestEveryStrategy(StrategyTests):
    @pytest.fixture(params=component.names("strategies"))
    def strategy(self, request: pytest.FixtureRequest) -> Component:
        return component.find("strategies", request.param)()


EAGER = {
    "clear": ClearResults(keep=0, high=1),
    "clear with inputs": ClearResults(keep=1, inputs=True, exclude=("other",), placeholder=""),
    "window": SlidingWindow(W=1, S=1),
    "discard": DiscardAll(at=0.0),
    "offload": Offload(over=20, preview=100, store=True),
    "skim outline": Skim(level=1, keep=2),
    "truncate": Truncate(high=0.01, low=0.01, keep=1),
}


class TestEager(StrategyTests):
    @pytest.fixture(params=list(EAGER.values()), ids=list(EAGER))
    def strategy(self, request: pytest.FixtureRequest) -> Any:
        return request.param


def cleared(edits: Any) -> list[str]:
    return [edit.target for edit in edits if isinstance(edit, Clear) and not edit.call]


def results_of(ctx: Any) -> list[str]:
    return [message.id for message in ctx.transcript.messages if message.role == "tool"]


def grow(strategy: Any, messages: list[Any], *, accept: bool) -> tuple[Plan, Any, list[Any]]:
    """Propose before each model call of a run; returns the last plan, context and proposals."""
    plan, memo, ctx = Plan(), dict[str, Any](), make_context(messages[:1])
    transcript, edits = ctx.transcript, list[Any]()
    ends = [n for n, message in enumerate(messages) if message["role"] == "assistant"] + [len(messages)]
    for end in ends:
        ctx = make_context(messages[:end], plan, transcript=transcript, memo=memo)
        transcript, edits = ctx.transcript, proposed(strategy, ctx)
        if accept and edits:
            plan = plan.accept(edits, ctx.serial)
    return plan, ctx, edits


# -- clear


def test_clear_keeps_the_newest_and_the_excluded() -> None:
    ctx = make_context(run(6))
    assert set(cleared(proposed(ClearResults(keep=2), ctx))) == set(results_of(ctx)[:-2])
    assert proposed(ClearResults(exclude=("lookup",)), make_context(run(6))) == []


def test_what_the_library_cuts_itself_is_the_newest_result_last() -> None:
    messages: list[Any] = [{"role": "user", "content": "Compare them."}]
    for number, rows in enumerate((30, 30, 30, 40)):
        messages += [{"role": "assistant", "content": "", "tool_calls": [call(number)]}, result(number, rows)]
    session = Pipeline([], budget=2_600, counter=lambda text: len(text) // 4 + 1).session()
    shown = session.view(messages).messages
    assert shown[-1] == messages[-1]
    assert shown != messages


def test_clear_waits_for_high_and_stops_at_low() -> None:
    whole = make_context(run(12)).tokens
    assert proposed(ClearResults(high=whole + 1), make_context(run(12))) == []
    ctx = make_context(run(12))
    edits = proposed(ClearResults(high=whole, low=whole // 2), ctx)
    after = make_context(run(12), Plan().accept(edits, ctx.serial)).tokens
    one = make_context(run(12), Plan().accept(edits[:-1], ctx.serial)).tokens
    assert after <= whole // 2 < one


def test_clear_of_inputs_leaves_valid_json() -> None:
    messages = run(6)
    messages[2]["tool_calls"] = [call(0, text="a long text to write " * 40)]
    edits = proposed(ClearResults(keep=2, inputs=True), make_context(messages))
    inputs = [edit for edit in edits if isinstance(edit, Clear) and edit.call]
    assert [json.loads(edit.content) for edit in inputs] == [{"cut": edit.handle} for edit in inputs]
    assert "call_0" in {edit.call for edit in inputs}


def test_clear_goes_deeper_only_where_something_is_left() -> None:
    messages = run(8)
    ctx = make_context(messages)
    plan = Plan().accept(proposed(ClearResults(), ctx), ctx.serial)
    assert proposed(ClearResults(placeholder=""), make_context(messages, plan)) == []


def test_marks_in_the_wrong_order_are_named() -> None:
    with pytest.raises(ConfigError, match="low"):
        ClearResults(high=10, low=20)
    with pytest.raises(ConfigError, match="S=4"):
        SlidingWindow(W=3, S=4)
    with pytest.raises(ConfigError, match="low"):
        Truncate(high=0.3, low=0.5)


BAD_SETTINGS: list[tuple[Callable[[], object], str]] = [
    (lambda: ClearResults(keep=-1), r"ClearResults.keep = -1: .*greater than or equal to 0"),
    (lambda: Truncate(depth=3), r"Truncate.depth = 3: unknown field; known: high, low"),  # type: ignore[call-arg]
    (lambda: Budget(tokens=100, reserve=100), "reserve=100 leaves nothing of 100 tokens"),
    (lambda: Budget(tokens=True), "Budget.tokens = True: .*integer"),
    (lambda: Budget(fraction=0.5, model="gpt-99"), "window of model 'gpt-99' is not known: give Budget"),
]


@pytest.mark.parametrize(("make", "said"), BAD_SETTINGS)
def test_a_bad_setting_is_one_error_of_ours(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(NotFound, match="rules"):
        ClearResults(policy="nobody")


# -- window


@given(st.integers(1, 8).flatmap(lambda w: st.tuples(st.just(w), st.integers(1, w))), st.integers(0, 14))
def test_window_is_the_rule_in_index_form(ws: tuple[int, int], responses: int) -> None:
    w, s = ws
    messages = run(responses, rows=4)[:-1] if responses == 0 else run(responses, rows=4)
    _, ctx, _ = grow(SlidingWindow(W=w, S=s), [*messages, {"role": "user", "content": "go on"}], accept=True)
    slides, live = 0, 0  # the rule as told: when W are live, the oldest S go
    for _ in range(responses):
        live += 1
        if live == w:
            slides, live = slides + 1, live - s
    done = {edit.target for edit in ctx.plan.edits} | set(cleared(proposed(SlidingWindow(W=w, S=s), ctx)))
    assert done == set(results_of(ctx)[: slides * s])


# -- discard, truncate


def test_discard_takes_all_but_the_newest_step_at_the_threshold() -> None:
    messages = [*run(5, parallel=2), {"role": "user", "content": "go on"}]
    tokens = make_context(messages).tokens
    ctx = make_context(messages, limit=tokens)
    assert cleared(proposed(DiscardAll(at=1.0), ctx)) == results_of(ctx)[:-2]
    assert proposed(DiscardAll(at=0.5), make_context(messages, limit=2 * tokens + 2)) == []


def test_truncate_grows_one_span_by_whole_steps() -> None:
    messages = run(20)
    ctx = make_context(messages, limit=4_000)
    (first,) = proposed(Truncate(), ctx)
    assert isinstance(first, Drop)
    plan = Plan().accept([first], ctx.serial)
    assert make_context(messages, plan).tokens <= 0.6 * 4_000 + 40
    later = make_context([*messages, *run(40)[45:]], plan, limit=4_000)
    (second,) = proposed(Truncate(), later)
    assert isinstance(second, Drop)
    assert second.first == first.first
    assert later.transcript.position[second.last] > later.transcript.position[first.last]
    assert len(plan.accept([second], later.serial).edits) == 1
    step = later.transcript.steps[later.transcript.position[second.last]]
    assert step.messages[-1].id == second.last


def test_truncate_leaves_a_summary_alone() -> None:
    messages = run(20)
    ctx = make_context(messages, limit=3_000)
    ids = [step.messages[0].id for step in ctx.transcript.steps]
    plan = Plan().accept([Replace(ids[2], ids[5], "summary", ctx.handle())], ctx.serial)
    (span,) = proposed(Truncate(), make_context(messages, plan, limit=3_000))
    assert isinstance(span, Drop)
    assert span.first == ids[6]


# -- offload


def test_offload_previews_head_and_tail_and_says_the_size() -> None:
    log = "\n".join(f"line {n} of the log, nothing to see" for n in range(400))
    messages = run(4)
    assert messages[3]["role"] == "tool"
    messages[3]["content"] = log
    ctx = make_context(messages)
    (edit,) = proposed(Offload(), ctx)
    assert isinstance(edit, Clear)
    assert f"Preview of {ctx.count(log)} tokens" in edit.content
    assert "line 0 of" in edit.content
    assert "line 399 of" in edit.content
    assert edit.content.endswith(marker(edit.handle))


@pytest.mark.parametrize("works", [True, False])
def test_offload_proposes_only_what_was_stored(works: bool) -> None:
    seen: list[Any] = []

    def remember(effect: Remember) -> list[str]:
        seen.extend(effect.records)
        if not works:
            raise OSError("disk full")
        return ["1"]

    memo: dict[str, Any] = {}
    for _ in range(2):
        ctx = make_context(run(3, rows=200), memo=memo)
        edits = drive(Offload(store=True).propose(ctx), Handlers({Remember: remember}))
        assert len(edits) == (2 if works else 0)
    assert len(seen) == (2 if works else 4)  # once each, or tried again
    assert seen[0]["text"] == run(3, rows=200)[3]["content"]


# -- skim


def test_skim_keeps_the_newest_step_whole_and_rewrites_nothing() -> None:
    plan, ctx, _ = grow(Skim(), run(10, parallel=2), accept=True)
    assert [edit.target for edit in plan.edits if isinstance(edit, Clear)] == results_of(ctx)[:-2]
    _, _, offered = grow(Skim(), run(10, parallel=2), accept=False)
    assert cleared(offered) == results_of(ctx)[:-2]


def test_skim_comes_to_the_same_whether_asked_at_each_call_or_once() -> None:
    plan, _, _ = grow(Skim(), run(12), accept=True)
    _, _, offered = grow(Skim(), run(12), accept=False)
    once = proposed(Skim(), make_context(run(12)))
    assert list(plan.edits) == offered == once


def test_skim_goes_on_after_a_restart() -> None:
    messages = run(12)
    half = next(n for n, message in enumerate(messages) if message.get("tool_call_id") == "call_6")
    plan, _, _ = grow(Skim(), messages[: half + 1], accept=True)
    ctx = make_context(messages, plan)
    rest = proposed(Skim(), ctx)
    whole, _, _ = grow(Skim(), messages, accept=True)
    assert [*plan.edits, *rest] == list(whole.edits)


def test_skim_keeps_handles_unique_when_others_take_numbers() -> None:
    messages, memo = run(10), dict[str, Any]()
    ctx = make_context(messages, memo=memo)
    mine = cleared(proposed(Skim(), ctx))
    other = Clear(mine[3], "gone [cut r1]", "r1")
    plan = Plan().accept([other], 1)
    later = make_context(messages, plan, memo=memo, transcript=ctx.transcript)
    again = [edit for edit in proposed(Skim(), later) if isinstance(edit, Clear)]
    assert len(again) == len(mine) - 1
    handles = ["r1", *(edit.handle for edit in again)]
    assert len(set(handles)) == len(handles)
    assert all(edit.content.endswith(marker(edit.handle)) for edit in again)


def test_skim_offers_anew_under_an_older_plan() -> None:
    messages, memo = run(8), dict[str, Any]()
    ctx = make_context(messages, memo=memo)
    mine = proposed(Skim(), ctx)
    later = make_context(messages, Plan().accept(mine, ctx.serial), memo=memo, transcript=ctx.transcript)
    assert proposed(Skim(), later) == []
    back = make_context(messages, Plan(), memo=memo, transcript=ctx.transcript)
    assert proposed(Skim(), back) == mine


def test_skim_takes_late_results_in_their_turn() -> None:
    messages = run(5, parallel=2)
    late = messages.pop(4)
    plan, ctx, _ = grow(Skim(), [*messages, late, {"role": "user", "content": "go on"}], accept=True)
    target = next(m.id for m in ctx.transcript.messages if m.call_id == late["tool_call_id"])
    assert target in cleared(plan.edits)


def test_skim_keeps_what_only_an_old_result_holds() -> None:
    messages = run(3, rows=30)
    ctx = make_context(messages)
    (first, _) = [edit for edit in proposed(Skim(), ctx) if isinstance(edit, Clear)]
    assert "PX-0000-7" in first.content


def test_skim_costs_the_same_at_each_call() -> None:
    messages, counted = run(60), list[int]()
    transcript, memo = None, dict[str, Any]()
    for end in range(20, len(messages), 2):
        ctx = make_context(messages[:end], transcript=transcript, memo=memo)
        transcript, inner, calls = ctx.transcript, ctx.count, [0]

        def count(text: str, inner: Any = inner, calls: list[int] = calls) -> int:
            calls[0] += 1
            return int(inner(text))

        ctx.count = count
        proposed(Skim(), ctx)
        counted.append(calls[0])
    assert max(counted[1:]) <= 4


# -- policy


def features(**given: Any) -> Features:
    return Features(**{"age": 3, "tokens": 100, "words": 10, "unique": 2, "referred": 1, "error": False, **given})


def test_rules_prefer_what_is_new_unique_and_used() -> None:
    score = Rules().score
    for worse, better in pairwise(
        [features(error=True), features(), features(unique=8), features(unique=8, referred=4)]
    ):
        assert score([worse])[0] < score([better])[0]
    assert score([features(age=9)])[0] < score([features(age=1)])[0]
    recency = Rules(order="recency").score([features(age=2), features(age=1, unique=0)])
    assert recency[0] < recency[1]


def test_a_choice_is_recorded_with_its_features() -> None:
    messages = run(8)
    messages[-4]["tool_calls"] = [call(6, part="PX-0000-3")]
    ctx, seen = make_context(messages), list[Any]()
    ctx.record = seen.append
    edits = proposed(ClearResults(keep=3), ctx)
    (record,) = seen
    by_target = dict(zip(record["targets"], record["features"], strict=True))
    oldest = results_of(ctx)[0]
    age, _, words, unique, referred, error = by_target[oldest]
    assert (age, words - unique, referred, error) == (7, 4, 1, 0.0)  # three keys and the part that was used
    assert cleared(edits) == [record["targets"][place] for place in record["order"]]


def test_what_a_cleared_result_held_is_alone_again_elsewhere() -> None:
    messages = run(6)
    messages[5]["content"] = result(0)["content"]  # the second lookup of a run repeats the first
    first = make_context(messages)
    target = results_of(first)[0]
    plan = Plan().accept([Clear(target, "[cut r1]", "r1")], 1)
    seen: list[Any] = []
    memo: dict[str, Any] = {}
    for now in (Plan(), plan):
        ctx = make_context(messages, now, memo=memo, transcript=first.transcript)
        ctx.record = seen.append
        proposed(ClearResults(keep=1), ctx)
    twin = next(m.id for m in first.transcript.messages if m.role == "tool" and m.id != target)
    unique = [dict(zip(r["targets"], r["features"], strict=True))[twin][3] for r in seen]
    assert unique[0] == 0
    assert unique[1] >= 12


# -- what a model reopens


def test_reopening_finds_places_and_pages() -> None:
    whole = "head\n" + "filler " * 500 + "the Needle is here\n" + "filler " * 500 + "\nneedle again"
    tool = ReopenTool({"r1": whole}.__getitem__, lambda text: len(text) // 4, max_tokens=300)
    found = tool("[cut r1]", find="NEEDLE")
    assert "the Needle is here" in found
    assert "needle again" in found
    assert len(found) < 1_400
    assert tool("r1", find="head").startswith("[offset 0] head\n")
    assert tool("r1", find="absent").startswith("'absent' does not stand in the")
    pages, page, offset = "", "", 0
    while not page or "more characters: offset" in page:
        page = tool("r1", offset)
        text = page.partition("\n[")[0] if "more characters: offset" in page else page
        pages, offset = pages + text, offset + len(text)
    assert pages == whole
