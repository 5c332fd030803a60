"""Scopes as bytes and back. Small scopes share files, so that thousands of them need a few; a large one has its own.

A file is a line of JSON, then for each scope its ids, flags, vectors and, where it was built, the FAISS index that makes it
fast. The names of files say nothing: they are numbers and hashes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from memctx.stores._faiss_fast import Fast, forgotten
from memctx.stores._faiss_rows import Part, loaded
from memctx.stores._generations import Chunks, Damaged

LARGE = 1 << 22  # bytes of vectors; such a scope has a file of its own
SHARED = 1 << 24  # bytes; the files of the others are about as large
LINE = 1 << 28  # bytes; the longest header that is read
ALIGN = 64  # bytes; every array begins at a multiple

Files = dict[str, list[str]]  # key of a file -> its scopes


def layout(parts: Mapping[str, Part]) -> Files:
    """Which scopes lie in which file."""
    sizes = {scope: part.view.vectors.nbytes for scope, part in parts.items()}
    small = sum(size for size in sizes.values() if size < LARGE)
    bits = max(0, math.ceil(math.log2(max(1, small) / SHARED)))
    files: Files = {}
    for scope in sorted(parts):
        digest = hashlib.sha256(scope.encode("utf-8", "surrogatepass"))
        shared = int.from_bytes(digest.digest()[:8], "big") >> (64 - bits) if bits else 0
        key = f"s-{digest.hexdigest()[:32]}" if sizes[scope] >= LARGE else f"b-{bits}-{shared}"
        files.setdefault(key, []).append(scope)
    return files


def packed(faiss: Any, scopes: list[str], parts: Mapping[str, Part]) -> Chunks:
    """A file of these scopes."""
    head: list[dict[str, Any]] = []
    body: list[memoryview] = []
    for scope in scopes:
        part = parts[scope]
        view, fast = part.view, part.view.fast
        about: dict[str, Any] = {"scope": scope, "rows": len(view.ids), "ascending": view.ascending, "fast": None}
        about |= {"why": part.why, "tried": part.tried}
        body += [view.ids.data, view.live.data, view.vectors.data]
        if fast is not None:
            index = faiss.serialize_index(forgotten(faiss, fast, view.live).index)
            about["fast"] = {**{name: getattr(fast, name) for name in _FAST}, "bytes": len(index)}
            body.append(index.data)
        head.append(about)
    for chunk in (memoryview(json.dumps(head).encode() + b"\n"), *body):
        yield chunk
        yield bytes(-chunk.nbytes % ALIGN)


def unpacked(faiss: Any, data: bytearray, dim: int) -> Iterator[tuple[str, Part]]:
    """The scopes of a file; the parts own its memory. Raises `Damaged` for what does not fit together."""
    try:
        line = data.find(b"\n", 0, LINE) + 1
        reader = _Reader(data, line + -line % ALIGN)
        for item in json.loads(data[:line]):
            yield item["scope"], _part(faiss, item, reader, dim)
    except (ValueError, TypeError, KeyError, RuntimeError, OverflowError) as problem:
        raise Damaged(
            f"a file whose hash is right does not fit: {type(problem).__name__}: {problem!s:.100}"
        ) from problem
    if reader.at != len(data):
        raise Damaged("a file is longer than what it holds")


_FAST = ("kind", "rows", "effort", "recall", "trained")


class _Reader:
    """Takes arrays off a file, one after the other, each at an aligned place; they share its memory."""

    def __init__(self, data: bytearray, at: int) -> None:
        self.data, self.at = data, at

    def take(self, kind: Any, count: int) -> Any:
        array = np.frombuffer(self.data, kind, count, self.at) if count else np.empty(0, kind)
        self.at += array.nbytes + -array.nbytes % ALIGN
        return array


def _part(faiss: Any, item: Mapping[str, Any], reader: _Reader, dim: int) -> Part:
    rows, about = item["rows"], item["fast"]
    ids, live = reader.take(np.int64, rows), reader.take(np.bool_, rows)
    vectors = reader.take(np.float32, rows * dim).reshape(rows, dim)
    if rows and ids.min() < 1:
        raise Damaged("a row id below 1")
    fast = None if about is None else _fast(faiss, about, reader.take(np.uint8, about["bytes"]), dim)
    part = loaded(ids, vectors, live, ascending=item["ascending"], fast=fast)
    part.why, part.tried = item["why"], item["tried"]
    return part


def _fast(faiss: Any, about: Mapping[str, Any], data: Any, dim: int) -> Fast:
    """The FAISS index, read within limits: no part of it may claim more memory than it has bytes."""
    limits = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
    faiss.set_deserialization_vector_byte_limit(max(1 << 20, 4 * len(data)))
    faiss.set_deserialization_loop_limit(max(1 << 20, 4 * len(data)))
    try:
        index = faiss.deserialize_index(data)
    finally:
        faiss.set_deserialization_vector_byte_limit(limits[0])
        faiss.set_deserialization_loop_limit(limits[1])
    fast = Fast(index=index, **{name: about[name] for name in _FAST})
    if index.d != dim or index.ntotal > fast.rows or index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise Damaged("the index of a scope is for other rows")
    return fast
