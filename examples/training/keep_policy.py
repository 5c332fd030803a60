"""Keep policy: a small network learns from recorded runs which tool results a later step will need.

    python examples/training/keep_policy.py [RUNS...] [--quick] [--json] [--out runs/keep]

It is taught by hindsight labels and then by reward on the recorded runs, and judged on tasks that taught nothing: recall of
grounded arguments at equal money, against the hand-written rules and an oracle that sees the future. Then it is used on the same
runs, with one argument, `policy=`: it decides, or with `shadow=True` is asked and recorded while the rules decide. Without RUNS,
a script records an agent that looks up orders and reads news: later calls copy from orders, from news never.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from memctx import Pipeline
from memctx.replay import replay
from memctx.strategies.clear import ClearResults
from memctx.train.keep import train_keep

WORDS = ("plain", "blue", "small", "late", "early", "round", "paper", "river", "cold", "open")


def recorded(chance: Random) -> list[dict[str, Any]]:
    """A run: three orders are looked up, news is read between, then the orders are sent by the numbers that were found."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Send the three oldest orders."}]

    def call(name: str, arguments: dict[str, str], result: str) -> None:
        function = {"name": name, "arguments": json.dumps(arguments)}
        made = {"id": f"call-{len(messages)}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [made]})
        messages.append({"role": "tool", "tool_call_id": made["id"], "content": result})

    numbers = [f"K{chance.randrange(10**6)}Q" for _ in range(3)]
    for number in numbers:
        note = " ".join(chance.choices(WORDS, k=chance.randrange(20, 60)))
        call("look_up", {"which": "next"}, json.dumps({"order": number, "note": note}))
        call("news", {"of": "today"}, " ".join(f"N{chance.randrange(10**5)}Z" for _ in range(chance.randrange(10, 40))))
    for number in numbers:
        call("send", {"order": number}, "sent")
    return [*messages, {"role": "assistant", "content": "All three are sent."}]


def record(file: Path, runs: int = 30) -> Path:
    chance = Random(0)
    lines = [json.dumps({"id": f"orders-{number}-0", "messages": recorded(chance)}) for number in range(runs)]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def pipeline(policy: str, *, shadow: bool = False) -> Pipeline:
    """Before each call, results whose worth by `policy` is below a half leave the view."""
    return Pipeline([ClearResults(keep=0, below=0.5, policy=policy, shadow=shadow)], edit_when="always")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="files of recorded runs, or folders of them")
    parser.add_argument("--quick", action="store_true", help="at most 20 runs a file")
    parser.add_argument("--json", action="store_true", help="only the last line, as JSON")
    parser.add_argument("--out", type=Path, help="a folder for the policy and its card")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        paths = wanted.runs or [record(Path(aside) / "orders.jsonl")]
        out = wanted.out or Path(aside) / "policy"
        limit = 20 if wanted.quick and wanted.runs else None
        report = train_keep(paths, out, limit=limit)
        arms = {"rules": pipeline("rules"), "learned": pipeline(str(out)), "shadow": pipeline(str(out), shadow=True)}
        rows = list(replay(paths, arms, price="none", limit=limit, jobs=1))
        if not wanted.json:
            print((out / "card.md").read_text(encoding="utf-8"))
            for row in rows:
                print(f"{row.file}: {row.pipeline:8} recall {row.recall:.1%} for {row.money['none']:.1%} of the tokens")
    used = [asdict(row) | {"money": row.money["none"]} for row in rows]
    print(json.dumps({**report.to_dict(), "used": used}))


if __name__ == "__main__":
    main()
