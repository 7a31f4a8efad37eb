"""Cosines between embeddings as losses take them: never in half precision, whose steps are wider than they look."""

from __future__ import annotations

import torch
from torch import Tensor


def precise(values: Tensor) -> Tensor:
    """The same in fp32 where it was in half precision: near 1, bf16 knows cosines to 0.004 only."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def unit_rows(vectors: Tensor) -> Tensor:
    """Rows scaled to length 1, in fp32 at least."""
    return torch.nn.functional.normalize(precise(vectors), dim=-1)


def candidate_cosines(embeddings: list[Tensor]) -> Tensor:
    """Cosines of each row's query with its own candidates, shape (batch, columns - 1)."""
    query = unit_rows(embeddings[0])
    return torch.stack([(query * unit_rows(column)).sum(dim=1) for column in embeddings[1:]], dim=1)
