"""An encoder's forward pass for training: attention and dropout that cost less, layers in bf16, joined texts.

The parameters, their names and the modules stay the model's own, so adapters and checkpoints know no difference.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from m3e.training.attention import Dropout, attention, attention_mask

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ATTENTION = "m3e"
"""The name under which transformers finds our attention."""

_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl")
_UNPADDED = ("bert", *_POSITIONS_AFTER_PADDING)
"""Model types whose layers treat every position alike, so that texts may lie one after the other."""


def has_unpadded_form(model: SentenceTransformer, precision: str) -> bool:
    """Whether texts of this model may lie one after the other; GPUs' kernels want 16 bits."""
    encoder = getattr(model[0], "model", None)
    known = getattr(encoder.config if encoder else None, "model_type", "") in _UNPADDED
    return known and (model.device.type == "cpu" or (model.device.type == "cuda" and precision != "fp32"))


def in_training_form(model: SentenceTransformer) -> bool:
    """Whether :func:`training_form` is on: joined texts would see each other without it."""
    config = getattr(getattr(model[0], "model", None), "config", None)
    return getattr(config, "_attn_implementation", "") == ATTENTION


def first_position(model: SentenceTransformer) -> int:
    """The position of a text's first token: RoBERTa's kind counts from after the padding's number."""
    config = model[0].model.config
    return int(config.pad_token_id) + 1 if config.model_type in _POSITIONS_AFTER_PADDING else 0


@contextlib.contextmanager
def training_form(model: SentenceTransformer, *, compile_layers: bool = False) -> Iterator[None]:
    """While it lasts, the model's encoder computes as this module says; a model that cannot stays as it is.

    Only bidirectional encoders whose attention can be chosen by name take part.

    Args:
        compile_layers: let torch.compile fuse each layer's small operations.
    """
    encoder: Any = getattr(model[0], "model", None)
    if getattr(getattr(encoder, "config", None), "model_type", "") not in _UNPADDED:
        yield
        return
    _register()
    before = encoder.config._attn_implementation
    encoder.set_attn_implementation(ATTENTION)
    swapped = _swap_dropouts(encoder) if model.device.type == "cpu" else []
    layers = list(_stack(encoder).layer) if compile_layers else []
    for layer in layers:
        layer.compile()
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
        for parent, name, module in swapped:
            setattr(parent, name, module)
        encoder.set_attn_implementation(before)


@contextlib.contextmanager
def evaluation_form(model: SentenceTransformer) -> Iterator[None]:
    """Inside :func:`training_form`: the encoder as it was before, in evaluation mode, for a look between two steps."""
    encoder: Any = getattr(model[0], "model", None)
    model.eval()
    if not in_training_form(model):
        yield
        return
    layers = list(_stack(encoder).layer)
    compiled = [layer._compiled_call_impl for layer in layers]
    for layer in layers:
        layer._compiled_call_impl = None
    encoder.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        encoder.set_attn_implementation(ATTENTION)
        for layer, call in zip(layers, compiled, strict=True):
            layer._compiled_call_impl = call


def can_run_in_bf16(encoder: nn.Module) -> bool:
    """Whether :func:`in_bf16` knows the encoder's kind."""
    return getattr(getattr(encoder, "config", None), "model_type", "") in _UNPADDED


def in_bf16(encoder: nn.Module, inputs: dict[str, Any]) -> Any:
    """The encoder's output with bf16 copies of its layers' weights, whose gradients reach the weights in fp32.

    Autocast leaves what flows between layers in fp32, and casts it again and again; here it is bf16 throughout. The
    embeddings stay as they are: only what they yield is cast.
    """
    copies = {
        name: parameter.to(torch.bfloat16)
        for name, parameter in encoder.named_parameters()
        if parameter.dtype is torch.float32 and ".layer." in f".{name}"
    }
    stack = _stack(encoder)
    before, after = stack.register_forward_pre_hook(_to_bf16), stack.register_forward_hook(_to_fp32)
    try:
        return torch.func.functional_call(encoder, copies, (), inputs)
    finally:
        before.remove()
        after.remove()


def _to_bf16(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return (arguments[0].to(torch.bfloat16), *arguments[1:])


def _to_fp32(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
    output.last_hidden_state = output.last_hidden_state.float()
    return output


def _register() -> None:
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(ATTENTION, attention)
    AttentionMaskInterface.register(ATTENTION, attention_mask)


def _stack(encoder: nn.Module) -> Any:
    """The module that holds the layers."""
    wrapped: Any = encoder
    base = wrapped.get_base_model() if hasattr(wrapped, "get_base_model") else wrapped
    return base.encoder


def _swap_dropouts(encoder: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """Put our dropout in place of torch's; what was where."""
    found: list[tuple[nn.Module, str, nn.Module]] = [
        (parent, name, child)
        for parent in encoder.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Dropout
    ]
    for parent, name, child in found:
        ours = Dropout(cast(nn.Dropout, child).p)
        ours.train(child.training)
        setattr(parent, name, ours)
    return found
