"""The encoder: the vectors of sentence-transformers, sooner.

Texts are tokenised once, sorted by tokens (not characters), batched to a token budget, and
run in bf16 where the processor multiplies it in hardware; pooling and everything after it
stay in fp32. A vector does not depend on its neighbours in the batch, beyond rounding.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from m3e.errors import DataError, SettingsError
from m3e.machine import bf16_is_fast

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

Vectors = np.ndarray[Any, np.dtype[np.float32]]
DType = Literal["auto", "fp32", "bf16"]

TOKEN_BUDGET = 4096
DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Names under which models keep the prompt of documents, in order of preference."""

_TOKENISE_AT_ONCE = 8192


@dataclass(frozen=True)
class Tokens:
    """Token ids of texts, each cut to the model's length, and how many texts were cut."""

    ids: list[list[int]]
    cut: int


class Encoder:
    """Encode texts with a sentence-transformers model.

    Args:
        model: a name, folder, hub id (see :func:`m3e.load`) or a loaded ``SentenceTransformer``.
        dtype: of the transformer's weights: ``auto`` is bf16 where the hardware has it, else fp32.
            The vectors that come out are always fp32.
        device: ``cpu``, ``cuda``, …; ``None`` lets sentence-transformers choose.
        token_budget: padded tokens a batch.

    Attributes:
        cut: texts cut to the model's length by the last call of an ``encode`` method.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | SentenceTransformer,
        *,
        dtype: DType = "auto",
        device: str | None = None,
        token_budget: int = TOKEN_BUDGET,
    ) -> None:
        if dtype not in ("auto", "fp32", "bf16"):
            raise SettingsError(f"dtype {dtype!r} is not known; choose auto, fp32 or bf16")
        if token_budget < 1:
            raise SettingsError(f"token_budget must be at least 1, not {token_budget}")
        if isinstance(model, str | os.PathLike):
            from m3e.models import load

            model = load(model, device=device)
        self.model = model
        self.token_budget = token_budget
        self.dtype: Literal["fp32", "bf16"] = _resolve_dtype(dtype, model)
        self.cut = 0
        self._runner = _Runner(model, self.dtype)

    @property
    def dimension(self) -> int:
        """Numbers a vector."""
        return int(self.model.get_embedding_dimension() or 0)

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        show_progress: bool = False,
    ) -> Vectors:
        """Vectors of shape (texts, dimension), fp32, in the order of ``texts``.

        Args:
            texts: any strings; an empty one gets the vector of no words.
            prompt_name: one of the model's prompts, put before every text.
            prompt: put before every text instead.

        Raises:
            DataError: an item is not a string, named by its index.
            SettingsError: the model has no prompt of that name.
        """
        check_texts(texts)
        prefix = self._prefix(prompt_name, prompt)
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        self.cut = 0
        with progress(len(texts), show_progress) as advance:
            for start in range(0, len(texts), _TOKENISE_AT_ONCE):
                chunk = list(texts[start : start + _TOKENISE_AT_ONCE])
                for indices, values in self._encode_chunk(chunk, prefix):
                    vectors[start + indices] = values
                    advance(len(indices))
        return vectors

    def encode_query(self, texts: Sequence[str], **options: Any) -> Vectors:
        """:meth:`encode` with the model's ``query`` prompt, where it has one."""
        return self.encode(texts, prompt_name=self._known_prompt("query"), **options)

    def encode_document(self, texts: Sequence[str], **options: Any) -> Vectors:
        """:meth:`encode` with the model's ``document`` (or ``passage``) prompt, where it has one."""
        return self.encode(texts, prompt_name=self._known_prompt(*DOCUMENT_PROMPTS), **options)

    def _known_prompt(self, *names: str) -> str | None:
        prompts = self.model.prompts or {}
        return next((name for name in names if prompts.get(name)), None)

    def _prefix(self, prompt_name: str | None, prompt: str | None) -> str:
        if prompt is not None:
            return prompt
        name = prompt_name or self.model.default_prompt_name
        if name is None:
            return ""
        if name not in self.model.prompts:
            known = ", ".join(self.model.prompts) or "none"
            raise SettingsError(f"the model has no prompt {name!r}; it has: {known}")
        return str(self.model.prompts[name])

    def _encode_chunk(self, texts: list[str], prefix: str) -> Iterator[tuple[np.ndarray[Any, Any], Vectors]]:
        if not self._runner.has_transformer:
            yield np.arange(len(texts)), self._runner.run_texts(texts, prefix)
            return
        tokens = self._runner.tokenise([prefix + text for text in texts] if prefix else texts)
        self.cut += tokens.cut
        prompt_length = self._runner.prompt_length(prefix)
        for indices in batches_by_tokens([len(ids) for ids in tokens.ids], self.token_budget):
            yield indices, self._runner.run_tokens([tokens.ids[index] for index in indices], prompt_length)


def batches_by_tokens(lengths: Sequence[int], budget: int) -> Iterator[np.ndarray[Any, Any]]:
    """Indices into ``lengths``, longest first, in batches of at most ``budget`` padded tokens (at least one text)."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    while start < len(order):
        count = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + count]
        start += count


class _Runner:
    """A model's modules, with the transformer's weights in the chosen dtype."""

    def __init__(self, model: SentenceTransformer, dtype: str) -> None:
        import torch
        from sentence_transformers.sentence_transformer.modules import Transformer

        model.eval()
        self.model = model
        first = model[0]
        self.has_transformer = isinstance(first, Transformer)
        self.device = model.device
        self.first: Any = first
        if self.has_transformer and dtype == "bf16":
            tokenizer_free = copy.copy(first)
            tokenizer_free._modules = dict(first._modules)
            tokenizer_free.model = copy.deepcopy(first.model).to(torch.bfloat16)
            self.first = tokenizer_free
        self.rest = list(model)[1:]

    def tokenise(self, texts: list[str]) -> Tokens:
        tokenizer = self.model.tokenizer
        limit = self.model.max_seq_length
        if getattr(self.first, "do_lower_case", False):
            texts = [text.lower() for text in texts]
        encoded = tokenizer(
            texts,
            truncation=limit is not None,
            max_length=limit,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_overflowing_tokens=False,
        )
        ids = encoded["input_ids"]
        cut = sum(1 for encoding in encoded.encodings or () if encoding.overflowing)
        return Tokens(ids, cut)

    def prompt_length(self, prefix: str) -> int | None:
        """Tokens of the prompt, for poolings that leave the prompt out."""
        if not prefix or all(getattr(module, "include_prompt", True) for module in self.rest):
            return None
        return len(self.tokenise([prefix]).ids[0]) - 1

    def run_tokens(self, ids: list[list[int]], prompt_length: int | None) -> Vectors:
        import torch

        width = max(1, max(map(len, ids)))
        pad = self.model.tokenizer.pad_token_id or 0
        padded = torch.full((len(ids), width), pad, dtype=torch.long)
        mask = torch.zeros((len(ids), width), dtype=torch.long)
        left = self.model.tokenizer.padding_side == "left"
        for row, values in enumerate(ids):
            span = slice(width - len(values), width) if left else slice(0, len(values))
            padded[row, span] = torch.tensor(values, dtype=torch.long)
            mask[row, span] = 1
        features: dict[str, Any] = {"input_ids": padded.to(self.device), "attention_mask": mask.to(self.device)}
        if "token_type_ids" in self.model.tokenizer.model_input_names:
            features["token_type_ids"] = torch.zeros_like(features["input_ids"])
        if prompt_length is not None:
            features["prompt_length"] = prompt_length
        with torch.inference_mode():
            features = self.first(features)
            features["token_embeddings"] = features["token_embeddings"].float()
            return self._finish(features)

    def run_texts(self, texts: list[str], prefix: str) -> Vectors:
        import torch

        with torch.inference_mode():
            features = self.model.preprocess(texts, prompt=prefix or None)
            features = {key: _to(value, self.device) for key, value in features.items()}
            return self._finish(self.first(features))

    def _finish(self, features: dict[str, Any]) -> Vectors:
        for module in self.rest:
            features = module(features)
        vectors: torch.Tensor = features["sentence_embedding"]
        return np.asarray(vectors.float().cpu().numpy(), dtype=np.float32)


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device) if hasattr(value, "to") else value


def _resolve_dtype(dtype: DType, model: SentenceTransformer) -> Literal["fp32", "bf16"]:
    if dtype != "auto":
        return dtype
    if model.device.type == "cuda":
        import torch

        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if model.device.type == "cpu" and bf16_is_fast() else "fp32"


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what is not a list of strings.

    Raises:
        DataError: names the first item that is not a string by its index.
    """
    if isinstance(texts, str):
        raise DataError("encode takes a list of texts; wrap the single text in a list")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"text {index} is {type(text).__name__}, not a string: {text!r:.60}")


@contextlib.contextmanager
def progress(total: int, show: bool) -> Iterator[Callable[[int], None]]:
    """Yield ``(texts done since the last call) -> None``, which draws a bar where ``show`` is true."""
    if not show:
        yield lambda count: None
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("encode", total=total)
        yield lambda count: bar.advance(task, count)
