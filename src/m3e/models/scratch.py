"""New models: random weights of some shape for a tokenizer of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from m3e.errors import SettingsError
from m3e.files import atomic_folder, write_marker
from m3e.models.folder import POOLING_MODES, write_transformer
from m3e.models.tokenizers import SPECIAL_TOKENS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_POSITIONS = 512


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
) -> int:
    """Write a BERT of random weights, with mean pooling and normalisation by default; how many weights it has.

    Args:
        folder: written at once, or not at all.
        tokenizer: one of :func:`m3e.models.tokenizers.train_tokenizer`.

    Raises:
        SettingsError: the pooling is not known.
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
