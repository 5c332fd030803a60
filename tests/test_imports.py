"""Imports: light to load, pointing down only, and a host's package only where a host is met."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LIMIT_MS = 150
HEAVY = {
    "torch", "faiss", "sqlalchemy", "langchain", "langchain_core", "langgraph", "openai", "anthropic",
    "numpy", "tiktoken", "typer", "rich",
}  # fmt: skip
HOSTS = ("langchain", "langgraph", "openai", "anthropic", "httpx2", "mcp")  # and what starts so: langchain_core, …

# Whoever starts with the left may not import what starts with one of the right. Everything else is free.
CORE = ("adapters", "train", "cli", "demo", "testing")
FORBIDDEN = {
    "strategies": (*CORE, "pipeline", "session"),
    "policies": (*CORE, "pipeline", "session"),
    "formats": CORE,
    "stores": CORE,
    "graphs": CORE,
    "adapters": ("train", "cli", "demo", "testing"),
    "train": ("cli",),
}
TOP = {"cli", "demo", "testing", "_cli", "_demo", "_bench"}  # run or test the whole; they may import anything of ours
MEETS_HOSTS = {"adapters", "cli", "demo", "_cli", "_demo", "_bench", "_embed_calls"}


def sources(root: Path) -> list[tuple[str, ast.Module]]:
    """(dotted name, tree) of every module of the package."""
    found = []
    for path in sorted((root / "memctx").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found.append((".".join(parts).removesuffix(".__init__"), ast.parse(path.read_text(encoding="utf-8"))))
    return found


def imported(tree: ast.Module) -> Iterator[str]:
    """Dotted names that a module imports, at any depth, by statement or by `import_module` or `require`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "import by the full path: relative imports hide where a thing lives"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _name(node.func) in {"import_module", "require"} and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def part(module: str) -> str:
    """The first name below `memctx`: `strategies` for memctx.strategies.clear, `` for memctx itself."""
    return module.partition("memctx.")[2].partition(".")[0]


def upward(module: str, tree: ast.Module) -> list[str]:
    """Imports of one module that point up."""
    banned = () if part(module) in TOP else FORBIDDEN.get(part(module), CORE)
    ours = (name for name in imported(tree) if name.startswith("memctx."))
    return [f"{module} imports {name}" for name in ours if part(name) in banned and part(name) != part(module)]


def hosts(module: str, tree: ast.Module) -> list[str]:
    """Imports of a host's package by a module that should know no host."""
    if part(module) in MEETS_HOSTS:
        return []
    return [f"{module} imports {name}" for name in imported(tree) if name.startswith(HOSTS)]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_memctx_is_quick() -> None:
    code = "import time; t = time.perf_counter(); import memctx; print(1e3 * (time.perf_counter() - t))"
    best = min(float(run(code)) for _ in range(5))  # the minimum: other work on the machine only ever adds
    assert best < LIMIT_MS, f"import memctx took {best:.0f} ms at best"


def loaded(code: str) -> set[str]:
    """Top-level packages in memory after `code` ran in a fresh interpreter."""
    report = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    return set(json.loads(run(f"{code}\n{report}")))


ALL_BUT_MEMORY = (
    "import memctx; [getattr(memctx, name) for name in dir(memctx) if name != 'Memory']"  # that is a database
)


@pytest.mark.parametrize("code", ["import memctx", ALL_BUT_MEMORY])
def test_importing_memctx_loads_nothing_heavy(code: str) -> None:
    packages = loaded(code)
    assert "memctx" in packages
    assert not HEAVY & packages


def test_imports_point_down(root: Path) -> None:
    found = [line for module, tree in sources(root) for line in upward(module, tree)]
    assert not found, "\n".join(found)


def test_hosts_are_met_in_adapters_only(root: Path) -> None:
    found = [line for module, tree in sources(root) for line in hosts(module, tree)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "code", "bad"),
    [
        ("memctx.view", "from memctx.adapters.http import Transport", True),
        ("memctx.view", "def f():\n    from memctx import cli", True),
        ("memctx.strategies.clear", "import memctx.pipeline", True),
        ("memctx.strategies.clear", "from memctx.edits import Clear", False),
        ("memctx._runs.tau2", "import memctx.train.losses", True),
        ("memctx.cli", "from memctx.adapters import http", False),
        ("memctx.adapters.http", "from memctx.adapters import _wire", False),
    ],
)
def test_the_arrow_check_sees_what_it_should(module: str, code: str, bad: bool) -> None:
    assert bool(upward(module, ast.parse(code))) is bad


@pytest.mark.parametrize(
    ("module", "code", "bad"),
    [
        ("memctx.view", "import langchain_core.messages", True),
        ("memctx.view", "from memctx.errors import require\nrequire('openai', extra='openai')", True),
        ("memctx.adapters.langchain", "import langchain", False),
        ("memctx.view", "import json", False),
    ],
)
def test_the_host_check_sees_what_it_should(module: str, code: str, bad: bool) -> None:
    assert bool(hosts(module, ast.parse(code))) is bad


def test_public_names_are_few_and_true() -> None:
    import memctx

    names = [*memctx._HOME, "__version__"]
    assert len(names) <= 25
    assert set(names) <= set(dir(memctx))
    for name in names:
        assert getattr(memctx, name) is not None
    with pytest.raises(AttributeError, match="Pipeline"):
        _ = memctx.Pipelin
