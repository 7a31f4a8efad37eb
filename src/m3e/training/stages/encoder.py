"""The stage ``encoder``: a new encoder that starts as the static model before it.

What that model has learnt is there before the first step, and training goes on from it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from m3e.data.provenance import carry
from m3e.errors import SettingsError
from m3e.training.stages.stage import StageReport, StageWork
from m3e.training.stages.tokenizer import write_new_model

if TYPE_CHECKING:
    from m3e.training.recipe import EncoderStage


def run(settings: EncoderStage, work: StageWork) -> StageReport:
    """Write an encoder of the base's shape that gives what the static model before it gives.

    Raises:
        SettingsError: the model before it is no static one, or has vectors of another size than the encoder's tokens.
    """
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    from m3e.models.loading import load

    started = time.perf_counter()
    before = work.start()
    first: Any = load(before, device="cpu")[0]
    if not isinstance(first, StaticEmbedding):
        raise SettingsError(f"stage {work.name} starts from a static model; put a static stage before it")
    rows = first.embedding.weight.detach().float().numpy()
    try:
        weights = write_new_model(work, first.tokenizer, rows)
    except SettingsError as error:
        raise SettingsError(f"stage {work.name}: {error}") from error
    carry([before], work.target)
    work.say(f"an encoder of {weights:,} weights over {len(rows):,} rows")
    facts = {"weights": weights, "vocabulary": len(rows), "rows_without_direction": int((~rows.any(axis=1)).sum())}
    return StageReport(seconds=time.perf_counter() - started, facts=facts)
