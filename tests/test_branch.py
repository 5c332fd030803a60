"""Branch: what a branch did leaves the view when it returns, its message stays, and no rule of branching is broken."""

from __future__ import annotations

import asyncio
import json
from copy import deepcopy
from types import MappingProxyType
from typing import Any

import pytest

from memctx.edits import Drop, Insert
from memctx.pipeline import Pipeline
from memctx.session import Session
from memctx.strategies.branch import BRANCH, RETURN, Branch, BranchTools
from memctx.testing.strategies import CASES, HISTORIES, StrategyTests
from memctx.validity import check

PROMPT = [{"role": "system", "content": "You look."}, {"role": "user", "content": "Compare the two halls."}]
OPEN = {"description": "look at one hall", "prompt": "Find all parts in hall 1."}


class TestBranch(StrategyTests):
    @pytest.fixture
    def strategy(self) -> Any:
        return Branch(budget=300)

    @pytest.fixture(params=CASES, ids=str)
    def case(self, request: pytest.FixtureRequest) -> Any:
        """The suite's histories, in which calls become branches of four steps; the last may be open."""
        messages, made = deepcopy(HISTORIES[request.param[0]]), 0
        for message in messages:
            for call in message.get("tool_calls", ()):
                if made % 5 in (0, 4):
                    name, given = (BRANCH, OPEN) if made % 5 == 0 else (RETURN, {"message": "12 parts"})
                    call["function"] = {"name": name, "arguments": json.dumps(given)}
                made += 1
        return messages, request.param[1]


def size(text: str) -> int:
    return len(text) // 4 + 1


class Agent:
    """A loop: the history, the session that shows it, and the tools that it runs."""

    def __init__(self, strategy: Branch | None = None, **settings: Any) -> None:
        strategy = strategy or Branch()
        self.session: Session = Pipeline(
            [strategy], counter=size, edit_when="always", **{"budget": 50_000, **settings}
        ).session()
        self.tools: BranchTools = strategy.tools(lambda: self.session.transcript)
        self.messages: list[dict[str, Any]] = list(PROMPT)
        self.ran: list[str] = []
        self.view()

    def view(self) -> list[Any]:
        self.shown = self.session.view(list(self.messages)).messages
        assert check(self.shown, "openai-chat") == []
        return self.shown

    def turn(self, *calls: tuple[str, dict[str, Any]], text: str = "") -> list[str]:
        """One model message with these calls, run in order; what they answered."""
        made = [
            {
                "id": f"c{len(self.ran) + n}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(given)},
            }
            for n, (name, given) in enumerate(calls)
        ]
        answers = [self.run(name, json.dumps(given)) for name, given in calls]
        self.messages.append({"role": "assistant", "content": text or None, "tool_calls": made})
        for call, answer in zip(made, answers, strict=True):
            self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": answer})
        self.view()
        return answers

    def run(self, name: str, arguments: str) -> str:
        self.ran.append(name)
        return self.tools(name, arguments) if name in self.tools.names else f"{name}: shelf {len(self.ran)} " * 30

    def branch(self, steps: int, message: str = "Hall 1 holds PX-1 and PX-7.") -> None:
        self.turn((BRANCH, OPEN))
        for _ in range(steps):
            self.turn(("look", {}))
        self.turn((RETURN, {"message": message}))

    def drops(self) -> list[Drop]:
        return [edit for edit in self.session.plan.edits if isinstance(edit, Drop)]


def test_a_branchs_steps_leave_and_its_message_stays() -> None:
    agent = Agent()
    agent.turn(("look", {}))
    before = list(agent.shown)
    agent.branch(4)
    assert agent.shown[: len(before)] == before  # the prefix is good up to the branch
    rest = agent.shown[len(before) :]
    assert [message["role"] for message in rest] == ["assistant", "tool", "user", "assistant", "tool"]
    assert rest[0]["tool_calls"][0]["function"]["name"] == BRANCH
    assert "Branch 1 of 10 is open" in rest[1]["content"]
    assert rest[2]["content"] == "[cut r1] 4 earlier steps"
    assert rest[3] is agent.messages[-2]  # the model's own message, untouched
    assert "PX-7" in rest[3]["tool_calls"][0]["function"]["arguments"]
    hidden = json.loads(agent.session.reopen("r1"))
    assert hidden == agent.messages[6:14]


def test_nothing_leaves_before_it_returns() -> None:
    agent = Agent()
    agent.turn((BRANCH, OPEN))
    for _ in range(3):
        agent.turn(("look", {}))
        assert agent.shown == agent.messages


def test_there_is_no_branch_in_a_branch_and_no_return_from_the_main_thread() -> None:
    agent = Agent()
    assert "main thread" in agent.turn((RETURN, {"message": "done"}))[0]
    agent.turn((BRANCH, OPEN))
    assert "no branch in a branch" in agent.turn((BRANCH, OPEN))[0]
    agent.turn(("look", {}))
    agent.turn((RETURN, {"message": "It is empty."}))
    assert len(agent.drops()) == 1
    assert [m["tool_calls"][0]["function"]["name"] for m in agent.shown if m.get("tool_calls")] == [
        RETURN,
        BRANCH,
        RETURN,
    ]


def test_two_branches_in_one_message_are_one_and_the_second_is_told() -> None:
    agent = Agent()
    first, second = agent.turn((BRANCH, OPEN), (BRANCH, {**OPEN, "prompt": "Hall 2."}))
    assert "is open" in first
    assert "no branch in a branch" in second
    agent.turn(("look", {}))
    agent.turn((RETURN, {"message": "It is empty."}))
    assert len(agent.drops()) == 1


def test_a_call_run_twice_has_the_same_answer_and_one_effect() -> None:
    agent = Agent()
    assert agent.tools(BRANCH, OPEN) == agent.tools(BRANCH, json.dumps(OPEN))
    agent.branch(2)
    assert len(agent.drops()) == 1


def test_a_branch_closed_in_the_message_that_opened_it_is_none() -> None:
    agent = Agent()
    _, answer = agent.turn((BRANCH, OPEN), (RETURN, {"message": "At once."}))
    assert "main thread" in answer
    agent.turn(("look", {}))
    agent.turn((RETURN, {"message": "Now."}))
    assert len(agent.drops()) == 1


def test_past_the_most_it_goes_on_alone() -> None:
    agent = Agent(Branch(most=3))
    for number in range(3):
        agent.branch(2, f"Hall {number}.")
    assert "go on alone" in agent.turn((BRANCH, OPEN))[0]
    agent.turn(("look", {}))
    assert "main thread" in agent.turn((RETURN, {"message": "done"}))[0]
    assert len(agent.drops()) == 3
    assert agent.shown[-4] == agent.messages[-4]


@pytest.mark.parametrize("given", [{}, {"message": ""}, {"message": " "}, {"message": 3}, [], "no json"])
def test_a_bad_call_is_told_and_does_nothing(given: Any) -> None:
    agent = Agent()
    agent.turn((BRANCH, OPEN))
    agent.turn(("look", {}))
    assert agent.turn((RETURN, given))[0].startswith("Error: return needs message as text")
    assert agent.drops() == []
    assert agent.tools("fold", {}) == "Error: there is no tool 'fold' here: branch and return are."
    agent.turn((RETURN, {"message": "Done."}))
    assert len(agent.drops()) == 1


def test_arguments_may_be_any_mapping_and_hold_more_than_is_asked_for() -> None:
    more: dict[Any, Any] = {**OPEN, 3: {"x": 1, 2: None}}
    assert Agent().tools(BRANCH, more) == Agent().tools(BRANCH, MappingProxyType(OPEN)) == Agent().tools(BRANCH, OPEN)
    assert "is open" in Agent().tools(BRANCH, more)


def test_a_branch_over_its_budget_is_asked_for_a_report_once_a_budget() -> None:
    agent = Agent(Branch(budget=500))
    agent.turn((BRANCH, OPEN))
    before = len(agent.session.plan.edits)
    asked = []
    for _ in range(12):
        agent.turn(("look", {}))
        asked.append(sum(isinstance(edit, Insert) for edit in agent.session.plan.edits[before:]))
        assert agent.session.view(list(agent.messages)).messages == agent.shown
    assert asked[0] == 0
    assert asked == [number // 4 for number in range(1, 13)]  # a step has some 130 tokens
    assert "used up its 500 tokens. Call return now" in str(agent.shown)
    agent.turn((RETURN, {"message": "Half is done."}))
    assert "used up its" not in str(agent.shown)  # the reminders leave with the branch


def test_the_budget_is_at_most_half_of_the_view() -> None:
    agent = Agent(budget=1_200)
    agent.turn((BRANCH, OPEN))
    for _ in range(7):
        agent.turn(("look", {}))
    assert "used up its 600 tokens" in str(agent.shown)


def test_what_the_user_says_in_a_branch_stays() -> None:
    agent = Agent()
    agent.turn((BRANCH, OPEN))
    agent.turn(("look", {}))
    agent.messages += [{"role": "assistant", "content": "Which shelf?"}, {"role": "user", "content": "Never shelf 3."}]
    agent.turn(("look", {}))
    agent.turn((RETURN, {"message": "Shelf 2."}))
    agent.messages.append({"role": "user", "content": "Thanks, go on."})
    assert {"role": "user", "content": "Never shelf 3."} in agent.view()
    assert len(agent.drops()) == 2


def test_pins_in_a_branch_stay() -> None:
    agent = Agent(pins=["shelf 3"])
    agent.branch(4)
    assert sum("shelf 3" in str(message.get("content")) for message in agent.shown) == 1


def test_a_fork_and_a_restart_come_to_the_same() -> None:
    agent = Agent()
    agent.branch(3)
    agent.branch(2, "Hall 2 is empty.")
    session = Pipeline([Branch()], budget=50_000, edit_when="always", counter=size).session()
    assert session.view(agent.messages).messages == agent.shown  # the plan anew, from the transcript alone
    half = next(n for n, message in enumerate(agent.messages) if "Branch 2" in str(message["content"]))
    other = [*agent.messages[: half + 1], {"role": "assistant", "content": "I stop here."}]
    view = agent.session.view(other)
    assert view.messages[-3:] == other[-3:]
    assert len(view.handles) == 1
    assert agent.tools(RETURN, {"message": "From here."}).startswith("You are back")


def test_async_is_the_same() -> None:
    agent = Agent()
    agent.branch(3)
    session = Pipeline([Branch()], budget=50_000, edit_when="always", counter=size).session()
    assert asyncio.run(session.aview(agent.messages)).messages == agent.shown


def test_the_tools_are_plain_functions_for_a_host() -> None:
    schemas = {schema["function"]["name"]: schema["function"] for schema in Agent().tools.schemas}
    assert set(schemas) == {BRANCH, RETURN}
    assert schemas[BRANCH]["parameters"]["required"] == ["description", "prompt"]
    view = Agent().session.view(PROMPT, Agent().tools.schemas)
    assert check(view.messages, "openai-chat") == []
