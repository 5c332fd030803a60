"""What no edit may touch: system text, the task, the newest user message, the newest step, and pins."""

from __future__ import annotations

from collections.abc import Sequence

from memctx.messages import Message, Transcript
from memctx.pins import Pin


class Protection:
    """`protection(message)` is true for what must stay verbatim. Pins look at each message once."""

    def __init__(self, transcript: Transcript, pins: Sequence[Pin]) -> None:
        self._transcript = transcript
        self._pins = pins
        self._pinned: set[str] = set()
        self._first_user = ""
        self._last_user = ""
        self._seen = 0

    def extend(self, forked: bool) -> None:
        """Look at the messages that came since."""
        if forked:
            self._pinned, self._first_user, self._last_user, self._seen = set(), "", "", 0
        for message in self._transcript.messages[self._seen :]:
            if message.role == "user":
                self._first_user = self._first_user or message.id
                self._last_user = message.id
            if any(pin.holds(message) for pin in self._pins):
                self._pinned.add(message.id)
        self._seen = len(self._transcript.messages)

    def pinned(self, message: Message) -> bool:
        """Protected for its own sake, not for being new."""
        return (
            message.role == "system" or message.id in (self._first_user, self._last_user) or message.id in self._pinned
        )

    def __call__(self, message: Message) -> bool:
        newest = len(self._transcript.steps) - 1
        return self.pinned(message) or self._transcript.position.get(message.id, newest) >= newest
