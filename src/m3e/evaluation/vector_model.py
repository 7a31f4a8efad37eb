"""Encoders that are no sentence-transformers model, behind mteb's protocol: endpoints, TF-IDF."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from m3e.inference.encoder import Vectors

if TYPE_CHECKING:
    import torch


class TextEncoder(Protocol):
    """What an encoder must have to be judged.

    Attributes:
        cut: texts of the last call that were too long and were cut.
    """

    cut: int

    @property
    def name(self) -> str:
        """A short name for results."""

    @property
    def revision(self) -> str:
        """What changes when the vectors change."""

    @property
    def has_both_prompts(self) -> bool:
        """Whether queries and documents are both marked, so that tasks with two like sides send queries."""

    @property
    def has_prompts(self) -> bool:
        """Whether queries or documents are marked at all."""

    def encode(self, texts: Sequence[str], *, prompt_name: str | None = None) -> Vectors:
        """Vectors of shape (texts, dimension); without a name no prompt is put before texts."""

    def encode_query(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries."""

    def encode_document(self, texts: Sequence[str]) -> Vectors:
        """Vectors of documents."""


class VectorModel:
    """An mteb ``EncoderProtocol`` over any :class:`TextEncoder`; similarity is cosine.

    Attributes:
        prompts: whether the encoder's prompts are put before texts.
    """

    prompts: bool = True

    def __init__(self, encoder: TextEncoder) -> None:
        from mteb.models import ModelMeta

        self.encoder = encoder
        name = encoder.name.replace("/", "__")
        facts = {"name": f"m3e/{name}", "revision": encoder.revision, "similarity_fn_name": "cosine"}
        self.mteb_model_meta = ModelMeta.create_empty(facts)

    @property
    def has_prompts(self) -> bool:
        """Whether the encoder has prompts that can be switched off."""
        return self.encoder.has_prompts

    def encode(self, inputs: Any, *, prompt_type: Any = None, **_: Any) -> Vectors:
        """Vectors of all texts in a data loader of mteb's batches, in order."""
        texts = [text for batch in inputs for text in batch["text"]]
        if not self.prompts:
            return self.encoder.encode(texts)
        side = getattr(prompt_type, "value", prompt_type)
        if side is None and self.encoder.has_both_prompts:
            side = "query"
        return self.encoder.encode(texts, prompt_name=side)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """The cosines of all pairs."""
        from sentence_transformers.util import cos_sim

        value: torch.Tensor = cos_sim(embeddings1, embeddings2)
        return value

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> torch.Tensor:
        """The cosines of pairs at the same place."""
        from sentence_transformers.util import pairwise_cos_sim

        value: torch.Tensor = pairwise_cos_sim(embeddings1, embeddings2)
        return value
