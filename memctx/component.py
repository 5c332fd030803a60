"""A component is a frozen pydantic model that is its own configuration.

It is named by its file: `memctx/strategies/clear.py` is the strategy `clear`. A name is looked up as a file of the kind's
package, then as an installed entry point of the group `memctx.<kind>`, then as `package.module:Class`. Nothing is
registered at import, and every component's defaults give a working instance, so shared suites find it by name.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

from memctx.errors import ConfigError, NotFound


class Settings(BaseModel):
    """Base of what users configure: frozen, strict about unknown fields, equal by value.

    A bad field raises `ConfigError` naming field, value and what was expected.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    if not TYPE_CHECKING:  # type checkers keep the signature made of the fields

        def __init__(self, **fields: Any) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as cause:
                raise _explained(cause, type(self)) from cause


class Component(Settings):
    """Base of strategies and policies."""

    @property
    def name(self) -> str:
        """The component's name: its file's, or `module:Class` outside memctx."""
        module, cls = type(self).__module__, type(self).__qualname__
        return module.rpartition(".")[2] if module.startswith("memctx.") else f"{module}:{cls}"

    def dump(self) -> dict[str, Any]:
        """Plain data that `load` turns into an equal component: `use` and the fields that differ from the defaults."""
        return {"use": self.name, **self.model_dump(mode="json", exclude_defaults=True)}


def _explained(cause: ValidationError, cls: type[BaseModel]) -> ConfigError:
    """Pydantic's report as one sentence about its first complaint."""
    first = cause.errors(include_url=False)[0]
    field = ".".join((cls.__name__, *map(str, first["loc"])))
    why = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        why = f"unknown field; known: {', '.join(cls.model_fields)}"
    return ConfigError(f"{field} = {first.get('input')!r:.80}: {why}", field=field, problems=cause.error_count())


def names(kind: str) -> list[str]:
    """Names of the components that ship in `memctx.<kind>`, sorted. A leading underscore marks a helper, not a component."""
    package = importlib.import_module(f"memctx.{kind}")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def find(kind: str, name: str) -> type[Component]:
    """The component class called `name`; raises `NotFound` listing the known names."""
    if ":" in name:
        module, _, attribute = name.partition(":")
        return _component(getattr(_import(module), attribute, None), name)
    if name in names(kind):
        return _only_class(importlib.import_module(f"memctx.{kind}.{name}"))
    from importlib.metadata import entry_points  # slow to import; only needed for third-party names

    for entry in entry_points(group=f"memctx.{kind}", name=name):
        return _component(entry.load(), name)
    raise NotFound(f"no component {name!r} in memctx.{kind}; known: {', '.join(names(kind))}, or use 'module:Class'")


def load(kind: str, data: Mapping[str, Any]) -> Any:
    """Build a component from `{"use": name, **fields}`."""
    if not isinstance(data, Mapping) or not isinstance(data.get("use"), str):
        raise ConfigError(f"each entry of {kind} needs a 'use' naming the component, got {data!r:.80}", field="use")
    fields = {key: value for key, value in data.items() if key != "use"}
    return find(kind, data["use"])(**fields)


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        raise NotFound(f"cannot import {module!r}: {cause}") from cause


def _component(cls: Any, name: str) -> type[Component]:
    if not (inspect.isclass(cls) and issubclass(cls, Component)):
        raise ConfigError(f"{name!r} is not a memctx Component", field="use")
    return cls


def _only_class(module: Any) -> type[Component]:
    for cls in vars(module).values():
        if inspect.isclass(cls) and issubclass(cls, Component) and cls.__module__ == module.__name__:
            return cls
    raise ConfigError(f"{module.__name__} defines no Component", field="use")
