"""What is shipped: exactly the package, typed; and a checkout whose links and README are true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

LINKS = ("strategies", "stores", "graphs", "adapters")
EXTRAS = {
    "embed",
    "sentence-transformers",
    "minilm",
    "mcp",
    "cpu",
    "gpu",
    "langgraph",
    "openai",
    "anthropic",
    "postgres",
    "ratings",
    "train",
    "trl",
    "ray",
    "games",
    "bench",
    "dev",
}


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from that sdist, as a release makes them."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def package_files(root: Path) -> set[str]:
    """Files of the package as the checkout has them, paths from the root."""
    found = (p for p in (root / "memctx").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {p.relative_to(root).as_posix() for p in found}


def test_the_wheel_holds_exactly_the_package(root: Path, built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = [n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n]
    assert {n.partition("/")[0] for n in names} == {"memctx"}
    assert set(names) == package_files(root)
    assert "memctx/py.typed" in names


def test_the_sdist_holds_sources_and_no_link(root: Path, built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    names = {m.name.partition("/")[2] for m in members}
    assert not [m.name for m in members if m.issym() or m.islnk()]
    assert not {n.partition("/")[0] for n in names} & set(LINKS)
    assert package_files(root) | {"pyproject.toml", "LICENSE", "README.md", "Makefile"} <= names


@pytest.mark.parametrize("name", LINKS)
def test_root_links_point_into_the_package(root: Path, name: str) -> None:
    link = root / name
    if not link.is_symlink():  # a checkout without link support leaves a small text file with the same content
        assert link.read_text(encoding="utf-8").strip() == f"memctx/{name}"
        return
    assert link.readlink() == Path("memctx", name)
    assert (link / "__init__.py").is_file()


def test_the_readme_names_the_two_commands(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme
    assert "make test" in readme


def test_make_has_exactly_the_two_commands(root: Path) -> None:
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r"^\.PHONY:(.*)$", makefile, re.MULTILINE) == [" demo test"]
    assert set(re.findall(r"^([a-z]\w*):", makefile, re.MULTILINE)) == {"demo", "test"}


def test_ci_runs_make_test(root: Path) -> None:
    script = root / ".ci" / "run"
    assert "make test" in script.read_text(encoding="utf-8")
    assert os.access(script, os.X_OK)


def test_every_extra_exists_and_one_faiss_excludes_the_other(project: dict[str, Any]) -> None:
    assert set(project["project"]["optional-dependencies"]) == EXTRAS
    assert project["tool"]["uv"]["conflicts"] == [[{"extra": "cpu"}, {"extra": "gpu"}]]


def test_extras_named_in_the_code_exist(root: Path) -> None:
    """`require(…, extra="x")` tells a user to install x, so x has to be there."""
    text = "\n".join(p.read_text(encoding="utf-8") for p in (root / "memctx").rglob("*.py"))
    named = set(re.findall(r"""require\([^)]*extra=["'](\w+)["']""", text))
    assert named <= EXTRAS, f"unknown extras: {named - EXTRAS}"
