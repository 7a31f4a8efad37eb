"""What a model makes of a mini-batch of token ids, up to its pooling, so that gradients flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from m3e.machine import bf16_is_fast
from m3e.training.attention import attention_groups
from m3e.training.forward import can_run_in_bf16, first_position, in_bf16
from m3e.training.packing import JoinedTexts, PaddedTexts, TextBatch

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MiniBatch = PaddedTexts | JoinedTexts
Precision = Literal["fp32", "autocast", "bf16"]


def encoder_of(model: SentenceTransformer) -> Any:
    """The transformers encoder of a model; ``None`` of a static one."""
    return getattr(model[0], "model", None)


def precision_of(model: SentenceTransformer, wanted: str) -> Precision:
    """What the encoder computes in."""
    encoder = encoder_of(model)
    if encoder is None:
        return "fp32"
    if wanted == "auto":
        if model.device.type == "cuda":
            fast = torch.cuda.is_bf16_supported()
        else:
            fast = model.device.type == "cpu" and bf16_is_fast()
        wanted = "bf16" if fast else "fp32"
    if wanted == "bf16" and not can_run_in_bf16(getattr(encoder, "get_base_model", lambda: encoder)()):
        return "autocast"
    return wanted  # type: ignore[return-value]  # the recipe's own values


class BatchWords:
    """The rows of the word embedding that a batch uses, as a small matrix.

    The gradient of an embedding is as large as the vocabulary: made for every mini-batch, it would cost more than
    the encoder. Mini-batches use the small matrix, and its gradient is added to the large one once.
    """

    def __init__(self, weight: Tensor, used: np.ndarray[Any, Any], places: np.ndarray[Any, Any]) -> None:
        self.weight = weight
        self.used = torch.from_numpy(used)
        self.places = places
        self.small = weight.detach()[self.used].requires_grad_()

    @classmethod
    def of(cls, model: SentenceTransformer, batch: TextBatch) -> BatchWords | None:
        """The used rows; ``None`` where they would not pay: on GPUs, and where the embedding is frozen or another's."""
        encoder = encoder_of(model)
        embedding = encoder.get_input_embeddings() if encoder is not None else None
        if model.device.type != "cpu" or type(embedding) is not nn.Embedding or not embedding.weight.requires_grad:
            return None
        places = np.zeros(embedding.num_embeddings, np.int64)
        places[batch.ids] = 1
        pad = model.tokenizer.pad_token_id or 0
        places[pad] = 1
        used = np.flatnonzero(places)
        places[used] = np.arange(len(used))
        return cls(embedding.weight, used, places)

    def look_up(self, ids: np.ndarray[Any, Any]) -> Tensor:
        """The word embeddings of token ids."""
        return nn.functional.embedding(torch.from_numpy(self.places[ids]), self.small)

    def add_gradient(self) -> None:
        """Add the small matrix's gradient to the weight's."""
        if self.small.grad is None:
            return
        if self.weight.grad is None:
            self.weight.grad = torch.zeros_like(self.weight)
        self.weight.grad.index_add_(0, self.used, self.small.grad)
        self.small.grad = None


def features_of(
    model: SentenceTransformer, mini: MiniBatch, words: BatchWords | None, precision: str
) -> dict[str, Any]:
    """What the first module hands to those after it."""
    device = model.device
    encoder = encoder_of(model)
    if isinstance(mini, JoinedTexts) and encoder is None:
        offsets = _on(mini.starts[:-1].astype(np.int64), device)
        return dict(model[0]({"input_ids": _on(mini.ids, device), "offsets": offsets}))
    inputs: dict[str, Any] = (
        {"inputs_embeds": words.look_up(mini.ids)} if words is not None else {"input_ids": _on(mini.ids, device)}
    )
    if isinstance(mini, PaddedTexts):
        mask = _on(mini.mask, device)
        hidden = _hidden(encoder, {**inputs, "attention_mask": mask}, device, precision)
    else:
        where: dict[str, Any] = {"text_groups": attention_groups(mini.starts)}
        if device.type != "cpu":
            starts = _on(mini.starts, device)
            torch._dynamo.mark_dynamic(starts, 0)  # every mini-batch has another number of texts
            where = {"cu_seq_lens_q": starts, "max_length_q": mini.longest}
        positions = _on(mini.positions + first_position(model), device)[None]
        inputs = {name: values[None] for name, values in inputs.items()}
        hidden = _hidden(encoder, {**inputs, "position_ids": positions, **where}, device, precision)
        hidden, mask = _padded(hidden[0], mini, device)
    if hidden.dtype in (torch.bfloat16, torch.float16):
        hidden = hidden.float()
    features: dict[str, Any] = {"token_embeddings": hidden, "attention_mask": mask}
    if mini.prompt is not None:
        features["prompt_length"] = mini.prompt
    return features


def _hidden(encoder: Any, inputs: dict[str, Any], device: torch.device, precision: str) -> Tensor:
    """The last layer's output."""
    if precision == "bf16" and can_run_in_bf16(encoder):
        return cast(Tensor, in_bf16(encoder, inputs).last_hidden_state)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision != "fp32"):
        return cast(Tensor, encoder(**inputs).last_hidden_state)


def _padded(hidden: Tensor, mini: JoinedTexts, device: torch.device) -> tuple[Tensor, Tensor]:
    """Joined texts' token embeddings in rows, as poolings expect them, and their mask."""
    lengths = np.diff(mini.starts[: len(mini.texts) + 1])
    width = int(lengths.max())
    mask = np.arange(width) < lengths[:, None]
    places = _on(np.flatnonzero(mask), device)
    rows = hidden.new_zeros(mask.size, hidden.shape[-1]).index_copy(0, places, hidden[: int(lengths.sum())])
    return rows.view(*mask.shape, -1), _on(mask.astype(np.int64), device)


def _on(values: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    tensor = torch.from_numpy(values)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
