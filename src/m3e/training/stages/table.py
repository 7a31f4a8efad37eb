"""Which function runs a stage."""

from __future__ import annotations

import importlib
from typing import Any

from m3e.training.stages.stage import StageReport, StageWork

_HOMES = {
    "tokenizer": "m3e.training.stages.tokenizer",
    "cut": "m3e.training.stages.cut",
    "mlm": "m3e.training.stages.mlm",
    "retromae": "m3e.training.stages.retromae",
    "contrastive": "m3e.training.stages.contrastive",
    "scored": "m3e.training.stages.scored",
    "distil": "m3e.training.stages.distil",
    "static": "m3e.training.stages.static",
    "encoder": "m3e.training.stages.encoder",
    "merge": "m3e.training.stages.merge",
}
"""Each module has ``run(settings, work) -> StageReport``, which leaves a model folder in ``work.target``."""


def run_stage(settings: Any, work: StageWork) -> StageReport:
    """Run a stage of a recipe."""
    module = importlib.import_module(_HOMES[settings.stage])
    report: StageReport = module.run(settings, work)
    return report
