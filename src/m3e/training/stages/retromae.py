"""Stage ``retromae``: an encoder whose vector lets a weak decoder rebuild the text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m3e.training.pretraining import pretrain
from m3e.training.retromae import EnhancedDecoder, RetroMaeLoss
from m3e.training.stages.stage import StageReport, StageWork

if TYPE_CHECKING:
    from m3e.training.recipe import RetroMaeStage


def run(settings: RetroMaeStage, work: StageWork) -> StageReport:
    """Pre-train the model before this stage on the data's texts; its pooling and prompts stay, the decoder does not.

    Raises:
        SettingsError: the model is none that can be trained by masked tokens, or its vector has an odd width.
        DataError: there is no text.
    """
    return pretrain(
        settings,
        work,
        lambda model, head, modules, precision: RetroMaeLoss(
            model,
            head,
            modules["decoder"],
            masked=settings.masked,
            decoder_masked=settings.decoder_masked,
            token_budget=settings.batch.token_budget,
            precision=precision,
        ),
        lambda model: {"decoder": EnhancedDecoder.for_model(model)},
    )
