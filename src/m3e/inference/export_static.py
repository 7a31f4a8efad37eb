"""A static lookup of a model: distilled, or an existing one in 8 bits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.data.encodings import decode
from m3e.data.samples import general_data, help_centre
from m3e.errors import DataError, SettingsError
from m3e.inference.comparison_texts import comparison_texts
from m3e.inference.encoder import Encoder, Vectors
from m3e.inference.export_check import cosine, file_bytes, texts_per_second, weight_bytes
from m3e.inference.export_report import Comparison
from m3e.inference.quantise import quantise_rows
from m3e.inference.tokens import Tokens
from m3e.models.static import StaticTable, distil, write_static

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from m3e.inference.export import ExportOptions


def write_static_export(
    model: SentenceTransformer, folder: Path, options: ExportOptions, say: Callable[[str], None]
) -> Comparison:
    """Write the lookup into ``folder``; how it compares with ``model``.

    Raises:
        SettingsError: options that a model which is a lookup already cannot take, or ``dim`` out of range.
        ModelError: the model cannot be distilled.
    """
    before = Encoder(model, backend="auto" if _is_static(model) else "torch")
    table = _own_table(model, options) if _is_static(model) else _distilled(model, before, options, say)
    prompts = dict.fromkeys(model.prompts or {}, "")  # callers may go on naming them
    int8 = quantise_rows(table.rows) if options.quantise else None
    file = write_static(folder, table.tokenizer, table.rows, prompts=prompts, int8=int8)
    return _compare(model, before, folder, table, file_bytes(file))


def read_words(path: Path) -> list[str]:
    """The words of a frequency list, in its order: the first column of each line, as jieba's dictionaries have it.

    Raises:
        DataError: no such file, or no words in it.
    """
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    lines = decode(path.read_bytes(), path.name).text.splitlines()
    words = [parts[0] for line in lines if (parts := line.split())]
    if not words:
        raise DataError(f"{path} has no words; write one a line, the most frequent first")
    return words


def _is_static(model: SentenceTransformer) -> bool:
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    return isinstance(model[0], StaticEmbedding)


def _own_table(model: SentenceTransformer, options: ExportOptions) -> StaticTable:
    if options.texts or options.words or options.dim is not None:
        raise SettingsError("the model is a lookup already: --texts, --words and --dim belong to distilling one")
    first: Any = model[0]
    rows = first.embedding.weight.detach().cpu().float().numpy()
    return StaticTable(first.tokenizer, rows, np.eye(rows.shape[1], dtype=np.float32))


def _distilled(
    model: SentenceTransformer, encoder: Encoder, options: ExportOptions, say: Callable[[str], None]
) -> StaticTable:
    dimension = encoder.dimension
    if options.dim is not None and not 1 <= options.dim <= dimension:
        raise SettingsError(f"--dim {options.dim} is outside 1..{dimension}, the model's own size")
    say(f"distilling {len(model.tokenizer)} tokens and {len(options.words)} words with {encoder.description}")

    def encode_ids(ids: list[list[int]]) -> Vectors:
        return encoder.encode_tokens(Tokens(ids, [False] * len(ids), [0] * len(ids)))

    texts = options.texts or (() if _knows_frequencies(model) and not options.words else _sample_texts())
    table = distil(model, encode_ids, texts=texts, words=options.words, dim=options.dim)
    added = len(table.rows) - len(model.tokenizer)
    say(f"{len(table.rows)} rows of {table.rows.shape[1]} numbers, {added} of them words that the tokenizer splits")
    return table


def _knows_frequencies(model: SentenceTransformer) -> bool:
    """Whether the tokenizer has its tokens' probabilities, which say more than a few counted texts."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    return backend is not None and json.loads(backend.to_str())["model"]["type"] == "Unigram"


def _sample_texts() -> tuple[str, ...]:
    centre, general = help_centre(), general_data()
    questions = [question for question, _ in centre.train]
    return (*centre.answers.values(), *questions, *general.passages.values(), *(text for text, _ in general.queries))


def _compare(
    model: SentenceTransformer, before: Encoder, folder: Path, table: StaticTable, bytes_after: int
) -> Comparison:
    after = Encoder(folder)
    exact = before if before.dtype == "fp32" else Encoder(model, backend="torch", dtype="fp32")
    texts = comparison_texts(lambda text: exact.tokenise([text]).lengths[0], model.max_seq_length)
    lengths = exact.tokenise(texts).lengths
    original, found = exact.encode_query(texts), after.encode(texts)
    if not _is_static(model):
        original, found = _centred(original) @ table.axes, _centred(found)
    pairs = general_data().pairs
    return Comparison(
        compared=(
            "the cosine is between both lookups' vectors of each text"
            if _is_static(model)
            else "a lookup never equals its original: the cosine is between both models' vectors less their means, "
            f"Spearman's correlation over the similarities of {len(pairs)} sample pairs"
        ),
        texts=len(texts),
        tokens=sum(lengths),
        longest=max(lengths),
        cosine=cosine(found, original),
        spearman=_spearman(_similarities(exact), _similarities(after)),
        bytes_before=weight_bytes(model),
        bytes_after=bytes_after,
        speed_before=texts_per_second(before, texts),
        speed_after=texts_per_second(after, texts),
        runs_before=f"{before.backend} {before.dtype}",
        runs_after=f"{after.backend} {after.dtype}",
    )


def _centred(vectors: Vectors) -> Vectors:
    centred: Vectors = vectors - vectors.mean(axis=0)
    return centred


def _similarities(encoder: Encoder) -> np.ndarray[Any, Any]:
    pairs = general_data().pairs
    first = encoder.encode_query([text for text, _, _ in pairs])
    second = encoder.encode_query([text for _, text, _ in pairs])
    return np.asarray((first * second).sum(1))


def _spearman(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)
