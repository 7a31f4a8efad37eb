"""Cutting a Unigram vocabulary down to the pieces that some languages use.

The kept pieces keep their scores and their order, so text that they cover is segmented as
before and gets the same vectors; a dropped piece's text falls back to shorter kept pieces.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from importlib import resources

import numpy as np

from m3e.errors import ModelError
from m3e.models.e5_wheel import WheelModel

_ASSET = "m3e_small_pieces.bin"


def kept_pieces() -> list[int]:
    """Ids in e5-small's vocabulary of the pieces that m3e-small keeps, ascending."""
    data = resources.files("m3e.assets").joinpath(_ASSET).read_bytes()
    return decode_ids(data)


def encode_ids(ids: list[int]) -> bytes:
    """Ascending ids as zlib-packed little-endian uint32 differences."""
    differences = np.diff(np.asarray(sorted(set(ids)), dtype=np.int64), prepend=0)
    return zlib.compress(differences.astype("<u4").tobytes(), 9)


def decode_ids(data: bytes) -> list[int]:
    """The inverse of :func:`encode_ids`."""
    differences = np.frombuffer(zlib.decompress(data), dtype="<u4").astype(np.int64)
    return [int(value) for value in np.cumsum(differences)]


def cut_vocabulary(model: WheelModel, keep: list[int]) -> WheelModel:
    """``model`` with only the pieces ``keep`` (ids, ascending), their embedding rows and the special tokens.

    Raises:
        ModelError: an id lies outside the vocabulary.
    """
    if keep and not 0 <= min(keep) <= max(keep) < len(model.pieces):
        raise ModelError(f"kept pieces reach id {max(keep)}; the vocabulary has {len(model.pieces)}")
    ids = sorted(set(keep) | set(model.special.values()))
    position = {old: new for new, old in enumerate(ids)}
    name = "embeddings.word_embeddings.weight"
    return replace(
        model,
        config=model.config | {"vocab_size": len(ids), "pad_token_id": position[model.special["pad"]]},
        pieces=[model.pieces[index] for index in ids],
        special={role: position[index] for role, index in model.special.items()},
        weights=model.weights | {name: np.ascontiguousarray(model.weights[name][ids])},
    )
