"""The modules of a sentence-transformers model, run as they are: whatever the architecture."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.inference.backends import Vectors

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


class ModulesBackend:
    """A backend that calls the model's own modules, the transformer's weights in ``dtype``, the rest in fp32."""

    name = "torch"
    packs = False
    token_budget = 4096

    def __init__(self, model: SentenceTransformer, dtype: str) -> None:
        import torch
        from sentence_transformers.sentence_transformer.modules import Transformer

        model.eval()
        self.dtype = dtype
        self._model = model
        self._first: Any = model[0]
        self._is_transformer = isinstance(self._first, Transformer)
        wanted = torch.bfloat16 if dtype == "bf16" else torch.float32
        if self._is_transformer and self._first.model.dtype != wanted:
            converted = copy.copy(self._first)
            converted._modules = dict(self._first._modules)
            converted.model = copy.deepcopy(self._first.model).to(wanted)
            self._first = converted
        self._rest = list(model)[1:]

    def __call__(self, ids: Sequence[Sequence[int]], prompt: int = 0) -> Vectors:
        """The vectors that the modules give."""
        import torch

        with torch.inference_mode():
            features = self._features(ids)
            if prompt:
                features["prompt_length"] = prompt
            features = self._first(features)
            if "token_embeddings" in features:
                features["token_embeddings"] = features["token_embeddings"].float()
            for module in self._rest:
                features = module(features)
            vectors: torch.Tensor = features["sentence_embedding"]
            return np.asarray(vectors.float().cpu().numpy(), dtype=np.float32)

    def _features(self, ids: Sequence[Sequence[int]]) -> dict[str, Any]:
        if not self._is_transformer:
            found = self._model.preprocess(["".join(map(chr, text)) for text in ids])
            return {key: _to(value, self._model.device) for key, value in found.items()}
        tokenizer = self._model.tokenizer
        padded, mask = pad(ids, tokenizer.pad_token_id or 0, left=tokenizer.padding_side == "left")
        features = {"input_ids": padded, "attention_mask": mask}
        if "token_type_ids" in tokenizer.model_input_names:
            features["token_type_ids"] = np.zeros_like(padded)
        import torch

        return {key: torch.from_numpy(value).to(self._model.device) for key, value in features.items()}


def pad(
    ids: Sequence[Sequence[int]], filler: int, *, left: bool = False
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """Ids of shape (texts, longest) with ``filler`` where a text has ended, and the mask: 1 where it has a token."""
    lengths = np.fromiter(map(len, ids), dtype=np.int64, count=len(ids))
    width = max(1, int(lengths.max(initial=0)))
    places = np.arange(width)
    mask = places >= width - lengths[:, None] if left else places < lengths[:, None]
    padded = np.full((len(ids), width), filler, dtype=np.int64)
    padded[mask] = np.concatenate([np.asarray(text, dtype=np.int64) for text in ids])
    return padded, mask.astype(np.int64)


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device) if hasattr(value, "to") else value
