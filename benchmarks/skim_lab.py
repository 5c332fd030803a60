"""Grounding recall and tool-token share of the skim rule on recorded runs, without the pipeline around it.

    python benchmarks/skim_lab.py PATH... [--outline STEPS] [--marker TOKENS]

For each call of a run, the newest step's results stand in full and older ones as skims; all other text stays. Use it to
see at once what a change to a skimmer does; `memctx replay` measures the whole pipeline.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from memctx._skim import shown_words, skim, words
from memctx._skim.rule import level_at, skim_step
from memctx.grounding import grounded, view_text
from memctx.runs import Run, load, load_dir
from memctx.tokens import Counter, counter


@dataclass
class Result:
    """One tool result: its text, what the view shows of it, and both sizes in tokens."""

    text: str
    shown: str
    size: int
    cost: int


@dataclass
class Tally:
    """Sums over views."""

    grounded: int = 0
    kept: int = 0
    shown: int = 0
    whole: int = 0


@dataclass
class Lab:
    """One run on its way through the rule."""

    tokens: Counter
    outline: int
    marker: int
    steps: list[list[Result]] = field(default_factory=list)
    settled: set[str] = field(default_factory=set)

    def add(self, text: str) -> None:
        size = self.tokens.text(text)
        self.steps[-1].append(Result(text, text, size, size))

    def age(self) -> None:
        """Shorten the steps whose level changes now that the last step is the newest."""
        for age in range(1, min(len(self.steps), self.outline + 2)):
            place = len(self.steps) - 1 - age
            if level_at(age, self.outline) == 1:
                skims = [skim(r.text, level=1) for r in self.steps[place]]
            else:
                newer = [r.text for step in self.steps[place + 1 :] for r in step]
                skims = skim_step([r.text for r in self.steps[place]], self.settled.__contains__, newer)
            for result, short in zip(self.steps[place], skims, strict=True):
                self._show(result, short)
                if level_at(age, self.outline) > 1:
                    self.settled |= shown_words(result.text, result.shown)

    def _show(self, result: Result, short: str) -> None:
        cost = self.tokens.text(short) + self.marker
        whole = cost >= result.size
        result.shown, result.cost = (result.text, result.size) if whole else (short, cost)


def measure(run: Run, tokens: Counter, outline: int, marker: int) -> Tally:
    lab, tally, fixed = Lab(tokens, outline, marker), Tally(), list[str]()
    needs: dict[int, list[str]] = {}
    for need in grounded(run.messages):
        needs.setdefault(need.call_index, []).append(need.text)
    for index, message in enumerate(run.messages):
        text = view_text([message])
        if message["role"] == "tool":
            lab.add(text)
            continue
        if message.get("tool_calls"):
            lab.age()
            results = [result for step in lab.steps for result in step]
            tally.shown += sum(result.cost for result in results)
            tally.whole += sum(result.size for result in results)
            view = [*fixed, *(result.shown for result in results)]
            tally.grounded += len(needs.get(index, ()))
            tally.kept += sum(any(need in part for part in view) for need in needs.get(index, ()))
            lab.steps.append([])
        fixed.append(text)
        lab.settled.update(words(text))
    return tally


def rows(paths: Sequence[str], outline: int, marker: int) -> Iterator[str]:
    tokens = counter()
    for path in load_dir(paths):
        tallies = [measure(run, tokens, outline, marker) for run in load(path)]
        needs, whole = sum(t.grounded for t in tallies), sum(t.whole for t in tallies)
        recall = sum(t.kept for t in tallies) / needs if needs else 1.0
        share = sum(t.shown for t in tallies) / whole if whole else 1.0
        yield f"{path.name:40} {needs:6} grounded  recall {recall:.4f}  share {share:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+")
    parser.add_argument(
        "--outline", type=int, default=0, help="steps that stand as an outline before they are an index"
    )
    parser.add_argument("--marker", type=int, default=4, help="tokens of the handle that stands with each skim")
    given = parser.parse_args()
    for row in rows(given.paths, given.outline, given.marker):
        print(row, flush=True)


if __name__ == "__main__":
    main()
