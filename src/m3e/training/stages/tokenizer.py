"""Stage ``tokenizer``: a tokenizer trained on the data, and a model of random weights for it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from m3e.errors import ModelError
from m3e.models.scratch import PRESETS, Shape, write_scratch
from m3e.models.tokenizers import train_tokenizer, unknown_share
from m3e.training.corpus import sample_texts
from m3e.training.planned_run import chosen_sources
from m3e.training.recipe import SCRATCH
from m3e.training.recipe_parts import Base
from m3e.training.stages.stage import StageReport, StageWork

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer

    from m3e.training.recipe import TokenizerStage

_HELD_OUT = 0.02
_MOST_HELD_OUT = 5_000
MOST_UNKNOWN = 0.02
"""Of the tokens of texts that the tokenizer was not trained on; more of them, and texts lose their meaning."""

NOTABLE = 0.005


def run(settings: TokenizerStage, work: StageWork) -> StageReport:
    """Train the tokenizer and write the new model.

    Raises:
        SettingsError: there is no data set, or the vocabulary is too small.
        ModelError: the tokenizer does not know the text that was held out.
    """
    started = time.perf_counter()
    sources = chosen_sources(work.data, settings.rows, settings.kinds, work.name)
    texts, sets = sample_texts(sources, settings.texts, seed=work.seed)
    # a single text is trained on as well as judged by
    held_out = texts[: min(_MOST_HELD_OUT, max(1, int(len(texts) * _HELD_OUT)))]
    trained_on = texts[len(held_out) :] or texts
    tokenizer = train_tokenizer(
        trained_on, kind=settings.kind, vocabulary=settings.vocabulary, lower_case=settings.lower_case
    )
    unknown, single_bytes = unknown_share(tokenizer, held_out)
    if unknown > MOST_UNKNOWN:
        raise ModelError(
            f"{unknown:.1%} of the tokens of held-out texts are unknown; set a larger vocabulary, more texts, or "
            'kind = "unigram", which falls back to bytes'
        )
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    weights = write_new_model(work, tokenizer)
    work.say(f"tokenizer of {size:,} pieces from {len(trained_on):,} texts; a model of {weights:,} random weights")
    return StageReport(
        seconds=time.perf_counter() - started,
        sets=sets,
        facts={
            "texts": len(trained_on),
            "vocabulary": size,
            "weights": weights,
            "held_out_texts": len(held_out),
            "unknown_share": unknown,
            "byte_share": single_bytes,
        },
        notes=_notes(settings.vocabulary, size, unknown, single_bytes),
    )


def write_new_model(work: StageWork, tokenizer: Tokenizer, rows: np.ndarray[Any, Any] | None = None) -> int:
    """Write the encoder of new weights that the recipe's base describes as the stage's model; how many it has.

    Args:
        rows: what its tokens start from; see :func:`m3e.models.scratch.write_scratch`.
    """
    base = work.from_scratch or Base(model=SCRATCH)
    prompts = {} if base.prompts is None else {"query": base.prompts.query, "document": base.prompts.document}
    return write_scratch(
        work.target,
        tokenizer,
        shape_of(base),
        seed=work.seed,
        pooling=base.pooling or "mean",
        max_length=base.max_length or 512,
        prompts={name: prompt for name, prompt in prompts.items() if prompt},
        rows=rows,
    )


def shape_of(base: Base) -> Shape:
    """The size of the new model that a recipe asks for."""
    return PRESETS[base.preset] if base.shape is None else Shape(**base.shape.model_dump())


def _notes(wanted: int, size: int, unknown: float, single_bytes: float) -> list[str]:
    notes = []
    if size < wanted:
        notes.append(f"the texts yield {size:,} pieces, not {wanted:,}")
    if unknown > NOTABLE:
        notes.append(f"{unknown:.2%} of the tokens of held-out texts are unknown")
    if single_bytes > NOTABLE:
        notes.append(f"{single_bytes:.2%} of the tokens of held-out texts are single bytes")
    return notes
