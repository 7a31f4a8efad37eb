"""How many floating-point operations training takes, and how many a device can do."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "4090": 165e12,
}
"""Dense bf16 operations a second, from the makers' data sheets, by a part of the device's name; the first that fits."""


def model_flops(model: SentenceTransformer, tokens: int, square: int) -> float:
    """Operations of a forward and a backward pass, each counted once.

    Six for each weight and token, embeddings left out, and 12 · layers · width for each pair of a text's tokens
    (Chowdhery et al. 2022, PaLM, arXiv:2204.02311, appendix B).

    Args:
        square: the sum of squared text lengths.
    """
    encoder = getattr(model[0], "model", None)
    if encoder is None:
        return 0.0
    config: Any = encoder.config
    embeddings = {id(parameter) for name, parameter in encoder.named_parameters() if "embed" in name}
    weights = sum(
        parameter.numel()
        for name, parameter in encoder.named_parameters()
        if id(parameter) not in embeddings and not name.startswith("pooler.")
    )
    return float(6 * weights * tokens + 12 * config.num_hidden_layers * config.hidden_size * square)


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Operations a second of a device: a GPU's by its maker, a CPU's by a short measurement; ``None`` if unknown."""
    import torch

    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return next((peak for part, peak in PEAKS.items() if part in name), None) if precision != "fp32" else None
    return _measured(precision != "fp32") if device.type == "cpu" else None


@cache
def _measured(bf16: bool) -> float:
    """The best of some matrix products on this processor."""
    import torch

    dtype = torch.bfloat16 if bf16 else torch.float32
    left, right = torch.ones(1024, 1024, dtype=dtype), torch.ones(1024, 1024, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        torch.mm(left, right)
        best = min(best, time.perf_counter() - start)
    return float(2 * 1024**3 / best)
