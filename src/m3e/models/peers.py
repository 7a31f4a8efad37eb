"""The models that M3E's card compares itself with, and what each needs that its files do not say.

A folder of a plain transformer loads with mean pooling and any length; where a peer was made with another pooling
or length, loading it so would judge a model that nobody made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal

from m3e.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Peer:
    """A model of the card's comparison.

    Attributes:
        name: a hub id, or the model's id at its endpoint.
        dimension: numbers a vector.
        max_length: tokens, special ones included; a folder that says less keeps what it says.
        pooling: sentence-transformers' name; ``None`` for a model behind an endpoint.
        prompts: by name; none of the card's peers was trained with any.
        endpoint: the base URL of a model that has no weights to load.
        source: where these facts stand.
    """

    name: str
    dimension: int
    max_length: int
    pooling: Literal["mean", "cls"] | None
    source: str
    prompts: Mapping[str, str] = field(default_factory=dict)
    endpoint: str | None = None

    @property
    def model(self) -> str:
        """What ``m3e eval`` takes: the hub id, or the endpoint."""
        return f"api:{self.endpoint}#{self.name}" if self.endpoint else self.name


_UNIEM = "https://github.com/wangyuxinwhy/uniem/blob/2959413587ed4c3c347f8c6b09ba268f06650f5f/mteb-zh/mteb_zh/models.py"
_HUB = "https://huggingface.co"

PEERS: tuple[Peer, ...] = (
    Peer("shibing624/text2vec-base-chinese", 768, 128, "mean", f"{_HUB}/shibing624/text2vec-base-chinese"),
    Peer("DMetaSoul/sbert-chinese-general-v2", 768, 512, "mean", f"{_HUB}/DMetaSoul/sbert-chinese-general-v2"),
    Peer("uer/sbert-base-chinese-nli", 768, 512, "mean", f"{_HUB}/uer/sbert-base-chinese-nli"),
    Peer("IDEA-CCNL/Erlangshen-SimCSE-110M-Chinese", 768, 512, "cls", _UNIEM),
    Peer(
        "text-embedding-ada-002",
        1536,
        8191,
        None,
        "https://platform.openai.com/docs/guides/embeddings",
        endpoint="https://api.openai.com/v1",
    ),
)
_BY_NAME = {peer.name: peer for peer in PEERS}


def peer_of(name: str) -> Peer | None:
    """The peer of a hub id, or of a folder whose last two parts are one."""
    parts = PurePath(name).parts
    return _BY_NAME.get(name) or _BY_NAME.get("/".join(parts[-2:]))


def as_peer(model: SentenceTransformer, peer: Peer) -> SentenceTransformer:
    """``model`` with the pooling, length and prompts that the peer needs.

    Raises:
        ModelError: its vectors have another dimension, so it is another model.
    """
    from sentence_transformers.sentence_transformer.modules import Pooling

    dimension = int(model.get_embedding_dimension() or 0)
    if dimension != peer.dimension:
        raise ModelError(f"{peer.name} has vectors of {peer.dimension} numbers, and what was loaded has {dimension}")
    if peer.pooling is not None:
        for name, module in model.named_children():
            if isinstance(module, Pooling) and module.pooling_mode not in (peer.pooling, (peer.pooling,)):
                setattr(model, name, Pooling(dimension, peer.pooling))
    model.max_seq_length = min(model.max_seq_length or peer.max_length, peer.max_length)
    model.prompts = {**model.prompts, **peer.prompts}
    return model
