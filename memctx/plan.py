"""The plan: the edits in force for one thread.

Small, immutable, versioned, JSON. It lives in the host's checkpoint or in the session; a rewound thread that brings its
older plan is right by construction. The same plan over the same transcript gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from memctx import edits as _edits
from memctx.edits import Clear, Drop, Edit, Insert, Note, Offer, Replace
from memctx.errors import ConfigError

OFFERS = 8  # newest offers kept


@dataclass(frozen=True, slots=True)
class Plan:
    """`edits` in the order accepted; `notes` holds strategies' state; `serial` numbers handles and never goes back.

    `offers` are the newest few: a thread that is rewound to before one has the one before it in force again.
    """

    version: int = 0
    edits: tuple[Edit, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    serial: int = 0
    offers: tuple[Offer, ...] = ()

    def accept(self, accepted: Iterable[Edit], serial: int) -> Plan:
        """The next version. A newer edit of the same target, or a span that covers an older span's start, supersedes."""
        added = list(accepted)
        notes = {**self.notes, **{edit.key: edit.value for edit in added if isinstance(edit, Note)}}
        offers = {offer.at: offer for offer in self.offers}
        for edit in added:
            if isinstance(edit, Offer):
                offers.pop(edit.at, None)
                offers[edit.at] = edit
        acting = [edit for edit in added if not isinstance(edit, Note | Offer)]
        places = {_place(edit) for edit in acting}
        kept = tuple(edit for edit in self.edits if _place(edit) not in places) if places else self.edits
        return Plan(self.version + 1, (*kept, *acting), notes, serial, tuple(offers.values())[-OFFERS:])

    def without(self, gone: Iterable[Edit]) -> Plan:
        """The next version, less these edits."""
        dropped = set(map(id, gone))
        kept = tuple(edit for edit in self.edits if id(edit) not in dropped)
        return replace(self, version=self.version + 1, edits=kept)

    def offer(self, position: Mapping[str, int]) -> Offer | None:
        """The offer in force where the messages of `position` are the history, each with the index of its step."""
        if not self.offers:
            return None
        holding = [offer for offer in self.offers if not offer.at or offer.at in position]
        return max(reversed(holding), key=lambda offer: position.get(offer.at, -1), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON or a checkpoint."""
        edits = [_edits.dump(edit) for edit in self.edits]
        offers = [_edits.dump(offer) for offer in self.offers]
        return {
            "version": self.version,
            "edits": edits,
            "notes": dict(self.notes),
            "serial": self.serial,
            "offers": offers,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """What `to_dict` wrote. Raises `ConfigError` for anything else."""
        try:
            loaded = [_edits.load(edit) for edit in (*data["edits"], *data.get("offers", ()))]
            offers = tuple(edit for edit in loaded if isinstance(edit, Offer))
            edits = tuple(edit for edit in loaded if not isinstance(edit, Offer))
            return cls(int(data["version"]), edits, dict(data["notes"]), int(data["serial"]), offers)
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
    raise TypeError(f"{edit!r:.60} acts on no message")
