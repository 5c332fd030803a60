"""A learned keep policy against the hand-written rules and an oracle, on recorded runs it never saw, at equal money."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np

from memctx.messages import Message
from memctx.pipeline import Pipeline
from memctx.policies import Learned
from memctx.policies._features import Rows
from memctx.runs import Run, load, load_dir
from memctx.strategies._choose import checked_learned
from memctx.strategies._choose import policy as policy_of
from memctx.train._keep_data import Watch, of_runs, unwatched
from memctx.train._keep_walk import compare

BLOCKS = 200


def bench(
    policy: str, paths: Iterable[str | os.PathLike[str]], *, limit: int | None = None, watch: Watch = unwatched
) -> Iterator[dict[str, Any]]:
    """A line a file: `file`, `money` (the equal money, as a ratio to no edit), `rules`, `policy`, `oracle` (grounding recall), and
    `us_per_decision` with 200 results in the thread. All runs of a file are used: give files that it was not taught on.

    `weighed`: the rules, had their worth been weighed against tokens. `policy`: "default" or a folder.
    """
    learned: Any = policy_of(checked_learned(policy))
    for path in load_dir(paths):
        runs = list(islice(load(path), limit))
        data = of_runs(runs, path.name, watch)
        found = compare(data, np.asarray(learned.worth(data.rows), np.float64))
        each, ask = timed(learned, runs)
        figures = {
            name: round(getattr(found, name), 4) for name in ("money", "rules", "weighed", "policy", "oracle", "closed")
        }
        yield {"file": path.name, "needs": found.needs, **figures, "us_per_decision": each, "us_per_ask": ask}


def timed(policy: Learned, runs: Sequence[Run], blocks: int = BLOCKS) -> tuple[float, float]:
    """Microseconds a decision, and for one ask about all `blocks` results: what is new is read, rows are made and judged.

    The runs stand one after the other as one long thread; the ask is repeated at each of its next messages, and the median is given.
    """
    messages = long_thread(runs, blocks + 20)
    rows, spent = Rows(), list[float]()
    for place, message in enumerate(messages):
        start = perf_counter()
        rows.read(messages[: place + 1])
        if message.role == "tool" and len(rows) > blocks:
            policy.worth(rows.matrix(np.arange(len(rows) - blocks, len(rows))))
            spent.append(perf_counter() - start)
    ask = 1e6 * float(np.median(spent)) if spent else 0.0
    return round(ask / blocks, 2), round(ask, 1)


def long_thread(runs: Sequence[Run], results: int) -> list[Message]:
    """Messages of the runs one after the other, again from the start where they are too few, until there are so many results."""
    held: list[Message] = []
    count = 0
    parsed = [_parsed(run) for run in runs[:results]]
    if not any(message.role == "tool" for messages in parsed for message in messages):
        return []
    for turn in range(results):
        for number, messages in enumerate(parsed):
            held += [_renamed(message, f"{turn}-{number}") for message in messages]
            count += sum(message.role == "tool" for message in messages)
            if count >= results:
                return held
    return held


def _parsed(run: Run) -> list[Message]:
    session = Pipeline([], budget=10**9).session(run.id)
    session.view(run.messages)
    return list(session.transcript.messages)


def _renamed(message: Message, mark: str) -> Message:
    from dataclasses import replace

    return replace(message, id=f"{mark}-{message.id}")
