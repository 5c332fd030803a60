"""Every error memctx raises, in one small tree.

    MemctxError
    ├── ConfigError(ValueError)              a field, name or file that cannot work; says which and the remedy
    ├── InvalidMessage(ValueError)           a host message memctx cannot read; carries its index
    ├── BudgetError(ValueError)              system, tools and pins alone exceed the budget; names the largest
    ├── LimitError(ValueError)               an input over a stated bound (message size, message count)
    ├── NotFound(LookupError)                a handle, message id or component name that does not exist
    ├── ScopeError(ValueError)               a memory call without a scope, or with one that cannot be a scope
    ├── FilterError(ValueError)              a filter, limit or cursor of a search that cannot work
    ├── EmbeddingError(ValueError)           vectors of the wrong count, width or type, or not finite; nothing was stored
    ├── ConflictError(RuntimeError)          someone else wrote first; carries the version expected and the one found
    ├── StoreError(RuntimeError)             a store that is closed, damaged, too new, busy, or crossed a fork
    ├── TrainingError(ValueError)            a batch that cannot be learned from, or a loss that is not finite; no weight changed
    ├── EffectError(RuntimeError)            an effect (model, embedder, memory) failed; the plan did not change
    └── MissingDependency(ImportError)       an optional package is absent; names the extra to install

Each also derives from the builtin a caller would already catch. `code` is stable and fit for programs; `to_dict()` is
fit for logs. Messages name the field, the value and the remedy, and never hold a secret.
"""

from __future__ import annotations

import importlib
from typing import Any


class MemctxError(Exception):
    """Root of all errors. `code` names the kind; `details` holds the facts behind the sentence."""

    def __init__(self, message: str, *, code: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.details = details

    def to_dict(self) -> dict[str, Any]:
        return {"error": type(self).__name__, "code": self.code, "message": str(self), **self.details}


class ConfigError(MemctxError, ValueError):
    """A setting that cannot work."""

    def __init__(self, message: str, *, code: str = "bad_config", **details: Any) -> None:
        super().__init__(message, code=code, **details)


class InvalidMessage(MemctxError, ValueError):
    """A host message that cannot be read. `index` is its place in the list, or None for the list itself."""

    def __init__(self, message: str, *, code: str, index: int | None = None, **details: Any) -> None:
        super().__init__(message, code=code, index=index, **details)
        self.index = index


class BudgetError(MemctxError, ValueError):
    """What may not be edited is larger than the budget. Sizes in tokens; `parts` maps a name to its size."""

    def __init__(self, message: str, *, needed: int, given: int, parts: dict[str, int]) -> None:
        super().__init__(message, code="budget_too_small", needed=needed, given=given, parts=parts)
        self.needed, self.given, self.parts = needed, given, parts


class LimitError(MemctxError, ValueError):
    """An input over a stated bound."""

    def __init__(self, message: str, *, code: str = "limit_exceeded", **details: Any) -> None:
        super().__init__(message, code=code, **details)


class NotFound(MemctxError, LookupError):
    """Something asked for by name that does not exist."""

    def __init__(self, message: str, *, code: str = "not_found", **details: Any) -> None:
        super().__init__(message, code=code, **details)


class ScopeError(MemctxError, ValueError):
    """No scope (`scope_required`), or a part that cannot be one (`invalid_scope`)."""

    def __init__(self, message: str, *, code: str = "invalid_scope", **details: Any) -> None:
        super().__init__(message, code=code, **details)


class FilterError(MemctxError, ValueError):
    """A filter, limit, order or cursor that cannot work."""

    def __init__(self, message: str, *, code: str = "invalid_filter", **details: Any) -> None:
        super().__init__(message, code=code, **details)


class EmbeddingError(MemctxError, ValueError):
    """Vectors that cannot be stored or searched with. Nothing was changed by them."""

    def __init__(self, message: str, *, code: str = "bad_embedding", **details: Any) -> None:
        super().__init__(message, code=code, **details)


class ConflictError(MemctxError, RuntimeError):
    """A row was changed by someone else, or an idempotency key came back with another content."""

    def __init__(self, message: str, *, expected: Any, actual: Any, code: str = "conflict") -> None:
        super().__init__(message, code=code, expected=expected, actual=actual)
        self.expected, self.actual = expected, actual


class StoreError(MemctxError, RuntimeError):
    """A store that cannot serve: `store_closed`, `store_corrupt`, `store_busy`, `schema_too_new`, `forked_store`."""

    def __init__(self, message: str, *, code: str, **details: Any) -> None:
        super().__init__(message, code=code, **details)


class TrainingError(MemctxError, ValueError):
    """Training cannot go on: nothing to learn from, or numbers that are not finite. The weights are as before the step."""

    def __init__(self, message: str, *, code: str = "training_failed", **details: Any) -> None:
        super().__init__(message, code=code, **details)


class EffectError(MemctxError, RuntimeError):
    """An effect failed, timed out, or answered with nothing usable. Nothing was changed by it."""

    def __init__(self, message: str, *, code: str = "effect_failed", **details: Any) -> None:
        super().__init__(message, code=code, **details)


class MissingDependency(MemctxError, ImportError):
    """An optional package is not installed."""

    def __init__(self, message: str, *, package: str, extra: str) -> None:
        super().__init__(message, code="missing_dependency", package=package, extra=extra)


def require(module: str, *, extra: str) -> Any:
    """Import an optional module, or say in one sentence which extra brings it."""
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as cause:  # faiss-gpu without its libraries raises RuntimeError
        text = f"{module!r} is needed here and is not installed: pip install 'memctx-agents[{extra}]'"
        raise MissingDependency(text, package=module, extra=extra) from cause
