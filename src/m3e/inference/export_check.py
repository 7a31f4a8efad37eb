"""An exported graph run as anyone may run it, and compared with its original.

The file is fed exactly what the saved tokenizer returns, one text at a time and in batches, in the format's own
runtime; the modules after the transformer are the folder's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.errors import ModelError
from m3e.inference.comparison_texts import comparison_texts
from m3e.inference.encoder import Encoder, Vectors
from m3e.inference.export_report import Comparison, Cosine

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_BATCH = 8
_ENOUGH_SECONDS = 3.0
_RUNS = 3

Run = Callable[[dict[str, Any]], np.ndarray[Any, Any]]


def compare(model: SentenceTransformer, folder: Path, kind: str, say: Callable[[str], None]) -> Comparison:
    """How the graph in ``folder`` compares with ``model``.

    Raises:
        ModelError: the graph asks for an input that the saved tokenizer does not return.
    """
    from m3e.inference.export import FILES
    from m3e.models import load

    exact = Encoder(model, backend="torch", dtype="fp32")
    texts = comparison_texts(lambda text: exact.tokenise([text]).lengths[0], model.max_seq_length)
    lengths = exact.tokenise(texts).lengths
    say(f"comparing {len(texts)} texts of {min(lengths)} to {max(lengths)} tokens")
    saved = load(folder, device="cpu")
    found = graph_vectors(saved, folder / FILES[kind], kind, texts)
    before = Encoder(model, backend="torch")
    after = Encoder(folder, backend=kind)  # type: ignore[arg-type]  # one of the backends' names
    return Comparison(
        compared="the cosine is between both models' vectors of each text",
        texts=len(texts),
        tokens=sum(lengths),
        longest=max(lengths),
        cosine=cosine(found, exact.encode(texts)),
        spearman=None,
        bytes_before=weight_bytes(model),
        bytes_after=file_bytes(folder / FILES[kind]),
        speed_before=texts_per_second(before, texts),
        speed_after=texts_per_second(after, texts),
        runs_before=f"{before.backend} {before.dtype}",
        runs_after=f"{after.backend} {after.dtype}",
    )


def cosine(first: Vectors, second: Vectors) -> Cosine:
    """Mean and least cosine of rows that belong together; a row of zeros has 0."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    values = (first * second).sum(1) / np.maximum(norms, 1e-12)
    return Cosine(float(values.mean()), float(values.min()))


def weight_bytes(model: SentenceTransformer) -> int:
    """Bytes of a model's weights as they are loaded."""
    return sum(value.numel() * value.element_size() for value in model.state_dict().values())


def file_bytes(path: Path) -> int:
    """Bytes of a graph's file and of the weights that lie beside it."""
    beside = (path, path.with_suffix(".bin"), path.with_name(f"{path.name}_data"))
    return sum(part.stat().st_size for part in dict.fromkeys(beside) if part.is_file())


def texts_per_second(encoder: Encoder, texts: Sequence[str]) -> float:
    """The best of a few runs after one that does not count; one run where it is slow."""
    encoder.encode(texts[:_BATCH])
    best = float("inf")
    began = time.perf_counter()
    for _ in range(_RUNS):
        start = time.perf_counter()
        encoder.encode(texts)
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() - began > _ENOUGH_SECONDS:
            break
    return len(texts) / best


def graph_vectors(model: SentenceTransformer, path: Path, kind: str, texts: Sequence[str]) -> Vectors:
    """Vectors of ``texts`` from the graph in ``path`` and the modules of ``model`` after its transformer.

    Raises:
        ModelError: the graph asks for an input that the tokenizer does not return.
    """
    names, run = (_onnx if kind == "onnx" else _openvino)(path)
    returned = list(model.tokenizer("a"))
    if set(names) != set(returned):
        raise ModelError(f"the graph asks for {', '.join(names)}; the tokenizer returns {', '.join(returned)}")
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    vectors = np.empty((len(texts), int(model.get_embedding_dimension() or 0)), dtype=np.float32)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        # one text alone among the batches: a graph that is frozen to a shape fails here
        for part in (rows[:1], rows[1:]) if start == 0 else (rows,):
            vectors[part] = _batch_vectors(model, run, [texts[row] for row in part])
    return vectors


def _batch_vectors(model: SentenceTransformer, run: Run, texts: list[str]) -> Vectors:
    import torch

    lower = bool(getattr(model[0], "do_lower_case", False))
    returned = model.tokenizer(
        [text.lower() for text in texts] if lower else texts,
        padding=True,
        truncation=True,
        max_length=model.max_seq_length,
        return_tensors="np",
    )
    features: dict[str, Any] = {
        "token_embeddings": torch.from_numpy(np.array(run(dict(returned)), dtype=np.float32)),
        "attention_mask": torch.from_numpy(returned["attention_mask"]),
    }
    with torch.inference_mode():
        for module in list(model)[1:]:
            features = module(features)
    return np.asarray(features["sentence_embedding"].float().numpy(), dtype=np.float32)


def _onnx(path: Path) -> tuple[list[str], Run]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return [item.name for item in session.get_inputs()], lambda inputs: session.run(None, inputs)[0]


def _openvino(path: Path) -> tuple[list[str], Run]:
    import openvino

    # in fp32, so that what is compared is the file and not the processor's rounding
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return [item.get_any_name() for item in compiled.inputs], lambda inputs: compiled(inputs)[0]
