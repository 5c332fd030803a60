"""The view: what the model will see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from memctx.plan import Plan


@dataclass(frozen=True, slots=True)
class View:
    """One request's worth of context.

    `messages` are in the form they came in; unedited ones are the host's own objects. `tokens` counts messages, system
    text, tools and reply priming. `prefix` is how many of them, from the start, are the same bytes as in the view before.
    `handles` name what is missing; `Session.reopen` takes one. `plan` is to be kept by a host that checkpoints.
    `repairs` says in words what had to be mended for the provider to accept the request. Of `tools` the model may call
    those `allowed` names (None: all), and the provider is to load those `deferred` names only when they are searched for.
    """

    messages: list[Any]
    tools: list[Any] | None
    tokens: int
    prefix: int
    handles: tuple[str, ...]
    plan: Plan
    repairs: tuple[str, ...] = ()
    system: Any = None
    allowed: tuple[str, ...] | None = None  # names of the tools the model may call; None: all that stand in `tools`
    deferred: tuple[str, ...] = ()  # names of tools the provider is to load late
    breakpoints: tuple[int, ...] = ()  # indices of messages after which an explicit cache mark pays (Anthropic)
