"""The training form of an encoder: the same function, and the model as it was afterwards."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from m3e.training.attention import (
    Dropout,
    TextGroup,
    attention,
    attention_groups,
    attention_mask,
    dropout,
    dropout_mask,
)
from m3e.training.forward import has_unpadded_form, training_form


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.5])
def test_masks_drop_as_many_as_asked_and_keep_the_mean(dtype: torch.dtype, probability: float) -> None:
    torch.manual_seed(0)
    mask = dropout_mask(torch.Size([301, 1001]), probability, dtype)
    assert mask.shape == (301, 1001)
    assert mask.dtype is dtype
    assert len(mask.unique()) == 2
    assert (mask == 0).double().mean() == pytest.approx(probability, abs=0.003)
    assert mask.double().mean() == pytest.approx(1, abs=0.006)
    rows = (mask == 0).double()
    assert torch.corrcoef(rows)[~torch.eye(301, dtype=torch.bool)].abs().max() < 0.2  # rows are independent


def test_torchs_seed_decides_the_mask() -> None:
    torch.manual_seed(3)
    first, second = (dropout_mask(torch.Size([1000]), 0.3, torch.float32) for _ in range(2))
    torch.manual_seed(3)
    assert torch.equal(first, dropout_mask(torch.Size([1000]), 0.3, torch.float32))
    assert not torch.equal(first, second)


def test_gradients_pass_where_values_did() -> None:
    values = torch.ones(500, requires_grad=True)
    result = dropout(values, 0.4)
    result.sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(values.grad, result.detach())


def test_nothing_is_dropped_outside_training() -> None:
    layer = Dropout(0.5).eval()
    assert torch.equal(layer(torch.ones(50)), torch.ones(50))
    assert 0 in layer.train()(torch.ones(50))


def eager(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
    return (scores.softmax(-1) @ value).transpose(1, 2)


def test_attention_with_padding() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 7, 8, dtype=torch.float64)
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 4:] = 0
    added = attention_mask(2, 7, 7, attention_mask=mask, dtype=torch.float64)
    output, _ = attention(nn.Identity(), query, key, value, added)
    assert torch.allclose(output[0], eager(query, key, value)[0])
    assert torch.allclose(output[1, :4], eager(*(part[:, :, :4] for part in (query, key, value)))[1])
    assert attention_mask(2, 7, 7, attention_mask=torch.ones(2, 7)) is None


def test_attention_of_joined_texts_is_that_of_each_alone() -> None:
    torch.manual_seed(0)
    lengths = [31, 30, 30, 12, 12, 5, 4, 2, 1]
    starts = np.concatenate(([0], np.cumsum(lengths)))
    parts = [torch.randn(1, 4, int(starts[-1]), 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    groups = attention_groups(starts)
    assert 1 < len(groups) < len(lengths)
    assert any(group.mask is not None for group in groups)
    output, _ = attention(nn.Identity(), *parts, None, text_groups=groups)
    alone = torch.cat(
        [eager(*(part[:, :, start:end] for part in parts)) for start, end in itertools.pairwise(starts)],
        dim=1,
    )
    assert torch.allclose(output, alone)
    weights = torch.randn_like(output)
    found = torch.autograd.grad((output * weights).sum(), parts)
    wanted = torch.autograd.grad((alone * weights).sum(), parts)
    for left, right in zip(found, wanted, strict=True):
        assert torch.allclose(left, right)


def test_groups_of_one_length_are_not_padded() -> None:
    assert attention_groups(np.array([0, 4, 8, 12])) == [TextGroup(3, 4)]


def test_the_training_form_computes_the_same_and_leaves_the_model_as_it_was(mini: Any) -> None:
    encoder = mini[0].model.eval()
    ids = torch.randint(4, 40, (3, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    before = encoder(ids, attention_mask=mask).last_hidden_state
    modules = [type(module) for module in encoder.modules()]
    chosen = encoder.config._attn_implementation
    with training_form(mini):
        assert Dropout in [type(module) for module in encoder.modules()]
        during = encoder(ids, attention_mask=mask).last_hidden_state
        assert set(encoder.state_dict()) == set(mini[0].model.state_dict())
    assert torch.allclose(before[mask.bool()], during[mask.bool()], atol=1e-5)
    assert [type(module) for module in encoder.modules()] == modules
    assert encoder.config._attn_implementation == chosen


def test_a_model_without_an_encoder_stays_as_it_is() -> None:
    from m3e import load

    static = load("m3e-static", device="cpu")
    with training_form(static):
        assert not has_unpadded_form(static, "fp32")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
def test_a_gpus_kernel_attends_as_each_text_alone() -> None:
    torch.manual_seed(0)
    starts = torch.tensor([0, 40, 75, 76], dtype=torch.int32, device="cuda")
    parts = [torch.randn(1, 4, 76, 64, dtype=torch.bfloat16, device="cuda", requires_grad=True) for _ in range(3)]
    output, _ = attention(nn.Identity(), *parts, None, cu_seq_lens_q=starts, max_length_q=64)
    bounds = starts.tolist()
    alone = torch.cat(
        [eager(*(part[:, :, start:end] for part in parts)) for start, end in itertools.pairwise(bounds)],
        dim=1,
    )
    assert torch.allclose(output.float(), alone.float(), atol=0.03)
    weights = torch.randn_like(output)
    found = torch.autograd.grad((output * weights).sum(), parts)
    wanted = torch.autograd.grad((alone * weights).sum(), parts)
    for left, right in zip(found, wanted, strict=True):
        assert torch.cosine_similarity(left.float().flatten(), right.float().flatten(), dim=0) > 0.999
