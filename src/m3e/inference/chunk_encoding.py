"""Chunks of texts to chunks of vectors, by an encoder whose plan says enough to open the same one elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

from m3e.errors import ModelError
from m3e.files import json_safe
from m3e.inference.api import ApiEncoder
from m3e.inference.api_options import ApiOptions
from m3e.inference.chunk_store import EncodedChunk
from m3e.inference.encoder import DOCUMENT_PROMPTS, BackendName, DType, Encoder
from m3e.inference.texts import Chunk
from m3e.inference.tokens import Tokens

Prompt = Literal["query", "document"]

PROMPTS: dict[str, tuple[str, ...]] = {"query": ("query",), "document": DOCUMENT_PROMPTS}
"""The names under which models keep each prompt, in order of preference."""

API = "api:"


@dataclass(frozen=True)
class EncoderPlan:
    """How to open an encoder, in this process or in another.

    Attributes:
        model: a name, folder or hub id, or ``api:BASE_URL#model``.
        prompt: the model's prompt that texts get, where it has one.
        threads: that PyTorch computes with; ``None`` leaves them as they are.
        model_hash: the fingerprint that the model must have, where it is known already.
    """

    model: str
    prompt: Prompt | None = None
    backend: BackendName = "auto"
    dtype: DType = "auto"
    device: str | None = None
    token_budget: int | None = None
    dim: int | None = None
    threads: int | None = None
    model_hash: str | None = None

    @property
    def is_endpoint(self) -> bool:
        """Whether the model is behind an OpenAI-compatible endpoint."""
        return self.model.startswith(API)

    def settled(self, settings: dict[str, Any]) -> EncoderPlan:
        """This plan with nothing left to choose: what an encoder's settings say was chosen."""
        if self.is_endpoint:
            return self
        return replace(
            self,
            backend=settings["backend"],
            dtype=settings["dtype"],
            token_budget=settings["token_budget"],
            threads=settings["threads"],
            model_hash=settings["model"],
        )


class ChunkEncoder:
    """An encoder opened by a plan.

    Attributes:
        settings: all that decides the vectors' bytes beside the texts, as a JSON object.

    Raises:
        ModelError: the model is another than the plan's hash says, or cannot be opened.
    """

    def __init__(self, plan: EncoderPlan) -> None:
        self.plan = plan
        self.encoder = _open(plan)
        self._prompt = plan.prompt if isinstance(self.encoder, ApiEncoder) else _prompt_of(self.encoder, plan.prompt)
        # as it will be read back: a static model has no length, which JSON has no number for
        self.settings: dict[str, Any] = json_safe({**_settings(self.encoder), "prompt": self._prompt})
        if plan.model_hash not in (None, self.settings["model"]):
            raise ModelError(f"{plan.model} is not the model that the run began with; start the run again")

    @property
    def dimension(self) -> int:
        """Numbers a vector."""
        return self.encoder.dimension

    @property
    def description(self) -> str:
        """One line about what encodes."""
        return self.encoder.name if isinstance(self.encoder, ApiEncoder) else self.encoder.description

    @property
    def lacks_prompt(self) -> bool:
        """Whether a prompt was asked for that the model does not have, so that texts are encoded as they are."""
        return self.plan.prompt is not None and self._prompt is None

    def encode(self, chunk: Chunk) -> EncodedChunk:
        """The chunk's vectors; may run in several threads."""
        if isinstance(self.encoder, ApiEncoder):
            vectors = self.encoder.encode(chunk.texts, prompt_name=self._prompt)
            return EncodedChunk(chunk.digest, vectors, self.encoder.cut)
        return self._encode_tokens(chunk, self._tokenise(chunk))

    def encode_all(self, chunks: Iterable[Chunk]) -> Iterator[EncodedChunk]:
        """:meth:`encode` of each chunk; the next one is tokenised meanwhile."""
        if isinstance(self.encoder, ApiEncoder):
            yield from map(self.encode, chunks)
            return
        with ThreadPoolExecutor(1, "tokenise") as thread:
            waiting: tuple[Chunk, Any] | None = None
            for chunk in chunks:
                ahead = thread.submit(self._tokenise, chunk)
                if waiting is not None:
                    yield self._encode_tokens(waiting[0], waiting[1].result())
                waiting = chunk, ahead
            if waiting is not None:
                yield self._encode_tokens(waiting[0], waiting[1].result())

    def _tokenise(self, chunk: Chunk) -> Tokens:
        assert isinstance(self.encoder, Encoder)
        return self.encoder.tokenise(chunk.texts, prompt_name=self._prompt)

    def _encode_tokens(self, chunk: Chunk, tokens: Tokens) -> EncodedChunk:
        assert isinstance(self.encoder, Encoder)
        return EncodedChunk(chunk.digest, self.encoder.encode_tokens(tokens), sum(tokens.cut))


def _open(plan: EncoderPlan) -> Encoder | ApiEncoder:
    if plan.is_endpoint:
        return ApiEncoder(plan.model, ApiOptions(dimensions=plan.dim))
    if plan.threads is not None:
        import torch

        torch.set_num_threads(plan.threads)
    return Encoder(
        plan.model,
        backend=plan.backend,
        dtype=plan.dtype,
        device=plan.device,
        token_budget=plan.token_budget,
        dim=plan.dim,
    )


def _settings(encoder: Encoder | ApiEncoder) -> dict[str, Any]:
    if isinstance(encoder, ApiEncoder):
        return {"model": encoder.name, "revision": encoder.revision}
    return {**encoder.settings(), "device": encoder.model.device.type}


def _prompt_of(encoder: Encoder, prompt: Prompt | None) -> str | None:
    prompts = encoder.model.prompts or {}
    return next((name for name in PROMPTS.get(prompt or "", ()) if prompts.get(name)), None)
