"""The renderer: transcript and plan to host messages. It alone enforces the providers' rules.

Steps are written whole, so a call is always followed by its results. A pending call gets a stub that says so; an orphan
result is left out. The output is kept between calls: only steps that are new, or that an edit touches, are written again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from memctx.edits import Clear, Drop, Edit, Insert, Replace, marker
from memctx.formats import Format
from memctx.messages import Message, Step, Transcript
from memctx.plan import Plan
from memctx.tokens import Counter

STUB = "[no result: the call is still running or was interrupted]"
OPENING = "[start of the conversation]"
Span = Drop | Replace
Item = tuple[Message, Any]


class Renderer:
    """Writes one thread's view. `out` holds the host messages, `sums[i]` the tokens before step i.

    `protected(message)` is true for what no span may hide.
    """

    def __init__(
        self,
        transcript: Transcript,
        form: Format,
        counter: Counter,
        protected: Callable[[Message], bool],
        opens_with_user: bool,
    ) -> None:
        self.transcript = transcript
        self.form = form
        self.counter = counter
        self.protected = protected
        self.opens_with_user = opens_with_user
        self.out: list[Any] = []
        self.sums: list[int] = [0]
        self.starts: list[int] = []
        self.repairs: dict[int, str] = {}
        self._sizes: dict[tuple[str, str], int] = {}
        self._handles: tuple[str, ...] = ()
        self._handles_of: tuple[object, int] = (None, 0)
        self._load(Plan())

    @property
    def tokens(self) -> int:
        """Tokens of the messages as rendered."""
        return self.sums[-1]

    def _load(self, plan: Plan) -> None:
        self.plan = plan
        self._clears: dict[str, Clear] = {}
        self._arguments: dict[str, dict[str, str]] = {}
        self._inserts: dict[int, list[Insert]] = {}
        self._spans: dict[int, tuple[int, Span]] = {}
        self._inside: dict[int, int] = {}
        for edit in plan.edits:
            self._take(edit)

    def _take(self, edit: Edit) -> int | None:
        """Put an edit in force; the step it starts to act on, or None if what it names is not in the history."""
        position = self.transcript.position
        if isinstance(edit, Clear):
            if edit.call:
                self._arguments.setdefault(edit.target, {})[edit.call] = edit.content
            else:
                self._clears[edit.target] = edit
            return position.get(edit.target)
        if isinstance(edit, Insert):
            place = position.get(edit.after)
            if place is not None:
                self._inserts.setdefault(place, []).append(edit)
            return place
        if isinstance(edit, Drop | Replace) and edit.first in position and edit.last in position:
            first, last = position[edit.first], position[edit.last]
            self._spans[first] = (last, edit)
            self._inside.update(
                (step, first) for step in range(first, last + 1) if self._inside.get(step, first) >= first
            )
            return first
        return None

    def update(self, plan: Plan, changed: int, forked: bool) -> int:
        """Write again from step `changed`, or earlier where the plan differs; return the step written from."""
        old = self.plan.edits
        if forked or plan.edits[: len(old)] != old:
            self._load(plan)
            changed = 0 if plan.edits[: len(old)] != old else changed
            changed = min(changed, len(self.starts))
        else:
            touched = [step for edit in plan.edits[len(old) :] if (step := self._take(edit)) is not None]
            changed = min([changed, *touched])
            self.plan = plan
        start = self._unit_start(min(changed, len(self.starts)))
        self._write_from(start)
        return start

    def _unit_start(self, step: int) -> int:
        """The first step that must be written with this one: its span's, or one that shares its host message."""
        steps = self.transcript.steps
        while 0 < step < len(steps):
            span = self._inside.get(step, step)
            if span < step:
                step = span
            elif self._joined(step):
                step -= 1
            else:
                break
        return step

    def _joined(self, step: int) -> bool:
        before, here = self.transcript.steps[step - 1].messages, self.transcript.steps[step].messages
        return bool(before and here and here[0].parts > 1 and before[-1].host == here[0].host)

    def _write_from(self, start: int) -> None:
        steps = self.transcript.steps
        if start < len(self.starts):
            del self.out[self.starts[start] :], self.starts[start:], self.sums[start + 1 :]
            self.repairs = {step: text for step, text in self.repairs.items() if step < start}
        step = start
        while step < len(steps):
            items, after = self._items(step)
            while after < len(steps) and after not in self._spans and self._joined(after):
                more, after = self._items(after)
                items += more
            self._append(items, after - step)
            step = after

    def _append(self, items: list[Item], steps: int) -> None:
        if items and self.opens_with_user and items[0][0].role == "assistant" and self._only_system_before():
            items = [*self._noted(OPENING), *items]
        self.starts += [len(self.out)] * steps
        total = self.sums[-1] + sum(self.size(message, out) for message, out in items)
        self.sums += [total] * steps
        self.out += self.form.assemble(items)

    def _only_system_before(self) -> bool:
        written = len(self.starts)
        return (
            all(step.role == "system" or not step.heads for step in self.transcript.steps[: min(written, 64)])
            and written < 64
        )

    def _items(self, index: int) -> tuple[list[Item], int]:
        """What to write for the unit at step `index`, and the step after it."""
        span = self._spans.get(index)
        if span is None or self._inside.get(index, index) < index:
            return self._step_items(index), index + 1
        last, edit = span
        steps = self.transcript.steps[index : last + 1]
        kept = [i for i, step in enumerate(steps, index) if any(map(self.protected, step.messages))]
        hidden = len(steps) - len(kept)
        items: list[Item] = []
        system = [i for i in kept if self.transcript.steps[i].role == "system"]
        for step in system:
            items += self._step_items(step)
        if hidden:
            items += self._noted(
                edit.content if isinstance(edit, Replace) else f"{marker(edit.handle)} {hidden} earlier steps"
            )
        for step in kept:
            if step not in system:
                items += self._step_items(step)
        return items, last + 1

    def _step_items(self, index: int) -> list[Item]:
        step = self.transcript.steps[index]
        if not step.heads:
            if step.results:
                self.repairs[index] = f"a result of unknown call {step.results[0].call_id!r} was left out"
            return []
        items = [
            (message, self._shown(message))
            for message in step.messages
            if message.text or message.calls or _has_content(message)
        ]
        pending = step.pending
        if pending:
            self.repairs[index] = f"{len(pending)} call(s) without a result got a stub"
            for call in pending:
                stub = self.form.result(call, STUB, step.heads[-1])
                items.append((stub, stub.out))
        for insert in self._inserts.get(index, ()):
            items += self._noted(insert.content)
        return items

    def _noted(self, text: str) -> list[Item]:
        note = self.form.note(text, self.transcript.messages[0].raw)
        return [(note, note.out)]

    def _shown(self, message: Message) -> Any:
        """The wire form of a message with the plan applied."""
        clear = self._clears.get(message.id)
        if clear is not None:
            return self.form.with_text(message, clear.content)
        arguments = self._arguments.get(message.id)
        return message.out if arguments is None else self.form.with_arguments(message, arguments)

    def size(self, message: Message, out: Any) -> int:
        """Tokens of a message in this wire form; an unedited one was counted when it came."""
        if message.tokens and out is message.out:
            return message.tokens
        clear = self._clears.get(message.id) if message.id else None
        key = (message.id, clear.content if clear else "")
        if not clear or key not in self._sizes:
            size = self.counter.message(out)
            if not clear:
                return size
            self._sizes[key] = size
        return self._sizes[key]

    def saving(self, edit: Edit) -> tuple[int, int]:
        """(step, tokens): where the edit breaks the prefix, and how many tokens it takes out. (0, 0): nothing."""
        position = self.transcript.position
        if isinstance(edit, Clear) and (message := self.transcript.find(edit.target)) is not None:
            if edit.call:
                old = next((call.arguments for call in message.calls if call.id == edit.call), "")
                return position[edit.target], self.counter.text(old) - self.counter.text(edit.content)
            before = self.size(message, self._shown(message))
            after = before - self.counter.text(self.text(message)) + self.counter.text(edit.content)
            return position[edit.target], before - after
        if isinstance(edit, Drop | Replace) and edit.first in position and edit.last in position:
            first, last = position[edit.first], position[edit.last]
            kept = sum(
                s.tokens for s in self.transcript.steps[first : last + 1] if any(map(self.protected, s.messages))
            )
            note = self.counter.text(edit.content) if isinstance(edit, Replace) else 12
            return first, self.sums[last + 1] - self.sums[first] - kept - note
        return 0, 0

    def text(self, message: Message) -> str:
        """The text of a message as it stands in the view."""
        clear = self._clears.get(message.id)
        return message.text if clear is None else clear.content

    def span_over(self, step: int) -> Span | None:
        """The span that hides a step, if any."""
        start = self._inside.get(step)
        return None if start is None else self._spans[start][1]

    def shown(self, step: int) -> bool:
        return step not in self._inside

    def cleared(self, message_id: str) -> Clear | None:
        return self._clears.get(message_id)

    def handles(self) -> tuple[str, ...]:
        """Handles of the edits that act on what is in the history, in the order accepted."""
        edits, forks = self._handles_of
        if edits is not self.plan.edits or forks != self.transcript.forks:
            position = self.transcript.position
            named = (edit for edit in self.plan.edits if isinstance(edit, Clear | Drop | Replace))
            self._handles = tuple(
                e.handle for e in named if (e.target if isinstance(e, Clear) else e.first) in position
            )
            self._handles_of = (self.plan.edits, self.transcript.forks)
        return self._handles


def _has_content(message: Message) -> bool:
    """Whether a message without text or calls still says something: an image, reasoning, a sealed block."""
    if message.sealed or message.role in ("user", "tool", "system"):
        return True
    content = message.out.get("content") if isinstance(message.out, dict) else getattr(message.out, "content", None)
    return bool(content) and not isinstance(content, str)


def span_steps(transcript: Transcript, edit: Span) -> Sequence[Step]:
    """The steps a span covers."""
    return transcript.steps[transcript.position[edit.first] : transcript.position[edit.last] + 1]
