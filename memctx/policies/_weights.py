"""Weights of learned policies on disk: `weights.npz` and `card.json` in a folder. Read with NumPy alone, never a pickle."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memctx.errors import ConfigError, NotFound
from memctx.policies._features import COLUMNS

Array = NDArray[np.float32]
DEFAULT = Path(__file__).parent / "_default"
KINDS = ("linear", "mlp")
VERSION = 1
TOKENS = COLUMNS.index("tokens")
LOSS = 2_000.0
SIZE = 0.75  # below 1 the chance decides more than the size: that holds better on kinds of runs that nobody taught


@dataclass(frozen=True, eq=False)
class Net:
    """Layers ((D, H), (H,)), ..., ((H, 2), (2,)) with ReLU between; no hidden layer is a linear policy."""

    layers: tuple[tuple[Array, Array], ...]

    def __call__(self, rows: Array) -> Array:
        """(n, 2) chances; the second is never above the first."""
        for place, (weight, bias) in enumerate(self.layers):
            if place:
                rows = np.maximum(rows, 0)
            rows = rows @ weight + bias
        chances = (1 / (1 + np.exp(-np.clip(rows, -30, 30)))).astype(np.float32)
        chances[:, 1] = np.minimum(chances[:, 0], chances[:, 1])
        return chances


def worth(rows: Array, chances: Array, loss: float) -> Array:
    """(n,) 0 to 1: the odds are the chance of need times (loss / tokens) ** SIZE."""
    tokens = np.maximum(np.expm1(4 * rows[:, TOKENS]), 1)
    odds = chances[:, 0] * (np.float32(loss) / tokens) ** np.float32(SIZE)
    found: Array = (odds / (1 + odds)).astype(np.float32)
    return found


def folder(where: str) -> Path:
    """The folder that a policy's `dir` names; "default" is the one that ships."""
    return DEFAULT if where == "default" else Path(where)


def card(where: str) -> dict[str, Any]:
    """What `card.json` says. Raises `NotFound` without one, `ConfigError` where it is of another version."""
    path = folder(where) / "card.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as cause:
        known = "'default', 'rules', or a folder that `memctx train keep RUNS --out DIR` wrote"
        raise NotFound(f"no learned policy in {where!r:.200}: {path.name} cannot be read; give {known}") from cause
    except ValueError as cause:
        raise ConfigError(f"{path}: not JSON: {cause}", field="policy") from cause
    if not isinstance(found, dict) or found.get("version") != VERSION or found.get("kind") not in KINDS:
        raise ConfigError(f"{path}: not the card of a keep policy of version {VERSION}; train it again", field="policy")
    if found.get("columns") != list(COLUMNS):
        raise ConfigError(f"{path}: trained on other features than this memctx reads; train it again", field="policy")
    return found


def load(where: str, kind: str) -> Net:
    """The weights of a folder, read again only where a file changed. Raises `NotFound` or `ConfigError`."""
    path = folder(where)
    name = "linear.npz" if kind == "linear" and path == DEFAULT else "weights.npz"
    return _loaded(where, kind, path / name, _changed(path / "card.json"), _changed(path / name))


@lru_cache(maxsize=16)
def _loaded(where: str, kind: str, path: Path, *changed: int) -> Net:
    """`changed`: when its files last did, so that the answer is kept for as long as they stand."""
    found = card(where)["kind"]
    if found != kind and folder(where) != DEFAULT:
        raise ConfigError(f"{where}: holds a policy of kind {found!r}, not {kind!r}", field="policy")
    return _read(path)


def _changed(path: Path) -> int:
    """Nanoseconds; 0 where there is no such file: whoever reads it says so."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _read(path: Path) -> Net:
    try:
        with np.load(path, allow_pickle=False) as held:
            count = len(held.files) // 2
            layers = tuple((_floats(held[f"w{n}"]), _floats(held[f"b{n}"])) for n in range(count))
    except OSError as cause:
        raise NotFound(f"no weights in {path}: {cause.strerror}") from cause
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as cause:
        raise ConfigError(f"{path}: cannot be read as weights: {cause}", field="policy") from cause
    sizes = [len(COLUMNS), *(len(bias) for _, bias in layers)]
    fits = all(w.shape == (sizes[n], sizes[n + 1]) for n, (w, _) in enumerate(layers))
    if not layers or not fits or sizes[-1] != 2 or not all(np.isfinite(part).all() for pair in layers for part in pair):
        raise ConfigError(f"{path}: shapes {sizes} or values are not those of a keep policy", field="policy")
    return Net(layers)


def _floats(array: NDArray[Any]) -> Array:
    return array.astype(np.float32)


def save(
    path: Path, layers: Sequence[tuple[Array, Array]], about: Mapping[str, Any], name: str = "weights.npz"
) -> None:
    """Write weights and card; `about` has the card's own fields."""
    path.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {}
    for place, (weight, bias) in enumerate(layers):
        arrays |= {f"w{place}": weight.astype(np.float32), f"b{place}": bias.astype(np.float32)}
    np.savez_compressed(path / name, **arrays)
    if about:
        text = json.dumps({"version": VERSION, "columns": list(COLUMNS), **about}, indent=1, ensure_ascii=False)
        (path / "card.json").write_text(text + "\n", encoding="utf-8")
