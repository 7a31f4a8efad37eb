"""A guarded fine-tune from records to a model folder, step by step."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3e.data.reading import RecordSet
from m3e.errors import DataError, M3EError, SettingsError
from m3e.files import MARKER_NAME, check_output_folder, hash_settings, read_marker, write_marker
from m3e.models.fingerprint import average_into, copy_weights, fingerprint
from m3e.models.folder import save
from m3e.records import Kind, Record, as_dict
from m3e.training.guard import Guard, HeldOut, Judgement
from m3e.training.options import TEMPERATURE, FineTuneOptions
from m3e.training.plan import Plan, is_transformer, make_plan
from m3e.training.report import FineTuneReport, advice, model_card
from m3e.training.rows import hold_out, to_dataset

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from m3e.training.guide import Guide

STEP = "finetune"
WORK_FOLDER = "checkpoints"


@dataclass(frozen=True)
class Destination:
    """Where a fine-tune writes, and what it does with what is there.

    Attributes:
        folder: holds the marker and the checkpoints; the model too, unless ``model`` names another.
        resume: go on from the newest checkpoint.
        overwrite: write beside files that are not ours.
    """

    folder: Path
    model: Path | None = None
    resume: bool = False
    overwrite: bool = False

    @property
    def model_folder(self) -> Path:
        """The folder that sentence-transformers loads."""
        return self.model or self.folder

    def check(self) -> None:
        """Refuse a folder that holds something else, before any work."""
        check_output_folder(self.folder, overwrite=self.overwrite, step=STEP)


def finetune(
    model: SentenceTransformer,
    data: RecordSet,
    options: FineTuneOptions,
    destination: Destination,
    *,
    base: str,
    validation: RecordSet | None = None,
    licence: str = "other",
    say: Callable[[str], None] = print,
    on_step: Callable[[int, int, float | None], None] = lambda step, total, loss: None,
    epoch_end: Sequence[Callable[[Any], None]] = (),
) -> FineTuneReport:
    """Train ``model`` in place on ``data``, keep the best of all checkpoints and the start, and save it.

    Args:
        base: the starting model's name, for messages and the card.
        validation: rows to judge by; without it some of ``data`` are held out.
        licence: of the starting model, for the card.
        say: prints one line.
        on_step: called after each step with its number, the total and the loss.
        epoch_end: functions called with the trainer after each epoch.

    Raises:
        DataError: too few rows.
        SettingsError: options that do not fit the model, or a resumed run whose inputs changed.
        TrainingDivergedError: the loss is not a finite number; nothing is left behind.
    """
    started = time.monotonic()
    destination.check()
    train_records, held_out_records = _split(data, validation, options.seed)
    identity = {
        "inputs": _inputs_hash(model, train_records, held_out_records),
        "settings": hash_settings(options.as_dict()),
    }
    plan = make_plan(model, data.kind, train_records, held_out_records, options)
    checkpoint = _begin(destination, identity, say)
    for line in _announcements(model, data, plan, options):
        say(line)
    work = destination.folder / WORK_FOLDER
    guard = Guard(model, _held_out(plan), work, contrastive=plan.kind is not Kind.SCORED_PAIR)
    start_weights = copy_weights(model) if options.merge is not None else None
    guide = _guide(model, plan, options)  # before the first step, and before a checkpoint's weights are loaded
    options = _with_temperature(options, guide, say)
    try:
        losses = _run(model, plan, options, guide, guard, work, checkpoint, on_step, list(epoch_end))
    except BaseException as error:
        if isinstance(error, M3EError):
            _clean_up(destination)
        raise
    after = guard.restore()
    options.strategy.finish(model)
    merged = _merge(model, guard, start_weights, options, say)
    report = FineTuneReport(
        kind=data.kind.value,
        source=data.source,
        base=base,
        rows=data.rows,
        held_out=len(held_out_records),
        dropped=data.dropped,
        cut=plan.cut,
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
        metric="spearman" if data.kind is Kind.SCORED_PAIR else "ndcg_at_10",
        before=guard.start,
        after=after,
        merged=merged,
        saved=merged or after,
        settings=_settings_for_card(options, plan),
        advice=advice(guard.start, merged or after, guard.refusals),
        model_dir=destination.model_folder,
        seconds=time.monotonic() - started,
    )
    save(model, destination.model_folder, card=model_card(report, licence), step=STEP, **identity, base=base)
    _finish(destination, identity, base)
    return report


def _split(data: RecordSet, validation: RecordSet | None, seed: int) -> tuple[list[Record], list[Record]]:
    if data.rows < 2:
        raise DataError(f"{data.source} has {data.rows} row(s) after cleaning; training needs at least 2")
    if validation is None:
        return hold_out(data.records, seed)
    if validation.kind is not data.kind:
        raise DataError(
            f"{validation.source} holds {validation.kind.value} records, {data.source} {data.kind.value}; "
            "validation rows must be of the training rows' kind"
        )
    return list(data.records), list(validation.records)


def _inputs_hash(model: SentenceTransformer, train: list[Record], held_out: list[Record]) -> str:
    rows = [[as_dict(record) for record in part] for part in (train, held_out)]
    return hash_settings([fingerprint(model), rows])


def _begin(destination: Destination, identity: dict[str, str], say: Callable[[str], None]) -> Path | None:
    """Mark the folder as a running fine-tune's and return the checkpoint to go on from."""
    from m3e.training.loop import newest_checkpoint

    work = destination.folder / WORK_FOLDER
    checkpoint = None
    if destination.resume:
        checkpoint = newest_checkpoint(work)
        if checkpoint is None:
            say(f"nothing to resume in {destination.folder}: starting anew")
        elif (read_marker(work) or {}).get("run") != identity:
            raise SettingsError(
                f"{destination.folder} was made from another model, other data or other settings; "
                "give the same ones to resume, or leave out --resume to start anew"
            )
    if checkpoint is None:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    write_marker(work, STEP, run=identity)
    if read_marker(destination.folder) is None:
        write_marker(destination.folder, STEP, state="running")
    return checkpoint


def _held_out(plan: Plan) -> HeldOut | None:
    if not plan.held_out:
        return None
    distractors = [] if plan.kind is Kind.SCORED_PAIR else [row.texts[1] for row in plan.train]
    return HeldOut(plan.held_out, plan.kind, distractors, symmetric=plan.symmetric)


def _run(
    model: SentenceTransformer,
    plan: Plan,
    options: FineTuneOptions,
    guide: Guide | None,
    guard: Guard,
    work: Path,
    checkpoint: Path | None,
    on_step: Callable[[int, int, float | None], None],
    epoch_end: list[Callable[[Any], None]],
) -> list[float]:
    from m3e.training.loop import CHECKPOINT_PREFIX, train
    from m3e.training.losses import loss_for

    if checkpoint is None:
        guard.look(0)
    else:
        guard.resume(int(checkpoint.name.removeprefix(CHECKPOINT_PREFIX)))
    return train(
        model,
        to_dataset(plan.train, plan.kind),
        loss_for(
            plan.kind,
            model,
            options.temperature or TEMPERATURE,
            plan.mini_batch_size,
            guide,
            options.false_negative_margin,
            options.preserve,
        ),
        replace(options, batch_size=plan.batch_size),
        lr=plan.lr,
        precision=plan.precision,
        prompts=plan.prompts,
        guard=guard,
        folder=work,
        checkpoint=checkpoint,
        on_step=on_step,
        epoch_end=epoch_end,
    )


def _is_guided(plan: Plan, options: FineTuneOptions) -> bool:
    """Whether the starting model is asked about texts: those of contrastive rows whose sides look alike."""
    wanted = options.false_negative_margin is not None or options.preserve > 0 or options.temperature is None
    return plan.symmetric and plan.kind is not Kind.SCORED_PAIR and wanted


def _guide(model: SentenceTransformer, plan: Plan, options: FineTuneOptions) -> Guide | None:
    from m3e.training.guide import Guide

    if not _is_guided(plan, options):
        return None
    return Guide.of(model, plan.train, next(iter(plan.prompts.values()), ""))


def _with_temperature(options: FineTuneOptions, guide: Guide | None, say: Callable[[str], None]) -> FineTuneOptions:
    """Options with a temperature: as given, or half the spread of the starting model's cosines, or the usual one."""
    if options.temperature is not None:
        return options
    if guide is None:
        return replace(options, temperature=TEMPERATURE)
    temperature = round(guide.spread / 2, 4)
    say(f"temperature {temperature:g}: half the spread of the starting model's cosines between different texts")
    return replace(options, temperature=temperature)


def _merge(
    model: SentenceTransformer,
    guard: Guard,
    start: dict[str, Any] | None,
    options: FineTuneOptions,
    say: Callable[[str], None],
) -> Judgement | None:
    """Average with the start where asked, and judge it; the average is dropped where it is worse than the start."""
    if start is None or options.merge is None or guard.best.step == 0:
        return None
    tuned = copy_weights(model)
    average_into(model, start, options.merge)
    merged = guard.judge(guard.best.step)
    reason = guard.reason_to_refuse(merged)
    if merged.task is not None and guard.start.task is not None and merged.task < guard.start.task:
        reason = f"it is worse than the start on held-out rows ({merged.task:.4f} below {guard.start.task:.4f})"
    if reason:
        say(f"the average with the start was not saved: {reason}")
        average_into(model, tuned, 1.0)
        return None
    return merged


def _announcements(model: SentenceTransformer, data: RecordSet, plan: Plan, options: FineTuneOptions) -> list[str]:
    total = len(plan.train)
    lines = [*data.notes]
    lines.append(f"kind {data.kind.value}: {data.rows} rows kept" + _dropped_text(data))
    lines += data.drops[:10]
    if len(data.drops) > 10:
        lines.append(f"… and {len(data.drops) - 10} more dropped rows")
    if plan.cut:
        lines.append(f"{plan.cut} texts are longer than {model.max_seq_length} tokens and are cut")
    if not plan.held_out:
        lines.append("too few rows, or all linked by shared texts: none is held out, only the general check judges")
    else:
        lines.append(f"train on {total} rows, judge on {len(plan.held_out)} held out")
    loss = "CoSENT" if plan.kind is Kind.SCORED_PAIR else "in-batch softmax, both ways"
    cached = f", gradient cache of {plan.mini_batch_size} texts" if plan.mini_batch_size else ""
    temperature = options.temperature or TEMPERATURE
    heat = "" if options.temperature is None and _is_guided(plan, options) else f", temperature {temperature:g}"
    lines.append(
        f"{loss}{heat}; batch {plan.batch_size}{cached}; learning rate {plan.lr:g}; "
        f"{options.strategy.name} training in {plan.precision} on {model.device}; {_length_text(model)}"
    )
    if _is_guided(plan, options) and options.false_negative_margin is not None:
        lines.append(
            "both sides look alike: in a batch, likely paraphrases are no negatives "
            f"(margin {options.false_negative_margin:g})"
        )
    if _is_guided(plan, options) and options.preserve:
        lines.append(f"similarities that no row speaks of are held where they were (weight {options.preserve:g})")
    if model.prompts and any(model.prompts.values()):
        sides = (
            "both sides look alike: query prompt on both"
            if plan.symmetric
            else "query prompt first, document prompt on the rest"
        )
        lines.append(f"prompts: {sides}")
    return lines


def _length_text(model: SentenceTransformer) -> str:
    return f"up to {model.max_seq_length} tokens" if is_transformer(model) else "texts of any length"


def _dropped_text(data: RecordSet) -> str:
    if not data.dropped:
        return ""
    names = {"empty_text": "for an empty text", "missing_label": "for a missing label"}
    parts = [f"{count} {names.get(rule, 'by rule ' + rule)}" for rule, count in data.dropped.items()]
    return "; dropped " + ", ".join(parts)


def _settings_for_card(options: FineTuneOptions, plan: Plan) -> dict[str, Any]:
    settings = options.as_dict() | {
        "lr": plan.lr,
        "precision": plan.precision,
        "batch_size": plan.batch_size,
        "mini_batch_size": plan.mini_batch_size,
        "loss": "CoSENT" if plan.kind is Kind.SCORED_PAIR else "in-batch softmax, both directions",
        "prompts": plan.prompts,
    }
    return {name: value for name, value in settings.items() if value not in (None, {}, ())}


def _clean_up(destination: Destination) -> None:
    """Remove what a failed run made; files that were there before stay."""
    shutil.rmtree(destination.folder / WORK_FOLDER, ignore_errors=True)
    marker = read_marker(destination.folder)
    if marker and marker.get("state") == "running":
        (destination.folder / MARKER_NAME).unlink()
    if destination.folder.is_dir() and not any(destination.folder.iterdir()):
        destination.folder.rmdir()


def _finish(destination: Destination, identity: dict[str, str], base: str) -> None:
    shutil.rmtree(destination.folder / WORK_FOLDER, ignore_errors=True)
    if destination.model is not None:
        write_marker(destination.folder, STEP, state="done", base=base, **identity)
