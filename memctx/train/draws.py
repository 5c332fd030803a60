"""Seeds out of several numbers, so that no two of run, step, task, rollout and turn share their draws."""

from __future__ import annotations

from hashlib import blake2b


def mixed(*parts: int | str) -> int:
    """A seed below 2^64 of all the parts, in their order: neighbouring parts give seeds that have nothing in common."""
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest())
