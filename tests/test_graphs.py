"""Graphs: the shared suite over each that ships, and the pictures made of them."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from memctx import component
from memctx.graphs._pairs import pairs
from memctx.graphs._picture import MOST, picture
from memctx.graphs.tool_graph import ToolGraph, Visit
from memctx.testing.graphs import RUNS, GraphTests, Make, taught

EVIL = '<script>alert("x")</script>'


class TestEveryGraph(GraphTests):
    @pytest.fixture(params=component.names("graphs"))
    def make(self, request: pytest.FixtureRequest) -> Make:
        return component.find("graphs", request.param)


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and the text in each kind."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open[-1] if self._open else "", []).append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag and wanted.items() <= attrs.items()]


def test_pairs_add_up() -> None:
    graph = taught(ToolGraph(), RUNS)
    found = {(pair.u, pair.v): pair for pair in pairs(graph)}
    assert sum(pair.count for pair in found.values()) == sum(map(len, RUNS))
    assert found["find_user", "get_order"].count == 4
    assert found["get_order", "cancel_order"].weight == pytest.approx(3 + 3 / 3)
    for tool in {u for u, _ in found}:
        assert math.isclose(sum(pair.share for (u, _), pair in found.items() if u == tool), 1)
    assert [pair.weight for pair in pairs(graph)] == sorted((pair.weight for pair in pairs(graph)), reverse=True)


def test_a_picture_has_every_tool_and_transition() -> None:
    graph = taught(ToolGraph(), RUNS)
    found = pairs(graph)
    page = Page(picture(found, "support"))
    assert len(page.all("g", **{"class": "node"})) == len(graph.tools) + 1
    assert len(page.all("path", **{"class": "edge"})) == len(found)
    assert {"(start)", *graph.tools} <= set(page.texts["text"])
    assert any("find_user → get_order: 4 times, 100%" in text for text in page.texts["title"])
    assert picture(found, "support") == picture(found, "support")


def test_a_picture_needs_no_network_and_runs_its_own_script_only() -> None:
    text = picture(pairs(taught(ToolGraph(), RUNS)), "support")
    assert not re.search(r"(src|href)\s*=|url\((?!#)|@import|https?://|fetch\(|XMLHttp", text)
    page = Page(text)
    [policy] = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    [script] = page.texts["script"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["content"] == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_what_comes_from_runs_is_text() -> None:
    graph = ToolGraph()
    graph.learn([Visit(f"{EVIL}\x07", f"{EVIL} & more"), Visit('" onload="alert(1)'), Visit("$title ${digest}")])
    text = picture(pairs(graph), f"{EVIL}.html")
    page = Page(text)
    assert len(page.all("script")) == 1
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert EVIL not in text
    assert any(EVIL in said for said in page.texts["blockquote"])
    assert any(EVIL in said for said in page.texts["text"])
    assert "$title ${digest}" in page.texts["text"]
    assert "\x07" not in text


def test_a_large_graph_is_drawn_in_part() -> None:
    graph = ToolGraph(states=0)
    for number in range(MOST + 50):
        graph.learn([Visit(f"tool_{number}")])
    graph.learn([Visit(f"tool_{MOST}")])
    page = Page(picture(pairs(graph), "large"))
    assert len(page.all("path", **{"class": "edge"})) == MOST
    assert f"tool_{MOST}" in page.texts["text"]
    apart = [Visit(f"{side}_{number}") for number in range(MOST) for side in ("a", "b")]
    for left, right in zip(apart[::2], apart[1::2], strict=True):
        graph.learn([left, right])
    assert picture([pair for pair in pairs(graph) if pair.u][:MOST], "apart")


def test_an_empty_graph_has_a_picture() -> None:
    assert "0 tools" in picture([], "empty")
