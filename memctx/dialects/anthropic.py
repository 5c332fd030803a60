"""Anthropic's memory tool `memory_20250818`: a directory /memories of text files, kept as records.

    files = MemoryFiles(memory.at("acme", "ana"))
    request["tools"] = files.schemas
    result = files.call("memory", tool_use.input)

A file is the record about its path; its text begins with the path, so that a search by a file's name finds it. An edit is a
new version and a deletion a retraction, so both stand in the history. A directory is where files are: it goes with its last
file. `memctx.adapters.anthropic` has the tool as a class of the SDK.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memctx.dialects import _files
from memctx.dialects._calls import BAD_INPUT, again, chosen, kept, read, text
from memctx.dialects._files import ROOT, parse, shown
from memctx.errors import FilterError, LimitError, NotFound
from memctx.records import Kind, Record, trust_of

if TYPE_CHECKING:
    from memctx.scoped import Scoped

MISSING = "The path {} does not exist. Please provide a valid path."
Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class MemoryFiles:
    """The tool over one scope. Its words are those of the SDK's own tool.

    `kind`: of the records that new files become. `source`: who their text comes from. `max_bytes` of a file in UTF-8 and
    `max_files` bound what a model can fill.
    """

    scoped: Scoped
    kind: Kind = "semantic"
    source: str = "model"
    max_bytes: int = 102_400
    max_files: int = 1_000

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """The tool as it goes into an Anthropic request; the provider knows its parameters."""
        return [{"type": "memory_20250818", "name": "memory"}]

    def call(self, name: str, arguments: Any) -> str:
        """Answer a call; what the model did wrong is answered in words."""
        try:
            return self.run(name, arguments)
        except BAD_INPUT as cause:
            return f"Error: {cause}"

    async def acall(self, name: str, arguments: Any) -> str:
        """As `call`, off the event loop."""
        return await asyncio.to_thread(self.call, name, arguments)

    def run(self, name: str, arguments: Any) -> str:
        """As `call`, but what the model did wrong raises `FilterError`, `LimitError`, `NotFound` or `ConflictError`."""
        chosen({"tool": name}, "tool", {"memory": None})
        given = read(arguments)
        command = chosen(given, "command", _COMMANDS)
        return again(lambda: command(self, given))

    def clear(self) -> None:
        """Retract every file that the host does not keep."""
        self.scoped.retract(*(each.id for each in self._files().values() if not kept(each)), why="memory cleared")

    # -- commands ----------------------------------------------------------------------------------------------------

    def _view(self, given: Arguments) -> str:
        path, name = self._path(given)
        files = self._files()
        if path in files:
            return _files.numbered(name, shown(files[path]), given.get("view_range"))
        if path != ROOT and not _below(files, path):
            raise NotFound(MISSING.format(name))
        return _files.listing(path, {each: shown(record) for each, record in _below(files, path).items()})

    def _create(self, given: Arguments) -> str:
        (path, name), content, files = self._path(given), text(given, "file_text"), self._files()
        if path == ROOT or path in files or _below(files, path):
            raise FilterError(f"File {name} already exists", field="path")
        self._room(path, files)
        if len(files) >= self.max_files:
            raise LimitError(f"There are {len(files)} files, and no room for more. Delete what is no longer needed.")
        self._write(path, content)
        return f"File created successfully at: {name}"

    def _str_replace(self, given: Arguments) -> str:
        old_str = text(given, "old_str")
        new_str = "" if given.get("new_str") is None else text(given, "new_str")
        path, name, record = self._file(given)
        content = shown(record)
        at = _files.only_place(content, old_str, name)
        changed = content[:at] + new_str + content[at + len(old_str) :]
        self._write(path, changed, record)
        snippet = _files.around(changed, content.count("\n", 0, at))
        return (
            f"The memory file has been edited. Here is the snippet showing the change (with line numbers):\n{snippet}"
        )

    def _insert(self, given: Arguments) -> str:
        new = text(given, "insert_text")
        path, name, record = self._file(given)
        self._write(path, _files.inserted(shown(record), given.get("insert_line"), new), record)
        return f"The file {name} has been edited."

    def _delete(self, given: Arguments) -> str:
        path, name = self._path(given)
        if path == ROOT:
            raise FilterError(f"Cannot delete the {ROOT} directory itself", field="path")
        files = self._files()
        gone = [files[path]] if path in files else [*_below(files, path).values()]
        if not gone:
            raise NotFound(f"The path {name} does not exist")
        self.scoped.retract(*(_free(each).id for each in gone), why="delete")
        return f"Successfully deleted {name}"

    def _rename(self, given: Arguments) -> str:
        (old, old_name), (new, new_name) = self._path(given, "old_path"), self._path(given, "new_path")
        if old == ROOT:
            raise FilterError(f"Cannot rename the {ROOT} directory itself", field="old_path")
        files = self._files()
        if new == ROOT or new in files or _below(files, new):
            raise FilterError(f"The destination {new_name} already exists", field="new_path")
        moved = {old: files[old]} if old in files else _below(files, old)
        if not moved:
            raise NotFound(f"The path {old_name} does not exist")
        if new.startswith(f"{old}/"):
            raise FilterError(f"Cannot move {old_name} into itself", field="new_path")
        self._room(new, files)
        items = [
            self._item(new + path.removeprefix(old), shown(record), _free(record)) for path, record in moved.items()
        ]
        self.scoped.write_many(items)
        return f"Successfully renamed {old_name} to {new_name}"

    # -- rows --------------------------------------------------------------------------------------------------------

    def _files(self) -> dict[str, Record]:
        """The file records by path, newest last."""
        found = self.scoped.list(under=f"{ROOT}/")
        return {each.about: each for each in sorted(found, key=lambda each: each.id)}

    def _file(self, given: Arguments) -> tuple[str, str, Record]:
        """The path, the path as the model wrote it, and the record, if it is a file that the model may change."""
        path, name = self._path(given)
        files = self._files()
        if path not in files:
            raise NotFound(
                f"The path {name} is not a file." if path == ROOT or _below(files, path) else MISSING.format(name)
            )
        return path, name, _free(files[path])

    def _path(self, given: Arguments, field: str = "path") -> tuple[str, str]:
        name = text(given, field)
        return parse(name), name

    def _room(self, path: str, files: Mapping[str, Record]) -> None:
        """No file may stand where a directory is needed."""
        for above in _files.above(path):
            if above in files:
                raise FilterError(f"The path {above} is a file, not a directory.", field="path")

    def _write(self, path: str, content: str, before: Record | None = None) -> None:
        self.scoped.write_many([self._item(path, content, before)])

    def _item(self, path: str, content: str, before: Record | None) -> dict[str, Any]:
        """What to write for a file. A text that was not to be trusted is not trusted more for having been edited."""
        _files.fits(path, content, self.max_bytes)
        item: dict[str, Any] = {"text": f"{path}\n{content}", "about": path, "source": self.source, "kind": self.kind}
        if before is None:
            return {**item, "new": True}
        trust = min(before.trust, trust_of(self.source))
        same = {"kind": before.kind, "sources": before.sources, "meta": before.meta}
        return {**item, **same, "trust": trust, "supersedes": before.id}


_COMMANDS: Mapping[str, Callable[[MemoryFiles, Arguments], str]] = {
    "view": MemoryFiles._view,
    "create": MemoryFiles._create,
    "str_replace": MemoryFiles._str_replace,
    "insert": MemoryFiles._insert,
    "delete": MemoryFiles._delete,
    "rename": MemoryFiles._rename,
}


def _below(files: Mapping[str, Record], path: str) -> dict[str, Record]:
    return {each: record for each, record in files.items() if each.startswith(f"{path}/")}


def _free(record: Record) -> Record:
    """The record, if the model may change it."""
    if kept(record):
        raise FilterError(f"The path {record.about} is kept by the host and cannot be changed.", field="path")
    return record
