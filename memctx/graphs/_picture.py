"""A tool graph as one HTML file: it needs no network, loads nothing, and runs no script but its own.

What comes from runs (names of tools, states) stands in it as escaped text; a content security policy forbids all else.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from memctx.graphs._pairs import Pair
from memctx.graphs._plain import label
from memctx.graphs.tool_graph import START

MOST = 240  # pairs that are drawn: more is no picture, and the layout takes at most 500 tools without scipy
TABLE, SAMPLES, SAMPLE = 12, 4, 300  # rows and states told of a tool, and the characters of a state
WIDTH, HEIGHT, MARGIN, NAME = 1200, 800, 60, 160  # NAME: room for the names at the right
TEMPLATE = Path(__file__).with_name("_picture.html")

Points = Mapping[str, tuple[float, float]]


def picture(pairs: Sequence[Pair], title: str) -> str:
    """The heaviest pairs as an HTML text. A circle is a tool, as large as it was called often; a line's width is its count."""
    drawn = pairs[:MOST]
    tools = sorted({tool for pair in drawn for tool in (pair.u, pair.v)})
    numbers = {tool: place for place, tool in enumerate(tools)}
    figures = f"{len(set(tools) - {START})} tools, {len(drawn)} of {len(pairs)} transitions"
    page = Template(TEMPLATE.read_text(encoding="utf-8"))
    script = page.template.partition("<script>")[2].partition("</script>")[0]
    return page.substitute(
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        title=escape(title),
        figures=escape(figures),
        drawing=_drawing(drawn, numbers, _points(drawn, tools)),
        sections="\n".join(_section(tool, number, pairs) for tool, number in numbers.items()),
    )


def _points(pairs: Sequence[Pair], tools: Sequence[str]) -> Points:
    """Where each tool stands: tools that follow one another are near, and the same graph looks the same each time."""
    import networkx as nx  # type: ignore[import-untyped]

    graph = nx.Graph()
    graph.add_nodes_from(tools)
    graph.add_weighted_edges_from((pair.u, pair.v, math.log1p(pair.weight)) for pair in pairs)
    spread = 2 / math.sqrt(max(1, len(tools)))
    places = nx.spring_layout(graph, seed=0, k=spread, iterations=100) if tools else {}
    across, down = WIDTH / 2 - MARGIN, HEIGHT / 2 - MARGIN
    return {tool: (WIDTH / 2 + across * float(x), HEIGHT / 2 + down * float(y)) for tool, (x, y) in places.items()}


def _drawing(pairs: Sequence[Pair], numbers: Mapping[str, int], points: Points) -> str:
    visits: dict[str, float] = {}
    for pair in pairs:
        visits[pair.v] = visits.get(pair.v, 0.0) + pair.count
    radii = {tool: 4 + 2 * math.log1p(visits.get(tool, 0.0)) for tool in numbers}
    lines = [_line(pair, numbers, points, radii) for pair in pairs]
    circles = [_circle(tool, number, points[tool], radii[tool]) for tool, number in numbers.items()]
    arrow = '<marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"'
    arrow += ' markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8z"/></marker>'
    head = f'<svg viewBox="0 0 {WIDTH + NAME} {HEIGHT}" role="img" aria-label="tools and what follows them"><defs>{arrow}</defs>'
    return "\n".join([head, *lines, *circles, "</svg>"])


def _line(pair: Pair, numbers: Mapping[str, int], points: Points, radii: Mapping[str, float]) -> str:
    (x1, y1), (x2, y2) = points[pair.u], points[pair.v]
    if pair.u == pair.v:
        size = 2 * radii[pair.u] + 6
        path = f"M{x1:.1f} {y1:.1f}c{-size:.1f} {-size:.1f} {size:.1f} {-size:.1f} 2 {-radii[pair.u]:.1f}"
    else:
        far = math.hypot(x2 - x1, y2 - y1) or 1.0
        bend = 0.12  # to one side, so that there and back are two lines
        mx, my = (x1 + x2) / 2 - bend * (y2 - y1), (y1 + y2) / 2 + bend * (x2 - x1)
        back = min(1.0, (radii[pair.v] + 1) / far)
        path = f"M{x1:.1f} {y1:.1f}Q{mx:.1f} {my:.1f} {x2 + back * (mx - x2):.1f} {y2 + back * (my - y2):.1f}"
    told = f"{label(pair.u)} \N{RIGHTWARDS ARROW} {label(pair.v)}: {pair.count:g} times, {pair.share:.0%}"
    width = 0.5 + 0.8 * math.log1p(pair.count)
    ends = f'data-u="{numbers[pair.u]}" data-v="{numbers[pair.v]}"'
    head = f'<path class="edge" {ends} d="{path}" stroke-width="{width:.1f}" marker-end="url(#arrow)">'
    return f"{head}<title>{escape(told)}</title></path>"


def _circle(tool: str, number: int, point: tuple[float, float], radius: float) -> str:
    place = f'class="node" data-n="{number}" tabindex="0" transform="translate({point[0]:.1f} {point[1]:.1f})"'
    name = escape(label(tool))
    return f'<g {place}><circle r="{radius:.1f}"/><text x="{radius + 3:.1f}" y="4">{name}</text></g>'


def _section(tool: str, number: int, pairs: Sequence[Pair]) -> str:
    """What the panel tells of a tool: what follows it, what comes before it, and some states in which it was called."""
    after = [(pair.v, pair.count, pair.share) for pair in pairs if pair.u == tool]
    before = [(pair.u, pair.count, None) for pair in pairs if pair.v == tool]
    states = [state.text for pair in pairs if pair.v == tool for state in pair.states]
    quotes = "".join(f"<blockquote>{escape(text[:SAMPLE])}</blockquote>" for text in dict.fromkeys(states[:SAMPLES]))
    parts = [f"<h2>{escape(label(tool))}</h2>", _table("followed by", after), _table("comes after", before), quotes]
    return f'<section data-n="{number}" hidden>{"".join(parts)}</section>'


def _table(head: str, rows: Sequence[tuple[str, float, float | None]]) -> str:
    if not rows:
        return ""
    shown = "".join(
        f"<tr><td>{escape(label(tool))}</td><td>{count:g}</td><td>{'' if share is None else f'{share:.0%}'}</td></tr>"
        for tool, count, share in rows[:TABLE]
    )
    rest = f"<tr><td>and {len(rows) - TABLE} more</td></tr>" if len(rows) > TABLE else ""
    return f"<p>{head}</p><table>{shown}{rest}</table>"
