"""RetroMAE (Xiao et al. 2022, arXiv:2205.12035): an encoder whose vector lets a weak decoder rebuild the text.

The encoder sees a text with some words hidden. A decoder of one layer, which does not outlive the training, sees the
text's vector and, for each position, its own random half of the text's tokens, and guesses all of them: the paper's
enhanced decoding. The vector is the model's own, as its pooling makes it (CLS or mean), before any normalisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from m3e.errors import SettingsError
from m3e.training.embedding import BatchWords, MiniBatch, Precision, encoder_of
from m3e.training.forward import first_position
from m3e.training.packing import TextBatch
from m3e.training.token_prediction import MaskedTokenLoss, TextRows

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class EnhancedDecoder(nn.Module):
    """One layer of attention whose queries hold the text's vector and a position, and no token.

    Args:
        hidden: numbers a token, those of the encoder.
        positions: of the longest text.
    """

    def __init__(
        self,
        hidden: int,
        heads: int,
        intermediate: int,
        positions: int,
        *,
        dropout: float = 0.1,
        epsilon: float = 1e-12,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.positions = nn.Embedding(positions, hidden)
        self.content_norm = nn.LayerNorm(hidden, epsilon)
        self.query, self.key, self.value, self.output = (nn.Linear(hidden, hidden) for _ in range(4))
        self.attention_norm = nn.LayerNorm(hidden, epsilon)
        self.up, self.down = nn.Linear(hidden, intermediate), nn.Linear(intermediate, hidden)
        self.output_norm = nn.LayerNorm(hidden, epsilon)

    @classmethod
    def for_model(cls, model: SentenceTransformer) -> EnhancedDecoder:
        """A new decoder of the encoder's width; its positions start as the encoder's where it has such.

        Raises:
            SettingsError: the model's vector has another width than its tokens.
        """
        encoder = encoder_of(model)
        config = encoder.config
        dimension = model[1].get_embedding_dimension() if len(model) > 1 else config.hidden_size
        if dimension != config.hidden_size:
            raise SettingsError(
                f"the model's pooling makes vectors of {dimension} numbers from tokens of {config.hidden_size}; "
                "RetroMAE needs one pooling, of the tokens' own width"
            )
        decoder = cls(
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
            config.max_position_embeddings,
            dropout=getattr(config, "hidden_dropout_prob", 0.0),
            epsilon=getattr(config, "layer_norm_eps", 1e-12),
        )
        for module in decoder.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=getattr(config, "initializer_range", 0.02))
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
        known = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
        if isinstance(known, nn.Embedding):
            with torch.no_grad():
                rows = known.weight[first_position(model) :]
                decoder.positions.weight[: len(rows)] = rows
        return decoder.to(model.device)

    def forward(self, vectors: Tensor, words: Tensor, visible: Tensor) -> Tensor:
        """Hidden states, (texts, width, hidden), from which the text's tokens are guessed.

        Args:
            vectors: of the texts, (texts, hidden).
            words: embeddings of their tokens, (texts, width, hidden); the first token's place is the vector's.
            visible: which tokens (last) each position (middle) may see, (texts, width, width).
        """
        texts, width, hidden = words.shape
        positions = self.positions.weight[:width]
        content = self.content_norm(words + positions)
        content = torch.cat([vectors[:, None].to(content.dtype), content[:, 1:]], dim=1)
        queries = vectors[:, None] + positions

        def heads(values: Tensor) -> Tensor:
            return values.view(texts, width, self.heads, -1).transpose(1, 2)

        attended = nn.functional.scaled_dot_product_attention(
            heads(self.query(queries)),
            heads(self.key(content)),
            heads(self.value(content)),
            visible[:, None],
            self.dropout if self.training else 0.0,
        )
        attended = self.output(attended.transpose(1, 2).reshape(texts, width, hidden))
        states = self.attention_norm(queries + self._dropped(attended))
        further = self.down(nn.functional.gelu(self.up(states)))
        return cast(Tensor, self.output_norm(states + self._dropped(further)))

    def _dropped(self, values: Tensor) -> Tensor:
        return nn.functional.dropout(values, self.dropout, self.training)


def visible_tokens(is_token: Tensor, masked: float) -> Tensor:
    """Which tokens each position sees, (texts, width, width): a random share of the others, never itself.

    The first place, which holds the text's vector, is seen by all.

    Args:
        is_token: of shape (texts, width).
        masked: share of the tokens that a position does not see.
    """
    texts, width = is_token.shape
    seen = torch.rand(texts, width, width, device=is_token.device) >= masked
    seen &= is_token[:, None, :]
    seen &= ~torch.eye(width, dtype=torch.bool, device=is_token.device)
    seen[:, :, 0] = True
    return seen


class RetroMaeLoss(MaskedTokenLoss):
    """The encoder's loss of masked tokens plus the decoder's of all tokens, each a mean over its own.

    Args:
        decoder: part of ``model`` while it trains, as the head is, which both share.
        masked: share of the words that the encoder does not see.
        decoder_masked: share of the text that a position of the decoder does not see.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        head: nn.Module,
        decoder: nn.Module,
        *,
        masked: float,
        decoder_masked: float,
        token_budget: int | None = None,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__(model, head, masked=masked, token_budget=token_budget, precision=precision)
        self.decoder = decoder
        self.decoder_masked = decoder_masked

    def get_config_dict(self) -> dict[str, Any]:
        """What decides the loss."""
        return {**super().get_config_dict(), "decoder_masked": self.decoder_masked}

    def _counts(self, batch: TextBatch, hidden: np.ndarray[Any, Any]) -> list[int]:
        return [*super()._counts(batch, hidden), int((~self.table.is_special[batch.ids]).sum())]

    def _guesses(
        self,
        features: dict[str, Any],
        mini: MiniBatch,
        batch: TextBatch,
        hidden: np.ndarray[Any, Any],
        words: BatchWords | None,
    ) -> list[tuple[Tensor, Tensor]]:
        rows = TextRows.of(batch, mini, features["token_embeddings"].shape[1])
        device = self.model.device
        ids = torch.from_numpy(rows.ids).to(device)
        vectors = self.model[1](dict(features))["sentence_embedding"]
        embedded = words.look_up(rows.ids) if words is not None else encoder_of(self.model).get_input_embeddings()(ids)
        visible = visible_tokens(torch.from_numpy(rows.is_token).to(device), self.decoder_masked)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision != "fp32"):
            states = self.decoder(vectors, embedded, visible)
        guesses = super()._guesses(features, mini, batch, hidden, words)
        return [*guesses, rows.chosen(states, ~self.table.is_special[batch.ids])]
