"""An index's scopes in a folder: read when it opens, and what changed written when it is saved."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memctx.stores._faiss_files import Files, layout, packed, unpacked
from memctx.stores._faiss_rows import Part
from memctx.stores._generations import MANIFEST, Damaged, Manifest, Piece, generations

log = logging.getLogger("memctx")
METRIC = "inner product"

Parts = dict[str, Part]


class Disk:
    """What is known to lie in the folder. Whoever calls holds the index's lock."""

    def __init__(self, faiss: Any, dim: int, folder: Path) -> None:
        self._faiss, self._dim, self._files = faiss, dim, generations(folder)
        self._last: Manifest | None = None
        self._laid: Files = {}

    def load(self) -> tuple[Parts, int, str]:
        """(scopes, number of the last change they hold, why what is there is not used). Damaged files are kept aside."""
        try:
            found = self._files.load()
            if found is None:
                return {}, 0, ""
            parts = self._unpacked(*found)
        except (Damaged, OSError) as problem:
            why, self._laid = str(problem)[:300], {}
            log.warning("the index in %s is not used and has to be filled again: %s", self._files.folder, why)
            self._files.set_aside(getattr(problem, "names", ()) or (MANIFEST,))
            return {}, 0, why
        self._last = found[0]
        return parts, self._last.facts["applied"], ""

    def save(self, parts: Parts, applied: int, *, erased: bool) -> None:
        """Publish what is not on disk yet. What another process published since is left if it has seen more changes."""
        with self._files.writing():
            there = self._files.present()
            if there == self._last or there is None or there.facts.get("applied", 0) <= applied:
                self._publish(parts, applied, known=there is not None and there == self._last)
            if erased:
                self._files.purge()

    def files(self) -> list[Path]:
        """Every file the vectors may lie in."""
        return self._files.files()

    def _publish(self, parts: Parts, applied: int, *, known: bool) -> None:
        laid = layout(parts)
        keep = self._kept(parts, laid) if known else {}
        count = sum(part.rows for part in parts.values())
        facts = {"applied": applied, "dim": self._dim, "metric": METRIC, "count": count}
        last = self._last
        if known and last is not None and last.pieces == keep and last.facts == facts and len(keep) == len(laid):
            return
        new = ((key, packed(self._faiss, scopes, parts)) for key, scopes in laid.items() if key not in keep)
        self._last, self._laid = self._files.publish(new, facts, keep, last), laid
        for part in parts.values():
            part.dirty = False

    def _kept(self, parts: Parts, laid: Files) -> dict[str, Piece]:
        """Files that hold what they would be written with."""
        pieces: Mapping[str, Piece] = self._last.pieces if self._last else {}
        same = [key for key in pieces if key in laid and laid[key] == self._laid.get(key)]
        clean = [key for key in same if not any(parts[scope].dirty for scope in laid[key])]
        return {key: pieces[key] for key in clean if self._files.holds(pieces[key])}

    def _unpacked(self, manifest: Manifest, data: Mapping[str, bytearray]) -> Parts:
        facts, parts = manifest.facts, Parts()
        if facts.get("dim") != self._dim or facts.get("metric") != METRIC:
            raise Damaged(f"it holds rows of width {facts.get('dim')!r:.20}, not {self._dim}")
        for key, content in data.items():
            some = dict(unpacked(self._faiss, content, self._dim))
            self._laid[key] = list(some)
            parts.update(some)
        if facts.get("count") != sum(part.rows for part in parts.values()) or not isinstance(facts.get("applied"), int):
            raise Damaged("the manifest counts other rows than there are")
        return parts
