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

_EMBEDDING_SCALE = 0.5
"""Of a number of a token that starts from a given row: a step of training moves it little, as it was trained before."""

_CORRECTION = 0.1
"""By how much a layer's output is smaller than BERT's own start, where tokens start from given rows."""

_READ = 10.0
"""How much longer the mean that the last layer reads is than the token that it is added to."""

_SPAN = 3.0
"""Tokens count between ``exp(-_SPAN)`` and ``exp(_SPAN)`` times as much as the middle one."""


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
        rows: of shape (tokens, hidden), the lookup of a static model: the encoder starts as that model, its layers as
            small corrections of it.

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
        around = [tokenizer.token_to_id(SPECIAL_TOKENS[name]) for name in ("cls_token", "sep_token")]
        rows = rows.copy()
        rows[[token for token in around if token is not None and token < len(rows)]] = 0  # a lookup sees none
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
    """Let an encoder give what a static model gives: the direction of the mean of a text's rows.

    A layer norm takes away how long a row is, and with it how much its token counts. So the length's logarithm stands
    in the one direction that the rows use least. From there the last layer's attention reads it, whatever the query,
    so that each token sees the weighted mean of all.
    """
    import torch

    table = encoder.embeddings.word_embeddings.weight
    if rows.shape != tuple(table.shape):
        raise SettingsError(
            f"the rows to start from are {rows.shape[0]:,} of {rows.shape[1]} numbers, the encoder's tokens "
            f"{table.shape[0]:,} of {table.shape[1]}; choose base.shape.hidden or static.dim so that they agree"
        )
    directions, weights, spare = _directions(rows)
    hidden = rows.shape[1]
    norm = math.sqrt(hidden)  # of a token after a layer norm
    with torch.no_grad():
        share = torch.from_numpy(weights[:, None] / (_SPAN + 1))
        start = torch.from_numpy(directions) * (1 - share**2).sqrt() + torch.from_numpy(spare) * share
        table.copy_(start * norm * _EMBEDDING_SCALE)
        for layer in encoder.encoder.layer:
            layer.attention.output.dense.weight.mul_(_CORRECTION)
            layer.output.dense.weight.mul_(_CORRECTION)
        attention = encoder.encoder.layer[-1].attention
        heads = slice(None, None, attention.self.attention_head_size)  # the first number of each
        scale = math.sqrt(math.sqrt(attention.self.attention_head_size) * (_SPAN + 1) / norm)
        attention.self.query.weight.mul_(_CORRECTION)
        attention.self.query.bias[heads] = scale
        attention.self.key.weight[heads] = torch.from_numpy(spare) * scale
        kept = torch.eye(hidden) - torch.from_numpy(np.outer(spare, spare))
        attention.self.value.weight.copy_(kept * math.sqrt(_READ))
        attention.output.dense.weight.copy_(torch.eye(hidden) * math.sqrt(_READ))


def _directions(rows: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
    """Unit rows as a layer norm leaves them, the logarithms of their lengths, and a direction that they do not use.

    A row of zeros counts as little as a token can.
    """
    centred = rows.astype(np.float64) - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    used = lengths[:, 0] > 0
    directions = centred / np.where(lengths > 0, lengths, 1)
    ones = np.full(rows.shape[1], rows.shape[1] ** -0.5)
    spread = directions.T @ directions + len(rows) * np.outer(ones, ones)  # a layer norm wants no share of all ones
    spare = np.linalg.eigh(spread)[1][:, 0]
    directions -= np.outer(directions @ spare, spare)
    directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)
    weights = np.full(len(rows), -_SPAN)
    logarithms = np.log(lengths[used, 0])
    weights[used] = np.clip(logarithms - np.median(logarithms), -_SPAN, _SPAN) if used.any() else 0
    return directions.astype(np.float32), weights.astype(np.float32), spare.astype(np.float32)
