"""Stage ``cut``: the vocabulary cut to the pieces that a corpus uses."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m3e.errors import ModelError, SettingsError
from m3e.models import vocabulary
from m3e.models.folder import save
from m3e.models.loading import load
from m3e.training.corpus import sample_texts
from m3e.training.planned_run import chosen_sources
from m3e.training.stages.stage import StageReport, StageWork
from m3e.training.tokenise import backend_tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from tokenizers import Tokenizer

    from m3e.training.recipe import CutStage

_TEXTS_AT_ONCE = 4096
_CHECKED_TEXTS = 5_000
_XLM_R_PIECES = 250_002
_XLM_R_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def run(settings: CutStage, work: StageWork) -> StageReport:
    """Cut the vocabulary of the model before, and write it.

    Raises:
        ModelError: the tokenizer cannot be cut, or is not the one that the shipped pieces belong to.
        SettingsError: there is no data set.
    """
    started = time.perf_counter()
    model = load(work.start(), device="cpu")
    before = _copy(model)
    texts: list[str] = []
    sets: dict[str, int] = {}
    if settings.pieces == "m3e-small":
        _check_is_xlm_r(before)
        keep = vocabulary.kept_pieces()
    else:
        sources = chosen_sources(work.data, settings.rows, settings.kinds, work.name)
        texts, sets = sample_texts(sources, settings.texts, seed=work.seed)
        counts = piece_counts(before, texts)
        prompts = piece_counts(before, list((model.prompts or {}).values()))
        keep = vocabulary.needed_pieces(before, np.flatnonzero((counts >= settings.least) | (prompts > 0)).tolist())
    pieces, weights = before.get_vocab_size(with_added_tokens=True), _weights(model)
    ids = vocabulary.cut_model(model, keep)
    facts: dict[str, Any] = {
        "vocabulary_before": pieces,
        "vocabulary": len(ids),
        "weights_before": weights,
        "weights": _weights(model),
        "texts": len(texts),
    }
    if texts:
        facts |= _effect(before, backend_tokenizer(model), counts, ids, texts[:_CHECKED_TEXTS])
    save(model, work.target, step="model")
    work.say(
        f"vocabulary cut from {pieces:,} to {len(ids):,} pieces, "
        f"the model from {weights:,} to {facts['weights']:,} weights"
    )
    notes = [] if len(ids) < pieces else ["every piece is needed: nothing was cut"]
    return StageReport(seconds=time.perf_counter() - started, sets=sets, facts=facts, notes=notes)


def piece_counts(tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.int64]:
    """How often each piece of a tokenizer occurs in some texts, by id."""
    size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    counts = np.zeros(size, np.int64)
    for ids in _ids(tokenizer, texts):
        counts += np.bincount(ids, minlength=size)
    return counts


def _ids(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        encodings = tokenizer.encode_batch_fast(texts[start : start + _TEXTS_AT_ONCE], add_special_tokens=False)
        yield np.fromiter((index for encoding in encodings for index in encoding.ids), np.int64)


def _copy(model: SentenceTransformer) -> Tokenizer:
    """The model's tokenizer, which neither cuts nor pads texts."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(backend_tokenizer(model).to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _check_is_xlm_r(tokenizer: Tokenizer) -> None:
    first = [tokenizer.id_to_token(index) for index in range(len(_XLM_R_SPECIAL))]
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    if first != _XLM_R_SPECIAL or size != _XLM_R_PIECES:
        raise SettingsError(
            f'pieces = "m3e-small" names pieces of e5-small\'s vocabulary of {_XLM_R_PIECES:,}; this model has another '
            f'one, of {size:,}: use pieces = "data"'
        )


def _effect(
    before: Tokenizer, after: Tokenizer, counts: NDArray[np.int64], ids: Sequence[int], texts: Sequence[str]
) -> dict[str, Any]:
    """What the cut does to texts.

    Raises:
        ModelError: something became unknown.
    """
    unknown = [_unknown(tokenizer, texts) for tokenizer in (before, after)]
    if unknown[1][0] > unknown[0][0]:
        raise ModelError(
            f"the cut would make {unknown[1][0] - unknown[0][0]:,} more tokens of {len(texts):,} texts unknown; "
            "leave this model's vocabulary as it is"
        )
    return {
        "kept_share": float(counts[list(ids)].sum() / max(1, counts.sum())),
        "tokens_a_text_before": unknown[0][1] / len(texts),
        "tokens_a_text": unknown[1][1] / len(texts),
        "unknown_share": unknown[1][0] / max(1, unknown[1][1]),
    }


def _unknown(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[int, int]:
    """Unknown tokens, and all."""
    names = ("<unk>", "[UNK]")
    unknown = next((found for name in names if (found := tokenizer.token_to_id(name)) is not None), -1)
    rows = list(_ids(tokenizer, texts))
    return sum(int((row == unknown).sum()) for row in rows), sum(len(row) for row in rows)


def _weights(model: SentenceTransformer) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
