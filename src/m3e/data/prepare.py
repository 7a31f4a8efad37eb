"""The whole pipeline: sets in, a folder of clean shards with its manifest, filter of texts and card out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3e import __version__
from m3e.data.bloom import FILE_NAME, TextFilter
from m3e.data.contamination import EvaluationFile, NearIndex, read_evaluation_file
from m3e.data.manifest import MANIFEST, dataset_card
from m3e.data.normalise import normalise
from m3e.data.pipeline import (
    EvaluationTexts,
    PipelineOptions,
    SetPlan,
    Staged,
    stage,
)
from m3e.data.shards import write_shards
from m3e.data.staging import TEXT_KIND
from m3e.data.verdicts import counts, decide, overlaps
from m3e.errors import DataError, M3EError
from m3e.files import (
    atomic_folder,
    check_output_folder,
    hash_file,
    hash_settings,
    read_json,
    read_marker,
    remove_partial,
    write_json,
    write_marker,
)

STEP = "data"
_WORK = ".work"
_INDEX = ".evaluation"  # no set's folder has such a name

Say = Callable[[str], None]
OnSet = Callable[[int, int, str], None]
"""Called with how many sets are done, of how many, and the name of the one at work."""


@dataclass(frozen=True)
class Prepared:
    """A finished data folder.

    Attributes:
        folder: where it is.
        manifest: what ``manifest.json`` holds.
        failed: sets that could not be read, each with the reason.
        notes: lines that a person should see: encodings, columns taken, rows that gave no record.
        reused: whether the folder was there already, made of the same inputs with the same settings.
    """

    folder: Path
    manifest: dict[str, Any]
    failed: dict[str, str]
    notes: list[str]
    reused: bool = False


def run_pipeline(
    plans: Sequence[SetPlan],
    out: Path,
    options: PipelineOptions,
    *,
    evaluation: Sequence[Path] = (),
    near_evaluation: bool = True,
    title: str = "data",
    policy: str = "any",
    say: Say = lambda line: None,
    on_set: OnSet = lambda done, total, name: None,
    overwrite: bool = False,
) -> Prepared:
    """Run sets through the pipeline into ``out``; what an interrupted run finished is kept.

    Args:
        evaluation: files whose texts no training row may hold.
        near_evaluation: whether near matches count, beside exact ones.
        title: of the data card.
        overwrite: write beside files that are not ours.

    Raises:
        DataError: no set could be read, or an evaluation file is damaged.
        OutputExistsError: ``out`` holds something else.
    """
    check_output_folder(out, overwrite=overwrite, step=STEP)
    settings = _settings(plans, options, evaluation, near_evaluation, policy)
    inputs = hash_settings(settings)
    marker = read_marker(out)
    if marker is not None and marker.get("inputs") == inputs and (manifest := _whole(out)) is not None:
        return Prepared(out, manifest, {}, [], reused=True)
    # beside the output, not in it: an output folder is complete or not there at all
    work = out.resolve().with_name(f".{out.resolve().name}{_WORK}")
    work.mkdir(parents=True, exist_ok=True)
    texts = _evaluation_texts(evaluation, options, near_evaluation, work, say)
    staged, failed = _stage_all(plans, options, texts, work, settings, on_set)
    if not staged:
        raise DataError(f"no set could be read: {'; '.join(failed.values())}")
    verdicts = decide(staged, options, say=say)
    remove_partial(work.parent, out.resolve().name)
    with atomic_folder(out) as folder:
        manifest = _write(staged, verdicts, folder, failed, texts, options, policy)
        (folder / "README.md").write_text(dataset_card(manifest, title), encoding="utf-8")
        # a set that failed is tried again by the next run
        write_marker(folder, STEP, inputs=None if failed else inputs, rows=manifest["rows_out"])
    remove_old_shards(out, manifest)
    if not failed:
        shutil.rmtree(work)
    notes = [note for item in staged for note in item.notes]
    return Prepared(out, manifest, failed, notes)


def _whole(out: Path) -> dict[str, Any] | None:
    """The manifest of a folder that still has all that it names."""
    if not (out / MANIFEST).is_file() or not (out / FILE_NAME).is_file():
        return None
    manifest: dict[str, Any] = read_json(out / MANIFEST)
    shards = [shard["file"] for entry in manifest["datasets"] for shard in entry["shards"]]
    return manifest if all((out / shard).is_file() for shard in shards) else None


def _settings(
    plans: Iterable[SetPlan], options: PipelineOptions, evaluation: Sequence[Path], near: bool, policy: str
) -> dict[str, Any]:
    return {
        "version": __version__,
        "options": asdict(options),
        "evaluation": [[path.name, hash_file(path)] for path in evaluation],
        "near": near,
        "policy": policy,
        "sets": {plan.name: _set_settings(plan) for plan in plans},
    }


def _set_settings(plan: SetPlan) -> dict[str, Any]:
    values = {name: getattr(plan, name) for name in plan.__dataclass_fields__ if name != "read"}
    values["languages"] = list(plan.languages)
    return values


def _evaluation_texts(
    paths: Sequence[Path], options: PipelineOptions, near: bool, work: Path, say: Say
) -> EvaluationTexts:
    if not paths:
        return EvaluationTexts()
    say(f"reading {len(paths)} evaluation files")
    tidy = (lambda text: normalise(text, simplified=options.simplified)) if options.normalise else None
    files: list[EvaluationFile] = []
    keys: set[str] = set()
    for path in paths:
        file, found = read_evaluation_file(path, tidy=tidy)
        files.append(file)
        keys.update(found)
    if not near:
        return EvaluationTexts(files)
    inputs = hash_settings([[[path.name, hash_file(path)] for path in paths], options.normalise, options.simplified])
    # workers keep an index by its folder's name, so another index must have another
    folder = work / f"{_INDEX}-{inputs[:12]}"
    if read_marker(folder) is None:
        say(f"indexing {len(keys)} evaluation texts")
        with atomic_folder(folder) as temporary:
            NearIndex(sorted(keys)).save(temporary)
            write_marker(temporary, "evaluation index", inputs=inputs)
    return EvaluationTexts(files, str(folder))


def _stage_all(
    plans: Sequence[SetPlan],
    options: PipelineOptions,
    evaluation: EvaluationTexts,
    work: Path,
    settings: dict[str, Any],
    on_set: OnSet,
) -> tuple[list[Staged], dict[str, str]]:
    common = {name: value for name, value in settings.items() if name not in ("sets", "policy")}
    staged: list[Staged] = []
    failed: dict[str, str] = {}
    for number, plan in enumerate(plans):
        on_set(number, len(plans), plan.name)
        inputs = hash_settings([common, settings["sets"][plan.name]])
        try:
            staged.append(stage(plan, options, evaluation, work / plan.folder, inputs))
        except M3EError as error:
            failed[plan.name] = str(error)
    on_set(len(plans), len(plans), "")
    return staged, failed


def _write(
    staged: Sequence[Staged],
    verdicts: Sequence[NDArray[np.uint8]],
    folder: Path,
    failed: dict[str, str],
    evaluation: EvaluationTexts,
    options: PipelineOptions,
    policy: str,
) -> dict[str, Any]:
    seen = TextFilter(sum(_text_count(item, verdict) for item, verdict in zip(staged, verdicts, strict=True)))
    datasets = []
    for item, verdict in zip(staged, verdicts, strict=True):
        shards = write_shards(item, verdict, folder / item.plan.folder, seen)
        datasets.append(
            {
                "dataset": item.plan.name,
                "kind": item.kind,
                "category": item.plan.category,
                "symmetric": item.plan.symmetric,
                "languages": list(item.plan.languages),
                "quality": item.plan.quality,
                "weight": item.plan.weight,
                **item.plan.facts,
                "rows_in": item.rows_in,
                "dropped": {**item.dropped, **counts(verdict)},
                "rows_out": int((verdict == 0).sum()),
                "shards": shards,
                "content_hash": hash_settings([shard["sha256"] for shard in shards]),
            }
        )
    seen.save(folder / FILE_NAME)
    manifest = {
        "version": __version__,
        "policy": policy,
        "options": asdict(options),
        "rows_in": sum(entry["rows_in"] for entry in datasets),
        "rows_out": sum(entry["rows_out"] for entry in datasets),
        "pairs_out": sum(entry["rows_out"] for entry in datasets if entry["kind"] != TEXT_KIND),
        "texts": seen.texts,
        "evaluation": [file.name for file in evaluation.files],
        "by_pair": overlaps(staged, evaluation.files),
        "failed": failed,
        "datasets": datasets,
        "content_hash": hash_settings([[entry["dataset"], entry["content_hash"]] for entry in datasets]),
    }
    write_json(folder / MANIFEST, manifest)
    return manifest


def _text_count(staged: Staged, verdicts: NDArray[np.uint8]) -> int:
    """How many texts the rows that stay have: the filter's size depends on it."""
    return int(staged.column("texts")[verdicts == 0].sum())


def remove_old_shards(out: Path, manifest: dict[str, Any]) -> None:
    """Shards of an earlier run in the same folder that this one did not write again."""
    current = {out / shard["file"] for entry in manifest["datasets"] for shard in entry["shards"]}
    for path in out.glob("*/[0-9][0-9][0-9][0-9][0-9].parquet"):
        if path not in current:
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
