"""The encoder: the vectors of sentence-transformers, sooner.

Texts are tokenised ahead in a thread, sorted by tokens (not characters), batched to a token budget, and
run in bf16 where the processor multiplies it in hardware; pooling and everything after it
stay in fp32. A vector does not depend on its neighbours in the batch, beyond rounding.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from m3e.errors import DataError, SettingsError
from m3e.inference.backends import Vectors as Vectors
from m3e.inference.backends.choice import choose
from m3e.inference.backends.exported import read_exported
from m3e.inference.tokens import Tokeniser, Tokens
from m3e.machine import machine

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DType = Literal["auto", "fp32", "bf16", "int8"]
BackendName = Literal["auto", "torch", "openvino", "onnx", "static"]

DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""Names under which models keep the prompt of documents, in order of preference."""

_TEXTS_AT_ONCE, _CHARACTERS_AT_ONCE = 16_384, 2_000_000
"""Tokenised in one go, and sorted by length among each other, at most; tokens of long texts take much memory."""

_LIBRARIES = {
    "torch": ("torch", "transformers", "tokenizers"),
    "static": ("torch", "tokenizers"),
    "openvino": ("openvino", "torch", "tokenizers"),
    "onnx": ("onnxruntime", "torch", "tokenizers"),
}


class Encoder:
    """Encode texts with a sentence-transformers model.

    Args:
        model: a name, folder, hub id (see :func:`m3e.load`) or a loaded ``SentenceTransformer``.
        backend: ``torch``, ``openvino``, ``onnx``, ``static``; ``auto`` is the fastest here, found by a short race
            that is remembered. A loaded model, which may yet change, is not made into a graph unless asked for.
        dtype: of the transformer's weights: ``auto`` is bf16 where the hardware has it, else fp32.
            The vectors that come out are always fp32.
        device: ``cpu``, ``cuda``, …; ``None`` lets sentence-transformers choose.
        token_budget: padded tokens a batch; ``None`` is the backend's own.
        dim: keep the first numbers of each vector only, scaled to length 1 again (Matryoshka).

    Attributes:
        model: the ``SentenceTransformer``.
        backend: the name of the backend that runs it.
        dtype: the dtype that its weights have while they multiply.
        token_budget: padded tokens a batch.
        description: one line: backend, dtype, and how they were chosen.
        packs: whether texts lie in a batch without padding.
        cut: texts cut to the model's length by the last call of an ``encode`` method.

    Raises:
        SettingsError: an option that is not known, does not fit the model, or is outside its range.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | SentenceTransformer,
        *,
        backend: BackendName = "auto",
        dtype: DType = "auto",
        device: str | None = None,
        token_budget: int | None = None,
        dim: int | None = None,
    ) -> None:
        _check_settings(backend, dtype, token_budget)
        exported = None
        graphs = isinstance(model, str | os.PathLike)
        if isinstance(model, str | os.PathLike):
            from m3e.models import load

            exported = read_exported(model)
            model = load(model, device=device)
        self.model = model
        choice = choose(model, backend, dtype, exported, graphs=graphs)
        self._backend = choice.backend
        self.backend = self._backend.name
        self.dtype = self._backend.dtype
        self.packs = self._backend.packs
        self.token_budget = token_budget or self._backend.token_budget
        self.description = f"{self.backend} {self.dtype}: {choice.how}"
        self.cut = 0
        self._whole = int(model.get_embedding_dimension() or 0)
        self._dim = self._checked_dim(dim)
        self._tokeniser = Tokeniser(model)

    @property
    def dimension(self) -> int:
        """Numbers a vector."""
        return self._dim or self._whole

    def settings(self) -> dict[str, Any]:
        """All that decides the vectors' bytes, as a JSON object: equal settings and texts give equal vectors."""
        import torch

        from m3e.models.fingerprint import fingerprint

        limit = self.model.max_seq_length
        return {
            "model": fingerprint(self.model),
            "max_length": None if limit is None or limit == float("inf") else int(limit),
            "backend": self.backend,
            "dtype": self.dtype,
            "token_budget": self.token_budget,
            "dim": self._dim,
            "libraries": {package: version(package) for package in _LIBRARIES[self.backend]},
            "processor": machine().cpu,
            "threads": torch.get_num_threads(),
        }

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
        cut = 0
        with progress(len(texts), show_progress) as advance:
            for start, tokens in self._tokenise_ahead(texts, prefix):
                cut += sum(tokens.cut)
                self._encode_into(vectors[start : start + len(tokens)], tokens, advance)
        self.cut = cut
        return vectors

    def encode_query(self, texts: Sequence[str], **options: Any) -> Vectors:
        """:meth:`encode` with the model's ``query`` prompt, where it has one."""
        return self.encode(texts, prompt_name=self._known_prompt("query"), **options)

    def encode_document(self, texts: Sequence[str], **options: Any) -> Vectors:
        """:meth:`encode` with the model's ``document`` (or ``passage``) prompt, where it has one."""
        return self.encode(texts, prompt_name=self._known_prompt(*DOCUMENT_PROMPTS), **options)

    def tokenise(self, texts: Sequence[str], *, prompt_name: str | None = None, prompt: str | None = None) -> Tokens:
        """The tokens of ``texts``, prompt included, for :meth:`encode_tokens`; may run in another thread.

        Raises:
            DataError: an item is not a string, named by its index.
            SettingsError: the model has no prompt of that name.
        """
        check_texts(texts)
        return self._tokeniser(texts, self._prefix(prompt_name, prompt))

    def encode_tokens(self, tokens: Tokens) -> Vectors:
        """The vectors that :meth:`encode` makes of the texts of ``tokens``, fp32, in their order."""
        vectors = np.empty((len(tokens), self.dimension), dtype=np.float32)
        self._encode_into(vectors, tokens, lambda count: None)
        return vectors

    def _tokenise_ahead(self, texts: Sequence[str], prefix: str) -> Iterator[tuple[int, Tokens]]:
        """The tokens of each chunk of ``texts`` and where it starts; the next is tokenised while one is used."""
        parts = _parts(texts)
        if len(parts) < 2 or self.backend == "static":  # a lookup is short: beside it the tokenizer would only wait
            for start, end in parts:
                yield start, self._tokeniser(texts[start:end], prefix)
            return
        with ThreadPoolExecutor(1, "tokenise") as thread:
            ahead = thread.submit(self._tokeniser, texts[slice(*parts[0])], prefix)
            for number, (start, _) in enumerate(parts, start=1):
                tokens = ahead.result()
                if number < len(parts):
                    ahead = thread.submit(self._tokeniser, texts[slice(*parts[number])], prefix)
                yield start, tokens

    def _encode_into(self, vectors: Vectors, tokens: Tokens, advance: Callable[[int], None]) -> None:
        if len(tokens) == 1:
            vectors[:] = self._shorten(self._backend(tokens.ids, tokens.prompt[0]))
            advance(1)
            return
        for prompt in set(tokens.prompt):
            same = np.flatnonzero(np.asarray(tokens.prompt) == prompt)
            for indices in batches_by_tokens([len(tokens.ids[index]) for index in same], self.token_budget):
                rows = same[indices]
                vectors[rows] = self._shorten(self._backend([tokens.ids[row] for row in rows], prompt))
                advance(len(rows))

    def _shorten(self, vectors: Vectors) -> Vectors:
        if self._dim is None:
            return vectors
        first = vectors[:, : self._dim]
        shortened: Vectors = first / np.maximum(np.linalg.norm(first, axis=1, keepdims=True), 1e-12)
        return shortened

    def _checked_dim(self, dim: int | None) -> int | None:
        if dim is not None and not 1 <= dim <= self._whole:
            raise SettingsError(f"dim {dim} is outside 1..{self._whole}, the model's own size")
        return dim or self.model.truncate_dim

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


def _parts(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Where each part that is tokenised at once starts and ends."""
    parts: list[tuple[int, int]] = []
    start = characters = 0
    for index, text in enumerate(texts):
        if index > start and (index - start == _TEXTS_AT_ONCE or characters + len(text) > _CHARACTERS_AT_ONCE):
            parts.append((start, index))
            start, characters = index, 0
        characters += len(text)
    return [*parts, (start, len(texts))] if len(texts) > start else parts


def batches_by_tokens(lengths: Sequence[int], budget: int) -> Iterator[np.ndarray[Any, Any]]:
    """Indices into ``lengths``, longest first, in batches of at most ``budget`` padded tokens (at least one text)."""
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    start = 0
    while start < len(order):
        count = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + count]
        start += count


def _check_settings(backend: str, dtype: str, token_budget: int | None) -> None:
    if backend not in ("auto", "torch", "openvino", "onnx", "static"):
        raise SettingsError(f"backend {backend!r} is not known; choose auto, torch, openvino, onnx or static")
    if dtype not in ("auto", "fp32", "bf16", "int8"):
        raise SettingsError(f"dtype {dtype!r} is not known; choose auto, fp32 or bf16")
    if token_budget is not None and token_budget < 1:
        raise SettingsError(f"token_budget must be at least 1, not {token_budget}")


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
