"""Any loss on embeddings over a batch of any size, in the memory of a mini-batch.

Gradient caching (Gao et al. 2021, arXiv:2101.06983): all texts are embedded in mini-batches, the loss is
back-propagated to the embeddings, and each mini-batch is computed once more to carry its part on to the weights.
Here all columns' texts go together into mini-batches of similar lengths up to a token budget, and as many of them as
memory allows keep their graph, so that they need not be computed again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from m3e.errors import DataError
from m3e.training.embedding import BatchWords, MiniBatch, Precision, encoder_of, features_of
from m3e.training.forward import has_unpadded_form, in_training_form
from m3e.training.gather import joined, parts_of_all
from m3e.training.packing import JoinedTexts, TextBatch, as_text_batch, joined_mini_batches, padded_mini_batches

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TOKEN_BUDGET = 4096
"""Tokens a mini-batch on CPUs: what stays in the caches, and large enough for the matrix products."""

TOKEN_BUDGET_GPU = 32768

_MEANING = {"labels": "label a row", "scores": "teacher's scores"}
_MEND = {
    "labels": "give scored pairs, or another loss",
    "scores": "let a teacher score its rows first (m3e data score), or take another loss",
}


class EmbeddingLoss(Protocol):
    """A loss on the columns' embeddings.

    One that is a mean over rows may offer ``compute_loss_of_rows(embeddings, labels, start, stop)``, the part of
    some rows, which is then called for some rows at a time to bound its memory.

    One may say by an attribute ``wants`` what it takes as ``labels``: a tuple of names of a batch's arrays
    (``"keys"``, ``"labels"``, ``"scores"``). It is given the one, or a tuple in that order. Without, it is given the
    batch's labels, or its keys where it has none.
    """

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Any) -> Tensor:
        """The batch's loss, a scalar."""
        ...


def wanted_of(batch: TextBatch, loss: EmbeddingLoss) -> list[NDArray[Any]]:
    """The batch's arrays that a loss wants, in its order.

    Raises:
        DataError: the batch's data set has none such.
    """
    names = getattr(loss, "wants", None) or ("keys" if batch.labels is None else "labels",)
    found = {"keys": batch.keys, "labels": batch.labels, "scores": batch.scores}
    for name in names:
        if found[name] is None:
            raise DataError(
                f"the data set {batch.dataset} has no {_MEANING[name]}, which its loss needs; {_MEND[name]}"
            )
    return [array for name in names if (array := found[name]) is not None]


@dataclass
class Work:
    """What has been computed since it was last reset.

    Attributes:
        tokens: of distinct texts.
        positions: the same with padding and filling.
        recomputed: tokens that went through the model a second time.
        square: the sum of squared text lengths, which attention's work grows with.
    """

    rows: int = 0
    tokens: int = 0
    positions: int = 0
    recomputed: int = 0
    square: int = 0

    def add(self, batch: TextBatch, positions: int, recomputed: int) -> None:
        """Count a batch."""
        self.rows += len(batch.slots)
        self.tokens += int(batch.lengths.sum())
        self.positions += positions
        self.recomputed += recomputed
        self.square += int((batch.lengths**2).sum())


@dataclass
class _Pass:
    """A mini-batch on its way: what seeds its dropout, and its embeddings where their graph is kept."""

    mini_batch: MiniBatch
    seed: int
    kept: Tensor | None = field(default=None, repr=False)


def mini_batches(model: SentenceTransformer, batch: TextBatch, budget: int, *, unpadded: bool) -> Iterator[MiniBatch]:
    """A batch's texts, longest first, in mini-batches of at most so many tokens.

    Args:
        unpadded: join texts where the encoder is in the form for it, instead of padding them.
    """
    if encoder_of(model) is None:
        yield JoinedTexts(
            np.arange(len(batch.lengths)),
            batch.ids.astype(np.int64),
            np.zeros(len(batch.ids), np.int64),
            batch.starts.astype(np.int32),
            0,
        )
    elif unpadded and in_training_form(model):
        yield from joined_mini_batches(batch, budget, longest=_longest(model, batch, budget))
    else:
        tokenizer = model.tokenizer
        left = tokenizer.padding_side == "left"
        yield from padded_mini_batches(batch, budget, tokenizer.pad_token_id or 0, left=left)


def _longest(model: SentenceTransformer, batch: TextBatch, budget: int) -> int | None:
    """What GPUs are told of the longest text: always the same, as another number would be compiled anew."""
    if model.device.type != "cuda":
        return None
    return max(int(batch.lengths.max()), min(model.max_seq_length or 0, budget))


class CachedTextLoss(nn.Module):
    """A loss over batches of a token store, in the memory of a mini-batch.

    Texts are joined without padding within :func:`~m3e.training.forward.training_form`, and padded outside it.

    Args:
        model: a sentence-transformers model.
        loss: the loss on embeddings.
        losses_of_sets: another loss for the batches of some data sets, by name.
        token_budget: tokens a mini-batch; ``None`` takes what suits the device.
        kept_tokens: tokens whose graphs are kept instead of being computed again.
        precision: ``bf16`` computes the encoder's layers in bf16 throughout, ``autocast`` only their matrix products;
            weights, pooling and loss stay in the weights' own precision.
        rows_at_once: rows of the loss at a time, where it allows that.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        loss: EmbeddingLoss,
        *,
        losses_of_sets: Mapping[str, EmbeddingLoss] | None = None,
        token_budget: int | None = None,
        kept_tokens: int = 0,
        precision: Precision = "fp32",
        rows_at_once: int = 512,
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.losses_of_sets = losses_of_sets or {}
        self.unpadded = has_unpadded_form(model, precision)
        self.token_budget = token_budget or (TOKEN_BUDGET_GPU if model.device.type == "cuda" else TOKEN_BUDGET)
        self.kept_tokens = kept_tokens
        self.precision = precision
        self.rows_at_once = rows_at_once
        self.work = Work()

    def forward(self, batch: Any, labels: Any = None) -> Tensor:
        """The batch's loss, over all processes where there are several; its backward pass fills the gradients."""
        del labels  # the batch has its own; trainers pass what they found
        batch = as_text_batch(batch)
        words = BatchWords.of(self.model, batch)
        seed = int(torch.randint(1 << 60, ()))
        passes = [
            _Pass(mini, seed + number)
            for number, mini in enumerate(mini_batches(self.model, batch, self.token_budget, unpadded=self.unpadded))
        ]
        with self._own_randomness():
            embeddings, recomputed = self._embed_all(passes, words, len(batch.lengths))
        positions = sum(each.mini_batch.ids.size for each in passes)
        self.work.add(batch, positions, recomputed)
        if not torch.is_grad_enabled():
            return self._loss(embeddings, batch)
        loss = self._loss(embeddings.requires_grad_(), batch, backward=True)
        assert embeddings.grad is not None
        cache = embeddings.grad

        def propagate(scale: Tensor) -> None:
            with torch.enable_grad(), self._own_randomness():
                self._propagate(passes, words, cache * scale)

        result = loss.detach().requires_grad_()
        result.register_hook(propagate)  # type: ignore[no-untyped-call]
        return result

    def get_config_dict(self) -> dict[str, Any]:
        """The wrapped loss's settings and ours."""
        inner: dict[str, Any] = getattr(self.loss, "get_config_dict", dict)()
        return {**inner, "token_budget": self.token_budget, "kept_tokens": self.kept_tokens}

    def _embed_all(self, passes: list[_Pass], words: BatchWords | None, texts: int) -> tuple[Tensor, int]:
        """Embeddings of all texts, without a graph, and how many tokens will be computed again."""
        left = self.kept_tokens
        recomputed = 0
        parts = []
        for each in passes:
            size = each.mini_batch.ids.size
            # the graph is made in any case: compiled code may draw its dropout differently without one
            embeddings = self._embed(each, words)
            if torch.is_grad_enabled() and (size <= left or len(passes) == 1):
                each.kept = embeddings
                left -= size
            else:
                recomputed += size
            parts.append(embeddings.detach())
        order = np.concatenate([each.mini_batch.texts for each in passes])
        in_order = torch.cat(parts)
        places = torch.from_numpy(np.argsort(order)).to(in_order.device)
        return in_order[places], recomputed if torch.is_grad_enabled() else 0

    def _propagate(self, passes: list[_Pass], words: BatchWords | None, gradients: Tensor) -> None:
        for each in passes:
            embeddings = self._embed(each, words) if each.kept is None else each.kept
            if embeddings.requires_grad:
                texts = torch.from_numpy(each.mini_batch.texts).to(gradients.device)
                embeddings.backward(gradients[texts].to(embeddings.dtype))  # type: ignore[no-untyped-call]
            each.kept = None
        if words is not None:
            words.add_gradient()

    def _embed(self, each: _Pass, words: BatchWords | None) -> Tensor:
        torch.manual_seed(each.seed)
        features = features_of(self.model, each.mini_batch, words, self.precision)
        for module in list(self.model)[1:]:
            features = module(features)
        return cast(Tensor, features["sentence_embedding"])

    def _loss(self, embeddings: Tensor, batch: TextBatch, *, backward: bool = False) -> Tensor:
        slots = torch.from_numpy(batch.slots).clamp(min=0).to(embeddings.device)
        loss_here = self.losses_of_sets.get(batch.dataset, self.loss)
        wanted = [
            torch.cat(parts_of_all(torch.from_numpy(values).to(embeddings.device)))
            for values in wanted_of(batch, loss_here)
        ]
        everywhere = wanted[0] if len(wanted) == 1 else tuple(wanted)
        parts = getattr(loss_here, "compute_loss_of_rows", None)
        total = len(wanted[0])
        size = self.rows_at_once if parts is not None else total
        loss = torch.zeros((), dtype=embeddings.dtype, device=embeddings.device)
        # columns are leaves of their own, so that each part of the loss can be back-propagated and forgotten
        own = [embeddings.detach()[slots[:, column]].requires_grad_(backward) for column in range(slots.shape[1])]
        others = [parts_of_all(column) for column in own]
        for start in range(0, total, size):
            columns = [joined(parts_there, column) for parts_there, column in zip(others, own, strict=True)]
            if parts is None:
                part = loss_here.compute_loss_from_embeddings(columns, everywhere)
            else:
                part = parts(columns, everywhere, start, min(start + size, total))
            if backward:
                part.backward()  # type: ignore[no-untyped-call]
            loss = loss + part.detach()
        if backward:
            embeddings.grad = torch.zeros_like(embeddings)
            for column, values in enumerate(own):
                if values.grad is not None:
                    embeddings.grad.index_add_(0, slots[:, column], values.grad)
        return loss

    @contextlib.contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Leave the seeds of the rest of the run as they were: mini-batches have their own, to be drawn twice."""
        state = torch.get_rng_state()
        device = self.model.device
        on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        try:
            yield
        finally:
            torch.set_rng_state(state)
            if on_gpu is not None:
                torch.cuda.set_rng_state(on_gpu, device)
