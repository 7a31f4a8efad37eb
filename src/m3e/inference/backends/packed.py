"""Encoders of BERT's form with the texts packed: no padding, fused queries, keys and values, weights laid out once.

In bf16 the products are bf16; what is added up over the layers, layer norms and pooling stay in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.inference.backends import Vectors
from m3e.inference.backends.attention import FlashAttention, ProductAttention
from m3e.inference.backends.linear import Linear
from m3e.inference.backends.lone import ends_in_unit_mean, takes_mean, unit

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_POSITIONS_FROM_ZERO = ("BertModel",)
_POSITIONS_AFTER_PADDING = ("RobertaModel", "XLMRobertaModel", "CamembertModel")
_AFTER_POOLING = ("Normalize", "Dense", "LayerNorm", "Dropout")


@dataclass(frozen=True)
class _Norm:
    shape: tuple[int, ...]
    weight: torch.Tensor
    bias: torch.Tensor
    epsilon: float

    @classmethod
    def of(cls, module: Any) -> _Norm:
        return cls(tuple(module.weight.shape), module.weight.detach().float(), module.bias.detach().float(), module.eps)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.layer_norm(x, self.shape, self.weight, self.bias, self.epsilon)


class _Layer:
    def __init__(self, layer: Any, dtype: torch.dtype, activation: str) -> None:
        import torch

        own, output = layer.attention.self, layer.attention.output
        parts = (own.query, own.key, own.value)
        self._qkv = Linear(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts]), dtype)
        self._out = Linear(output.dense.weight, output.dense.bias, dtype)
        self._norm = _Norm.of(output.LayerNorm)
        inner, outer = layer.intermediate.dense, layer.output.dense
        self._inner = Linear(inner.weight, inner.bias, dtype, activation)
        self._outer = Linear(outer.weight, outer.bias, dtype)
        self._last_norm = _Norm.of(layer.output.LayerNorm)
        self._dtype = dtype

    def __call__(self, x: torch.Tensor, attention: Any, groups: Any) -> torch.Tensor:
        x = self._norm(x.add_(self._out(attention(self._qkv(x.to(self._dtype)), groups))))
        return self._last_norm(x.add_(self._outer(self._inner(x.to(self._dtype)))))


class PackedBackend:
    """A backend for BERT, RoBERTa and XLM-RoBERTa encoders with a pooling, on CPUs."""

    name = "torch"
    packs = True
    token_budget = 1024

    def __init__(self, model: SentenceTransformer, dtype: str) -> None:
        import torch

        model.eval()
        self.dtype = dtype
        bert: Any = model[0].model
        config, embeddings = bert.config, bert.embeddings
        self._words = embeddings.word_embeddings.weight.detach()
        tables = (embeddings.position_embeddings.weight, embeddings.token_type_embeddings.weight[0])
        self._places = tables[0].detach().float() + tables[1].detach().float()
        self._norm = _Norm.of(embeddings.LayerNorm)
        self._padding = int(config.pad_token_id or 0)
        self._after_padding = type(bert).__name__ in _POSITIONS_AFTER_PADDING
        heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
        kind = torch.bfloat16 if dtype == "bf16" else torch.float32
        self._attention: FlashAttention | ProductAttention = (
            ProductAttention(heads, size, kind) if dtype == "bf16" else FlashAttention(heads, size)
        )
        self._layers = [_Layer(layer, kind, config.hidden_act) for layer in bert.encoder.layer]
        self._pooling: Any = model[1]
        self._takes_mean = takes_mean(self._pooling)
        self._rest = list(model)[2:]
        self._ends_in_unit_mean = ends_in_unit_mean(list(model)[1:])

    def __call__(self, ids: Sequence[Sequence[int]], prompt: int = 0) -> Vectors:
        """The vectors; texts of like lengths beside each other are fastest."""
        import torch

        if not self._takes_mean:  # other poolings of no token would take a neighbour's
            ids = [text or (self._padding,) for text in ids]
        if len(ids) == 1 and ids[0] and self._ends_in_unit_mean and not prompt:
            return self._of_one(ids[0])
        lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
        flat = np.fromiter(chain.from_iterable(ids), dtype=np.int64, count=int(lengths.sum()))
        with torch.inference_mode():
            x = self._through_layers(self._embed(flat, lengths), lengths)
            features = self._pool(x, lengths, prompt)
            for module in self._rest:
                features = module(features)
            return np.asarray(features["sentence_embedding"].numpy(), dtype=np.float32)

    def _of_one(self, ids: Sequence[int]) -> Vectors:
        """The vector of one text, without what only several need."""
        import torch

        length = np.asarray([len(ids)])
        with torch.inference_mode():
            first = self._padding + 1 if self._after_padding else 0
            if self._after_padding and self._padding in ids:
                x = self._embed(np.asarray(ids), length)
            else:
                x = self._norm(torch.embedding(self._words, torch.tensor(ids)) + self._places[first : first + len(ids)])
            return unit(self._through_layers(x, length).mean(0).numpy())

    def _through_layers(self, x: torch.Tensor, lengths: np.ndarray[Any, Any]) -> torch.Tensor:
        groups = self._attention.plan(lengths)
        for layer in self._layers:
            x = layer(x, self._attention, groups)
        return x

    def _embed(self, flat: np.ndarray[Any, Any], lengths: np.ndarray[Any, Any]) -> torch.Tensor:
        import torch

        starts = np.cumsum(lengths) - lengths
        places = np.arange(len(flat)) - np.repeat(starts, lengths)
        if self._after_padding:
            places = self._skip_padding(flat, places, lengths, starts)
        words = torch.nn.functional.embedding(torch.from_numpy(flat), self._words)
        return self._norm(words + torch.nn.functional.embedding(torch.from_numpy(places), self._places))

    def _skip_padding(
        self,
        flat: np.ndarray[Any, Any],
        places: np.ndarray[Any, Any],
        lengths: np.ndarray[Any, Any],
        starts: np.ndarray[Any, Any],
    ) -> np.ndarray[Any, Any]:
        """RoBERTa counts positions from the padding's id on, and a padding token in a text's midst does not count."""
        real = flat != self._padding
        if real.all():
            return places + self._padding + 1
        counted = np.concatenate([[0], np.cumsum(real)])
        places = (counted[1:] - np.repeat(counted[starts], lengths)) * real
        return np.asarray(places + self._padding)

    def _pool(self, x: torch.Tensor, lengths: np.ndarray[Any, Any], prompt: int) -> dict[str, Any]:
        import torch

        ends = np.cumsum(lengths)
        if self._takes_mean and not prompt:
            every = torch.arange(len(x))
            starts = torch.from_numpy(ends - lengths)
            return {"sentence_embedding": torch.nn.functional.embedding_bag(every, x, starts, mode="mean")}
        features: dict[str, Any] = {
            "token_embeddings": x[None],
            "cu_seq_lens_q": torch.from_numpy(np.concatenate([[0], ends])),
        }
        if prompt:
            features["prompt_length"] = prompt
        found: dict[str, Any] = self._pooling(features)
        return found


def can_pack(model: SentenceTransformer) -> bool:
    """Whether :class:`PackedBackend` computes this model: its form, plain layers, a pooling right after them."""
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    modules: list[Any] = list(model)
    if len(modules) < 2 or type(modules[0]) is not Transformer or type(modules[1]) is not Pooling:
        return False
    if model.device.type != "cpu" or any(type(module).__name__ not in _AFTER_POOLING for module in modules[2:]):
        return False
    bert = modules[0].model
    if type(bert).__name__ not in (*_POSITIONS_FROM_ZERO, *_POSITIONS_AFTER_PADDING):
        return False
    return _is_plain(bert) and _gives_last_layer(modules[0])


def _is_plain(bert: Any) -> bool:
    import torch

    config = bert.config
    if config.is_decoder or getattr(config, "position_embedding_type", "absolute") != "absolute":
        return False
    products = [module for module in bert.encoder.modules() if hasattr(module, "weight")]
    return isinstance(config.hidden_act, str) and all(
        type(module) in (torch.nn.Linear, torch.nn.LayerNorm) for module in products
    )


def _gives_last_layer(transformer: Any) -> bool:
    asked = transformer.modality_config["text"]
    output = asked["method_output_name"]
    names = (output,) if isinstance(output, str) else tuple(output)
    return (
        asked["method"] == "forward"
        and names == ("last_hidden_state",)
        and transformer.module_output_name == "token_embeddings"
    )
