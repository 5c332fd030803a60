"""The plan: the edits in force for one thread.

Small, immutable, versioned, JSON. It lives in the host's checkpoint or in the session; a rewound thread that brings its
older plan is right by construction. The same plan over the same transcript gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from memctx import edits as _edits
from memctx.edits import Clear, Drop, Edit, Insert, Note, Offer, Replace
from memctx.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Plan:
    """`edits` in the order accepted; `notes` holds strategies' state; `serial` numbers handles and never goes back."""

    version: int = 0
    edits: tuple[Edit, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    serial: int = 0

    def accept(self, accepted: Iterable[Edit], serial: int) -> Plan:
        """The next version. A newer edit of the same target, or a span that covers an older span's start, supersedes."""
        added = list(accepted)
        notes = {**self.notes, **{edit.key: edit.value for edit in added if isinstance(edit, Note)}}
        added = [edit for edit in added if not isinstance(edit, Note)]
        places = {_place(edit) for edit in added}
        kept = tuple(edit for edit in self.edits if _place(edit) not in places) if places else self.edits
        return Plan(self.version + 1, (*kept, *added), notes, serial)

    def without(self, gone: Iterable[Edit]) -> Plan:
        """The next version, less these edits."""
        dropped = set(map(id, gone))
        return Plan(self.version + 1, tuple(e for e in self.edits if id(e) not in dropped), self.notes, self.serial)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON or a checkpoint."""
        edits = [_edits.dump(edit) for edit in self.edits]
        return {"version": self.version, "edits": edits, "notes": dict(self.notes), "serial": self.serial}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """What `to_dict` wrote. Raises `ConfigError` for anything else."""
        try:
            edits = tuple(_edits.load(edit) for edit in data["edits"])
            return cls(int(data["version"]), edits, dict(data["notes"]), int(data["serial"]))
        except (KeyError, TypeError, ValueError) as cause:
            if isinstance(cause, ConfigError):
                raise
            raise ConfigError(f"not a memctx plan: {cause!r}", field="plan") from cause


def _place(edit: Edit) -> tuple[str, str, str]:
    """What an edit acts on: a later edit of the same place takes over."""
    if isinstance(edit, Clear):
        return ("clear", edit.target, edit.call)
    if isinstance(edit, Drop | Replace):
        return ("span", edit.first, "")
    if isinstance(edit, Insert):
        return ("insert", edit.after, edit.content)
    return ("offer" if isinstance(edit, Offer) else edit.key, "", "")
