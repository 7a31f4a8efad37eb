"""Attention and dropout for training: less work for the same function.

* Dropout on CPUs takes its mask from 16 random bits a number (torch draws one by one, a fifth of a step's time).
* Attention on CPUs scales the queries instead of the scores, and takes that dropout.
* Texts that lie one after the other, without padding, attend each to itself: on CPUs in groups of like lengths, which
  alone are padded; on GPUs by FlashAttention for variable lengths (Dao 2023, arXiv:2307.08691), torch's own kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from m3e.training.packing import spans_of_like_length

_GROUP_COST = 16
"""Tokens whose attention takes as long as one more group of texts."""

_BITS = 1 << 15


@dataclass(frozen=True)
class TextGroup:
    """Neighbouring texts that attention pads to one width.

    Attributes:
        count, width: texts, and tokens of the longest.
        places: which of the group's tokens stand in the padded rows; ``None`` where nothing is padded.
        kept: which padded positions hold a token.
        mask: minus infinity at padding, of shape (count, 1, 1, width).
    """

    count: int
    width: int
    places: Tensor | None = None
    kept: Tensor | None = None
    mask: Tensor | None = None

    @property
    def tokens(self) -> int:
        """Of all its texts."""
        return self.count * self.width if self.kept is None else len(self.kept)


class _Masked(torch.autograd.Function):
    """A product with a mask that is made of random bits, and saved for the backward pass."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, probability: float) -> Tensor:
        mask = dropout_mask(values.shape, probability, values.dtype)
        ctx.save_for_backward(mask)
        return values * mask

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return gradients[0] * mask, None


def dropout_mask(shape: torch.Size, probability: float, dtype: torch.dtype) -> Tensor:
    """0 with ``probability`` (rounded to a 32,768th), else its complement's inverse; decided by torch's seed."""
    dropped = round(probability * _BITS)
    count = shape.numel()
    seed = int(torch.randint(1 << 62, ()))
    raw = np.random.SFC64(seed).random_raw(-(-count // 4)).view(np.int16)[:count]
    bits = torch.from_numpy(raw).bitwise_and_(_BITS - 1)
    scale = torch.tensor(_BITS / (_BITS - dropped), dtype=dtype)
    if dtype is torch.bfloat16:
        # the sign of (dropped - 1 - bits) spread over 16 bits selects the scale's own 16 bits
        pattern = int(scale.view(torch.int16))
        kept = bits.neg_().add_(dropped - 1).bitwise_right_shift_(15).bitwise_and_(pattern)
        return kept.view(torch.bfloat16).view(shape)
    return (bits >= dropped).to(dtype).mul_(scale).view(shape)


def dropout(values: Tensor, probability: float) -> Tensor:
    """Dropout (Srivastava et al. 2014) of values on any device."""
    if probability == 0.0:
        return values
    if values.device.type != "cpu":
        return nn.functional.dropout(values, probability)
    masked: Tensor = _Masked.apply(values, probability)  # type: ignore[no-untyped-call]
    return masked


class Dropout(nn.Dropout):
    """``nn.Dropout`` with :func:`dropout`'s mask."""

    def forward(self, values: Tensor) -> Tensor:
        """The values, some of them zero while training."""
        return dropout(values, self.p) if self.training else values


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    text_groups: Sequence[TextGroup] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention's output (batch, length, heads, head size), and no weights, as transformers' interface has it.

    Args:
        query, key, value: of shape (batch, heads, length, head size).
        mask: 0 or minus infinity, broadcast over the scores; ``None`` where nothing is padded.
        cu_seq_lens_q: where each text starts in a batch of one row, and the last one's end: int32.
        max_length_q: tokens of the longest text then.
        text_groups: of :func:`attention_groups`, in their place on CPUs.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if text_groups is not None:
        return _grouped_attention(query, key, value, text_groups, dropout, scale), None
    if cu_seq_lens_q is not None:
        return _unpadded_attention(query, key, value, cu_seq_lens_q, max_length_q, dropout, scale), None
    if query.device.type != "cpu":
        mask = mask if mask is None else mask.to(query.dtype)
        output = nn.functional.scaled_dot_product_attention(query, key, value, mask, dropout, scale=scale)
        return output.transpose(1, 2).contiguous(), None
    scores = torch.matmul(query * scale, key.transpose(2, 3))
    if mask is not None:
        scores = scores + mask.to(scores.dtype)
    weights = _dropout(scores.softmax(dim=-1), dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


_dropout = dropout


def _unpadded_attention(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, longest: int, probability: float, scale: float
) -> Tensor:
    rows = [part[0].transpose(0, 1) for part in (query, key, value)]
    flash: Any = torch.ops.aten._flash_attention_forward
    output = flash(*rows, starts, starts, longest, longest, probability, False, False, scale=scale)[0]
    joined: Tensor = output.unsqueeze(0)
    return joined


def attention_groups(starts: np.ndarray[Any, Any]) -> list[TextGroup]:
    """Joined texts, longest first, in groups that attention pads to one width on a CPU."""
    lengths = np.diff(starts).astype(np.int64)
    groups = []
    for begin, end in spans_of_like_length(lengths, _GROUP_COST, 1 << 30):
        own, width = lengths[begin:end], int(lengths[begin])
        if int(own[-1]) == width:
            groups.append(TextGroup(end - begin, width))
            continue
        offsets = np.cumsum(own) - own
        columns = np.arange(width)
        is_token = columns < own[:, None]
        places = offsets[:, None] + np.minimum(columns, own[:, None] - 1)
        mask = np.where(is_token, np.float32(0), np.float32(-np.inf))[:, None, None, :]
        groups.append(
            TextGroup(
                end - begin,
                width,
                torch.from_numpy(places.ravel()),
                torch.from_numpy(np.flatnonzero(is_token)),
                torch.from_numpy(mask),
            )
        )
    return groups


def _grouped_attention(
    query: Tensor, key: Tensor, value: Tensor, groups: Sequence[TextGroup], probability: float, scale: float
) -> Tensor:
    """Attention of joined texts, group by group: only here is anything padded."""
    _, heads, total, size = query.shape
    counts = [group.tokens for group in groups]
    joined = [part[0].transpose(0, 1).reshape(total, heads * size) for part in (query, key, value)]
    parts = [torch.split(part, counts) for part in joined]
    outputs = []
    for group, *rows in zip(groups, *parts, strict=True):
        if group.places is not None:
            rows = [part.index_select(0, group.places) for part in rows]
        queries, keys, values = (part.view(group.count, group.width, heads, size).transpose(1, 2) for part in rows)
        scores = torch.matmul(queries * scale, keys.transpose(2, 3))
        if group.mask is not None:
            scores = scores + group.mask.to(scores.dtype)
        output = torch.matmul(dropout(scores.softmax(dim=-1), probability), values).transpose(1, 2)
        output = output.reshape(group.count * group.width, heads * size)
        outputs.append(output if group.kept is None else output.index_select(0, group.kept))
    return torch.cat(outputs).view(1, total, heads, size)


def attention_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    *,
    attention_mask: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
    **_: Any,
) -> Tensor | None:
    """Minus infinity at padded keys, of shape (batch, 1, 1, length); ``None`` where nothing is padded."""
    if attention_mask is None or bool(attention_mask.all()):
        return None
    mask = torch.zeros(attention_mask.shape, dtype=dtype, device=attention_mask.device)
    return mask.masked_fill_(~attention_mask.bool(), -torch.inf)[:, None, None, :]
