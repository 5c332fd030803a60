"""Pins: what must be in every view verbatim.

Always protected without a pin: system text, the first user message (the task), the newest user message, and the newest
step. A pin adds to these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memctx.errors import ConfigError
from memctx.messages import Message


@dataclass(frozen=True, slots=True)
class Pin:
    """Pins messages by exactly one of: `where`, a predicate; `id`, a message id; `marker`, text that they contain."""

    where: Callable[[Message], bool] | None = None
    id: str = ""
    marker: str = ""

    def __post_init__(self) -> None:
        if sum((self.where is not None, bool(self.id), bool(self.marker))) != 1:
            raise ConfigError("a Pin takes exactly one of where=, id= and marker=", field="pin")

    def holds(self, message: Message) -> bool:
        if self.where is not None:
            return bool(self.where(message))
        if self.id:
            return self.id in (message.id, host_id(message.raw))
        return self.marker in message.text

    @classmethod
    def of(cls, value: Pin | str | Callable[[Message], bool]) -> Pin:
        """A pin from a predicate, a marker text, or a pin."""
        if isinstance(value, Pin):
            return value
        if isinstance(value, str) and value:
            return cls(marker=value)
        if callable(value):
            return cls(where=value)
        raise ConfigError(f"pin = {value!r:.40}: give a predicate, a marker text or Pin(...)", field="pin")


def host_id(raw: object) -> str | None:
    """The id the host gave its message, if any."""
    found = raw.get("id") if isinstance(raw, dict) else getattr(raw, "id", None)
    return found if isinstance(found, str) else None
