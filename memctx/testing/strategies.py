"""What every strategy keeps to. Give the fixture `strategy` an instance and subclass `StrategyTests`."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from memctx import component
from memctx.component import Component
from memctx.edits import Clear, Drop, Edit, Note, Replace, dump, marker
from memctx.effects import Embed, Forget, Generate, Handlers, Recall, Remember, drive
from memctx.plan import Plan
from memctx.strategies import Context
from memctx.testing._contexts import make_context

ANSWERS = Handlers(
    {
        Generate: lambda _: "Goal: find the parts. Done: some were looked up. Open: the rest.",
        Embed: lambda effect: [[float(len(text)), 1.0] for text in effect.texts],
        Recall: lambda _: [],
        Remember: lambda effect: [record.get("id", "") for record in effect.records],
        Forget: lambda _: None,
    }
)


def call(number: int, **arguments: Any) -> dict[str, Any]:
    """A tool call in OpenAI chat form."""
    function = {"name": "lookup", "arguments": json.dumps(arguments or {"part": f"part-{number:05}"})}
    return {"id": f"call_{number}", "type": "function", "function": function}


def result(number: int, rows: int = 12) -> dict[str, Any]:
    """Its result: JSON records with identifiers."""
    records = [
        {"id": f"PX-{number:04}-{row}", "price": 10.5 * row, "note": f"shelf {row} of hall {number}, checked by hand"}
        for row in range(rows)
    ]
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": json.dumps({"parts": records})}


def run(steps: int, *, parallel: int = 1, rows: int = 12, pending: bool = False) -> list[dict[str, Any]]:
    """A tool loop: system, task, `steps` assistant turns with `parallel` calls each, and a user in the middle."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You look up parts. Never order anything."},
        {"role": "user", "content": "Find all parts of order ORD-778 and report."},
    ]
    for step in range(steps):
        if step == steps // 2:
            messages.append({"role": "user", "content": "Also look at hall 7."})
        numbers = range(step * parallel, (step + 1) * parallel)
        text = f"Step {step}: looking."
        messages.append({"role": "assistant", "content": text, "tool_calls": [call(number) for number in numbers]})
        if not (pending and step == steps - 1):
            messages += [result(number, rows) for number in numbers]
    return messages


HISTORIES: dict[str, list[dict[str, Any]]] = {
    "one message": [{"role": "user", "content": "hello"}],
    "no tools": [{"role": role, "content": f"turn {n} " * 40} for n in range(12) for role in ("user", "assistant")],
    "loop": run(20),
    "parallel": run(6, parallel=4),
    "pending": run(9, pending=True),
    "tiny results": run(15, rows=0),
    "large results": run(4, rows=100),
    "orphan": [*run(4), {"role": "tool", "tool_call_id": "nobody", "content": "late " * 300}, *run(3)[2:]],
}
CASES = [*((name, 1_000) for name in HISTORIES), ("loop", 300), ("loop", 100_000), ("large results", 5_000)]


def proposed(strategy: Any, ctx: Context) -> list[Edit]:
    """What a strategy proposes, its effects answered by stand-ins."""
    edits: list[Edit] = drive(strategy.propose(ctx), ANSWERS)
    return edits


class StrategyTests:
    """Promises of a strategy over a set of histories and limits; no pipeline takes part."""

    @pytest.fixture
    def strategy(self) -> Any:
        raise NotImplementedError("give the fixture `strategy` an instance")

    @pytest.fixture(params=CASES, ids=str)
    def case(self, request: pytest.FixtureRequest) -> tuple[list[dict[str, Any]], int]:
        """A history and a limit in tokens."""
        name, limit = request.param
        return deepcopy(HISTORIES[name]), limit

    def test_config_round_trip(self, strategy: Component) -> None:
        data = json.loads(json.dumps(strategy.dump()))
        assert component.load("strategies", data) == strategy

    def test_only_what_exists_and_is_not_protected(self, strategy: Any, case: Any) -> None:
        ctx = make_context(case[0], limit=case[1])
        for edit in proposed(strategy, ctx):
            if isinstance(edit, Clear):
                message = ctx.transcript.find(edit.target)
                assert message is not None
                assert not ctx.protected(message)
            elif isinstance(edit, Drop | Replace):
                assert ctx.transcript.position[edit.first] <= ctx.transcript.position[edit.last]

    def test_nothing_protected_by_a_pin_is_touched(self, strategy: Any, case: Any) -> None:
        ctx = make_context(case[0], limit=case[1], pinned=lambda message: message.role == "tool")
        targets = {edit.target for edit in proposed(strategy, ctx) if isinstance(edit, Clear)}
        assert not targets & {message.id for message in ctx.transcript.messages if message.role == "tool"}

    def test_what_is_shown_is_shorter_and_marked(self, strategy: Any, case: Any) -> None:
        ctx = make_context(case[0], limit=case[1])
        for edit in proposed(strategy, ctx):
            if isinstance(edit, Clear):
                assert ctx.count(edit.content) < ctx.count(_text(ctx, edit))
                assert edit.handle in edit.content
                mark = marker(edit.handle)
                assert edit.call or edit.content.startswith(mark) or edit.content.endswith(mark)

    def test_handles_are_new_and_unique(self, strategy: Any, case: Any) -> None:
        ctx = make_context(case[0], Plan(serial=41), limit=case[1])
        handles = [e.handle for e in proposed(strategy, ctx) if isinstance(e, Clear | Drop | Replace)]
        assert len(handles) == len(set(handles))
        assert all(41 < int(handle[1:]) <= ctx.serial for handle in handles)

    def test_risk_is_a_chance(self, strategy: Any, case: Any) -> None:
        for edit in proposed(strategy, make_context(case[0], limit=case[1])):
            assert 0.0 <= getattr(edit, "risk", 0.0) <= 1.0

    def test_deterministic_and_changes_nothing(self, strategy: Any, case: Any) -> None:
        messages, limit = case
        before = deepcopy(messages)
        ctx = make_context(messages, limit=limit)
        first = proposed(strategy, ctx)
        assert messages == before
        assert ctx.plan == Plan()
        assert proposed(strategy, make_context(messages, limit=limit)) == first

    def test_offered_again_until_accepted(self, strategy: Any, case: Any) -> None:
        memo: dict[str, Any] = {}
        ctx = make_context(case[0], limit=case[1], memo=memo)
        first = proposed(strategy, ctx)
        again = make_context(case[0], limit=case[1], memo=memo, transcript=ctx.transcript)
        assert [_place(edit) for edit in proposed(strategy, again)] == [_place(edit) for edit in first]

    @pytest.mark.parametrize("restart", [False, True], ids=["same process", "new process"])
    def test_idempotent_once_accepted(self, strategy: Any, case: Any, restart: bool) -> None:
        messages, limit = case
        memo: dict[str, Any] = {}
        ctx = make_context(messages, limit=limit, memo=memo)
        edits = proposed(strategy, ctx)
        if not edits:
            return
        plan = Plan.from_dict(json.loads(json.dumps(Plan().accept(edits, ctx.serial).to_dict())))
        later = make_context(messages, plan, limit=limit, memo={} if restart else memo)
        assert [dump(edit) for edit in proposed(strategy, later) if not isinstance(edit, Note)] == []


def _place(edit: Edit) -> tuple[str, ...]:
    """What an edit acts on; a new handle for the same is no other edit."""
    fields = dump(edit)
    return tuple(
        str(fields.get(name, "")) for name in ("kind", "target", "call", "first", "last", "after", "tools", "key")
    )


def _text(ctx: Context, edit: Clear) -> str:
    message = ctx.transcript.find(edit.target)
    assert message is not None
    if edit.call:
        return next(c.arguments for c in message.calls if c.id == edit.call)
    return message.text
