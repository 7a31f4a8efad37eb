"""Pre-training on single texts: from a prepared folder to an encoder, as all such stages do it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import set_seed

from m3e.errors import SettingsError
from m3e.models.folder import save
from m3e.models.loading import load
from m3e.training.embedding import Precision, encoder_of
from m3e.training.gather import first_process_first, is_first_process, wait_for_all
from m3e.training.masking import PieceTable
from m3e.training.planned_run import chosen_sources
from m3e.training.stages.stage import StageReport, StageWork
from m3e.training.text_batches import TextBatches
from m3e.training.token_prediction import MaskedTokenLoss, TokenPrediction, attached
from m3e.training.token_store import TokenStore
from m3e.training.tokenise import Prompts, Tokenisation, build_token_store
from m3e.training.watched_training import stage_precision, train_watched

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from m3e.training.recipe import PretrainingStage

MakeLoss = Callable[["SentenceTransformer", nn.Module, "dict[str, nn.Module]", Precision], MaskedTokenLoss]


def pretrain(
    settings: PretrainingStage,
    work: StageWork,
    make_loss: MakeLoss,
    make_modules: Callable[[SentenceTransformer], dict[str, nn.Module]] = lambda model: {},
) -> StageReport:
    """A whole stage: the model before it, trained on the data's texts, saved in the stage's target.

    Args:
        make_loss: of the model, the head that scores pieces, the further modules and the precision.
        make_modules: what is trained beside the encoder and the head, by name, and thrown away in the end.

    Raises:
        SettingsError: the model cannot be trained by masked tokens.
        DataError: there is no text.
        TrainingDivergedError: the loss broke and could not be mended.
    """
    started = time.perf_counter()
    model = load(work.start(), device=work.device)
    _check(model)
    own_length = model.max_seq_length
    if settings.batch.max_length is not None:
        model.max_seq_length = settings.batch.max_length
    set_seed(work.seed)  # new weights must be the same in a resumed run
    head = TokenPrediction(encoder_of(model), work.start())
    modules = make_modules(model)
    with first_process_first():
        store = _store(model, settings, work)
    # where drawn by weights, a set of weight 0 is left out
    sets = [each for each in store.sets if each.weight > 0]
    schedule, batch = settings.schedule, settings.batch

    def batches(rank: int, world: int) -> TextBatches:
        return TextBatches(
            sets,
            batch.size,
            epochs=schedule.epochs,
            steps=schedule.steps,
            cap=batch.cap,
            caps=batch.caps,
            seed=work.seed,
            rank=rank,
            world=world,
        )

    plan = batches(0, 1)
    precision = stage_precision(model, work)
    with attached(model, prediction=head, **modules):
        model.requires_grad_(True)
        trained = sum(value.numel() for value in model.parameters())
        rate = schedule.lr or suggested_lr(trained)
        work.say(
            f"{len(plan)} steps of {batch.size} texts, {trained:,} weights train, {precision} on {model.device.type}, "
            f"learning rate {rate:g}; the prediction head is {'new' if head.is_new else 'the model’s own'}"
        )
        loss = make_loss(model, head, modules, precision)
        course = train_watched(model, settings, loss, batches, rate, work)
    model.max_seq_length = own_length
    if is_first_process():
        save(model, work.target, step="stage")
    wait_for_all()
    facts: dict[str, Any] = {
        "batch size": batch.size,
        "trained weights": trained,
        "texts": sum(len(each.keys) for each in sets),
        "masked": loss.masked,
        "prediction head": "new" if head.is_new else "the model's own",
    }
    by_set = plan.texts_by_set(course.steps)
    return course.report(
        rows=sum(by_set.values()), seconds=round(time.perf_counter() - started, 1), sets=by_set, facts=facts
    )


def suggested_lr(parameters: int) -> float:
    """A peak learning rate for pre-training: BERT's 1e-4 for its own size, more for smaller models."""
    return 5e-4 if parameters <= 40_000_000 else 2e-4 if parameters <= 80_000_000 else 1e-4


def _check(model: SentenceTransformer) -> None:
    """Refuse what has no encoder of tokens in both directions, before any work.

    Raises:
        SettingsError: says what it is.
    """
    if encoder_of(model) is None:
        raise SettingsError("a static model has no encoder to pre-train; start from an encoder or from scratch")
    from transformers import MODEL_FOR_MASKED_LM_MAPPING

    config = encoder_of(model).config
    if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
        raise SettingsError(
            f"a model of type {config.model_type} cannot be trained by masked tokens, as a decoder's tokens see only "
            "those before them; take an encoder (bert, roberta, …) as base"
        )
    if model.tokenizer.padding_side == "left":
        raise SettingsError("the model pads before the text, as decoders do; masked tokens need an encoder")
    PieceTable.of(model.tokenizer)


def _store(model: SentenceTransformer, settings: PretrainingStage, work: StageWork) -> TokenStore:
    """Token ids of all texts, without prompts."""
    sources = chosen_sources(work.data, settings.rows, settings.kinds, work.name)
    plain = {source.name: Prompts() for source in sources}
    tokenisation = replace(Tokenisation.of(model, sources, plain), prompt_counts=False)
    store = build_token_store(sources, tokenisation, work.folder / "tokens")
    cut = sum(each.cut for each in store.sets)
    if cut:
        texts = sum(len(each.keys) for each in store.sets)
        work.say(f"{cut:,} of {texts:,} texts are longer than {model.max_seq_length} tokens and were cut")
    return store
