"""From a prepared folder to trained weights: what all stages that train on planned batches share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import set_seed

from m3e.errors import DataError, SettingsError
from m3e.training.base import prompts_by_set
from m3e.training.batches import BatchPlan, PlanOptions, planned
from m3e.training.cached_loss import CachedTextLoss, EmbeddingLoss
from m3e.training.embedding import encoder_of
from m3e.training.gather import first_process_first, is_first_process, wait_for_all
from m3e.training.memory import tokens_that_fit
from m3e.training.options import suggested_lr
from m3e.training.planned_loader import PlannedBatches
from m3e.training.sources import Source, read_sources
from m3e.training.stages.stage import Ingredient, StageReport, StageWork
from m3e.training.strategies import FullTraining, LoraTraining, Strategy
from m3e.training.token_store import TokenStore
from m3e.training.tokenise import Prompts, Tokenisation, build_token_store
from m3e.training.watched_training import stage_precision, train_watched

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from m3e.training.recipe import TrainedStage
    from m3e.training.recipe_parts import Batch, Prompt, Rows


@dataclass(frozen=True)
class Batches:
    """What a stage trains on: the rows as token ids, and the plan that deals them."""

    sources: Sequence[Source]
    store: TokenStore
    plan: BatchPlan


@dataclass(frozen=True)
class Losses:
    """The loss of a stage, and of single data sets where theirs is another."""

    of_all: EmbeddingLoss
    of_sets: Mapping[str, EmbeddingLoss] = field(default_factory=dict)


def chosen_sources(data: Path, rows: Rows, kinds: Sequence[str], stage: str) -> list[Source]:
    """The data sets of a prepared folder that a stage takes.

    Args:
        kinds: of records that the stage can use.

    Raises:
        DataError: the folder cannot be read, or holds nothing for the stage.
        SettingsError: a set is named that is not there or of a kind that the stage cannot use.
    """
    folder = rows.folder or data
    there = {source.name: source for source in read_sources(folder)}
    for key, names in (("sets", rows.sets), ("without", rows.without), ("weights", rows.weights)):
        for name in names:
            if name not in there:
                raise SettingsError(
                    f"stages.{stage}.rows.{key} names {name!r}, which {folder} has not; it has: {', '.join(there)}"
                )
    wrong = next((name for name in rows.sets if there[name].kind not in kinds), None)
    if wrong is not None:
        raise SettingsError(
            f"stages.{stage}.rows.sets names {wrong}, which holds {there[wrong].kind} records; the stage takes "
            f"{', '.join(kinds)}"
        )
    chosen = [
        replace(source, weight=rows.weights.get(name, source.weight))
        for name, source in there.items()
        if source.kind in kinds and name not in rows.without and (not rows.sets or name in rows.sets)
    ]
    if not chosen:
        raise DataError(f"{folder} holds nothing for stage {stage}, which takes {', '.join(kinds)} records")
    return chosen


def prepare_model(model: SentenceTransformer, settings: TrainedStage, seed: int) -> Strategy:
    """Set the length and mark what trains; how to undo the wrapping is what comes back."""
    if settings.batch.max_length is not None and encoder_of(model) is not None:
        model.max_seq_length = settings.batch.max_length
    strategy: Strategy = FullTraining()
    if settings.lora is not None:
        strategy = LoraTraining(settings.lora.rank, settings.lora.alpha, settings.lora.dropout)
    set_seed(seed)  # an adapter's new weights must be the same in a resumed run
    strategy.prepare(model)
    return strategy


def make_batches(
    model: SentenceTransformer,
    sources: Sequence[Source],
    batch: Batch,
    work: StageWork,
    *,
    epochs: int = 1,
    steps: int | None = None,
    prompts: Mapping[str, Prompts] | None = None,
) -> Batches:
    """Token ids and the plan, in the stage's folder; made there first where they are not."""
    tokenisation = replace(Tokenisation.of(model, sources, prompts), negatives=batch.negatives)
    store = build_token_store(sources, tokenisation, work.folder / "tokens")
    options = PlanOptions(
        batch.size,
        batch.alpha,
        batch.cap,
        batch.caps,
        {source.name: source.weight for source in sources},
        steps,
        epochs,
        work.seed,
    )
    plan = planned(work.folder / "batches", store.sets, options, store.hash)
    for line in plan.lines():
        work.say(line)
    first = min(plan.epochs)
    if steps is not None and first < steps:
        work.say(
            f"the texts fill {first} batches, fewer than schedule.steps = {steps}; schedule.epochs draws them again"
        )
    cut = sum(each.cut for each in store.sets)
    if cut:
        texts = sum(len(each.keys) for each in store.sets)
        work.say(f"{cut} of {texts} texts are longer than {model.max_seq_length} tokens and were cut")
    return Batches(sources, store, plan)


MakeLosses = Callable[["SentenceTransformer", Batches], tuple[Losses, list[Ingredient]]]


def run_planned(
    settings: TrainedStage,
    work: StageWork,
    sources: Sequence[Source],
    make_losses: MakeLosses,
    prompts: Mapping[str, Prompt] | None = None,
) -> StageReport:
    """A whole stage: the model before it, trained on its batches, saved in the stage's target.

    Args:
        sources: what is trained on, of :func:`chosen_sources`.
        make_losses: of the model and its batches: the losses, and the teachers that they brought in.
        prompts: of data sets, by name; they are saved with the model.
    """
    from m3e.models import load
    from m3e.models.folder import save

    model = load(work.start(), device=work.device)
    own = _own_prompts(prompts or {}, sources, work.name)
    own_length = model.max_seq_length  # a stage may train on short texts; the model keeps reading long ones
    strategy = prepare_model(model, settings, work.seed)
    schedule = settings.schedule
    with first_process_first():
        batches = make_batches(
            model, sources, settings.batch, work, epochs=schedule.epochs, steps=schedule.steps, prompts=own
        )
        losses, ingredients = make_losses(model, batches)
    report = train_on(model, settings, batches, losses, work, strategy)
    if is_first_process():
        model.prompts = {**(model.prompts or {}), **prompts_by_set(own)}
        if encoder_of(model) is not None:
            model.max_seq_length = own_length
        save(model, work.target, step="stage")
    wait_for_all()
    return replace(report, ingredients=ingredients)


def _own_prompts(prompts: Mapping[str, Prompt], sources: Sequence[Source], stage: str) -> dict[str, Prompts]:
    """The prompts that a stage gives its data sets; on both sides the query's where the sides may be swapped."""
    there = {source.name: source for source in sources}
    unknown = next((name for name in prompts if name not in there), None)
    if unknown is not None:
        raise SettingsError(f"stages.{stage}.prompts names {unknown!r}; the stage's sets are {', '.join(there)}")
    return {
        name: Prompts(prompt.query, prompt.query if there[name].symmetric else prompt.document)
        for name, prompt in prompts.items()
    }


def train_on(
    model: SentenceTransformer,
    settings: TrainedStage,
    batches: Batches,
    losses: Losses,
    work: StageWork,
    strategy: Strategy,
) -> StageReport:
    """Train ``model`` in place on all planned batches, watched, with checkpoints in the stage's folder.

    Args:
        losses: the loss on embeddings, and others for some data sets.

    Raises:
        TrainingDivergedError: the loss broke and could not be mended; names the batch and its rows.
    """
    started = time.perf_counter()
    precision = stage_precision(model, work)
    store, plan = batches.store, batches.plan
    trained = sum(value.numel() for value in model.parameters() if value.requires_grad)
    schedule = settings.schedule
    rate = schedule.lr or suggested_lr(trained, strategy, static=encoder_of(model) is None)
    budget = settings.batch.token_budget
    loss = CachedTextLoss(model, losses.of_all, losses_of_sets=losses.of_sets, token_budget=budget, precision=precision)
    longest = max(int(_longest(each.starts)) for each in store.sets)
    loss.kept_tokens = tokens_that_fit(model, longest, precision, loss.token_budget)
    work.say(
        f"{len(plan)} steps of {plan.batch_size} rows, {trained:,} weights train, {precision} on "
        f"{model.device.type}, learning rate {rate:g}"
    )
    course = train_watched(
        model, settings, loss, lambda rank, world: PlannedBatches(plan, store.sets, rank, world), rate, work
    )
    strategy.finish(model)
    sets = _rows_by_set(plan, course.steps)
    facts = {
        "batch size": plan.batch_size,
        "trained weights": trained,
        "lora rank": settings.lora.rank if settings.lora else None,
    }
    return course.report(
        rows=sum(sets.values()), seconds=round(time.perf_counter() - started, 1), sets=sets, facts=facts
    )


def _longest(starts: Any) -> int:
    return int(np.diff(starts).max(initial=1))


def _rows_by_set(plan: BatchPlan, steps: int) -> dict[str, int]:
    counts = np.bincount(plan.sets[:steps], minlength=len(plan.names))
    return {name: int(count) * plan.batch_size for name, count in zip(plan.names, counts, strict=True)}
