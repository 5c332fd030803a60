"""Memory and context management for LLM agents: any history in; a valid, cheap, reversible view out.

The public names below are imported when first used, so `import memctx` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memctx.budget import Budget as Budget
    from memctx.edits import Clear as Clear
    from memctx.edits import Drop as Drop
    from memctx.edits import Insert as Insert
    from memctx.edits import Offer as Offer
    from memctx.edits import Replace as Replace
    from memctx.errors import MemctxError as MemctxError
    from memctx.memory import Memory as Memory
    from memctx.messages import Message as Message
    from memctx.messages import Step as Step
    from memctx.messages import ToolCall as ToolCall
    from memctx.messages import Transcript as Transcript
    from memctx.pins import Pin as Pin
    from memctx.pipeline import Pipeline as Pipeline
    from memctx.plan import Plan as Plan
    from memctx.pricing import Price as Price
    from memctx.session import Session as Session
    from memctx.tokens import counter as counter
    from memctx.validity import Violation as Violation
    from memctx.validity import check as check
    from memctx.view import View as View

__version__ = "0.1.0"

_HOME = {
    "Budget": "budget",
    "Clear": "edits",
    "Drop": "edits",
    "Insert": "edits",
    "MemctxError": "errors",
    "Memory": "memory",
    "Message": "messages",
    "Offer": "edits",
    "Pin": "pins",
    "Pipeline": "pipeline",
    "Plan": "plan",
    "Price": "pricing",
    "Replace": "edits",
    "Session": "session",
    "Step": "messages",
    "ToolCall": "messages",
    "Transcript": "messages",
    "View": "view",
    "Violation": "validity",
    "check": "validity",
    "counter": "tokens",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'memctx' has no attribute {name!r}; it has {', '.join(sorted(_HOME))}")
    value = globals()[name] = getattr(import_module(f"memctx.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
