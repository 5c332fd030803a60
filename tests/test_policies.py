"""Policies: what they read, what they are loaded from, and what strategies do with what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memctx import Pipeline
from memctx.edits import Clear
from memctx.errors import ConfigError, NotFound
from memctx.messages import Message
from memctx.policies import _weights
from memctx.policies._features import COLUMNS, Rows
from memctx.policies.linear import Linear
from memctx.policies.mlp import Mlp
from memctx.strategies import _choose
from memctx.strategies.clear import ClearResults
from memctx.strategies.offload import Offload
from memctx.strategies.skim import Skim

TOKENS = COLUMNS.index("tokens")


def history(steps: int = 6) -> list[dict[str, Any]]:
    """An agent that looks up orders; each later call uses an identifier of the result before."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Cancel my broken order and refund card_7001."}]
    for n in range(steps):
        call = {
            "id": f"c{n}",
            "type": "function",
            "function": {"name": "get_order", "arguments": json.dumps({"id": f"ORD-{n}X"})},
        }
        body = {"order_id": f"ORD-{n + 1}X", "items": [f"item_{n}_{k}" for k in range(6)], "note": "shipped " * 40}
        messages.append({"role": "assistant", "content": f"Looking at order {n}.", "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{n}", "content": json.dumps(body)})
    return messages


def parsed(messages: list[dict[str, Any]]) -> list[Message]:
    session = Pipeline([]).session()
    session.view(messages)
    return list(session.transcript.messages)


def rows_after(messages: list[Message]) -> np.ndarray[Any, np.dtype[np.float32]]:
    rows = Rows()
    rows.read(messages)
    return rows.matrix(range(len(rows)))


def written(folder: Path, weight: float = 0.0, bias: float = 0.0, column: int = TOKENS) -> str:
    """A linear policy that looks at one column."""
    weights = np.zeros((len(COLUMNS), 2), np.float32)
    weights[column, 0] = weight
    layers = [(weights, np.array([bias, -9.0], np.float32))]
    _weights.save(folder, layers, {"kind": "linear"})
    return str(folder)


class TestRows:
    def test_a_row_does_not_look_ahead(self) -> None:
        messages = parsed(history(8))
        for end in range(1, len(messages) + 1):
            whole, now = Rows(), Rows()
            whole.read(messages[:end])
            now.read(messages[:end])
            before = whole.matrix(range(len(whole)))
            now.read(messages)
            assert np.array_equal(before, rows_after(messages[:end]))
        assert not np.array_equal(rows_after(messages)[0], rows_after(messages[:4])[0]), "time does change a row"

    def test_read_in_parts_or_at_once_is_the_same(self) -> None:
        messages = parsed(history(20))
        slow = Rows()
        for end in range(len(messages) + 1):
            slow.read(messages[:end])
        assert np.array_equal(slow.matrix(range(len(slow))), rows_after(messages))

    def test_what_later_calls_use_waits_no_more(self) -> None:
        messages = parsed(history(3))
        before, after = rows_after(messages[:3])[0], rows_after(messages[:4])[0]
        waiting, referred = COLUMNS.index("waiting"), COLUMNS.index("referred")
        assert after[waiting] < before[waiting]
        assert after[referred] > before[referred]

    def test_rows_are_finite_for_odd_results(self) -> None:
        odd = ["", "{", "\x00" * 50, "a" * 100_000, '{"a": ' * 200, "null", "é" * 300]
        messages: list[dict[str, Any]] = [{"role": "user", "content": ""}]
        for n, text in enumerate(odd):
            call = {"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "not json"}}
            messages += [
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": f"c{n}", "content": text},
            ]
        found = rows_after(parsed(messages))
        assert found.shape == (len(odd), len(COLUMNS))
        assert np.isfinite(found).all()


class TestWeights:
    @pytest.mark.parametrize("policy", [Mlp(), Linear()])
    def test_the_default_ships_and_answers_with_chances(self, policy: Mlp | Linear) -> None:
        rows = rows_after(parsed(history()))
        needs = policy.needs(rows)
        assert needs.shape == (6, 2)
        assert ((needs >= 0) & (needs <= 1)).all()
        assert (needs[:, 1] <= needs[:, 0]).all()
        assert np.array_equal(needs, policy.needs(rows))
        assert ((policy.worth(rows) >= 0) & (policy.worth(rows) <= 1)).all()

    def test_the_default_s_card_names_its_licences(self) -> None:
        card = _weights.card("default")
        assert "MIT" in card["note"]
        assert not any("sweagent" in each["file"] for each in card["files"])

    def test_saved_and_loaded_is_the_same(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        layers = [
            (rng.normal(size=(len(COLUMNS), 4)).astype(np.float32), np.zeros(4, np.float32)),
            (rng.normal(size=(4, 2)).astype(np.float32), np.ones(2, np.float32)),
        ]
        _weights.save(tmp_path, layers, {"kind": "mlp"})
        rows = rows_after(parsed(history()))
        assert np.array_equal(_weights.Net(tuple(layers))(rows), Mlp(dir=str(tmp_path)).needs(rows))

    def test_size_weighs_in(self, tmp_path: Path) -> None:
        policy = Linear(dir=written(tmp_path, bias=0.0))
        rows = np.zeros((2, len(COLUMNS)), np.float32)
        rows[:, TOKENS] = np.log1p([2_000, 32_000]) / 4
        assert policy.worth(rows) == pytest.approx([1 / 3, 1 / 17], rel=1e-3), "the odds of 0.5, and an eighth of them"

    def test_what_cannot_be_read_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound, match="train keep"):
            ClearResults(policy=str(tmp_path / "none"))
        where = written(tmp_path)
        card = json.loads((tmp_path / "card.json").read_text())
        (tmp_path / "card.json").write_text(json.dumps({**card, "columns": ["other"]}))
        with pytest.raises(ConfigError, match="other features"):
            ClearResults(policy=where)
        (tmp_path / "card.json").write_text(json.dumps(card))
        (tmp_path / "weights.npz").write_bytes(b"PK nonsense")
        with pytest.raises(ConfigError, match="weights"):
            Linear(dir=where)

    def test_values_that_are_not_finite_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="values"):
            Linear(dir=written(tmp_path, bias=float("nan")))

    def test_no_torch_is_needed_to_run(self) -> None:
        code = (
            "import sys; sys.modules['torch'] = None\n"
            "import memctx.policies.linear, memctx.policies.mlp\n"
            "from memctx.policies._features import COLUMNS\nimport numpy as np\n"
            "print(memctx.policies.mlp.Mlp().needs(np.zeros((3, len(COLUMNS)), np.float32)).shape)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == "(3, 2)", done.stderr


def edits(pipeline: Pipeline, messages: list[dict[str, Any]]) -> tuple[list[Clear], list[dict[str, Any]]]:
    session = pipeline.session("t")
    for end in range(2, len(messages) + 1):
        if messages[end - 1]["role"] != "assistant":
            session.view(messages[:end])
    return [e for e in session.plan.edits if isinstance(e, Clear)], [dict(r) for r in session.accounts.records]


def always(*strategies: Any) -> Pipeline:
    return Pipeline(list(strategies), edit_when="always")


class TestStrategies:
    def test_below_clears_what_is_worth_less_and_never_the_newest_step(self, tmp_path: Path) -> None:
        messages = history()
        nothing = written(tmp_path / "a", bias=-9.0)
        everything = written(tmp_path / "b", bias=9.0)
        cleared, _ = edits(always(ClearResults(keep=0, below=0.5, policy=nothing)), messages)
        assert len(cleared) == 5
        assert max(edit.risk for edit in cleared) < 0.01
        assert edits(always(ClearResults(keep=0, below=0.5, policy=everything)), messages)[0] == []

    def test_a_folder_and_a_table_are_the_same(self, tmp_path: Path) -> None:
        where = written(tmp_path, bias=-9.0)
        found = [
            edits(always(ClearResults(keep=0, below=0.5, policy=policy)), history())[0]
            for policy in (where, {"use": "linear", "dir": where})
        ]
        assert found[0] == found[1]
        pipeline = always(ClearResults(policy=where), Skim(policy=where), Offload(policy="default"))
        assert Pipeline.load(pipeline.dump()) == pipeline

    def test_shadow_asks_and_records_and_the_rules_act(self, tmp_path: Path) -> None:
        where = written(tmp_path, bias=9.0)
        plain, _ = edits(always(ClearResults(keep=1)), history())
        acted, records = edits(always(ClearResults(keep=1, policy=where, shadow=True)), history())
        assert acted == plain
        shadow = [record for record in records if record.get("shadow")]
        assert shadow
        assert all(record["policy"] == "linear" and min(record["scores"]) > 0.5 for record in shadow)

    @pytest.mark.parametrize(("bias", "action"), [(9.0, "skim"), (-20.0, "clear")])
    def test_skim_does_what_costs_least(self, tmp_path: Path, bias: float, action: str) -> None:
        where = written(tmp_path, bias=bias)
        cleared, records = edits(always(Skim(policy=where)), history())
        said = [name for record in records for name in record.get("actions", ())]
        assert said == [action] * 5
        assert all((len(edit.content) > 20) == (action == "skim") for edit in cleared)

    def test_skim_keeps_what_a_skim_would_lose(self, tmp_path: Path) -> None:
        weights = np.zeros((len(COLUMNS), 2), np.float32)
        _weights.save(tmp_path, [(weights, np.array([9.0, 9.0], np.float32))], {"kind": "linear"})
        assert edits(always(Skim(policy=str(tmp_path))), history())[0] == []

    def test_skim_in_shadow_skims_as_without(self, tmp_path: Path) -> None:
        where = written(tmp_path, bias=-20.0)
        plain, _ = edits(always(Skim()), history())
        acted, records = edits(always(Skim(policy=where, shadow=True)), history())
        assert acted == plain
        assert any(record.get("shadow") and "clear" in record["actions"] for record in records)

    def test_a_restart_comes_to_the_same_actions(self) -> None:
        messages = history(8)
        pipeline = always(Skim(policy="default"))
        running, _ = edits(pipeline, messages)
        session = pipeline.session("t")
        session.view(messages)
        again = [edit for edit in session.plan.edits if isinstance(edit, Clear)]
        assert [(e.target, e.content.split("[cut")[0]) for e in again] == [
            (e.target, e.content.split("[cut")[0]) for e in running
        ]

    def test_skim_takes_learned_policies_only(self) -> None:
        with pytest.raises(ConfigError, match="learned"):
            Skim(policy="rules")

    def test_rows_are_read_once(self) -> None:
        messages = history(4)
        session = always(ClearResults(keep=0, below=1e-9, policy="default")).session()
        session.view(messages[:5])
        session.view(messages)
        rows = next(memo["rows"] for memo in session.memos.values() if "rows" in memo)
        assert rows.heard == len(messages)
        assert len(rows) == 4


def test_named_policies_are_found() -> None:
    assert _choose.policy("default") == Mlp()
    assert _choose.policy("linear") == Linear()
