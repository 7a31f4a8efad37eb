"""Cutting a vocabulary down to the pieces that some text uses.

Kept pieces keep their scores, their order and their rows of the embedding, so text that they cover is segmented as
before and gets the same vectors; a dropped piece's text falls back to shorter kept pieces, never to the unknown token.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel

_ASSET = "m3e_small_pieces.bin"
_CONFIG_IDS = ("pad", "bos", "eos", "sep", "cls", "mask", "unk", "decoder_start")
_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl")
"""Encoders that number positions from after the padding's id, which must therefore stay what it is."""


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


def needed_pieces(tokenizer: Tokenizer, used: Iterable[int]) -> list[int]:
    """Ids, ascending, of the pieces ``used`` and of those without which known text could become unknown.

    The latter are special tokens, single characters, bytes, and pieces with a character that is no piece by itself.

    Raises:
        ModelError: the tokenizer is of a kind that cannot be cut.
    """
    value = _as_json(tokenizer)
    pieces = _pieces(value)
    spelt = _spelt_by_others(value["model"], pieces)
    return sorted({*used, *_special_ids(value), *(index for piece, index in pieces.items() if piece not in spelt)})


def cut_tokenizer(tokenizer: Tokenizer, keep: Iterable[int]) -> tuple[Tokenizer, list[int]]:
    """``tokenizer`` with the pieces ``keep`` and its special tokens only, and which old id each new id had.

    Raises:
        ModelError: an id lies outside the vocabulary, or the tokenizer is of a kind that cannot be cut.
    """
    from tokenizers import Tokenizer

    value = _as_json(tokenizer)
    pieces = _pieces(value)
    added = {token["id"] for token in value["added_tokens"]}
    known = {*pieces.values(), *added}
    ids = sorted({*keep, *_special_ids(value)})
    unknown = next((index for index in ids if index not in known), None)
    if unknown is not None:
        raise ModelError(f"kept pieces name id {unknown}; the vocabulary has {len(known):,} pieces")
    position = {old: new for new, old in enumerate(ids)}
    model = value["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][index] for index in ids if index < len(model["vocab"])]
        model["unk_id"] = position.get(model["unk_id"])
    else:
        model["vocab"] = {piece: position[index] for piece, index in pieces.items() if index in position}
    for token in value["added_tokens"]:
        token["id"] = position[token["id"]]
    if value.get("padding"):
        value["padding"]["pad_id"] = position[value["padding"]["pad_id"]]
    _renumber(value.get("post_processor"), position)
    return Tokenizer.from_str(json.dumps(value, ensure_ascii=False)), ids


def cut_embedding(encoder: PreTrainedModel, ids: Sequence[int]) -> None:
    """Leave only the rows ``ids`` of an encoder's word embedding, in that order, and renumber its special tokens."""
    import torch

    old = encoder.get_input_embeddings()
    position = {before: after for after, before in enumerate(ids)}
    rows = old.weight.detach()[torch.tensor(ids, device=old.weight.device)]
    padding = None if old.padding_idx is None else position.get(old.padding_idx)
    encoder.set_input_embeddings(torch.nn.Embedding(len(ids), rows.shape[1], padding_idx=padding, _weight=rows))
    config = encoder.config
    config.vocab_size = len(ids)
    for name in _CONFIG_IDS:
        before = getattr(config, f"{name}_token_id", None)
        if isinstance(before, int):
            setattr(config, f"{name}_token_id", position.get(before))


def cut_model(model: SentenceTransformer, keep: Iterable[int]) -> list[int]:
    """Cut a model's tokenizer and embedding to the pieces ``keep``, in place; which old id each new id had.

    Raises:
        ModelError: its tokenizer cannot be cut.
    """
    import torch

    first: Any = model[0]
    tokenizer = model.tokenizer
    backend: Tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(backend, "encode_batch_fast"):
        raise ModelError(f"the tokenizer {type(tokenizer).__name__} is not a fast one; only those can be cut")
    if backend is tokenizer:  # a static model
        first.tokenizer, ids = cut_tokenizer(backend, keep)
        rows = first.embedding.weight.detach()[torch.tensor(ids)]
        first.embedding = torch.nn.EmbeddingBag.from_pretrained(rows, freeze=False, mode=first.embedding.mode)
        first.num_embeddings = len(ids)
        return ids
    encoder = first.model
    must = range(encoder.config.pad_token_id) if encoder.config.model_type in _POSITIONS_AFTER_PADDING else ()
    cut, ids = cut_tokenizer(backend, {*keep, *must})
    cut_embedding(encoder, ids)
    first.processor = _wrapped(cut, tokenizer)
    return ids


def _wrapped(cut: Tokenizer, like: Any) -> Any:
    """A cut tokenizer in the plain shell that every release of transformers knows, with the settings of another."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=cut,
        model_max_length=like.model_max_length,
        padding_side=like.padding_side,
        truncation_side=like.truncation_side,
        model_input_names=like.model_input_names,
        **like.special_tokens_map,
    )


def _as_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """A tokenizer's parts.

    Raises:
        ModelError: it is of a kind that cannot be cut.
    """
    value: dict[str, Any] = json.loads(tokenizer.to_str())
    kind = value["model"].get("type")
    if kind not in ("Unigram", "WordPiece", "WordLevel"):
        raise ModelError(
            f"a {kind} vocabulary cannot be cut: a piece is made by merging others, so none can go alone; Unigram and "
            "WordPiece vocabularies can"
        )
    return value


def _pieces(value: dict[str, Any]) -> dict[str, int]:
    vocabulary = value["model"]["vocab"]
    if isinstance(vocabulary, list):
        return {piece: index for index, (piece, _) in enumerate(vocabulary)}
    return dict(vocabulary)


def _special_ids(value: dict[str, Any]) -> set[int]:
    unknown = value["model"].get("unk_id")
    if unknown is None:
        unknown = _pieces(value).get(value["model"].get("unk_token") or "")
    return {token["id"] for token in value["added_tokens"]} | ({unknown} - {None})


def _spelt_by_others(model: dict[str, Any], pieces: Collection[str]) -> set[str]:
    """The pieces of several characters that single characters of the vocabulary spell in the same place."""
    if model["type"] == "WordLevel":
        return set()  # a word is known whole or not at all
    prefix = model.get("continuing_subword_prefix") or ""
    first = {piece for piece in pieces if len(piece) == 1}
    later = {
        piece.removeprefix(prefix) for piece in pieces if len(piece) == len(prefix) + 1 and piece.startswith(prefix)
    }
    spelt = set()
    for piece in pieces:
        continues = bool(prefix) and piece.startswith(prefix) and piece != prefix
        rest = piece.removeprefix(prefix) if continues else piece
        is_byte = len(piece) == 6 and piece.startswith("<0x")
        if len(rest) > 1 and not is_byte and rest[0] in (later if continues else first) and {*rest[1:]} <= later:
            spelt.add(piece)
    return spelt


def _renumber(processor: Any, position: dict[int, int]) -> None:
    """Put new ids into what frames texts by special tokens."""
    if isinstance(processor, list):
        for part in processor:
            _renumber(part, position)
    elif isinstance(processor, dict):
        for key, part in processor.items():
            if key == "ids":
                processor[key] = [position[index] for index in part]
            elif key in ("sep", "cls") and isinstance(part, list):
                processor[key] = [part[0], position[part[1]]]
            elif key == "special_tokens":
                for token in part.values():
                    _renumber(token, position)
            else:
                _renumber(part, position)
