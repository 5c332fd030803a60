"""The words two situations share: cheap, exact, and what an error message or a command is told apart by.

Every word counts, the frequent ones too: in a situation `where` and `by` may be SQL. Numbers are all one word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int32]

_WORD = re.compile(r"[^\W\d_]+|\d+")
_BUCKETS = 1 << 18  # words are told apart by their hash
_MOST = 256  # different words kept of a text


def words_of(text: str) -> Words:
    """The different words of a text as numbers, the first 256."""
    found = dict.fromkeys("0" if word[0].isdigit() else word for word in _WORD.findall(text.casefold()))
    kept = list(found)[:_MOST]
    return np.array(sorted({crc32(word.encode()) % _BUCKETS for word in kept}), np.int32)


def shared(query: Words, rows: Sequence[Words]) -> NDArray[np.float64]:
    """For each row the share of words it has in common with the query, 0 to 1: the cosine of the two sets."""
    lengths = np.array([len(row) for row in rows], np.int64)
    if not lengths.any() or not len(query):
        return np.zeros(len(rows))
    marked = np.zeros(_BUCKETS, bool)
    marked[query] = True
    common = np.concatenate([[0], np.cumsum(marked[np.concatenate(rows)])])
    ends = np.cumsum(lengths)
    cosines: NDArray[np.float64] = (common[ends] - common[ends - lengths]) / np.sqrt(
        np.maximum(lengths, 1) * len(query)
    )
    return cosines
