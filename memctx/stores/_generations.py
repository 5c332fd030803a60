"""Files that change together: a generation is written beside the last one, and one rename of `MANIFEST` makes it true.

Every file is synced before the manifest names it, with its length and SHA-256; the manifest carries its own. Older files
go only after that. So a reader finds one whole generation, or says what is damaged. No link is followed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from memctx.errors import ConfigError, StoreError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
MANIFEST, LOCK, ASIDE = "MANIFEST", "LOCK", ".corrupt"
BIGGEST_MANIFEST = 1 << 24  # bytes
STEP = 1 << 22  # bytes read at a time
OURS = re.compile(r"[a-z0-9-]{1,80}\.\d{1,18}\.idx")
READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # a named pipe must not stop us
LOCKED = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0)

Chunks = Iterable[bytes | memoryview]


class Damaged(Exception):
    """What is there cannot be used; `names` are the files at fault."""

    def __init__(self, why: str, *names: str) -> None:
        super().__init__(why)
        self.names = names


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of a generation."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is true: the pieces by key, and what whoever wrote them had to say."""

    generation: int
    facts: Mapping[str, Any]
    pieces: Mapping[str, Piece]


@dataclass(frozen=True, slots=True)
class Generations:
    """A folder of one index."""

    folder: Path
    timeout: float = 30.0  # seconds to wait for another process that writes

    def load(self) -> tuple[Manifest, dict[str, bytearray]] | None:
        """The last generation, every byte checked; None where there is none. Raises `Damaged`."""
        with self._locked(reading=True):
            manifest = self.manifest()
            if manifest is not None:
                return manifest, {key: self._checked(piece) for key, piece in manifest.pieces.items()}
            stray = [path.name for path in self.folder.iterdir() if OURS.fullmatch(path.name)]
            if stray:
                raise Damaged(f"{len(stray)} index files and no manifest", *stray)
            return None

    def manifest(self) -> Manifest | None:
        """The manifest as it is on disk. Raises `Damaged`."""
        data = _read(self.folder / MANIFEST, BIGGEST_MANIFEST)
        if data is None:
            return None
        try:
            content = json.loads(data)
            seal = content.pop("sha256")
            if _seal(content) != seal:
                raise Damaged("the manifest's checksum is wrong", MANIFEST)
            if content["format"] != FORMAT:
                raise Damaged(f"format {content['format']!r:.20}, not {FORMAT}: another version wrote it", MANIFEST)
            pieces = {key: Piece(**piece) for key, piece in content["pieces"].items()}
            return Manifest(content["generation"], content["facts"], pieces)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
            raise Damaged(f"the manifest cannot be read: {type(problem).__name__}", MANIFEST) from problem

    def publish(
        self,
        new: Iterable[tuple[str, Chunks]],
        facts: Mapping[str, Any],
        keep: Mapping[str, Piece],
        last: Manifest | None,
    ) -> Manifest:
        """Write a generation of the new pieces and the kept ones of `last`, make it true, and remove what is older.

        Damaged files set aside go with the second generation after them. Raises OSError or `StoreError`; then the last
        generation still is the true one. Call it with `writing` held.
        """
        there = self.present()
        number = max(there.generation if there else 0, last.generation if last else 0) + 1
        pieces = dict(keep)
        for key, chunks in new:
            pieces[key] = self._write(f"{key}.{number}.idx", chunks)
        self._sync_folder()
        manifest = Manifest(number, dict(facts), pieces)
        content = {"format": FORMAT, **asdict(manifest)}
        text = json.dumps({**content, "sha256": _seal(content)}, sort_keys=True)
        self._write(f"{MANIFEST}.tmp", [text.encode()])
        (self.folder / f"{MANIFEST}.tmp").replace(self.folder / MANIFEST)
        self._sync_folder()
        self._tidy({piece.name for piece in pieces.values()}, aside=there is not None)
        return manifest

    def present(self) -> Manifest | None:
        """The manifest on disk, or None where there is none that can be read."""
        try:
            return self.manifest()
        except Damaged:
            return None

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the folder against other processes. Faults of the disk come as `StoreError`."""
        try:
            with self._locked(reading=False):
                yield
        except OSError as cause:
            text = f"the index could not be written to {self.folder} ({cause.strerror or cause}); the last one is kept"
            raise StoreError(text, code="index_not_saved", path=str(self.folder)) from cause

    def set_aside(self, names: Iterable[str]) -> None:
        """Keep damaged files under another name for one generation, so that somebody can look at them."""
        with contextlib.suppress(OSError, StoreError), self._locked(reading=False):
            for name in names:
                with contextlib.suppress(OSError):
                    (self.folder / name).replace(self.folder / f"{name}{ASIDE}")
            self._sync_folder()

    def holds(self, piece: Piece) -> bool:
        """Whether a piece still lies there."""
        with contextlib.suppress(OSError):
            return (self.folder / piece.name).lstat().st_size == piece.size
        return False

    def files(self) -> list[Path]:
        """Every file the vectors may lie in."""
        return [path for path in self.folder.iterdir() if _ours(path.name)]

    def purge(self) -> None:
        """Remove what was set aside at once: after an erasure it may hold what is gone."""
        self._tidy(None, aside=True)

    @contextlib.contextmanager
    def _locked(self, *, reading: bool) -> Iterator[None]:
        """Hold the folder alone, among processes and among indices of this one. The lock goes with a process that dies."""
        try:
            file = os.open(self.folder / LOCK, LOCKED, 0o600)
        except OSError:
            if not reading:
                raise
            yield  # a folder that may only be read has no writer to wait for
            return
        try:
            self._wait(file)
            yield
        finally:
            os.close(file)

    def _wait(self, file: int) -> None:
        end = time.monotonic() + self.timeout
        while fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    text = f"another process held {self.folder} for {self.timeout:g} s: end it, or try again later"
                    raise StoreError(text, code="store_busy", seconds=self.timeout) from None
                time.sleep(0.002)
            else:
                return

    def _checked(self, piece: Piece) -> bytearray:
        """A file whose length and hash are those of the manifest."""
        if not isinstance(piece.name, str) or not OURS.fullmatch(piece.name) or not isinstance(piece.size, int):
            raise Damaged("the manifest names a file that cannot be ours", MANIFEST)
        data = _read(self.folder / piece.name, piece.size)
        if data is None:
            raise Damaged(f"{piece.name} is missing", MANIFEST)
        if len(data) != piece.size or hashlib.sha256(data).hexdigest() != piece.sha256:
            raise Damaged(f"{piece.name} is not as it was written", MANIFEST, piece.name)
        return data

    def _write(self, name: str, chunks: Chunks) -> Piece:
        """Write, sync, and read again: a disk may say nothing and keep less."""
        path, size, digest = self.folder / name, 0, hashlib.sha256()
        file = os.open(path, WRITE, 0o600)
        try:
            for chunk in chunks:
                view = memoryview(chunk).cast("B")
                size += len(view)
                digest.update(view)
                while view:
                    view = view[os.write(file, view[: 1 << 30]) :]
            os.fsync(file)
        finally:
            os.close(file)
        piece = Piece(name, size, digest.hexdigest())
        if _hash(path) != (size, piece.sha256):
            raise OSError(f"{name} reads back other than it was written")
        return piece

    def _tidy(self, kept: Collection[str] | None, *, aside: bool) -> None:
        """Remove pieces that no manifest names (None: leave them), and with `aside` what was set aside."""
        for path in self.folder.iterdir():
            old = kept is not None and OURS.fullmatch(path.name) and path.name not in kept
            if old or (aside and path.name.endswith(ASIDE) and _ours(path.name)):
                with contextlib.suppress(OSError):
                    path.unlink()

    def _sync_folder(self) -> None:
        if os.name == "nt":
            return
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def generations(folder: Path) -> Generations:
    """The folder, made if absent, for this user alone. Raises `ConfigError` for a link or what is no folder."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ConfigError(f"{folder} is a link or no folder: give the index a folder of its own", field="folder")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as cause:
        text = f"the folder {folder} cannot be made ({cause.strerror}): give one that this user may write"
        raise ConfigError(text, field="folder") from cause
    return Generations(folder)


def _ours(name: str) -> bool:
    name = name.removesuffix(ASIDE)
    return name in {MANIFEST, f"{MANIFEST}.tmp"} or bool(OURS.fullmatch(name))


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(path: Path, most: int) -> bytearray | None:
    """A whole file of at most `most` bytes; None if there is none. Raises `Damaged` for what is no file or too large."""
    try:
        file = os.open(path, READ)
    except FileNotFoundError:
        return None
    except OSError as cause:
        raise Damaged(f"{path.name} cannot be read: {cause.strerror}", path.name) from cause
    with os.fdopen(file, "rb", buffering=0) as stream:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or about.st_size > most:
            raise Damaged(f"{path.name} is no file, or larger than it was", MANIFEST, path.name)
        data, filled = bytearray(about.st_size), 0
        while filled < len(data):
            count = stream.readinto(memoryview(data)[filled : filled + STEP])
            if not count:
                raise Damaged(f"{path.name} ends too early", MANIFEST, path.name)
            filled += count
        return data


def _hash(path: Path) -> tuple[int, str]:
    with path.open("rb", buffering=0) as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return os.fstat(stream.fileno()).st_size, digest
