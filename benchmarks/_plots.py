"""The Pareto plot of recall against money: PNG by matplotlib, HTML by plotly where it is installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Point = tuple[str, str, float, float]  # manager, setting, money over no edit, recall


def write_plots(points: Sequence[Point], price: str, folder: Path) -> Iterator[str]:
    """Write what can be written; yields a word on each."""
    title = f"Grounding recall against money, price {price}; no edit = 1"
    yield _png(points, title, folder / "context.png")
    if find_spec("plotly") is None:
        yield "context.html left out: plotly is not installed"
    else:
        yield _html(points, title, folder / "context.html")


def front(points: Sequence[Point]) -> list[tuple[float, float]]:
    """(money, recall) of the points that no other beats in both, by money."""
    best: list[tuple[float, float]] = []
    for money, recall in sorted({(point[2], point[3]) for point in points}, key=lambda p: (p[0], -p[1])):
        if not best or recall > best[-1][1]:
            best.append((money, recall))
    return best


def _grouped(points: Sequence[Point]) -> dict[str, list[Point]]:
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(point[0], []).append(point)
    return groups


def _png(points: Sequence[Point], title: str, path: Path) -> str:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    axes: Any
    figure, axes = plt.subplots(figsize=(8, 5), constrained_layout=True)
    axes.step(*zip(*front(points), strict=True), where="post", color="0.8", zorder=0, label="Pareto front")
    for name, group in _grouped(points).items():
        marker = "o" if name.startswith("memctx") else "s"
        axes.plot([p[2] for p in group], [p[3] for p in group], marker, label=name, alpha=0.85)
    axes.set(xlabel="money, times no edit (lower is better)", ylabel="grounding recall", title=title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=160)
    plt.close(figure)
    return f"wrote {path}"


def _html(points: Sequence[Point], title: str, path: Path) -> str:
    from plotly import graph_objects  # type: ignore[import-not-found, unused-ignore]  # in the extra `bench`

    figure = graph_objects.Figure()
    money, recall = zip(*front(points), strict=True)
    figure.add_scatter(x=money, y=recall, mode="lines", line={"shape": "hv", "color": "#ccc"}, name="Pareto front")
    for name, group in _grouped(points).items():
        x, y = [p[2] for p in group], [p[3] for p in group]
        figure.add_scatter(x=x, y=y, mode="markers", name=name, text=[p[1] for p in group])
    figure.update_layout(title=title, xaxis_title="money, times no edit", yaxis_title="grounding recall")
    figure.write_html(path, include_plotlyjs=True)
    return f"wrote {path}"
