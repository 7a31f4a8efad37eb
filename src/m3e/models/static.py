"""Static models: one row a token, a text is the mean of its tokens' rows; distilled from any model.

The method is model2vec's (Minish Lab 2024): the model encodes every token of its vocabulary by itself, and rows weigh
less the more frequent their token is (SIF; Arora, Liang and Ma 2017). Three things differ, each for the better on
Chinese and English similarity and retrieval: tokens are encoded with the model's query prompt, frequencies come
from the tokenizer's own probabilities or are counted, and the axes along which tokens vary most are damped (what
all tokens share says little of their meaning; Mu and Viswanath 2018) instead of being left at their length.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.errors import ModelError
from m3e.files import write_json

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

Matrix = np.ndarray[Any, np.dtype[np.float32]]
Frequencies = np.ndarray[Any, np.dtype[np.float64]]
EncodeIds = Callable[[list[list[int]]], Matrix]

SIF = 1e-4
"""A token of this frequency weighs half."""

DAMPING = 0.75
"""How far axes are brought to one length: 0 leaves them, 1 makes their variances equal."""

_SMALLEST_VARIANCE = 1e-4  # of the largest; below it axes hold rounding, which damping would blow up
_PRIOR = 2.0  # how many times the texts' own tokens the tokenizer's frequencies count


@dataclass(frozen=True)
class StaticTable:
    """A tokenizer and a row for each of its tokens.

    Attributes:
        rows: (tokens, numbers a vector).
        axes: (the original's numbers, numbers a vector): the original's vectors times it lie in the rows' space.
    """

    tokenizer: Tokenizer
    rows: Matrix
    axes: Matrix


def distil(
    model: SentenceTransformer,
    encode_ids: EncodeIds,
    *,
    texts: Sequence[str] = (),
    words: Sequence[str] = (),
    dim: int | None = None,
) -> StaticTable:
    """A static model of ``model``.

    Args:
        encode_ids: the model's vectors of token ids, special tokens included.
        texts: in which tokens are counted; without them the tokenizer's own order or probabilities stand alone.
        words: tokens beyond the model's own, the most frequent first.
        dim: numbers a vector; ``None`` keeps the model's.

    Raises:
        ModelError: the model has no fast tokenizer.
    """
    plain, tokenizer = static_tokenizer(model), static_tokenizer(model)
    own = plain.get_vocab_size()
    added = add_words(tokenizer, words)
    pieces = [[index] for index in range(own)] + [_ids(plain, word) for word in added]
    before, after = _around(model)
    vectors = encode_ids([[*before, *ids, *after] for ids in pieces])
    frequencies = token_frequencies(tokenizer, texts)
    special = [index for index in model.tokenizer.all_special_ids if index < own]
    kept = np.setdiff1d(np.arange(len(pieces)), special)
    damped, axes = damp(vectors, kept, dim)
    rows = damped * sif_weights(frequencies)[:, None]
    rows[special] = 0  # a text of unknown tokens only has no direction
    return StaticTable(tokenizer, np.ascontiguousarray(rows, dtype=np.float32), axes)


def static_tokenizer(model: SentenceTransformer) -> Tokenizer:
    """The model's tokenizer by itself: no padding, no truncation, lower case where the model lowers its texts.

    Raises:
        ModelError: the model's tokenizer has no fast form.
    """
    from tokenizers import Tokenizer, normalizers

    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError("only a model with a fast tokenizer can be distilled into a lookup")
    tokenizer = Tokenizer.from_str(backend.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if getattr(model[0], "do_lower_case", False):
        parts = [normalizers.Lowercase(), *([tokenizer.normalizer] if tokenizer.normalizer else [])]
        tokenizer.normalizer = normalizers.Sequence(parts)
    return tokenizer


def add_words(tokenizer: Tokenizer, words: Sequence[str]) -> list[str]:
    """The ``words`` that the tokenizer splits, now tokens of their own: found in texts before anything else."""
    from tokenizers import AddedToken

    split = [word for word in dict.fromkeys(words) if len(_ids(tokenizer, word)) > 1]
    before = tokenizer.get_vocab_size()
    # in Latin script a word inside another is another word; Chinese has no such bounds
    tokenizer.add_tokens([AddedToken(word, single_word=word.isascii(), normalized=True) for word in split])
    return [word for word in split if (tokenizer.token_to_id(word) or 0) >= before]


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def _around(model: SentenceTransformer) -> tuple[list[int], list[int]]:
    """The ids that the model sees before and after a query: special tokens and its query prompt."""
    mask = model.tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    after = mask[::-1].index(0)
    prompt = model.tokenizer((model.prompts or {}).get("query") or "")["input_ids"]
    return prompt[: len(prompt) - after], prompt[len(prompt) - after :]


def token_frequencies(tokenizer: Tokenizer, texts: Sequence[str] = ()) -> Frequencies:
    """How frequent each token is, the sum being 1.

    The tokenizer's probabilities where it has them (Unigram), else Zipf's law over its order; with ``texts``, mixed
    with the share of them that a token stands in.
    """
    size = tokenizer.get_vocab_size()
    prior = _probabilities(tokenizer, size)
    if not texts:
        return prior
    counts = np.zeros(size)
    for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False):
        counts[np.unique(np.asarray(encoding.ids, dtype=np.int64))] += 1
    return np.asarray((counts / max(1.0, counts.sum()) + _PRIOR * prior) / (1 + _PRIOR))


def _probabilities(tokenizer: Tokenizer, size: int) -> Frequencies:
    described = json.loads(tokenizer.to_str())["model"]
    if described["type"] == "Unigram":
        scores = np.array([score for _, score in described["vocab"]], dtype=np.float64)
        found = np.exp(scores) * (scores < 0)  # special tokens have 0
        rest = np.full(size - len(found), np.median(found))  # added later: as frequent as most
        found = np.concatenate([found, rest])
    else:
        found = 1 / np.arange(2, size + 2)
    return np.asarray(found / found.sum())


def sif_weights(frequencies: Frequencies, coefficient: float = SIF) -> Frequencies:
    """``a / (a + p)`` of each token."""
    return np.asarray(coefficient / (coefficient + frequencies))


def damp(vectors: Matrix, kept: np.ndarray[Any, Any], dim: int | None) -> tuple[Matrix, Matrix]:
    """``vectors``, centred, with long axes shortened; and the axes that they lie in.

    Args:
        kept: the rows that tell the centre and the axes.
        dim: keep so many axes, those of the largest variance first; ``None`` goes back to the original's axes.
    """
    centred = vectors - vectors[kept].mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(centred[kept].T.astype(np.float64)))
    variances, axes = variances[::-1], axes[:, ::-1]
    variances = np.maximum(variances, _SMALLEST_VARIANCE * variances[0])
    damped = (centred @ axes) * variances ** (-DAMPING / 2)
    if dim is None:
        return (damped @ axes.T).astype(np.float32), np.eye(len(axes), dtype=np.float32)
    return damped[:, :dim].astype(np.float32), axes[:, :dim].astype(np.float32)


def write_static(
    folder: Path,
    tokenizer: Tokenizer,
    rows: Matrix,
    *,
    prompts: dict[str, str] | None = None,
    int8: tuple[np.ndarray[Any, np.dtype[np.int8]], Matrix] | None = None,
) -> Path:
    """Write a static model into the existing folder as sentence-transformers reads it; the weights' file.

    Args:
        int8: the rows as int8 and their scales, written instead: sentence-transformers multiplies them on loading.
    """
    from safetensors.numpy import save_file

    module = folder / "0_StaticEmbedding"
    module.mkdir()
    (folder / "1_Normalize").mkdir()
    file = module / "model.safetensors"
    if int8 is None:
        save_file({"embedding.weight": rows}, file)
    else:  # the names of model2vec, whose int8 rows and weights sentence-transformers folds together
        save_file({"embeddings": int8[0], "weights": np.ascontiguousarray(int8[1].reshape(-1))}, file)
    tokenizer.save(str(module / "tokenizer.json"))
    types = ("StaticEmbedding", "Normalize")
    write_json(
        folder / "modules.json",
        [
            {"idx": at, "name": str(at), "path": f"{at}_{name}", "type": f"sentence_transformers.models.{name}"}
            for at, name in enumerate(types)
        ],
    )
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": prompts or {}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )
    return file
