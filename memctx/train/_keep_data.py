"""Recorded runs as keep decisions: at each model call, what is known of each older tool result, and was it needed later?

Hindsight: a result is needed from a call on if that call or a later one draws on it: an argument is grounded in it
(`memctx.grounding`) and stands in no text that is never edited.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memctx._index import Index
from memctx._replay import calls_of
from memctx.deliberate import context
from memctx.grounding import grounded, view_text
from memctx.pipeline import Pipeline
from memctx.policies._features import COLUMNS, Rows
from memctx.policies.rules import Rules
from memctx.runs import Run, load
from memctx.session import Session
from memctx.train._keep_rules import GRID, Call, Played, play

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
TRIAL = re.compile(r"-(?:run|trial)\d+$")
NUMBERED = re.compile(r"-(\d+|\[.*\])-\d+$")
TRIALS = 40  # runs of one task at most: more, and what looked like a task's number is not one
RESULTS = 400  # results of one run that are learned from; a longer run says little more
HUGE = 10**9
Watch = Callable[[str, int, int], None]


def unwatched(file: str, done: int, runs: int) -> None:
    """Nobody looks on."""


@dataclass(slots=True)
class Decisions:
    """Of a file: one entry for each older result at each model call, n in all, in the order of the calls of each run.

    `rows` (n, columns); `rules`: worth by the hand-written rules; `tokens`; `result`: its number in the file; `hits`: needs that
    this very call has of it; `needed`, `beyond`: this call or a later one needs it; needs what a skim of it would lose.
    `needs`: for each need the entries that could serve it, none where the view serves it in any case.
    `played`: (2, settings, 2) what the rules come to at work (`memctx.train._keep_rules`), plain and weighed by tokens; zeros where
    they were not asked. `fixed`, `whole`: tokens of all requests that no decision touches, and of all with no edit.
    """

    file: str
    rows: NDArray[np.float32]
    rules: Floats
    tokens: Floats
    result: Whole
    hits: Floats
    needed: NDArray[np.bool_]
    beyond: NDArray[np.bool_]
    needs: list[tuple[int, ...]]
    played: Floats
    fixed: float
    whole: float
    results: int


@dataclass(slots=True)
class _Entries:
    """What a file's runs have given so far."""

    rows: list[NDArray[np.float32]] = field(default_factory=list)
    columns: list[tuple[float, float, int, float, bool, bool]] = field(default_factory=list)
    needs: list[tuple[int, ...]] = field(default_factory=list)
    judge: bool = False
    played: Floats = field(default_factory=lambda: np.zeros((2, len(GRID), 2)))
    whole: float = 0.0
    results: int = 0

    def play(self, session: Session, rows: Rows, calls: Sequence[Call], memo: dict[str, Any]) -> None:
        """What the rules at work come to on a run."""
        found = [session.transcript.find(message_id) for message_id in rows.ids]
        results = [message for message in found if message is not None]
        known: dict[str, int] = memo.get("sizes", {})
        run = Played(
            session.transcript, results, [known.get(each.id, 0) for each in results], calls, session.counter.text
        )
        self.played += np.stack([play(run, by_tokens) for by_tokens in (False, True)])

    def packed(self, file: str) -> Decisions:
        table = np.array(self.columns, np.float64).reshape(-1, 6)
        rows = np.concatenate(self.rows) if self.rows else np.zeros((0, len(COLUMNS)), np.float32)
        rules, tokens, result, hits, needed, beyond = table.T
        numbers = result.astype(np.int64), needed > 0, beyond > 0
        fixed = self.whole - float(tokens.sum())
        return Decisions(
            file,
            rows,
            rules,
            tokens,
            numbers[0],
            hits,
            numbers[1],
            numbers[2],
            self.needs,
            self.played,
            fixed,
            self.whole,
            self.results,
        )


def task_of(runs: Sequence[Run]) -> list[str]:
    """The task of each run, read off its id: all trials of a task, by whichever model, are one."""
    tasks = [_task(run.id) for run in runs]
    largest = max(Counter(tasks).values(), default=0)
    return tasks if largest <= TRIALS else [run.id for run in runs]


def _task(id: str) -> str:
    numbered = NUMBERED.search(id)
    return numbered[1] if numbered else TRIAL.sub("", id)


def part_of(task: str, parts: int = 3) -> int:
    """Which of `parts` a task falls into: by hash, so that all its runs fall together and nobody chooses."""
    return int(sha256(f"keep {task}".encode()).hexdigest(), 16) % parts


def read(path: Path, limit: int | None = None, watch: Watch = unwatched) -> dict[str, Decisions]:
    """The decisions of a file: "train", two thirds of its tasks, "test", the others. `limit`: at most so many runs."""
    runs = list(islice(load(path), limit))
    kept = {"train": _Entries(), "test": _Entries(judge=True)}
    for done, (run, task) in enumerate(zip(runs, task_of(runs), strict=True), 1):
        _add(kept["train" if part_of(task) else "test"], run)
        watch(path.name, done, len(runs))
    return {name: entries.packed(path.name) for name, entries in kept.items()}


def of_runs(runs: Iterable[Run], file: str = "", watch: Watch = unwatched) -> Decisions:
    """The decisions of these runs, to judge by."""
    entries, known = _Entries(judge=True), list(runs)
    for done, run in enumerate(known, 1):
        _add(entries, run)
        watch(file, done, len(known))
    return entries.packed(file)


def joined(parts: Sequence[Decisions]) -> Decisions:
    """Several as one; results keep apart."""
    entries = np.cumsum([0, *(len(part.tokens) for part in parts)])
    results = np.cumsum([0, *(part.results for part in parts)])
    needs = [tuple(i + int(n) for i in need) for part, n in zip(parts, entries, strict=False) for need in part.needs]
    return Decisions(
        file="+".join(dict.fromkeys(part.file for part in parts)),
        rows=np.concatenate([part.rows for part in parts]),
        rules=np.concatenate([part.rules for part in parts]),
        tokens=np.concatenate([part.tokens for part in parts]),
        result=np.concatenate([part.result + n for part, n in zip(parts, results, strict=False)]),
        hits=np.concatenate([part.hits for part in parts]),
        needed=np.concatenate([part.needed for part in parts]),
        beyond=np.concatenate([part.beyond for part in parts]),
        needs=needs,
        played=np.zeros_like(parts[0].played),
        fixed=sum(part.fixed for part in parts),
        whole=sum(part.whole for part in parts),
        results=int(results[-1]),
    )


class _Want(NamedTuple):
    """A need of the call in message `call`: the newest result that has it, all that have it (none where text that stays has
    it as well), and whether a view with all older results skimmed lost it. Results by number."""

    call: int
    source: int
    holders: tuple[int, ...]
    lost: bool


def _wants(run: Run) -> list[_Want]:
    texts = [view_text([message]) for message in run.messages]
    results = [place for place, message in enumerate(run.messages) if message.get("role") in ("tool", "function")]
    number = {place: row for row, place in enumerate(results)}
    lean = Pipeline.lean(budget=HUGE).session(run.id)
    views: dict[int, str] = {}
    found: list[_Want] = []
    for call in calls_of(run):
        views[call.before] = view_text(lean.view(run.messages[: call.before], run.tools or None).messages)
    for need in grounded(run.messages):
        earlier = range(need.call_index)
        free = any(need.text in texts[place] for place in earlier if place not in number)
        holders = () if free else tuple(number[p] for p in results if p < need.call_index and need.text in texts[p])
        lost = bool(holders) and need.text not in views.get(need.call_index, need.text)
        found.append(_Want(need.call_index, number[need.source], holders, lost))
    return found


def _add(entries: _Entries, run: Run) -> None:
    """Walk a run call by call, as a live agent asks for its views."""
    wants = _wants(run)
    last = {want.source: want.call for want in wants if want.holders}
    beyond = {want.source: want.call for want in wants if want.lost}
    session, rows, memo = Pipeline([], budget=HUGE).session(run.id), Rows(), dict[str, Any]()
    calls: list[Call] = []
    for call in (call.before for call in calls_of(run)):
        view = session.view(run.messages[:call], run.tools or None)
        entries.whole += view.tokens
        rows.read(session.transcript.messages)
        older = [row for row in range(min(len(rows), RESULTS)) if rows.counts[0, row] < rows.steps]
        now = [want for want in wants if want.call == call]
        places = {row: len(entries.columns) + place for place, row in enumerate(older)}
        if older:
            entries.rows.append(rows.matrix(older))
            worth = _by_rules(session, memo, rows, older)
            hits = Counter(want.source for want in now if want.holders)
            for row, value, size in zip(older, *worth, strict=True):
                later = last.get(row, -1) >= call, beyond.get(row, -1) >= call
                entries.columns.append((value, size, entries.results + row, float(hits[row]), *later))
        open_ = [want.holders if all(row in places for row in want.holders) else () for want in now]
        entries.needs += [tuple(places[row] for row in holders) for holders in open_]
        calls.append(Call(len(session.transcript.messages), tuple(older), tuple(open_)))
    entries.results += len(rows)
    if entries.judge and len(rows):
        entries.play(session, rows, calls, memo)


def _by_rules(
    session: Session, memo: dict[str, Any], rows: Rows, older: Sequence[int]
) -> tuple[list[float], list[int]]:
    """Worth by the rules, and tokens, of results by number, as a strategy asks for them."""
    ctx = context(session, "keep", session.transcript.tokens)
    ctx.memo = memo
    index, ids = Index.of(ctx), list(rows.ids)
    messages = [session.transcript.find(ids[row]) for row in older]
    found = [message for message in messages if message is not None]
    features = [index.features(ctx, message) for message in found]
    known: dict[str, int] = memo.setdefault("sizes", {})
    known |= {message.id: ctx.count(message.text) for message in found if message.id not in known}
    sizes = [known[message.id] for message in found]
    return Rules().score(features), sizes
