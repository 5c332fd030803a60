"""Teaching a keep policy: decisions read off runs, the walk that compares at equal money, the refusal, the environment."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memctx import Pipeline
from memctx._replay import measure
from memctx.component import load
from memctx.errors import ConfigError
from memctx.policies import _weights
from memctx.policies._features import COLUMNS
from memctx.policies.linear import Linear
from memctx.pricing import PRICES
from memctx.runs import Run
from memctx.strategies.clear import ClearResults
from memctx.train import _keep_data, _keep_rules, _keep_walk
from memctx.train.envs import position
from memctx.train.envs.replay import Keeping, Replay


def recorded(number: int, rng: random.Random) -> Run:
    """An agent that reads notes, of which only those of `lookup` are copied from later; `chat` results never are."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Do the rounds."}]
    codes: list[str] = []

    def call(name: str, arguments: dict[str, str], result: str) -> None:
        made = {
            "id": f"c{len(messages)}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        messages.append({"role": "assistant", "content": None, "tool_calls": [made]})
        messages.append({"role": "tool", "tool_call_id": made["id"], "content": result})

    for _ in range(3):
        code = f"K{rng.randrange(10**6)}Q"
        codes.append(code)
        call("lookup", {"q": "next"}, f'{{"code": "{code}", "text": "{"plain words " * rng.randrange(10, 30)}"}}')
        call("chat", {"q": "news"}, " ".join(f"N{rng.randrange(10**5)}Z" for _ in range(rng.randrange(10, 40))))
    for code in codes:
        call("submit", {"code": code}, "ok")
    messages.append({"role": "assistant", "content": "Done."})
    return Run(f"toy-{number}-0", messages)


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    rng = random.Random(1)
    return [recorded(number, rng) for number in range(30)]


@pytest.fixture(scope="module")
def data(runs: list[Run]) -> _keep_data.Decisions:
    return _keep_data.of_runs(runs, "toy")


def as_file(path: Path, runs: list[Run]) -> Path:
    path.write_text("".join(json.dumps({"id": run.id, "messages": run.messages}) + "\n" for run in runs))
    return path


class TestDecisions:
    def test_hindsight_finds_what_is_copied_later(self, data: _keep_data.Decisions) -> None:
        assert data.needed.any()
        assert not data.needed.all()
        assert data.hits.sum() == 30 * 3
        assert len(data.needs) == 30 * 3

    def test_what_the_user_said_is_no_need(self) -> None:
        run = recorded(0, random.Random(0))
        said = " ".join(message["content"] for message in run.messages if message["role"] == "tool")
        known = Run("k-0-0", [{"role": "user", "content": said}, *run.messages[1:]])
        assert not _keep_data.of_runs([known]).needed.any()

    def test_trials_of_a_task_stay_together(self) -> None:
        ids = [
            "tau2-air-gpt-4.1-12-0",
            "tau2-air-claude-12-1",
            "tau2-air-claude-13-1",
            "x__y-14182-run1",
            "x__y-14182-run3",
        ]
        tasks = _keep_data.task_of([Run(name, []) for name in ids])
        assert tasks[0] == tasks[1] != tasks[2]
        assert tasks[3] == tasks[4] == "x__y-14182"

    def test_a_number_that_is_no_task_parts_runs(self) -> None:
        many = [Run(f"sql-gpt-4-{n}", []) for n in range(200)]
        assert len(set(_keep_data.task_of(many))) == 200
        sides = [_keep_data.part_of(task) for task in _keep_data.task_of(many)]
        assert 40 < sides.count(0) < 95


class TestWalk:
    def test_the_oracle_keeps_all_at_the_least_money(self, data: _keep_data.Decisions) -> None:
        best, rules = (_keep_walk.curve(data, each) for each in (_keep_walk.oracle(data), data.rules))
        for money in np.linspace(best.money[0], 1, 30):
            assert best.at(float(money)) >= rules.at(float(money)) - 1e-9
        assert best.recall[-1] == 1.0

    def test_curves_rise_and_end_with_no_edit(self, data: _keep_data.Decisions) -> None:
        for worth in (data.rules, _keep_walk.oracle(data), np.full(len(data.tokens), 0.5)):
            found = _keep_walk.curve(data, worth)
            assert (np.diff(found.money) >= -1e-12).all()
            assert (np.diff(found.recall) >= 0).all()
            assert found.money[-1] == pytest.approx(1.0)

    def test_the_oracle_closes_the_gap(self, data: _keep_data.Decisions) -> None:
        found = _keep_walk.compare(data, np.zeros(len(data.tokens)))
        assert found.closed < 0.5
        assert _keep_walk.compare(data, _keep_walk.oracle(data)).closed == 1.0

    @pytest.mark.parametrize("below", [0.16, 0.25, 0.41, 0.62])
    def test_the_rules_play_as_the_pipeline_does(self, runs: list[Run], below: float) -> None:
        few = runs[:8]
        data = _keep_data.of_runs(few)
        money, recall = in_pipeline(few, ClearResults(keep=0, below=below, placeholder=""))
        played = data.played[0][_keep_rules.GRID.index(below)]
        assert played[1] / len(data.needs) == pytest.approx(recall)
        assert (data.fixed + played[0]) / data.whole == pytest.approx(money, rel=0.02)

    @pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
    def test_a_learned_policy_walks_as_in_the_pipeline(self, tmp_path: Path, runs: list[Run], share: float) -> None:
        weights = np.zeros((len(COLUMNS), 2), np.float32)
        weights[COLUMNS.index("age"), 0] = -1.0
        weights[COLUMNS.index("waiting"), 0] = 0.3
        _weights.save(tmp_path, [(weights, np.array([-2.0, -9.0], np.float32))], {"kind": "linear"})
        few, policy = runs[:8], Linear(dir=str(tmp_path))
        data = _keep_data.of_runs(few)
        worth = policy.worth(data.rows).astype(np.float64)
        below = float(np.quantile(_keep_walk.lasting(data, worth), share))
        found = _keep_walk.curve(data, worth)
        place = int(np.searchsorted(-found.below, -below, side="right")) - 1
        money, recall = in_pipeline(few, ClearResults(keep=0, below=below, placeholder="", policy=str(tmp_path)))
        assert found.recall[place] == pytest.approx(recall)
        assert found.money[place] == pytest.approx(money, rel=0.02)


def in_pipeline(runs: list[Run], strategy: ClearResults) -> tuple[float, float]:
    """(money at a flat price, grounding recall) of runs through a pipeline."""
    pipeline = Pipeline([strategy], edit_when="always", budget=10**6)
    tallies = [measure(run, pipeline, "none", {}) for run in runs]
    money, whole = (sum(getattr(tally, name)["none"] for tally in tallies) for name in ("money", "unedited"))
    return money / whole, sum(tally.kept for tally in tallies) / sum(tally.grounded for tally in tallies)


class TestReplay:
    def test_it_loads_and_repeats(self) -> None:
        assert load("train.envs", {"use": "replay", "price": "openai"}) == Replay(price="openai")
        states = [position(Replay(), 3, ["keep 0", "keep 0"]) for _ in range(2)]
        assert states[0] == states[1]

    @pytest.mark.parametrize("price", sorted(PRICES))
    def test_whole_views_lose_only_the_money(self, price: str) -> None:
        env = Replay(price=price, rate=0.25)
        assert played(env, lambda state: "keep " + " ".join(map(str, state.open)))[0] == pytest.approx(0.75)

    def test_keeping_what_is_needed_pays_most(self) -> None:
        env = Replay()
        whole, none, best = (
            played(env, answer)[0]
            for answer in (lambda s: "keep " + " ".join(map(str, s.open)), lambda s: "keep", lambda s: "keep 0 2")
        )
        assert best > whole > none

    def test_a_lost_pin_costs(self) -> None:
        one, other = (played(Replay(pins=pins), lambda state: "keep 0")[0] for pins in ((), ("Sunny",)))
        assert other == pytest.approx(one - 1)

    def test_what_is_gone_stays_gone(self) -> None:
        state = Replay().start(0).after("keep")
        assert all(0 not in later.open for later in (state, state.after("keep 0 1 2")))

    def test_an_unknown_price_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="price"):
            Replay(price="gold")


def played(env: Replay, answer: Any) -> tuple[float, ...]:
    state: Keeping = env.start(0)
    while not state.rewards:
        state = state.after(answer(state))
    return state.rewards


class TestTraining:
    @pytest.mark.slow
    def test_it_learns_saves_and_repeats(self, tmp_path: Path, runs: list[Run]) -> None:
        pytest.importorskip("torch")
        from memctx.policies.mlp import Mlp
        from memctx.train.keep import train_keep

        file = as_file(tmp_path / "toy.jsonl", runs)
        reports = [train_keep([file], tmp_path / name) for name in ("a", "b")]
        assert reports[0].closed > 0.5
        assert reports[0].files == reports[1].files
        first, second = (dict(np.load(tmp_path / name / "weights.npz")) for name in ("a", "b"))
        assert all(np.array_equal(first[name], second[name]) for name in first)
        assert Mlp(dir=str(tmp_path / "a")).name == "mlp"
        assert "| toy.jsonl |" in (tmp_path / "a" / "card.md").read_text()
        ClearResults(policy=str(tmp_path / "a"), below=0.5)

    def test_it_refuses_what_is_no_better(
        self, tmp_path: Path, runs: list[Run], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("torch")
        from typer.testing import CliRunner

        from memctx._cli.train import app
        from memctx.errors import TrainingError
        from memctx.train import keep

        real = _keep_walk.compare
        monkeypatch.setattr(keep, "compare", lambda part, worth: replace(real(part, worth), policy=0.1))
        file = as_file(tmp_path / "toy.jsonl", runs)
        with pytest.raises(TrainingError, match=r"not saved.*rules 0\.\d+") as caught:
            keep.train_keep([file], tmp_path / "out")
        assert caught.value.code == "no_better"
        assert not (tmp_path / "out").exists()
        done = CliRunner().invoke(app, ["keep", str(file), "--out", str(tmp_path / "out"), "--json"])
        assert isinstance(done.exception, TrainingError), "main() turns it into one line and exit code 2"

    def test_runs_without_a_need_are_too_few(self, tmp_path: Path) -> None:
        pytest.importorskip("torch")
        from memctx.errors import TrainingError
        from memctx.train.keep import train_keep

        talk = [
            Run(f"t-{n}-0", [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hi"}])
            for n in range(4)
        ]
        with pytest.raises(TrainingError, match="more recorded runs"):
            train_keep([as_file(tmp_path / "t.jsonl", talk)], tmp_path / "out")

    def test_a_network_and_its_export_agree(self, data: _keep_data.Decisions) -> None:
        torch = pytest.importorskip("torch")
        from memctx.train import _keep_fit

        for hidden in (0, 8):
            settings = _keep_fit.Settings(hidden=hidden, seeds=2, epochs=1, rl_epochs=1)
            models = _keep_fit.labels([data], settings, lambda *_: None)
            models = _keep_fit.reinforce(models, [data], settings, lambda *_: None)
            for model in models:
                model.eval()
            logits = sum(model(torch.from_numpy(data.rows)) for model in models) / 2
            chances = torch.sigmoid(logits).detach().numpy()
            assert np.abs(_keep_fit.exported(models, 1.0)(data.rows)[:, 0] - chances[:, 0]).max() < 1e-4
            alone = torch.sigmoid(
                models[0].line[1] + models[0].line[0] * torch.from_numpy(data.rows[:, [_keep_fit.RULE]])
            )
            assert np.abs(_keep_fit.exported(models, 0.0)(data.rows)[:, 0] - alone[:, 0].numpy()).max() < 1e-4
