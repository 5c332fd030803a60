"""Replay: recorded runs through pipelines, call by call, and what that would have kept, cost and broken.

Before each assistant message of a run a fresh session makes its view of the messages so far, as a live agent would have
asked for it. One `Row` sums this up for a file and a pipeline:

    recall, reachable   of the arguments grounded in an earlier tool result (`memctx.grounding`), the share that still
                        stands in the view of the call that uses them; that stands there or behind one of its handles
    share               tool-result tokens over the views of the calls that use a tool / the same with no edit
    money               by price shape: what the provider's cache would have charged for the sequence of requests, over
                        the same for the whole history at each call. A pipeline that edits when it pays is run once for
                        each price shape, as its decisions depend on it; the other columns are those of one price
    prefix_rewrites     calls whose request does not start with the whole request before it
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

from memctx._replay import Skipped, Tally, measure
from memctx.errors import MemctxError
from memctx.pipeline import Pipeline
from memctx.runs import Run, load, load_dir

__all__ = ["Row", "Skipped", "replay"]

Pipelines = Mapping[str, Pipeline]


class Pool(Protocol):
    """What a pool of `multiprocessing`, or one with its methods, does."""

    def imap(self, func: Callable[[Run], Any], iterable: Iterable[Run]) -> Iterator[Any]:
        """Answers in order."""
        ...


Outcome = dict[str, Tally | Skipped]


@dataclass(frozen=True, slots=True)
class Row:
    """One file through one pipeline. Ratios are 0 to 1 (`money` may be above); a ratio over nothing is 1."""

    file: str
    pipeline: str
    calls: int
    recall: float
    reachable: float
    share: float
    peak_tokens: int
    money: dict[str, float]
    prefix_rewrites: int
    violations: int
    ms_per_call: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def replay(
    paths: Iterable[str | os.PathLike[str]],
    pipelines: Pipelines,
    *,
    price: str = "openai",
    format: str = "auto",
    limit: int | None = None,
    jobs: int | Pool | None = None,
    watch: Callable[[str, int, int], None] = lambda file, done, runs: None,
    skipped: Callable[[Skipped], None] = lambda skip: None,
) -> Iterator[Row]:
    """Rows file by file, in the order of `pipelines`; at most `limit` runs a file. `jobs`: processes, or a
    pool of somebody else's, such as Ray's (`memctx.train.engines.ray.pool`).

    `watch(file, runs done, runs)` is told of progress. A run that a pipeline cannot fit into its budget is left out of
    that pipeline's row and told to `skipped`. Raises `ConfigError` and `InvalidMessage` for files that cannot be read.
    """
    files = load_dir(paths)
    with _workers(pipelines, price, jobs or os.cpu_count() or 1) as work:
        for file in files:
            runs = list(islice(load(file, format), limit))
            tallies = {name: Tally() for name in pipelines}
            watch(file.name, 0, len(runs))
            for done, outcome in enumerate(work(runs), 1):
                for name, result in outcome.items():
                    if isinstance(result, Skipped):
                        skipped(result)
                    else:
                        tallies[name] += result
                watch(file.name, done, len(runs))
            yield from (_row(file, name, tally) for name, tally in tallies.items())


def _row(file: Path, pipeline: str, tally: Tally) -> Row:
    money = {price: round(_ratio(tally.money[price], whole), 4) for price, whole in tally.unedited.items()}
    return Row(
        file=file.name,
        pipeline=pipeline,
        calls=tally.calls,
        recall=round(_ratio(tally.kept, tally.grounded), 4),
        reachable=round(_ratio(tally.kept + tally.behind, tally.grounded), 4),
        share=round(_ratio(tally.shown, tally.whole), 4),
        peak_tokens=tally.peak,
        money=money,
        prefix_rewrites=tally.rewrites,
        violations=tally.violations,
        ms_per_call=round(1e3 * tally.seconds / tally.calls, 3) if tally.calls else 0.0,
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


# One process measures one run through all pipelines, so that what it costs with no edit is walked once.

_prepared: tuple[Pipelines, str] = ({}, "")


@contextmanager
def _workers(
    pipelines: Pipelines, price: str, jobs: int | Pool
) -> Iterator[Callable[[Sequence[Run]], Iterator[Outcome]]]:
    tables = {name: pipeline.dump() for name, pipeline in pipelines.items()}
    if not isinstance(jobs, int):
        yield lambda runs: jobs.imap(partial(_loaded, tables, price), runs)
        return
    if jobs == 1:
        yield lambda runs: (_outcome(run, pipelines, price) for run in runs)
        return
    context = get_context("spawn")  # a fork would copy the thread that draws the progress bar
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare, initargs=(tables, price))
    try:
        yield lambda runs: pool.map(_measured, runs)
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare(tables: Mapping[str, dict[str, Any]], price: str) -> None:
    global _prepared  # noqa: PLW0603  set once in a worker, before its first run
    _prepared = {name: Pipeline.load(table) for name, table in tables.items()}, price


def _loaded(tables: Mapping[str, dict[str, Any]], price: str, run: Run) -> Outcome:
    return _outcome(run, {name: Pipeline.load(table) for name, table in tables.items()}, price)


def _measured(run: Run) -> Outcome:
    return _outcome(run, *_prepared)


def _outcome(run: Run, pipelines: Pipelines, price: str) -> Outcome:
    found: Outcome = {}
    unedited: dict[str, float] = {}
    for name, pipeline in pipelines.items():
        try:
            found[name] = measure(run, pipeline, price, unedited)
        except MemctxError as error:
            found[name] = Skipped(run.id, name, str(error))
    return found
