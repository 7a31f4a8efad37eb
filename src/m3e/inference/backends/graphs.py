"""The transformer as a graph in OpenVINO or ONNX Runtime; pooling and what follows stay here, in fp32."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.errors import MissingExtraError, ModelError, SettingsError, first_line
from m3e.inference.backends import Vectors
from m3e.inference.backends.lone import ends_in_unit_mean, unit
from m3e.inference.backends.modules import pad
from m3e.inference.graph import graph_inputs, transformer_onnx, transformer_openvino

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Run = Callable[[Mapping[str, np.ndarray[Any, Any]]], np.ndarray[Any, Any]]
"""Padded inputs by name to token embeddings of shape (texts, tokens, hidden)."""

_OPENVINO_PRECISION = {"fp32": "f32", "bf16": "bf16"}
_DTYPE_OF_PRECISION = {"f32": "fp32", "float": "fp32", "float32": "fp32", "bf16": "bf16", "bfloat16": "bf16"}


class GraphBackend:
    """A backend around a compiled graph."""

    packs = False

    def __init__(self, model: SentenceTransformer, name: str, dtype: str, run: Run, token_budget: int) -> None:
        model.eval()
        self.name, self.dtype, self.token_budget = name, dtype, token_budget
        self._run = run
        self._names = graph_inputs(model)
        self._filler = model.tokenizer.pad_token_id or 0
        self._left = model.tokenizer.padding_side == "left"
        self._rest = list(model)[1:]
        self._ends_in_unit_mean = ends_in_unit_mean(self._rest)

    def __call__(self, ids: Sequence[Sequence[int]], prompt: int = 0) -> Vectors:
        """The vectors that the graph and the modules after it give."""
        import torch

        if len(ids) == 1 and ids[0] and self._ends_in_unit_mean and not prompt:
            tokens = np.asarray(ids, dtype=np.int64)
            return unit(np.asarray(self._run(self._inputs(tokens, np.ones_like(tokens)))[0], np.float32).mean(axis=0))
        padded, mask = pad(ids, self._filler, left=self._left)
        with torch.inference_mode():
            features: dict[str, Any] = {
                "token_embeddings": torch.from_numpy(np.asarray(self._run(self._inputs(padded, mask)), np.float32)),
                "attention_mask": torch.from_numpy(mask),
            }
            if prompt:
                features["prompt_length"] = prompt
            for module in self._rest:
                features = module(features)
            return np.asarray(features["sentence_embedding"].numpy(), dtype=np.float32)

    def _inputs(self, ids: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        given = {"input_ids": ids, "attention_mask": mask}
        return {name: given[name] if name in given else np.zeros_like(ids) for name in self._names}


def openvino_backend(model: SentenceTransformer, dtype: str, file: Path | None = None) -> GraphBackend:
    """``model`` in OpenVINO.

    Args:
        dtype: ``fp32`` or ``bf16``, of the products; ``int8`` says that ``file`` has its weights in 8 bits.
        file: an exported graph; ``None`` makes one from the model.

    Raises:
        MissingExtraError: openvino is not installed.
        ModelError: the file cannot be read, or the model has no graph.
    """
    import torch

    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", "openvino") from error
    from m3e.machine import bf16_is_fast

    wanted = dtype if dtype != "int8" else "bf16" if bf16_is_fast() else "fp32"
    settings = {
        "INFERENCE_PRECISION_HINT": _OPENVINO_PRECISION[wanted],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    core = openvino.Core()
    try:
        graph = transformer_openvino(model) if file is None else core.read_model(str(file))
        compiled = core.compile_model(graph, "CPU", settings)
    except RuntimeError as error:
        raise ModelError(f"OpenVINO cannot load {file or 'the graph'}: {first_line(error)}") from error
    used = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    request = compiled.create_infer_request()
    lock = threading.Lock()  # a request holds one call's tensors

    def run(inputs: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        with lock:
            found = request.infer(dict(inputs), share_inputs=True)
        return np.asarray(found[0])

    name = dtype if dtype == "int8" else _DTYPE_OF_PRECISION.get(used, used)
    return GraphBackend(model, "openvino", name, run, token_budget=2048)


def onnx_backend(model: SentenceTransformer, dtype: str, file: Path | None = None) -> GraphBackend:
    """``model`` in ONNX Runtime.

    Args:
        dtype: ``fp32``; ``int8`` says that ``file`` has its weights in 8 bits.
        file: an exported graph; ``None`` makes one from the model.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        ModelError: the file cannot be read, or the model has no graph.
        SettingsError: bf16, which ONNX Runtime does not compute on CPUs.
    """
    import torch

    if dtype == "bf16":
        raise SettingsError(
            "the onnx backend computes in fp32 on CPUs; choose --dtype fp32, or another backend for bf16"
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # without it unsigned times signed bytes overflow on processors that have AVX2 and no VNNI
    options.add_session_config_entry("session.x64quantprecision", "1")
    with tempfile.TemporaryDirectory() as folder:
        path = file or transformer_onnx(model, Path(folder) / "model.onnx")
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no class in common
            raise ModelError(f"ONNX Runtime cannot load {file or 'the graph'}: {first_line(error)}") from error

    def run(inputs: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        return np.asarray(session.run(None, dict(inputs))[0])

    return GraphBackend(model, "onnx", dtype, run, token_budget=1024)
