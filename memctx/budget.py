"""How large a view may be."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from memctx.component import Settings
from memctx.errors import ConfigError

# Published context windows in tokens, by model-name prefix; the longest matching prefix counts.
WINDOWS = {
    "gpt-5": 400_000,
    "gpt-4.1": 1_047_576,
    "gpt-4o": 128_000,
    "gpt-4-turbo": 128_000,
    "gpt-4": 8_192,
    "gpt-3.5-turbo": 16_385,
    "o1": 200_000,
    "o3": 200_000,
    "o4": 200_000,
    "claude": 200_000,
    "gemini-2": 1_048_576,
    "gemini-3": 1_048_576,
    "deepseek": 128_000,
}


class Budget(Settings):
    """At most `tokens` for system text, tools, messages and the reply; `reserve` of them are kept free for the reply.

    Or a `fraction` of the window of `model`, when `tokens` is not given. Sizes in tokens.
    """

    tokens: int = Field(default=0, ge=0, strict=True)
    reserve: int = Field(default=0, ge=0, strict=True)
    fraction: float = Field(default=0.0, ge=0.0, le=1.0)
    model: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.limit <= 0:
            raise ValueError(
                f"reserve={self.reserve} leaves nothing of {self.limit + self.reserve} tokens for the view"
            )
        return self

    @property
    def limit(self) -> int:
        """Tokens the view may have."""
        return (self.tokens or int(self.fraction * window(self.model))) - self.reserve

    @classmethod
    def of(cls, value: int | Budget | dict[str, Any]) -> Budget:
        """A budget from a number of tokens, a table of fields, or a budget. Raises `ConfigError`."""
        if isinstance(value, Budget):
            return value
        fields: dict[str, Any] = value if isinstance(value, dict) else {"tokens": value}
        if not fields.get("tokens") and not fields.get("fraction"):
            raise ConfigError(
                f"budget = {value!r:.40}: give tokens > 0, or a fraction of a model's window", field="budget"
            )
        return cls(**fields)


def window(model: str) -> int:
    """The context window of a model in tokens. An unknown model gets no guess: `ConfigError`."""
    known = [name for name in WINDOWS if model.startswith(name)]
    if not known:
        raise ConfigError(f"the window of model {model!r} is not known: give Budget(tokens=...)", field="model")
    return WINDOWS[max(known, key=len)]
