"""The transformer of a model as an ONNX or OpenVINO graph: ids and mask in, token embeddings out.

Pooling and what follows it stay outside, in fp32. The inputs are exactly those that the model's tokenizer returns;
batch and length are free.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3e.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    import openvino
    import torch
    from sentence_transformers import SentenceTransformer

OUTPUT = "token_embeddings"
"""The name of the graph's output, of shape (texts, tokens, hidden)."""

_BATCH, _LENGTH = 2, 7  # of the sample that the tracer follows; both are freed in the graph
_OPSET = 17


def graph_inputs(model: SentenceTransformer) -> list[str]:
    """The names of the graph's inputs: what the model's tokenizer returns, in its order.

    Raises:
        ModelError: the model's first module is not a transformer over token ids.
    """
    from sentence_transformers.sentence_transformer.modules import Transformer

    if not isinstance(model[0], Transformer):
        raise ModelError(
            f"only a transformer has a graph to export, and this model begins with {type(model[0]).__name__}"
        )
    return list(model.tokenizer("a")) if model.tokenizer is not None else []


def transformer_onnx(model: SentenceTransformer, path: Path) -> Path:
    """Write the transformer of ``model`` as ONNX in fp32; ``path``.

    Raises:
        ModelError: the model has no transformer, or one that cannot be traced.
        MissingExtraError: onnx is not installed.
    """
    import torch

    if not _is_installed("onnx"):
        raise MissingExtraError("onnx", "onnx")
    names = graph_inputs(model)
    with _traceable(model, names) as module, _reasons(model, "onnx"):
        torch.onnx.export(
            module,
            tuple(_sample(names, model).values()),
            str(path),
            input_names=names,
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "texts", 1: "tokens"} for name in (*names, OUTPUT)},
            opset_version=_OPSET,
            dynamo=False,
        )
    return path


def transformer_openvino(model: SentenceTransformer) -> openvino.Model:
    """The transformer of ``model`` as an OpenVINO model in fp32, not yet compiled.

    Raises:
        ModelError: the model has no transformer, or one that cannot be traced.
        MissingExtraError: openvino is not installed.
    """
    if not _is_installed("openvino"):
        raise MissingExtraError("openvino", "openvino")
    import openvino
    import torch

    names = graph_inputs(model)
    sample = tuple(_sample(names, model).values())
    with _traceable(model, names) as module, _reasons(model, "openvino"):
        # traced here, since the converter's own tracer wants the inputs' names in the signature
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            module, sample, strict=False, check_trace=False
        )
        graph = openvino.convert_model(
            traced,
            example_input=sample,
            input=[(openvino.PartialShape([-1, -1]), openvino.Type.i64)] * len(names),
        )
    for port, name in zip(graph.inputs, names, strict=True):
        port.get_tensor().set_names({name})
    graph.outputs[0].get_tensor().set_names({OUTPUT})
    return graph


def _sample(names: list[str], model: SentenceTransformer) -> dict[str, torch.Tensor]:
    import torch

    shape = (_BATCH, _LENGTH)
    values = {
        "input_ids": torch.full(shape, model.tokenizer.unk_token_id or 0),
        "attention_mask": torch.ones(shape, dtype=torch.long),
    }
    values["attention_mask"][0, _LENGTH - 2 :] = 0
    return {name: values.get(name, torch.zeros(shape, dtype=torch.long)) for name in names}


@contextlib.contextmanager
def _traceable(model: SentenceTransformer, names: list[str]) -> Iterator[torch.nn.Module]:
    """The transformer as a module of plain tensors, on the CPU, in fp32, with attention that can be traced."""
    import copy

    import torch

    from m3e.models.folder import quiet_libraries

    class TokenEmbeddings(torch.nn.Module):
        def __init__(self, transformer: Any) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, *values: torch.Tensor) -> torch.Tensor:
            embeddings: torch.Tensor = self.transformer(dict(zip(names, values, strict=True)))[OUTPUT]
            return embeddings

    first: Any = copy.copy(model[0])
    first._modules = dict(first._modules)
    first.model = copy.deepcopy(first.model).to("cpu", torch.float32).eval()
    first.model.set_attn_implementation("eager")
    with warnings.catch_warnings(), torch.inference_mode(), quiet_libraries():
        warnings.simplefilter("ignore")  # the tracer warns of every Python branch that it follows
        yield TokenEmbeddings(first).eval()


@contextlib.contextmanager
def _reasons(model: SentenceTransformer, target: str) -> Iterator[None]:
    from m3e.errors import first_line

    try:
        yield
    except Exception as error:  # tracers fail in as many ways as there are architectures
        name = type(getattr(model[0], "model", model[0])).__name__
        raise ModelError(f"{name} cannot be turned into an {target} graph: {first_line(error)}") from error


def _is_installed(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None
