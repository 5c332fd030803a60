"""Vector indices: the shared suite over each, and what they alone promise: files, crashes, tenants, threads, a GPU."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from memctx.errors import ConfigError, StoreError
from memctx.scope import scope
from memctx.stores import Batch, _faiss_fast, _faiss_files, _faiss_gpu, _generations
from memctx.stores.exact import ExactIndex
from memctx.stores.faiss import FaissIndex
from memctx.testing._vectors import ANA, DIM, Make, agree, batch, unit
from memctx.testing.indices import IndexTests
from tests import postgres
from tests.indices import SCOPES, damages, tenants

faiss = pytest.importorskip("faiss", reason="needs FAISS: pip install 'memctx-agents[cpu]'")
GPU = _faiss_gpu.present(faiss)


class TestExact(IndexTests):
    @pytest.fixture
    def make(self) -> Make:
        return ExactIndex


class TestFlat(IndexTests):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return lambda dim: FaissIndex(dim, tmp_path / "index", device="cpu")


class Patient(FaissIndex):
    """Waits until what makes a scope fast is built, so that every search uses it."""

    def add(self, batch: Batch) -> None:
        super().add(batch)
        assert self.settle(60)

    def rebuild(self, batches: Iterable[Batch]) -> None:
        super().rebuild(batches)
        assert self.settle(60)


class TestFast(IndexTests):
    """With every scope from 24 rows on searched by an inverted file or a graph."""

    least = 0.9
    examples = 8
    turns = 5

    @pytest.fixture(
        params=[(Patient, "ivf"), (Patient, "hnsw"), (FaissIndex, "ivf")], ids=["ivf", "hnsw", "in between"]
    )
    def make(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
        monkeypatch.setattr(_faiss_fast, "SMALL", 24)
        made, kind = request.param
        return lambda dim: made(dim, kind=kind, device="cpu")


class StandIn:
    """FAISS with a device that is none: the calls that the owner makes, and on which threads."""

    METRIC_INNER_PRODUCT = faiss.METRIC_INNER_PRODUCT

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.broken = False
        self.searches = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(faiss, name)

    def StandardGpuResources(self) -> object:  # noqa: N802
        self.threads.add(threading.get_ident())
        return object()

    def GpuClonerOptions(self) -> Any:  # noqa: N802
        return SimpleNamespace(useFloat16=None)

    def get_num_gpus(self) -> int:
        return 1

    def index_cpu_to_gpu(self, resources: object, device: int, index: Any, options: Any) -> Any:
        assert resources is not None
        assert device == 0
        assert options.useFloat16 is not None
        return SimpleNamespace(add=self._counted(index.add), search=self._counted(index.search))

    def _counted(self, call: Any) -> Any:
        def counted(*given: Any) -> Any:
            self.threads.add(threading.get_ident())
            self.searches += len(given) > 1
            if self.broken:
                raise RuntimeError("CUDA error 700 an illegal memory access was encountered")
            return call(*given)

        return counted


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A device that is none, used for scopes of 24 rows or more."""
    made = StandIn()
    monkeypatch.setitem(sys.modules, "faiss", made)
    monkeypatch.setattr(_faiss_gpu, "LEAST", 24)
    monkeypatch.setattr("memctx.stores.faiss.LEAST", 24)
    return made


class TestGpuPath(IndexTests):
    """The owner thread and what it does, with a stand-in for the device."""

    examples = 10

    @pytest.fixture
    def make(self, stand_in: StandIn) -> Make:
        return lambda dim: FaissIndex(dim, device="gpu", float16=True)


@pytest.mark.skipif(not GPU, reason="needs a GPU and faiss-gpu")
class TestGpu(IndexTests):
    @pytest.fixture(params=[False, True], ids=["float32", "float16"])
    def make(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Make:
        monkeypatch.setattr(_faiss_gpu, "LEAST", 24)
        monkeypatch.setattr("memctx.stores.faiss.LEAST", 24)
        return lambda dim: FaissIndex(dim, device="gpu", float16=request.param)


@pytest.fixture(scope="module")
def store(postgres_server: str, worker_id: str) -> Iterator[Any]:
    """A database for all of these tests; each has an embedder of its own."""
    from memctx.stores.sql import SqlStore

    with postgres.database(postgres_server, f"memctx_indices_{worker_id}") as url, SqlStore(url) as store:
        yield store


class TestPgVector(IndexTests):
    steps, examples, turns = 8, 4, 4

    @pytest.fixture
    def make(self, store: Any) -> Any:
        from memctx.stores.pgvector import PgVectorIndex

        return lambda dim: PgVectorIndex(store, uuid.uuid4().hex, dim)

    def test_the_graph_is_used_and_the_scope_is_inside_it(self, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        from memctx.stores import pgvector

        monkeypatch.setattr(pgvector, "EXACT_MOST", 50)
        for setting in ("enable_seqscan", "enable_sort"):
            monkeypatch.setitem(pgvector.EFFORT, setting, "off")
        index, exact = make(DIM), ExactIndex(DIM)
        crowd = np.repeat(unit(1, seed=1), 400, axis=0) + 0.01 * unit(400)
        for each in (index, exact):
            each.add(Batch("crowd/", np.arange(1, 401), crowd))
            each.add(batch(ANA, range(1, 101)))
        queries = np.repeat(unit(1, seed=1), 5, axis=0)  # the crowd is nearer than any row of the scope
        agree(index.search(queries, 100, ANA), exact.search(queries, 100, ANA), 0.9)
        monkeypatch.setattr(pgvector.PgVectorIndex, "_compared", None)
        agree(index.search(queries, 10, ANA), exact.search(queries, 10, ANA), 0.9)
        assert index.describe(ANA)["kind"] == "hnsw"
        index.close()

    def test_another_width_starts_again_and_says_so(self, store: Any) -> None:
        from memctx.stores.pgvector import PgVectorIndex

        index = PgVectorIndex(store, "changed:1", DIM)
        index.add(batch(ANA, [1, 2]))
        index.applied = 5
        again = PgVectorIndex(store, "changed:1", DIM)
        assert (again.applied, again.count(), again.damaged) == (5, 2, "")
        other = PgVectorIndex(store, "changed:1", DIM + 1)
        assert (other.applied, other.count(), "width 8" in other.damaged) == (0, 0, True)
        for each in (index, again, other):
            each.close()

    def test_versions(self) -> None:
        from memctx.stores.pgvector import PgVectorIndex, recent
        from memctx.stores.sql import SqlStore

        assert [recent(text) for text in ("0.7.4", "0.8.0", "0.10", "1.0.0", "x")] == [False, True, True, True, False]
        with SqlStore() as store, pytest.raises(ConfigError, match="PostgreSQL"):
            PgVectorIndex(store, "test:1", DIM)


# What FaissIndex alone promises


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "index"


def filled(folder: Path | None = None, **options: Any) -> FaissIndex:
    index = Patient(DIM, folder, device="cpu", **options)
    index.add(batch(ANA, range(1, 101)))
    index.add(batch("b/", range(1, 6)))
    index.applied = 9
    return index


def same(index: FaissIndex) -> bool:
    return index.applied == 9 and not index.verify([batch(ANA, range(1, 101)), batch("b/", range(1, 6))])


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_what_is_saved_comes_back(folder: Path, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_faiss_fast, "SMALL", 24)
    index = filled(folder, kind=kind)
    index.remove(ANA, [5, 6, 7])
    index.save()
    again = Patient(DIM, folder, kind=kind, device="cpu")
    assert again.applied == 9
    assert again.describe(ANA)["kind"] == index.describe(ANA)["kind"] == kind
    for query in (unit(1), unit(30, seed=3)):
        agree(again.search(query, 10, ANA), index.search(query, 10, ANA))
    for each in (index, again):
        each.add(batch(ANA, range(200, 300), seed=4))
        each.remove(ANA, [200])
    agree(again.search(unit(9, seed=4), 10, ANA), index.search(unit(9, seed=4), 10, ANA), 0.95)
    assert set(again.search(unit(9, seed=4), 1, ANA)[0].ravel().tolist()) <= set(range(201, 300))


def test_files_are_private_few_and_say_nothing(folder: Path) -> None:
    index = filled(folder)
    for number in range(3_000):
        index.add(batch(scope("secret tenant", str(number)), [1, 2]))
    index.save()
    assert len(index.files()) <= 3
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert not [path for path in folder.iterdir() if "secret" in path.name or "acme" in path.name]


def test_only_what_changed_is_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_faiss_files, "LARGE", 90 * DIM * 4)
    index = filled(folder)
    index.save()
    first = {path.name for path in index.files()}
    index.save()
    assert {path.name for path in index.files()} == first
    index.add(batch("b/", [77]))
    index.applied = 10
    index.save()
    second = {path.name for path in index.files()}
    assert len(second) == len(first) == 3
    assert len(second & first) == 2, "the manifest has its name, and the large scope its file"
    assert FaissIndex(DIM, folder).count() == 106


def test_what_is_dropped_is_in_no_file(folder: Path) -> None:
    index = filled(folder)
    index.save()
    path = next(path for path in index.files() if path.suffix == ".idx")
    path.write_bytes(path.read_bytes()[:-9])
    index = FaissIndex(DIM, folder)
    assert index.damaged
    index.rebuild([batch(ANA, range(1, 101)), batch("b/", [1])])
    index.drop(ANA)
    index.save()
    texts = b"".join(path.read_bytes() for path in folder.iterdir())
    assert ANA.encode() not in texts
    assert not [row for row in batch(ANA, range(1, 101)).vectors[50:] if row.tobytes() in texts]
    assert batch("b/", [1]).vectors.tobytes() in texts


def test_corruption_is_noticed(folder: Path) -> None:
    outcomes = [outcome for kind in ("flat", "hnsw", "ivf") for _, outcome in damages(folder / kind, 60, kind, 1_200)]
    assert len(outcomes) == 180
    assert "silently wrong" not in outcomes
    assert outcomes.count("noticed") > 170


@pytest.mark.parametrize(
    "wrong", ["gone", "empty", "folder", "link", "huge", "other json", "list", "future", "pipe", "count"]
)
def test_corruption_of_the_manifest(folder: Path, wrong: str) -> None:
    filled(folder).save()
    path = folder / "MANIFEST"
    content = json.loads(path.read_bytes())
    path.unlink()
    if wrong == "folder":
        path.mkdir()
    elif wrong == "link":
        (folder / "other").write_text(json.dumps(content))
        path.symlink_to(folder / "other")
    elif wrong == "pipe":
        os.mkfifo(path)
    elif wrong == "huge":
        with path.open("wb") as stream:
            stream.truncate(1 << 30)
    elif wrong != "gone":
        content.pop("sha256")
        content["facts"]["count"] += wrong == "count"
        content["format"] += wrong == "future"
        content = {"other json": {"a": 1}, "list": [1, 2]}.get(wrong, content)
        if isinstance(content, dict):
            content["sha256"] = _generations._seal(content)
        path.write_text("" if wrong == "empty" else json.dumps(content))
    index = FaissIndex(DIM, folder)
    assert index.damaged
    assert index.applied == index.count() == 0
    index.rebuild([batch(ANA, range(1, 101)), batch("b/", range(1, 6))])
    index.applied = 9
    index.save()
    assert index.damaged == ""
    assert same(FaissIndex(DIM, folder))


def test_corruption_is_kept_aside_for_one_generation(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(folder).save()
    with caplog.at_level(logging.WARNING):
        index = FaissIndex(DIM + 1, folder)
    assert "width 8, not 9" in index.damaged
    assert index.damaged in caplog.text
    assert [path.name for path in folder.glob("*.corrupt")] == ["MANIFEST.corrupt"]
    index.add(batch(ANA, [1], dim=DIM + 1))
    index.save()
    assert list(folder.glob("*.corrupt"))
    index.add(batch(ANA, [2], dim=DIM + 1))
    index.save()
    assert not list(folder.glob("*.corrupt"))
    assert FaissIndex(DIM + 1, folder).count() == 2


def test_crash_at_every_write_of_a_save(folder: Path, root: Path) -> None:
    trials = 60
    code = "import json, sys; from pathlib import Path; from tests.indices import crashes\n"
    code += "for found in crashes(Path(sys.argv[1]), int(sys.argv[2])): print(json.dumps([found.good, str(found)]))"
    command = [sys.executable, "-W", "ignore", "-c", code, str(folder), str(trials)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == trials
    assert not [text for good, text in found if not good]


def test_a_full_disk_keeps_the_last_index(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = filled(folder)
    index.save()
    index.add(batch(ANA, [500]))
    write = os.write

    def full(file: int, data: Any) -> int:
        if len(data) > 500:
            return write(file, data[:500])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        index.save()
    assert caught.value.code == "index_not_saved"
    monkeypatch.undo()
    assert same(FaissIndex(DIM, folder))
    index.save()
    assert FaissIndex(DIM, folder).count() == 106


def test_two_processes_with_one_folder(folder: Path) -> None:
    ahead, behind = filled(folder), filled(folder)
    ahead.save()
    ahead.applied = 20
    ahead.add(batch("c/", [1]))
    ahead.save()
    behind.save()  # it has seen less, and must not take back what is there
    assert FaissIndex(DIM, folder).applied == 20
    behind.applied = 30
    behind.save()
    again = FaissIndex(DIM, folder)
    assert (again.applied, again.count(), again.damaged) == (30, 105, "")
    ahead.applied = 31
    ahead.save()  # what it knew of is gone, so it writes everything
    again = FaissIndex(DIM, folder)
    assert (again.applied, again.count(), again.damaged) == (31, 106, "")


def test_a_folder_that_is_a_link_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "file").write_text("x")
    for name in ("link", "file"):
        with pytest.raises(ConfigError, match="folder"):
            FaissIndex(DIM, tmp_path / name)


@pytest.mark.parametrize("wrong", [{"dim": 0}, {"dim": 1.5}, {"kind": "pq"}, {"device": "tpu"}])
def test_bad_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        FaissIndex(**{"dim": DIM, **wrong})


@pytest.mark.parametrize("kind", ["flat", "ivf"])
def test_tenants_with_adversarial_neighbours(folder: Path, kind: Any) -> None:
    def opened_again(index: Any) -> Any:
        index.save()
        return FaissIndex(32, folder, kind=kind)

    found = tenants(FaissIndex(32, folder, kind=kind), 1_000, 12, 32, opened_again)
    assert (found.leaked, found.recall) == (0, 1.0)
    assert found.files <= 3


@pytest.mark.parametrize(("most", "kind"), [(1_000_000, "hnsw"), (1_500, "ivf")])
def test_a_large_scope_becomes_fast_and_says_why(most: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_faiss_fast, "FLAT_MOST", 1_500)
    monkeypatch.setattr(_faiss_fast, "HNSW_MOST", most)
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((30, 16))
    rows = (centres[rng.integers(30, size=4_000)] + 0.3 * rng.standard_normal((4_000, 16))).astype(np.float32)
    index, exact = Patient(16, device="cpu"), ExactIndex(16)
    for each in (index, exact):
        each.add(Batch(ANA, np.arange(1, 1_001), rows[:1_000]))
    assert index.describe(ANA)["why"] == "1,000 rows; up to 1,500 are searched exactly"
    for each in (index, exact):
        for start in range(1_000, 4_000, 500):
            each.add(Batch(ANA, np.arange(start + 1, start + 501), rows[start : start + 500]))
    described = index.describe(ANA)
    assert described["kind"] == kind
    assert "recall@10" in described["why"]
    agree(index.search(rows[::40], 10, ANA), exact.search(rows[::40], 10, ANA), 0.98)
    for each in (index, exact):
        each.remove(ANA, list(range(1, 600)))  # tombstones
    assert index.describe(ANA)["removed"] == 599
    agree(index.search(rows[::40], 10, ANA), exact.search(rows[::40], 10, ANA), 0.98)
    for each in (index, exact):
        each.remove(ANA, list(range(600, 2_000)))
    assert index.settle(60)
    assert index.describe(ANA)["removed"] == 0, "they were copied away"
    agree(index.search(rows[::40], 10, ANA), exact.search(rows[::40], 10, ANA), 0.98)
    assert index.describe()["kinds"] == {kind: 1}


def test_what_cannot_be_made_fast_stays_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_faiss_fast, "FLAT_MOST", 1_500)
    monkeypatch.setattr(_faiss_fast, "HNSW_MOST", 1_500)
    index = Patient(64, device="cpu")
    index.add(Batch(ANA, np.arange(1, 2_001), unit(2_000, 64)))  # directions without any order
    described = index.describe(ANA)
    assert described["kind"] == "flat"
    assert "only reached" in described["why"]


def test_a_search_does_not_wait_for_what_is_built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_faiss_fast, "FLAT_MOST", 1_500)
    go, build = threading.Event(), _faiss_fast.build

    def slow(*given: Any, **named: Any) -> Any:
        assert go.wait(60)
        return build(*given, **named)

    monkeypatch.setattr(_faiss_fast, "build", slow)
    rows = unit(30, 16)[np.arange(2_000) % 30] + 0.1 * unit(2_000, 16, seed=1)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = FaissIndex(16, folder, device="cpu")
    index.add(Batch(ANA, np.arange(1, 2_001), rows))
    assert index.describe(ANA)["kind"] == "flat"
    before = index.search(rows[5:6], 10, ANA)
    index.save()
    index.remove(ANA, [1, 2, 3])
    index.add(Batch(ANA, np.arange(3_000, 3_010), rows[:10]))
    go.set()
    assert index.settle(60)
    assert index.describe(ANA)["kind"] == "hnsw"
    assert 3_005 in index.search(rows[5:6], 10, ANA)[0]
    again = FaissIndex(16, folder, device="cpu")  # it was saved before it was fast, and catches up
    assert again.settle(60)
    assert again.describe(ANA)["kind"] == "hnsw"
    agree(again.search(rows[5:6], 10, ANA), before, 0.9)


def test_what_cannot_be_built_is_no_failure(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("std::bad_alloc")

    monkeypatch.setattr(_faiss_fast, "build", broken)
    index = Patient(DIM, kind="hnsw", device="cpu")
    with caplog.at_level(logging.WARNING):
        index.add(batch(ANA, range(1, 1_201)))
    assert "std::bad_alloc" in caplog.text
    assert index.search(batch(ANA, range(1, 1_201)).vectors[4:5], 1, ANA)[0].tolist() == [[5]]


async def test_waiting_requests_are_answered_by_one_call() -> None:
    index = filled()
    started, go = threading.Event(), threading.Event()
    search = index._together._search

    def slow(*given: Any) -> Any:
        started.set()
        go.wait(10)
        return search(*given)

    index._together._search = slow
    first = asyncio.create_task(index.asearch(unit(1), 3, ANA))
    await asyncio.to_thread(started.wait, 10)
    some = np.array([1, 2, 3])
    tasks = [asyncio.create_task(index.asearch(unit(2, seed=n), 3, ANA)) for n in range(20)]
    tasks += [asyncio.create_task(index.asearch(unit(1, seed=n), 3, ANA, only=some)) for n in range(5)]
    cancelled = asyncio.create_task(index.asearch(unit(1), 3, ANA))
    await asyncio.sleep(0.05)
    cancelled.cancel()
    go.set()
    answers = await asyncio.gather(first, *tasks)
    assert index._together.calls == 3, "the first, those of one kind, those with `only`"
    for number, answer in enumerate(answers[1:21]):
        assert np.array_equal(answer[0], index.search(unit(2, seed=number), 3, ANA)[0])
    index.close()


def test_the_gpu_has_one_owner_and_its_failure_is_no_failure(
    stand_in: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    index = FaissIndex(DIM)
    assert index.device == "gpu"
    index.add(batch(ANA, range(1, 101)))
    assert index.describe(ANA)["kind"] == "gpu flat"
    before = index.search(unit(9), 5, ANA)
    asyncio.run(index.asearch(unit(9), 5, ANA))
    assert stand_in.searches == 2
    assert len(stand_in.threads) == 1
    assert threading.get_ident() not in stand_in.threads
    stand_in.broken = True
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            agree(index.search(unit(9), 5, ANA), before)
    assert index.device == "cpu"
    assert caplog.text.count("illegal memory access") == 1


@pytest.mark.skipif(GPU, reason="there is a GPU")
def test_no_gpu_where_one_is_asked_for() -> None:
    assert FaissIndex(DIM).device == "cpu"
    with pytest.raises(ConfigError, match=r"\[gpu\]"):
        FaissIndex(DIM, device="gpu")


def test_checks_stay_when_python_leaves_asserts_out(root: Path) -> None:
    code = """
import numpy as np
from memctx.errors import EmbeddingError
from memctx.stores import Batch
from memctx.stores.faiss import FaissIndex
index = FaissIndex(4)
index.add(Batch("a/", np.array([1]), np.ones((1, 4))))
refused = 0
for call in (lambda: index.search(np.ones((1, 5)), 1, "a/"), lambda: index.add(Batch("a/", np.array([2]), np.ones((1, 3))))):
    try:
        call()
    except EmbeddingError:
        refused += 1
print(refused, index.count())
"""
    done = subprocess.run([sys.executable, "-O", "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "1"], done.stderr


def test_an_index_from_before_a_fork_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    index = filled()
    real = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: real + 1)
    with pytest.raises(StoreError) as caught:
        index.search(unit(1), 1, ANA)
    assert caught.value.code == "forked_store"


def test_the_thread_ends_when_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memctx.stores._together.IDLE", 0.05)
    index = filled()
    for _ in range(2):
        assert asyncio.run(index.asearch(unit(1), 1, ANA))[0][0, 0] > 0
        thread = index._together._thread
        assert thread is not None
        thread.join(10)
        assert index._together._thread is None


def test_the_scopes_of_the_trials_differ() -> None:
    assert len(set(SCOPES)) == 12
