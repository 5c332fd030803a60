"""What a learned keep policy is worth: recall of grounded arguments at equal money, against the rules and an oracle.

    python -m benchmarks.keep RUNS...                 # teach on two thirds of the tasks of each file, judge on the others
    python -m benchmarks.keep RUNS... --leave-out     # teach on all other files, judge on all runs of the file, file by file
    python -m benchmarks.keep RUNS... --policy DIR    # judge a saved policy on all runs of files it was not taught on

Pipeline, the same for all arms: `Pipeline([ClearResults(keep=0, below=B, placeholder="", policy=...)], edit_when="always")`. At each model
call every older result whose worth is less than B becomes its bare mark, for good; the newest step's results stay. Only the worth
differs:

    rules    `memctx.policies.rules` as it ships, with the features a strategy gives it
    weighed  the same worth weighed against the result's tokens; not what ships, but a stronger hand-written arm
    policy   what the learned policy says
    oracle   sees the future: 0 where no later call draws on the result (so that nothing else keeps the text), else the more the
             smaller the result is

Money: tokens of all requests over the same with no edit (a flat price: recorded runs are short, and under cached prices no arm
should edit them at all). B is swept for each arm; recall at a given money lies on the line between the settings next to it. Reported
is the mean recall over nine levels of equal money, 10 % to 90 % of the way from clearing every older result to clearing none, so that
no single operating point is picked. `closed` = (policy - rules) / (oracle - rules). Split: by SHA-256 of the task inside each file,
all runs of a task on one side. Settings were chosen by cross-validation over the tasks of the two thirds that teach.

`labels`: what hindsight labels alone close; `reward`: after reinforcement on top of them.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import islice
from pathlib import Path

from memctx._bench.policy import bench, timed
from memctx.policies._weights import LOSS, Net, worth
from memctx.runs import load, load_dir
from memctx.train._keep_data import Decisions, of_runs, read
from memctx.train._keep_fit import Settings, exported, labels, reinforce
from memctx.train.keep import judged, row


class Held:
    """A network as a policy."""

    name = "held"

    def __init__(self, net: Net) -> None:
        self.needs = net

    def worth(self, rows):  # type: ignore[no-untyped-def]  # as `Learned.worth`
        return worth(rows, self.needs(rows), LOSS)


def nets(parts: list[Decisions]) -> dict[str, Net]:
    """Taught on these by labels alone, and by reward after them."""
    settings, quiet = Settings(), lambda *_: None
    models = labels(parts, settings, quiet)
    found = {"labels": models, "reward": reinforce(models, parts, settings, quiet)}
    return {name: exported(each, settings.share) for name, each in found.items()}


def taught(paths: list[str], limit: int | None) -> None:
    start = time.perf_counter()
    files = load_dir(paths)
    parts = [read(path, limit) for path in files]
    begin = time.perf_counter()
    held = nets([part["train"] for part in parts])
    end = time.perf_counter()
    found = {name: judged(net, [part["test"] for part in parts]) for name, net in held.items()}
    for path, by_labels, by_reward in zip(files, found["labels"], found["reward"], strict=True):
        each, ask = timed(Held(held["reward"]), list(islice(load(path), 60)))
        line = {**row(by_reward), "closed_labels": round(by_labels.closed, 4)}
        print(json.dumps({**line, "us_per_decision": each, "us_per_ask": ask}), flush=True)
    means = {f"closed_{name}": round(sum(each.closed for each in rows) / len(rows), 4) for name, rows in found.items()}
    print(json.dumps({**means, "seconds": {"read": round(begin - start, 1), "teach": round(end - begin, 1)}}))


def left_out(parts: list[Decisions]) -> None:
    for place, part in enumerate(parts):
        held = nets(parts[:place] + parts[place + 1 :])
        by_labels, by_reward = (judged(held[name], [part])[0] for name in ("labels", "reward"))
        print(json.dumps({**row(by_reward), "closed_labels": round(by_labels.closed, 4)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="files of recorded runs, or folders of them")
    parser.add_argument("--policy", help="'default' or a folder that `memctx train keep` wrote")
    parser.add_argument("--limit", type=int, help="at most so many runs a file")
    parser.add_argument("--leave-out", action="store_true", help="judge on each file what the others teach")
    given = parser.parse_args()
    if given.leave_out:
        left_out([of_runs(islice(load(path), given.limit), path.name) for path in load_dir(given.runs)])
        return
    if not given.policy:
        taught(given.runs, given.limit)
        return
    closed = []
    for line in bench(given.policy, map(Path, given.runs), limit=given.limit):
        closed.append(line["closed"])
        print(json.dumps(line), flush=True)
    print(json.dumps({"closed": round(sum(closed) / len(closed), 4)}))


if __name__ == "__main__":
    main()
