"""Teaching a keep policy from recorded runs: what a later step will need, so that the rest can leave the view.

    report = train_keep(["runs/"], "my-policy")          # then: ClearResults(policy="my-policy", below=0.5)

Two thirds of each file's tasks teach (by hash of the task), the others judge: recall of grounded arguments at equal money, against
the hand-written rules and an oracle that sees the future (`memctx.train._keep_walk`). A policy that does not beat the rules
there is not saved. One that does is taught once more on all runs, with the same settings, and written with its card.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from memctx.errors import TrainingError
from memctx.policies._weights import LOSS, Net, save, worth
from memctx.runs import load_dir
from memctx.train._keep_data import Decisions, Watch, joined, read, unwatched
from memctx.train._keep_fit import Settings, exported, labels, reinforce
from memctx.train._keep_walk import Compared, compare

Kind = Literal["mlp", "linear"]


@dataclass(frozen=True, slots=True)
class Report:
    """Held-out figures, file by file: by labels alone, and after reinforcement; which of the two was chosen on training tasks."""

    kind: Kind
    labels: tuple[Compared, ...]
    reward: tuple[Compared, ...]
    chosen: Literal["labels", "reward"]
    seconds: float
    runs: Mapping[str, int]

    @property
    def files(self) -> tuple[Compared, ...]:
        """The figures of the policy that was chosen."""
        return self.labels if self.chosen == "labels" else self.reward

    @property
    def closed(self) -> float:
        """Mean share of the gap between rules and oracle that is closed."""
        return _mean(each.closed for each in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON and for the card."""
        return {
            "kind": self.kind,
            "chosen": self.chosen,
            "closed": round(self.closed, 4),
            "closed_by_labels": round(_mean(each.closed for each in self.labels), 4),
            "closed_by_reward": round(_mean(each.closed for each in self.reward), 4),
            "seconds": round(self.seconds, 1),
            "decisions": dict(self.runs),
            "files": [row(each) for each in self.files],
        }


def row(found: Compared) -> dict[str, Any]:
    """A file's line: recall by the rules, the policy and the oracle at equal money, rounded."""
    data = {name: value for name, value in asdict(found).items() if name != "levels"}
    figures = {name: round(value, 4) if isinstance(value, float) else value for name, value in data.items()}
    return {**figures, "closed": round(found.closed, 4), "closed_weighed": round(found.closed_weighed, 4)}


def train_keep(
    paths: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    kind: Kind = "mlp",
    limit: int | None = None,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
    watch: Watch = unwatched,
) -> Report:
    """Teach, judge, and save to `out` if it beats the rules. `limit`: runs a file; `about`: more fields for the card.

    Raises `TrainingError` with the figures where the policy does not beat the rules, `ConfigError` for files that hold no run.
    """
    start = time.perf_counter()
    settings = Settings(seed=seed) if kind == "mlp" else Settings(hidden=0, seeds=1, seed=seed)
    parts = [read(path, limit, watch) for path in load_dir(paths)]
    teach, judge = [part["train"] for part in parts], [part["test"] for part in parts if len(part["test"].needs)]
    _enough(teach, judge)
    by_labels, by_reward, chosen = _taught(teach, settings, watch)
    report = Report(
        kind,
        labels=judged(by_labels, judge),
        reward=judged(by_reward, judge),
        chosen=chosen,
        seconds=time.perf_counter() - start,
        runs={name: sum(len(part[name].tokens) for part in parts) for name in ("train", "test")},
    )
    _refuse(report)
    whole = [joined([part["train"], part["test"]]) for part in parts]
    models = labels(whole, settings, watch)
    if chosen == "reward":
        models = reinforce(models, whole, settings, watch)
    report = replace(report, seconds=time.perf_counter() - start)
    _write(Path(out), exported(models, settings.share), report, settings, about or {})
    return report


def judged(net: Net, parts: Sequence[Decisions]) -> tuple[Compared, ...]:
    """A network against the rules and the oracle, file by file."""
    return tuple(compare(part, worth(part.rows, net(part.rows), LOSS).astype(np.float64)) for part in parts)


def _taught(
    parts: Sequence[Decisions], settings: Settings, watch: Watch
) -> tuple[Net, Net, Literal["labels", "reward"]]:
    """By labels; after reinforcement; and which did better on the tasks it was taught: no held-out task has a say."""
    models = labels(parts, settings, watch)
    taught = models, reinforce(models, parts, settings, watch)
    by_labels, by_reward = (exported(each, settings.share) for each in taught)
    closed = [_mean(each.closed for each in judged(net, parts) if each.needs) for net in (by_labels, by_reward)]
    return by_labels, by_reward, "reward" if closed[1] > closed[0] else "labels"


def _enough(teach: Sequence[Decisions], judge: Sequence[Decisions]) -> None:
    needed, held = sum(int(part.needed.sum()) for part in teach), sum(len(part.tokens) for part in judge)
    if not needed or not held:
        text = f"{needed} results needed again in the runs to learn from, {held} decisions held out: give more recorded runs"
        raise TrainingError(f"{text}, with tool calls that draw on earlier results", code="too_few_runs")


def _refuse(report: Report) -> None:
    rules, policy = (_mean(getattr(each, name) for each in report.files) for name in ("rules", "policy"))
    if policy <= rules:
        lines = "; ".join(f"{each.file}: rules {each.rules:.4f}, policy {each.policy:.4f}" for each in report.files)
        text = f"not saved: on held-out tasks at equal money the policy keeps {policy:.4f}, the rules {rules:.4f} ({lines})"
        raise TrainingError(
            f"{text}; give more runs, or keep policy='rules'", code="no_better", report=report.to_dict()
        )


def _write(out: Path, net: Net, report: Report, settings: Settings, about: Mapping[str, Any]) -> None:
    facts = {**report.to_dict(), "settings": asdict(settings), **about}
    save(out, net.layers, facts)
    (out / "card.md").write_text(card_text(facts), encoding="utf-8")


def card_text(facts: Mapping[str, Any]) -> str:
    """The card for people."""
    lines = [
        "# A keep policy of memctx",
        "",
        f"Kind `{facts['kind']}`. It tells of each tool result the chance that a later step needs it, from the transcript alone.",
        f"{facts.get('note', '')}".strip(),
        "",
        "Split: by hash of the task inside each file; a third of the tasks judge. The figures are of weights taught on the other",
        "two thirds; the weights in this folder were then taught on all tasks with the same settings.",
        "Each figure is the recall of grounded arguments, the mean over nine levels of equal money between clearing every older",
        "result and clearing none. *rules*: `memctx.policies.rules` as it ships; *weighed*: the same, weighed against tokens;",
        "*oracle*: sees the future. *closed*: (policy - rules) / (oracle - rules).",
        "",
        "| file | needs | money | rules | weighed | policy | oracle | closed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in facts["files"]:
        figures = " | ".join(f"{each[name]:.4f}" for name in ("money", "rules", "weighed", "policy", "oracle"))
        lines.append(f"| {each['file']} | {each['needs']} | {figures} | {each['closed']:.2f} |")
    both = f"labels alone {facts['closed_by_labels']:.3f}, after reinforcement {facts['closed_by_reward']:.3f}"
    chosen = f"chosen on the tasks it was taught: {facts['chosen']}"
    again = facts.get("command", "memctx train keep RUNS... --out DIR")
    ends = (
        "",
        f"Mean closed: {facts['closed']:.3f} ({both}; {chosen}). {facts['seconds']:.0f} s.",
        f"Again: `{again}`",
    )
    return "\n".join([*lines, *ends, ""])


def _mean(values: Iterable[float]) -> float:
    held = list(values)
    return sum(held) / len(held) if held else 0.0
