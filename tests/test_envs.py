"""Every environment through the shared suite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memctx import component
from memctx.errors import MissingDependency
from memctx.testing.envs import EnvTests
from memctx.train.envs.multi_objective import MultiObjective
from memctx.train.envs.stream import Stream
from tests import tau

SETTINGS = {
    "multi_objective of 16": MultiObjective(questions=16, hops=2),
    "stream in symbols": Stream(form="symbols"),
    "long stream": Stream(chunks=64),
}


class TestEveryEnv(EnvTests):
    @pytest.fixture(params=[*component.names("train.envs"), *SETTINGS])
    def env(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        if request.param in SETTINGS:
            return SETTINGS[request.param]
        fields = {"path": tau.written(tmp_path)} if request.param == "taubench" else {}
        env: Any = component.find("train.envs", request.param)(**fields)
        try:
            assert env.start(0).observation
        except MissingDependency as missing:
            pytest.skip(str(missing))
        return env
