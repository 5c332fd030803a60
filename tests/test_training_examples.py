"""Training scripts in small form, and a policy that one of them trains at work under an agent.

`supo.py` is run by tests/test_treasure.py, `memagent.py` by tests/test_chunked.py.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch")

from examples.training import keep_policy, supo
from memctx import Pipeline
from memctx.effects import Generate
from memctx.replay import replay
from memctx.strategies.summarize import Summarize
from memctx.train import serve
from memctx.train.acting import Stage
from memctx.train.codec import Tape
from memctx.train.draws import mixed
from memctx.train.envs.treasure import Treasure
from memctx.train.models import Causal, tiny
from memctx.train.serve import Trained
from memctx.train.trainer import train
from memctx.validity import check
from tests.servers import Call, Reply, strict_server

SEED = 5
ROOMS = Treasure(rooms=24, fewest=24).start(1).texts
FILLER = "the walls are damp and it is dark in here " * 20  # no symbol of the hunt's


def run(root: Path, script: str, *options: str) -> dict[str, Any]:
    """The script's last line."""
    command = [sys.executable, str(root / "examples/training" / script), "--json", *options]
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900, env=env)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


# Scripts ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_agent_omit_learns_to_leave_out_more_and_loses_nothing(root: Path, tmp_path: Path) -> None:
    found = run(root, "omit.py", "--quick", "--out", str(tmp_path))
    copied, trained = found["copied"], found["trained"]
    assert trained["left_out"] >= copied["left_out"] + 0.1
    assert trained["success"] >= copied["success"] - 0.05
    assert trained["peak"] < copied["peak"]
    assert serve.load(tmp_path).limit("agent") == 4


@pytest.mark.slow
def test_mem_alpha_learns_what_to_write(root: Path, tmp_path: Path) -> None:
    found = run(root, "mem_alpha.py", "--quick", "--out", str(tmp_path))
    assert found["trained"] > found["recency"]
    assert serve.load(tmp_path / "writer-0").limit("agent") == 1


@pytest.mark.slow
def test_a_keep_policy_is_taught_and_used(root: Path, tmp_path: Path) -> None:
    """Its folder is the one argument that puts it to use; in the shadow of the rules it changes nothing."""
    found = run(root, "keep_policy.py", "--out", str(tmp_path))
    used = {each["pipeline"]: each for each in found["used"]}
    assert found["closed"] > 0.5
    assert used["learned"]["recall"] > used["rules"]["recall"] + 0.5
    assert (used["shadow"]["recall"], used["shadow"]["money"]) == (used["rules"]["recall"], used["rules"]["money"])
    runs = keep_policy.record(tmp_path / "orders.jsonl")
    (row,) = replay([runs], {"learned": keep_policy.pipeline(str(tmp_path))}, price="none", jobs=1)
    assert row.recall == used["learned"]["recall"]
    assert row.violations == 0


# At work ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Causal, Stage, Path]:
    """A policy after three steps of `supo.py`, and where it was saved; its notes may have a few symbols."""
    folder = tmp_path_factory.mktemp("supo")
    stage = replace(supo.stage(*supo.ARMS["supo"]), limits={"summarize": 6})
    policy = tiny(supo.CODEC, width=32, layers=1, context=1_024, seed=1)
    train(policy, stage, supo.algorithm(), steps=3, tasks=2, lr=3e-3, evaluate_tasks=1)
    serve.save(policy, stage, folder)
    return policy, stage, folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Generate]:
    """All that trained policies are asked."""
    found, answer = list[Generate](), Trained.__call__

    def noted(self: Trained, effect: Generate) -> str:
        found.append(effect)
        return answer(self, effect)

    monkeypatch.setattr(Trained, "__call__", noted)
    return found


def pipeline() -> Pipeline:
    return Pipeline([Summarize(at=0.5, keep=2, min_tokens=200, min_words=1)], budget=2_000)


def room(step: int) -> str:
    return f"step {step} of {len(ROOMS) - 1}: {ROOMS[step]} {FILLER}"


def drawn(policy: Causal, stage: Stage, asked: list[Generate]) -> list[str]:
    """What the policy itself, never saved, draws by the same seed when it is asked the same."""
    prompts = [Tape(stage.codec).prompt(effect.messages) for effect in asked]
    found = [
        policy.sample([prompt], tokens=stage.limit("summarize"), stop=stage.codec.stop, seeds=[mixed(SEED, *prompt)])
        for prompt in prompts
    ]
    return [stage.codec.text(each.ids).strip() for (each,) in found]


def notes(view: str) -> list[str]:
    """The notes of summaries in a request."""
    return re.findall(r"## Notes\n(.*)\n</memctx-summary>", view)


def check_notes(trained: tuple[Causal, Stage, Path], asked: list[Generate], views: list[str]) -> None:
    policy, stage, _ = trained
    shown = [note for view in views for note in notes(view)]
    assert len(set(shown)) > 1, "it was summarised more than once"
    assert set(shown) <= set(drawn(policy, stage, asked))


def test_it_serves_a_langgraph_agent(trained: tuple[Causal, Stage, Path], asked: list[Generate]) -> None:
    pytest.importorskip("langchain")
    from langchain.agents import create_agent
    from langchain_core.messages import HumanMessage
    from langchain_core.tools import tool

    from memctx.adapters.langchain import ContextMiddleware
    from tests.scripted import Scripted

    @tool
    def walk(step: int, steps: int) -> str:
        """The next room."""
        return room(step)

    model, middleware = Scripted(), ContextMiddleware(pipeline(), generate=Trained(trained[2], sample=True, seed=SEED))
    agent: Any = create_agent(model, [walk], middleware=[middleware])
    done = agent.invoke({"messages": [HumanMessage(f"walk {len(ROOMS) - 1}")]}, {"recursion_limit": 200})
    assert done["messages"][-1].content == "all done now"
    assert not [found for messages, tools in model.seen for found in check(messages, tools=tools)]
    check_notes(trained, asked, ["\n".join(str(message.content) for message in messages) for messages, _ in model.seen])


def test_it_serves_an_openai_loop(trained: tuple[Causal, Stage, Path], asked: list[Generate]) -> None:
    pytest.importorskip("openai")
    import httpx2
    import openai

    from memctx.adapters.http import Transport

    def player(body: dict[str, Any]) -> Reply:
        seen = [int(step) for step in re.findall(r"step (\d+) of", json.dumps(body["messages"]))]
        return Reply(calls=(Call("walk", json.dumps({"step": max(seen, default=0) + 1})),))

    schema = {"type": "object", "properties": {"step": {"type": "integer"}}, "required": ["step"]}
    tool: Any = {
        "type": "function",
        "function": {"name": "walk", "description": "The next room.", "parameters": schema},
    }
    history: list[Any] = [{"role": "user", "content": "Walk."}]
    session = pipeline().session(generate=Trained(trained[2], sample=True, seed=SEED))
    with strict_server(player) as server:
        http = httpx2.Client(transport=Transport(session))
        with openai.OpenAI(api_key="k", base_url=f"{server.url}/v1", http_client=http) as client:
            for _ in range(len(ROOMS) - 1):
                said: Any = client.chat.completions.create(model="m", messages=history, tools=[tool]).choices[0].message
                (call,) = said.tool_calls
                text = room(json.loads(call.function.arguments)["step"])
                history += [
                    said.model_dump(exclude_none=True),
                    {"role": "tool", "tool_call_id": call.id, "content": text},
                ]
    assert server.refused == 0
    requests = ["\n".join(str(m.get("content")) for m in body["messages"]) for body in server.requests]
    check_notes(trained, asked, requests)
