"""What a bench is asked for, checked before anything is read."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from memctx.errors import ConfigError


def check_methods(methods: Sequence[str], known: Collection[str]) -> None:
    """Raises `ConfigError` where there are none, or one is not known."""
    unknown = [name for name in methods if name not in known]
    if unknown or not methods:
        raise ConfigError(f"methods {unknown} are not known; use {', '.join(known)}", field="methods")


def check_ks(ks: Sequence[int]) -> None:
    """Raises `ConfigError` where a number of records looked at is none."""
    if not ks or min(ks) < 1:
        raise ConfigError(f"k = {list(ks)}: give whole numbers from 1", field="k")
