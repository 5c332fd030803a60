"""Episodes against flat search on LoCoMo: does leading a question to the nearest episodes first find more of its evidence?

    python -m benchmarks.episodes [../shared/data/locomo/locomo10_conv1-7.json.gz] [--embedder default] [--threshold 0.3 0.4 0.5]

Evidence recall at turn level: the share of a question's gold turns among the first 10, averaged over the questions whose gold
turns exist. A record is one turn, "date speaker: text caption". `room` is the share of all turns that a search looked at,
`lost` the share of gold turns that stand in no episode chosen: what routing alone makes impossible to find.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memctx._answers import answers
from memctx.effects import Handlers, Recall, drive
from memctx.memory import Memory
from memctx.strategies.episodes import Episodes

K = 10
DEFAULT = Path(__file__).parents[2] / "shared/data/locomo/locomo10_conv1-7.json.gz"


def turns(conversation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(id, text) of every turn, in order."""
    number = 1
    while f"session_{number}" in conversation:
        date = conversation.get(f"session_{number}_date_time", "")
        for turn in conversation[f"session_{number}"]:
            yield turn["dia_id"], f"{date} {turn['speaker']}: {turn['text']} {turn.get('blip_caption', '')}".strip()
        number += 1


class Conversation:
    """One conversation in a memory of its own scope, with its questions and their gold turns."""

    def __init__(self, memory: Memory, sample: dict[str, Any]) -> None:
        texts = dict(turns(sample["conversation"]))
        self.scoped = memory.at("locomo", sample["sample_id"]).during("talk")
        items = [{"text": text, "kind": "episodic", "key": name} for name, text in texts.items()]
        written = self.scoped.write_many(items)
        self.ids = {name: record.id for name, record in zip(texts, written, strict=True)}
        self.handlers = Handlers(answers(self.scoped))
        golds = (
            (qa["question"], {self.ids[e] for e in qa.get("evidence", ()) if e in self.ids}, qa) for qa in sample["qa"]
        )
        self.questions = [(text, gold) for text, gold, qa in golds if gold and len(gold) == len(set(qa["evidence"]))]


def measured(talks: list[Conversation], search: Episodes | None) -> dict[str, float]:
    """Recall, share looked at, share lost and milliseconds a question."""
    found = looked = lost = asked = spent = 0.0
    for talk in talks:
        memo: dict[str, Any] = {}
        for question, gold in talk.questions:
            ask = Recall(question, ("episodic",), K)
            start = time.perf_counter()
            hits = drive(search.find(memo, ask) if search else _flat(ask), talk.handlers)
            spent += time.perf_counter() - start
            found += len(gold & {hit.record.id for hit in hits}) / len(gold)
            if search:
                inside = _inside(search, memo, talk, question)
                looked += len(inside) / len(talk.ids)
                lost += len(gold - inside) / len(gold)
            asked += 1
    looked = looked if search else asked
    return {
        "recall@10": found / asked,
        "room": looked / asked,
        "lost": lost / asked,
        "ms": 1e3 * spent / asked,
        "n": asked,
    }


def _flat(ask: Recall) -> Any:
    return (yield ask)


def _inside(search: Episodes, memo: dict[str, Any], talk: Conversation, question: str) -> set[int]:
    known = memo["episodes"]
    (vector,) = talk.scoped.memory.embedder.embed([question])
    rest = {each.id for some in known.rest.values() for each in some}
    return rest | set(known.clusters.members(known.clusters.route(vector, search.routes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--embedder", default="default")
    parser.add_argument("--threshold", type=float, nargs="+", default=[Episodes().threshold])
    parser.add_argument("--routes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--window", type=int, default=Episodes().window)
    options = parser.parse_args()
    memory = Memory(embedder=options.embedder)
    with gzip.open(options.path) as file:
        talks = [Conversation(memory, sample) for sample in json.load(file)]
    print(json.dumps({"search": "flat", **_rounded(measured(talks, None))}), flush=True)
    for threshold in options.threshold:
        for routes in options.routes:
            search = Episodes(routes=routes, threshold=threshold, window=options.window)
            row = {"search": f"episodes e={routes}", "threshold": threshold}
            print(json.dumps({**row, **_rounded(measured(talks, search))}), flush=True)


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in row.items()}


if __name__ == "__main__":
    main()
