"""Guessing tokens: the head that turns hidden states into scores of pieces, and the loss of masked tokens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from m3e.errors import SettingsError
from m3e.training.cached_loss import TOKEN_BUDGET, TOKEN_BUDGET_GPU, Work, mini_batches
from m3e.training.embedding import BatchWords, MiniBatch, Precision, encoder_of, features_of
from m3e.training.forward import has_unpadded_form
from m3e.training.gather import processes
from m3e.training.masking import PieceTable, mask_words
from m3e.training.packing import TextBatch, as_text_batch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_SCORES_AT_ONCE = 1 << 25
"""Numbers in a matrix of scores: of tokens by pieces."""


class _Given(nn.Module):
    """Stands where a model expects its encoder, and hands on hidden states that were computed elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: Tensor | None = None

    def forward(self, *_: Any, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutput

        return BaseModelOutput(last_hidden_state=self.hidden)


class TokenPrediction(nn.Module):
    """The head of an architecture's masked language model, tied to an encoder's word embedding where that is usual.

    Args:
        encoder: whose hidden states are scored.
        folder: of its model: the head's weights come from there where it has them, else they are new.

    Attributes:
        is_new: whether the folder had none.

    Raises:
        SettingsError: transformers has no masked language model of this architecture.
    """

    def __init__(self, encoder: nn.Module, folder: Path) -> None:
        from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModelForMaskedLM

        from m3e.models.folder import quiet_libraries

        super().__init__()
        config: Any = getattr(encoder, "config", None)
        if config is None or type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
            kind = getattr(config, "model_type", type(encoder).__name__)
            raise SettingsError(
                f"a model of type {kind} cannot be trained by masked tokens; take an encoder (bert, roberta, …) as base"
            )
        with quiet_libraries():
            whole, report = AutoModelForMaskedLM.from_pretrained(
                str(folder), output_loading_info=True, dtype=torch.float32
            )
        encoders_name = whole.base_model_prefix
        self.is_new = any(not name.startswith(f"{encoders_name}.") for name in report["missing_keys"])
        setattr(whole, encoders_name, encoder)
        whole.tie_weights()
        setattr(whole, encoders_name, _Given())
        self.whole = whole.to(next(encoder.parameters()).device)
        self._given = cast(_Given, getattr(whole, encoders_name))

    def forward(self, hidden: Tensor) -> Tensor:
        """Scores of all pieces, (tokens, pieces), of hidden states (tokens, hidden)."""
        self._given.hidden = hidden[None]
        try:
            return cast(Tensor, self.whole().logits[0])
        finally:
            self._given.hidden = None


@contextlib.contextmanager
def attached(model: SentenceTransformer, **modules: nn.Module) -> Iterator[None]:
    """While it lasts, modules are part of a model's first one, so that they are trained and kept in checkpoints."""
    for name, module in modules.items():
        model[0].add_module(name, module)
    try:
        yield
    finally:
        for name in modules:
            delattr(model[0], name)


class MaskedTokenLoss(nn.Module):
    """The mean cross-entropy of guessing hidden tokens, over a batch of any size in the memory of a mini-batch.

    Its forward pass does the backward pass too, one mini-batch after the other, so that no graph outlives its own; the
    gradients are those of the batch's mean, and of all processes' batches where there are several.

    Args:
        model: a sentence-transformers model.
        head: scores pieces; part of ``model`` while it trains, see :func:`attached`.
        masked: share of the words that are hidden.
        token_budget: tokens a mini-batch; ``None`` takes what suits the device.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        head: nn.Module,
        *,
        masked: float,
        token_budget: int | None = None,
        precision: Precision = "fp32",
    ) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self.masked = masked
        self.table = PieceTable.of(model.tokenizer)
        self.token_budget = token_budget or (TOKEN_BUDGET_GPU if model.device.type == "cuda" else TOKEN_BUDGET)
        self.precision = precision
        self.unpadded = has_unpadded_form(model, precision)
        self.work = Work()

    def forward(self, batch: Any, labels: Any = None) -> Tensor:
        """The batch's loss, over all processes where there are several; gradients are filled already."""
        del labels  # they are the batch's own tokens
        batch = as_text_batch(batch)
        random = np.random.default_rng(int(torch.randint(1 << 60, ())))
        seen, hidden = mask_words(batch.ids, batch.starts, self.table, self.masked, random)
        masked = replace(batch, ids=seen)
        counts = _sum_over_processes(self._counts(batch, hidden), self.model.device)
        # what is seen and what is meant are looked up in one small matrix
        words = BatchWords.of(self.model, replace(batch, ids=np.concatenate([batch.ids, seen])))
        total = torch.zeros((), device=self.model.device)
        positions = 0
        for mini in mini_batches(self.model, masked, self.token_budget, unpadded=self.unpadded):
            positions += mini.ids.size
            features = features_of(self.model, mini, words, self.precision)
            guesses = self._guesses(features, mini, batch, hidden, words)
            total = total + self._score(guesses, counts)
        if words is not None and torch.is_grad_enabled():
            words.add_gradient()
        self.work.add(batch, positions, 0)
        value = _joined(total)
        return value.requires_grad_() if torch.is_grad_enabled() else value

    def get_config_dict(self) -> dict[str, Any]:
        """What decides the loss."""
        return {"masked": self.masked, "token_budget": self.token_budget}

    def _counts(self, batch: TextBatch, hidden: np.ndarray[Any, Any]) -> list[int]:
        """How many tokens each part of the loss guesses in the whole batch."""
        del batch
        return [int(hidden.sum())]

    def _guesses(
        self,
        features: dict[str, Any],
        mini: MiniBatch,
        batch: TextBatch,
        hidden: np.ndarray[Any, Any],
        words: BatchWords | None,
    ) -> list[tuple[Tensor, Tensor]]:
        """Of each part of the loss: hidden states of the tokens to guess, and these tokens' ids."""
        del words
        states = features["token_embeddings"]
        rows = TextRows.of(batch, mini, states.shape[1])
        return [rows.chosen(states, hidden)]

    def _score(self, guesses: list[tuple[Tensor, Tensor]], counts: list[int]) -> Tensor:
        """The mini-batch's part of the loss, propagated backward."""
        total = torch.zeros((), device=self.model.device)
        backward = torch.is_grad_enabled()
        states: list[Tensor] = []
        gradients: list[Tensor] = []
        for (hidden, ids), count in zip(guesses, counts, strict=True):
            if not len(ids):
                continue
            leaf = hidden.detach().requires_grad_(backward)
            for start in range(0, len(ids), self._tokens_at_once):
                part = slice(start, start + self._tokens_at_once)
                with torch.autocast(leaf.device.type, dtype=torch.bfloat16, enabled=self.precision != "fp32"):
                    scores = self.head(leaf[part])
                scores = scores.float() if scores.dtype is torch.bfloat16 else scores
                loss = nn.functional.cross_entropy(scores, ids[part], reduction="sum") / count
                if backward:
                    loss.backward()  # type: ignore[no-untyped-call]
                total = total + loss.detach()
            if leaf.grad is not None:
                states.append(hidden)
                gradients.append(leaf.grad)
        if states:
            torch.autograd.backward(states, gradients)
        return total

    @property
    def _tokens_at_once(self) -> int:
        return max(1, _SCORES_AT_ONCE // int(encoder_of(self.model).config.vocab_size))


class TextRows:
    """The texts of a mini-batch in rows, as the encoder's output has them, and where they stand in the batch.

    Attributes:
        places: of shape (texts, width): which of the batch's tokens; 0 where there is none.
        is_token: of the same shape.
    """

    def __init__(self, batch: TextBatch, places: np.ndarray[Any, Any], is_token: np.ndarray[Any, Any]) -> None:
        self.batch = batch
        self.places = places
        self.is_token = is_token

    @classmethod
    def of(cls, batch: TextBatch, mini: MiniBatch, width: int) -> TextRows:
        """The rows of a mini-batch's texts, each from the first column on."""
        lengths = batch.lengths[mini.texts]
        columns = np.arange(width)
        is_token = columns < lengths[:, None]
        return cls(batch, (batch.starts[:-1][mini.texts][:, None] + columns) * is_token, is_token)

    @property
    def ids(self) -> np.ndarray[Any, Any]:
        """Of shape (texts, width): the batch's own tokens."""
        ids: np.ndarray[Any, Any] = self.batch.ids[self.places].astype(np.int64)
        return ids

    def chosen(self, states: Tensor, which: np.ndarray[Any, Any]) -> tuple[Tensor, Tensor]:
        """Hidden states, (tokens, hidden), and ids of the tokens that ``which`` marks in the batch."""
        marked = np.flatnonzero(which[self.places] & self.is_token)
        flat = states.reshape(-1, states.shape[-1])
        ids = torch.from_numpy(self.ids.ravel()[marked]).to(states.device)
        return flat[torch.from_numpy(marked).to(states.device)], ids


def _sum_over_processes(counts: list[int], device: torch.device) -> list[int]:
    """Sums over all processes, each at least 1."""
    values = torch.tensor(counts, device=device)
    if processes() > 1:
        torch.distributed.all_reduce(values)
    return [max(1, int(value)) for value in values]


def _joined(loss: Tensor) -> Tensor:
    """The sum over all processes."""
    if processes() > 1:
        torch.distributed.all_reduce(loss)
    return loss
