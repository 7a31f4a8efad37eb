"""Stage ``mlm``: an encoder that guesses hidden words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m3e.training.pretraining import pretrain
from m3e.training.stages.stage import StageReport, StageWork
from m3e.training.token_prediction import MaskedTokenLoss

if TYPE_CHECKING:
    from m3e.training.recipe import MlmStage


def run(settings: MlmStage, work: StageWork) -> StageReport:
    """Pre-train the model before this stage on the data's texts; its pooling and prompts stay.

    Raises:
        SettingsError: the model is none that can be trained by masked tokens.
        DataError: there is no text.
    """
    return pretrain(
        settings,
        work,
        lambda model, head, modules, precision: MaskedTokenLoss(
            model, head, masked=settings.masked, token_budget=settings.batch.token_budget, precision=precision
        ),
    )
