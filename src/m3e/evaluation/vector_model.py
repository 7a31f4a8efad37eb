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

    def encode(self, texts: Sequence[str], *, prompt_name: str | None = None) -> Vectors:
        """Vectors of shape (texts, dimension)."""

    def encode_query(self, texts: Sequence[str]) -> Vectors:
        """Vectors of queries."""

    def encode_document(self, texts: Sequence[str]) -> Vectors:
        """Vectors of documents."""


class VectorModel:
    """An mteb ``EncoderProtocol`` over any :class:`TextEncoder`; similarity is cosine.

    Attributes:
        encoded: texts encoded so far.
        cut: those of them that were too long and were cut.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        from mteb.models import ModelMeta

        self.encoder = encoder
        self.encoded = self.cut = 0
        name = encoder.name.replace("/", "__")
        self.mteb_model_meta = ModelMeta.create_empty({"name": f"m3e/{name}", "revision": encoder.revision})

    def encode(self, inputs: Any, *, prompt_type: Any = None, **_: Any) -> Vectors:
        """Vectors of all texts in a data loader of mteb's batches, in order."""
        texts = [text for batch in inputs for text in batch["text"]]
        side = getattr(prompt_type, "value", prompt_type)
        if side is None and self.encoder.has_both_prompts:
            side = "query"
        vectors = self.encoder.encode(texts, prompt_name=side)
        self.encoded += len(texts)
        self.cut += self.encoder.cut
        return vectors

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
