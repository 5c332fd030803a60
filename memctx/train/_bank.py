"""The insight bank: few short lessons, changed by operations that a model proposes and code decides on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from memctx.experience import Add, Edit, Experience, Library, Merge, Op, Remove

OVERLAP = 0.6  # of the shorter one's words: more in common, and two insights say the same
ORDER = (Remove, Edit, Merge, Add)


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of proposed operations: `done` in the order done, `refused` each with the reason.

    The reasons: unknown (no such id), same (nothing would change), last (it would leave the bank empty), repeats, full.
    """

    done: tuple[Op, ...] = ()
    refused: tuple[tuple[Op, str], ...] = ()


class InsightBank:
    """At most `size` insights, in memory or in a library of experience.

    Operations are done in the order remove, edit, merge, add, whatever the order given. An add is refused where it repeats
    an insight; in a full bank the least helpful makes room, the oldest of those first. No change leaves a bank empty that
    was not. An id stays an insight's for good and is never given again.
    """

    def __init__(self, size: int = 15, library: Library | None = None) -> None:
        self.size = size
        self.library = library
        self._items: dict[int, Experience] = {}
        self._last = 0

    @property
    def items(self) -> tuple[Experience, ...]:
        """The insights, oldest first."""
        return tuple(self.library.items() if self.library else self._items.values())

    def apply(self, ops: Sequence[Op], evidence: Sequence[str] = ()) -> Changed:
        """Do what the rules allow of `ops`. `evidence`: ids of the runs that new insights come from."""
        plan = _Plan(self.items, self.size)
        for op in sorted(ops, key=lambda op: ORDER.index(type(op))):
            plan.take(_proven(op, evidence) if isinstance(op, Add) else op)
        if self.library:
            _write(self.library, plan.done)
        else:
            for op in plan.done:
                self._do(op)
        return Changed(tuple(plan.done), tuple(plan.refused))

    def report(self, ids: Sequence[int], outcome: float) -> None:
        """A prompt that was written from these insights fared so, in -1..1."""
        if self.library:
            self.library.report(ids, outcome)
        for each in self._items.keys() & set(ids):
            old = self._items[each]
            self._items[each] = replace(old, uses=old.uses + 1, helped=old.helped + outcome, outcomes=old.outcomes + 1)

    def _do(self, op: Op) -> None:
        if isinstance(op, Add):
            self._last += 1
            self._items[self._last] = replace(op.experience, id=self._last)
        elif isinstance(op, Remove):
            del self._items[op.id]
        elif isinstance(op, Edit):
            self._items[op.id] = _reworded(self._items[op.id], op.advice)
        else:
            first, *others = (self._items[each] for each in op.ids)
            for other in others:
                del self._items[other.id]
                first = _joined(first, other)
            self._items[first.id] = _reworded(first, op.advice or first.advice)

    def dump(self) -> dict[str, Any]:
        """Plain data for `load`, of a bank in memory. A library keeps itself."""
        return {"last": self._last, "items": [asdict(item) for item in self._items.values()]}

    def load(self, data: Mapping[str, Any]) -> None:
        """Hold what `dump` gave."""
        items = (Experience(**{**each, "evidence": tuple(each["evidence"])}) for each in data["items"])
        self._last, self._items = data["last"], {item.id: item for item in items}


class _Plan:
    """What is allowed, op by op, each judged on the bank as the ops before it leave it."""

    def __init__(self, items: Sequence[Experience], size: int) -> None:
        self.size = size
        self.texts = {item.id: item.advice for item in items}
        self.added: list[str] = []
        self.old = {item.id: item for item in items}  # what may still make room: not what was changed just now
        self.done: list[Op] = []
        self.refused: list[tuple[Op, str]] = []

    def take(self, op: Op) -> None:
        why = self._add(op) if isinstance(op, Add) else self._change(op)
        if why:
            self.refused.append((op, why))

    def _change(self, op: Remove | Edit | Merge) -> str:
        named = op.ids if isinstance(op, Merge) else (op.id,)
        there = [each for each in dict.fromkeys(named) if each in self.texts]
        if len(there) < (2 if isinstance(op, Merge) else 1):
            return "unknown"
        if isinstance(op, Remove):
            return self._remove(op)
        if isinstance(op, Edit) and op.advice == self.texts[op.id]:
            return "same"
        kept, *gone = there
        self.texts[kept] = op.advice or self.texts[kept]
        for each in gone:
            del self.texts[each]
        for each in there:
            self.old.pop(each, None)
        self.done.append(Merge(tuple(there), op.advice) if isinstance(op, Merge) else op)
        return ""

    def _remove(self, op: Remove) -> str:
        if len(self.texts) == 1:
            return "last"
        del self.texts[op.id], self.old[op.id]
        self.done.append(op)
        return ""

    def _add(self, op: Add) -> str:
        text = op.experience.advice
        if any(overlap(text, other) > OVERLAP for other in [*self.texts.values(), *self.added]):
            return "repeats"
        if len(self.texts) + len(self.added) >= self.size:
            if not self.old:
                return "full"
            worst = min(self.old.values(), key=lambda item: (item.helped, item.id))
            del self.texts[worst.id], self.old[worst.id]
            self.done.append(Remove(worst.id, "made room"))
        self.added.append(text)
        self.done.append(op)
        return ""


def overlap(one: str, other: str) -> float:
    """The share of the shorter text's words that the other has too, each word once."""
    words = [set(re.findall(r"\w+", text.lower())) for text in (one, other)]
    return len(words[0] & words[1]) / max(min(map(len, words)), 1)


def _write(library: Library, ops: Sequence[Op]) -> None:
    """The same operations in the library: what worked and what failed are admitted under outcomes of their own."""
    failed = [op for op in ops if isinstance(op, Add) and op.experience.polarity == "failed"]
    rest = [op for op in ops if op not in failed]
    for some, outcome in ((rest, 1.0), (failed, -1.0)):
        if some:
            library.apply(some, writer="insights", outcome=outcome)


def _proven(op: Add, evidence: Sequence[str]) -> Add:
    return Add(replace(op.experience, evidence=(*op.experience.evidence, *evidence), id=0))


def _reworded(item: Experience, advice: str) -> Experience:
    return replace(item, advice=advice, version=item.version + 1)


def _joined(first: Experience, other: Experience) -> Experience:
    return replace(
        first,
        uses=first.uses + other.uses,
        helped=first.helped + other.helped,
        outcomes=first.outcomes + other.outcomes,
        evidence=tuple(dict.fromkeys((*first.evidence, *other.evidence))),
    )
