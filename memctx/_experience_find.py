"""What a library answers to an observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memctx import _experience_given as given
from memctx import _experience_rows as rows
from memctx._experience_items import POLARITY, ZONES, Level, Polarity, Retrieved
from memctx._experience_kept import Kept
from memctx._experience_near import Text, Vector, key_of
from memctx._experience_rank import picked
from memctx._experience_shelf import LEVELS, Candidates, Shelf, Situation, Wanted
from memctx.errors import FilterError
from memctx.records import trust_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from memctx.memory import Memory

POLARITIES: tuple[Polarity, ...] = ("worked", "failed")
ZONE = np.array([POLARITIES.index(POLARITY[level]) for level in LEVELS])  # of each level


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to a library. `key`: equal for equal questions, over the whole texts; `rooms`: places for each polarity."""

    observation: str
    task: str
    key: tuple[object, ...]
    wanted: Wanted
    rooms: tuple[int, int]

    @property
    def texts(self) -> list[str]:
        return list(dict.fromkeys(text for text in (self.observation, self.task) if text))


def asked(
    observation: str, task: str, k: int, level: Level | None, polarity: Polarity | None, min_trust: str | int
) -> Asked:
    """A question. Raises `FilterError`."""
    if (level is not None and level not in POLARITY) or (polarity is not None and polarity not in ZONES):
        known = f"{', '.join(POLARITY)}; {', '.join(ZONES)}"
        raise FilterError(f"level = {level!r:.40}, polarity = {polarity!r:.40}: known are {known}", field="level")
    trust, wanted_k = trust_of(min_trust), given.k(k)
    short = given.situation(observation), given.situation(task)
    levels = (level,) if level else ZONES[polarity] if polarity else LEVELS
    only = POLARITY[level] if level else polarity
    failed = wanted_k // 3 if only is None else wanted_k if only == "failed" else 0
    rooms = (wanted_k - failed, failed)
    return Asked(*short, (key_of(observation), key_of(task), levels, trust, rooms), Wanted(levels, trust), rooms)


def find(
    conn: Connection, memory: Memory, held: Kept, what: Asked, vectors: Mapping[str, Vector], share: float
) -> list[Retrieved]:
    """The best for it, from the answers kept where nothing changed since. `share`: of one writer."""
    with held.lock:
        held.follow(conn, memory)
        key = (*what.key, share)
        known = held.answers.get(key)
        if known is None:
            at = Situation(_text(what.observation, vectors), _text(what.task, vectors))
            known = _answer(conn, held, held.shelf.near(at, what.wanted), what, share)
            held.keep(key, known)
        return list(known)


def _text(text: str, vectors: Mapping[str, Vector]) -> Text | None:
    return Text.of(text, vectors[text]) if text else None


def _answer(conn: Connection, held: Kept, found: Candidates, what: Asked, share: float) -> list[Retrieved]:
    shelf = held.shelf
    items = shelf.items[found.slots]
    scores, useful = shelf.scores(found), shelf.useful(found.slots)
    order = np.lexsort((items["id"], -scores)).tolist()
    zones, writers = ZONE[items["level"]].tolist(), items["writer"].tolist()
    best = picked(order, zones, writers, what.rooms, _most(shelf, sum(what.rooms), share))
    whole = rows.named(conn, held.scope, items["id"][best].tolist())
    return [
        Retrieved(whole[number][1], float(scores[at]), _parts(found, useful, at))
        for at, number in zip(best, items["id"][best].tolist(), strict=True)
        if number in whole
    ]


def _most(shelf: Shelf, k: int, share: float) -> int:
    """Places one writer may have; all, where nobody else wrote."""
    return max(1, int(share * k)) if len(shelf.written) > 1 else k


def _parts(
    found: Candidates, useful: Vector | np.ndarray[tuple[int], np.dtype[np.float64]], at: int
) -> dict[str, float]:
    named = {"observation": found.observed, "task": found.tasked, "likeness": found.alike, "usefulness": useful}
    return {name: float(part[at]) for name, part in named.items() if part is not None and not np.isnan(part[at])}
