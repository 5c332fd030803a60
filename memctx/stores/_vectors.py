"""What every index checks before it stores or searches, so that a library below never sees bad input (`python -O` too)."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memctx.errors import ConfigError, EmbeddingError, FilterError, LimitError, ScopeError
from memctx.stores import Batch

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
Scores = NDArray[np.float32]
Flags = NDArray[np.bool_]

MAX_DIM = 65_536
MAX_K = 100_000
LONGEST, SHORTEST = 1e6, 1e-6  # lengths of a row; beyond them inner products overflow, or mean nothing


def width(dim: int) -> int:
    """A dimension that can be one."""
    if isinstance(dim, bool) or not isinstance(dim, int) or not 1 <= dim <= MAX_DIM:
        raise ConfigError(f"dim={dim!r:.40}: give the width of the vectors, 1 to {MAX_DIM}", field="dim")
    return dim


def rows(data: Any, dim: int, what: str = "vectors") -> Vectors:
    """(n, dim) float32, in C order. Other floats, integers and lists are converted; what has no length is refused."""
    try:
        given = np.asarray(data)
    except (TypeError, ValueError, RuntimeError) as cause:  # ragged lists, tensors of a device
        raise EmbeddingError(f"{what} cannot be read as an array: {cause!s:.200}", given=type(data).__name__) from cause
    if given.dtype.kind not in "fiu":
        raise EmbeddingError(f"{what} of type {given.dtype}: give real numbers", given=str(given.dtype))
    if given.ndim == 1 and given.size == 0:
        given = given.reshape(0, dim)
    if given.ndim != 2 or given.shape[1] != dim:
        text = f"{what} of shape {given.shape}: the index holds rows of width {dim}, so give (n, {dim})"
        raise EmbeddingError(text, given=list(given.shape), dim=dim)
    with np.errstate(over="ignore", invalid="ignore"):
        ready = np.ascontiguousarray(given, dtype=np.float32)
        lengths = np.sqrt(np.einsum("ij,ij->i", ready, ready))
    bad = np.flatnonzero(~((lengths >= SHORTEST) & (lengths <= LONGEST)))
    if bad.size:
        first = int(bad[0])
        text = f"{what}[{first}] has length {lengths[first]}: give finite numbers, not all zero, of length near one"
        raise EmbeddingError(text, row=first, rows=int(bad.size))
    return ready


def row_ids(data: Any, what: str = "ids", *, unique: bool = True) -> Ids:
    """(n,) int64, each at least 1 and, for rows to be stored, none twice."""
    given = np.asarray(data)
    if given.size == 0 and given.ndim == 1:
        return np.empty(0, np.int64)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        text = f"{what} of type {given.dtype} and shape {given.shape}: give whole numbers below 2^63, (n,)"
        raise EmbeddingError(text, given=str(given.dtype))
    if given.min() < 1 or given.max() > np.iinfo(np.int64).max:
        raise EmbeddingError(f"{what} run from {given.min()} to {given.max()}: row ids are 1 to 2^63 - 1")
    ready = given.astype(np.int64)
    if unique and ready.size > 1:
        ordered = np.sort(ready)
        twice = ordered[1:][ordered[1:] == ordered[:-1]]
        if twice.size:
            raise EmbeddingError(f"id {twice[0]} is there twice in one batch", id=int(twice[0]))
    return ready


def checked(batch: Batch, dim: int) -> Batch:
    """The batch as the index stores it, or an error before anything changed."""
    ids, vectors = row_ids(batch.ids), rows(batch.vectors, dim)
    if len(ids) != len(vectors):
        text = f"{len(ids)} ids and {len(vectors)} vectors: nothing was stored"
        raise EmbeddingError(text, ids=len(ids), vectors=len(vectors))
    return Batch(inside(batch.scope), ids, vectors)


def inside(scope: str) -> str:
    """A scope as `memctx.scope.scope` writes it."""
    if not isinstance(scope, str) or len(scope) < 2 or scope[-1] != "/":
        raise ScopeError(f"scope {scope!r:.60}: make it with memctx.scope.scope(...)", code="scope_required")
    return scope


def limit(k: int) -> int:
    """How many rows are asked for."""
    try:
        number = operator.index(k)
    except TypeError:
        number = 0
    if number < 1:
        raise FilterError(f"k={k!r:.40}: give a whole number from 1", field="k")
    if number > MAX_K:
        raise LimitError(f"k={number}: the bound is {MAX_K}", field="k", given=number)
    return number


def allowed(only: Any) -> Ids | None:
    """The ids that may be returned, sorted, each once; None for all."""
    return None if only is None else np.unique(row_ids(only, "only", unique=False))


def blank(m: int, k: int) -> tuple[Ids, Scores]:
    """An answer without rows."""
    return np.full((m, k), -1, np.int64), np.full((m, k), -np.inf, np.float32)


def differences(
    batches: Iterable[Batch], dim: int, scopes: Sequence[str], held: Callable[[str], tuple[Ids, Vectors]]
) -> list[str]:
    """How what `held(scope)` gives, for these scopes, differs from the batches, as sentences."""
    found: list[str] = []
    seen: dict[str, list[Ids]] = {}
    cache: tuple[str, Ids, Vectors] | None = None
    for batch in (checked(given, dim) for given in batches):
        if cache is None or cache[0] != batch.scope:
            ids, vectors = held(batch.scope)
            order = np.argsort(ids)
            cache = batch.scope, ids[order], vectors[order]
        found += _compared(batch, cache[1], cache[2])
        seen.setdefault(batch.scope, []).append(batch.ids)
    for scope in scopes:
        known = np.concatenate([*seen.get(scope, []), np.empty(0, np.int64)])
        extra = np.setdiff1d(held(scope)[0], known)
        if extra.size:
            found.append(f"scope {scope!r}: {extra.size} rows that should not be there, first {extra[0]}")
    return found


def _compared(batch: Batch, ids: Ids, vectors: Vectors) -> list[str]:
    """What is missing or different of one batch; `ids` are sorted."""
    found = []
    missing = np.setdiff1d(batch.ids, ids)
    if missing.size:
        found.append(f"scope {batch.scope!r}: {missing.size} rows are missing, first {missing[0]}")
    here = np.isin(batch.ids, ids)
    places = np.searchsorted(ids, batch.ids[here])
    differ = (vectors[places] != batch.vectors[here]).any(axis=1)
    if differ.any():
        first = batch.ids[here][differ][0]
        found.append(f"scope {batch.scope!r}: {int(differ.sum())} vectors differ, first {first}")
    return found
