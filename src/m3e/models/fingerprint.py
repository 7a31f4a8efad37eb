"""What makes a model this model: hashes of its weights, and averages of two models' weights."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from m3e.errors import ModelError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


def fingerprint(model: SentenceTransformer) -> str:
    """SHA-256 in hex over the names, shapes and bytes of all weights and over the prompts."""
    import torch

    digest = hashlib.sha256(repr(sorted((model.prompts or {}).items())).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        contiguous = value.detach().cpu().contiguous()
        digest.update(
            contiguous.view(torch.uint8).numpy().tobytes() if contiguous.dim() else repr(value.item()).encode()
        )
    return digest.hexdigest()


def weights_fingerprint(model: SentenceTransformer) -> str:
    """SHA-256 in hex over the names, shapes and values of the encoder's parameters, in whatever type they are held.

    Prompts, pooling and length may differ: it is the weights that an adapter belongs to.
    """
    digest = hashlib.sha256()
    encoder = getattr(model[0], "model", model[0])
    for name, value in sorted(encoder.named_parameters(), key=lambda named: str(named[0])):
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def copy_weights(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    """Copies of all weights on the CPU, by name."""
    return {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}


def average_into(model: SentenceTransformer, other: dict[str, torch.Tensor], share: float) -> None:
    """Replace every weight of ``model`` by ``(1 - share) · own + share · other``, in place.

    Rows that only ``model`` has (new tokens) stay as they are.

    Raises:
        ModelError: the weights have other names.
    """
    import torch

    state = model.state_dict()
    if state.keys() != other.keys():
        raise ModelError("the two models have different weights and cannot be averaged")
    with torch.no_grad():
        for name, value in state.items():
            if not value.is_floating_point():
                continue
            target = value[: len(other[name])] if value.dim() else value
            target.lerp_(other[name].to(target), share)
