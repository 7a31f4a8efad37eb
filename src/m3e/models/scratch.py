"""New models: random weights of some shape for a tokenizer of one's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.errors import SettingsError
from m3e.files import atomic_folder, write_marker
from m3e.models.folder import POOLING_MODES, write_transformer
from m3e.models.tokenizers import SPECIAL_TOKENS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_POSITIONS = 512

_EMBEDDING_SCALE = 0.05
"""Of a number of a token that starts from a given row: BERT's own start has 0.02, and those of positions stay below."""

_CORRECTION = 0.3
"""By how much a layer's output is smaller where tokens start from given rows: the mean of the rows is the start."""


@dataclass(frozen=True)
class Shape:
    """The size of a BERT.

    Attributes:
        hidden: numbers a token.
        heads: of each layer's attention; they divide ``hidden``.
        intermediate: of the feed-forward part; four times ``hidden`` by default.
    """

    layers: int
    hidden: int
    heads: int
    intermediate: int | None = None

    def __post_init__(self) -> None:
        if self.hidden % self.heads:
            raise SettingsError(
                f"{self.heads} heads cannot share a hidden size of {self.hidden}; choose one that they divide"
            )


PRESETS = {
    "tiny": Shape(layers=4, hidden=384, heads=6),
    "small": Shape(layers=4, hidden=512, heads=8),
    "base": Shape(layers=12, hidden=768, heads=12),
}
"""``tiny`` is m3e-tiny's, ``small`` that of uer/chinese_roberta_L-4_H-512, ``base`` BERT's."""


def write_scratch(
    folder: Path,
    tokenizer: Tokenizer,
    shape: Shape,
    *,
    seed: int,
    pooling: str = "mean",
    max_length: int = _POSITIONS,
    prompts: dict[str, str] | None = None,
    rows: np.ndarray[Any, Any] | None = None,
) -> int:
    """Write a BERT of random weights, with mean pooling and normalisation by default; how many weights it has.

    Args:
        folder: written at once, or not at all.
        tokenizer: one of :func:`m3e.models.tokenizers.train_tokenizer`.
        rows: of shape (tokens, hidden): what the tokens' embeddings start from, in their directions and relative
            lengths; the layers then start as small corrections of their mean.

    Raises:
        SettingsError: the pooling is not known, or ``rows`` have another shape.
    """
    import torch
    from transformers import BertConfig, BertModel

    if pooling not in POOLING_MODES:
        raise SettingsError(f"base.pooling is {pooling!r}; it is one of {', '.join(POOLING_MODES)}")
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(with_added_tokens=True),
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate or 4 * shape.hidden,
        max_position_embeddings=max(_POSITIONS, max_length),
        type_vocab_size=1,
        pad_token_id=tokenizer.token_to_id(SPECIAL_TOKENS["pad_token"]),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = BertModel(config)
    if rows is not None:
        _start_from(encoder, rows)
    with atomic_folder(folder) as temporary:
        write_transformer(
            temporary,
            encoder,
            tokenizer,
            special_tokens=SPECIAL_TOKENS,
            max_length=max_length,
            prompts=prompts,
            pooling=pooling,
        )
        write_marker(temporary, "model", seed=seed)
    return sum(parameter.numel() for parameter in encoder.parameters())


def _start_from(encoder: Any, rows: np.ndarray[Any, Any]) -> None:
    import torch

    table = encoder.embeddings.word_embeddings.weight
    if rows.shape != tuple(table.shape):
        raise SettingsError(
            f"the rows to start from are {rows.shape[0]:,} of {rows.shape[1]} numbers, the encoder's tokens "
            f"{table.shape[0]:,} of {table.shape[1]}; choose base.shape.hidden or static.dim so that they agree"
        )
    with torch.no_grad():
        start = torch.from_numpy(np.ascontiguousarray(rows, np.float32))
        length = start.norm(dim=1).mean().clamp_min(1e-12)
        table.copy_(start / length * math.sqrt(rows.shape[1]) * _EMBEDDING_SCALE)
        for layer in encoder.encoder.layer:
            layer.attention.output.dense.weight.mul_(_CORRECTION)
            layer.output.dense.weight.mul_(_CORRECTION)
