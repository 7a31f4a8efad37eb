"""Which backend runs a model here: the one that was asked for, else the fastest that keeps the vectors."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m3e.errors import SettingsError
from m3e.inference.backends import Backend
from m3e.inference.backends.exported import Exported
from m3e.inference.backends.probe import SAME_IN_BF16, Probe
from m3e.machine import bf16_is_fast

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_AS_ASKED = "as asked"


@dataclass(frozen=True)
class Choice:
    """A backend, and in words how it was chosen."""

    backend: Backend
    how: str


def choose(model: SentenceTransformer, backend: str, dtype: str, exported: Exported | None, *, graphs: bool) -> Choice:
    """The backend of a model.

    Args:
        backend: ``auto``, ``torch``, ``openvino``, ``onnx`` or ``static``.
        dtype: ``auto``, ``fp32``, ``bf16`` or ``int8``.
        exported: the graph in the model's folder.
        graphs: whether ``auto`` may make a graph of the model, which takes seconds.

    Raises:
        SettingsError: a backend or dtype that does not fit the model.
        MissingExtraError: the backend asked for is not installed.
        ModelError: no graph can be made or read.
    """
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    if isinstance(model[0], StaticEmbedding):
        return _choose_static(model, backend, dtype)
    if backend == "static":
        raise SettingsError(
            "the backend static runs lookup models only, and this one has a transformer; "
            "m3e export --format static makes a lookup model of it"
        )
    if exported is not None and _fits(exported, model, backend, dtype):
        return Choice(_from_file(model, exported, dtype), f"the graph of m3e export, {exported.file.name}")
    if dtype == "int8":
        raise SettingsError("dtype int8 needs a folder with int8 weights; m3e export --quantize int8 makes one")
    if backend == "auto":
        return _fastest(model, dtype, graphs=graphs)
    return Choice(make(model, backend, dtype if dtype != "auto" else _fast_dtype(model, backend)), _AS_ASKED)


def make(model: SentenceTransformer, backend: str, dtype: str) -> Backend:
    """A backend by name, in ``fp32`` or ``bf16``."""
    from m3e.inference.backends.graphs import onnx_backend, openvino_backend
    from m3e.inference.backends.modules import ModulesBackend
    from m3e.inference.backends.packed import PackedBackend, can_pack

    if backend == "openvino":
        return openvino_backend(model, dtype)
    if backend == "onnx":
        return onnx_backend(model, dtype)
    return PackedBackend(model, dtype) if can_pack(model) else ModulesBackend(model, dtype)


def _choose_static(model: SentenceTransformer, backend: str, dtype: str) -> Choice:
    from m3e.inference.backends.static import StaticBackend

    if backend not in ("auto", "static", "torch"):
        raise SettingsError(f"this model is a lookup and has no graph for {backend}; choose --backend static or auto")
    if dtype not in ("auto", "fp32"):
        raise SettingsError(f"a lookup multiplies nothing, so dtype {dtype} gains nothing; choose auto or fp32")
    return Choice(StaticBackend(model), "lookup and mean")


def _fits(exported: Exported, model: SentenceTransformer, backend: str, dtype: str) -> bool:
    """Whether the graph in the folder is what was asked for."""
    if backend != exported.format and (backend != "auto" or model.device.type != "cpu"):
        return False
    return dtype in ("auto", exported.dtype) or (exported.dtype == "fp32" and exported.format == "openvino")


def _from_file(model: SentenceTransformer, exported: Exported, dtype: str) -> Backend:
    from m3e.inference.backends.graphs import onnx_backend, openvino_backend

    if exported.dtype == "int8":
        dtype = "int8"
    elif dtype == "auto":
        dtype = _fast_dtype(model, exported.format)
    made = onnx_backend if exported.format == "onnx" else openvino_backend
    return made(model, dtype, exported.file)


def _fast_dtype(model: SentenceTransformer, backend: str) -> str:
    if backend == "onnx":
        return "fp32"
    if backend == "torch" and model.device.type == "cuda":
        import torch

        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if model.device.type == "cpu" and bf16_is_fast() else "fp32"


def _fastest(model: SentenceTransformer, dtype: str, *, graphs: bool) -> Choice:
    wanted = dtype if dtype != "auto" else _fast_dtype(model, "torch")
    probe = Probe(model)
    torch_backend = make(model, "torch", wanted)
    how = _AS_ASKED
    if dtype == "auto":
        how = "the fastest dtype of this device"
        if wanted == "bf16" and (cosine := probe.cosine(torch_backend)) < SAME_IN_BF16:
            wanted, torch_backend = "fp32", make(model, "torch", "fp32")
            how = f"bf16 changes this model's vectors (cosine {cosine:.4f})"
    rivals = [name for name in _graph_backends(model, wanted) if graphs and probe.is_worth_it]
    if not rivals:
        return Choice(torch_backend, how)
    found = probe.race(torch_backend, rivals, lambda name: make(model, name, wanted))
    return Choice(found.backend, found.how)


def _graph_backends(model: SentenceTransformer, dtype: str) -> list[str]:
    """Installed backends that could run the model in ``dtype``."""
    from sentence_transformers.sentence_transformer.modules import Transformer

    if model.device.type != "cpu" or not isinstance(model[0], Transformer):
        return []
    packages: dict[str, tuple[Any, ...]] = {"openvino": ("openvino",), "onnx": ("onnx", "onnxruntime")}
    return [
        name
        for name, needed in packages.items()
        if all(importlib.util.find_spec(package) for package in needed) and not (name == "onnx" and dtype == "bf16")
    ]
