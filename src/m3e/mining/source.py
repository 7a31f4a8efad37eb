"""What a user mines or scores: a file or folder of records, or a prepared folder; and where the work lies meanwhile."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from m3e.data.bloom import FILE_NAME
from m3e.data.manifest import MANIFEST, read_manifest
from m3e.data.pipeline import SetPlan
from m3e.data.sets import plan_of_path, plans_of_paths
from m3e.data.staging import TEXT_KIND
from m3e.errors import DataError, M3EError, SettingsError
from m3e.files import check_output_folder, read_marker, write_marker
from m3e.mining.output import Entry
from m3e.mining.rows import Rows, stage_rows
from m3e.records import Kind

WORK = "mining work"

CONTRASTIVE = (Kind.PAIR, Kind.TRIPLET, Kind.RANKED)
"""Kinds whose rows have positives."""


@dataclass(frozen=True)
class MiningSource:
    """Sets of rows, in order.

    Attributes:
        manifest: of a prepared folder; ``None`` where the source is a user's file or folder.
        plans: of the sets to work on, by name.
        entries: what the manifest says of all sets that have rows.
    """

    path: Path
    manifest: dict[str, Any] | None
    plans: dict[str, SetPlan]
    entries: list[Entry]

    @property
    def prepared(self) -> bool:
        """Whether this is a folder that ``m3e data`` wrote."""
        return self.manifest is not None

    @property
    def inputs(self) -> list[Any]:
        """What identifies the content."""
        contents = [entry["content_hash"] for entry in self.entries]
        return [contents, [[plan.name, plan.inputs, plan.symmetric] for plan in self.plans.values()]]


def open_source(
    path: Path,
    kinds: Sequence[str],
    *,
    columns: Mapping[str, str] | None = None,
    sets: Sequence[str] = (),
    symmetric: bool = False,
) -> MiningSource:
    """The sets of a file, a folder, or a prepared folder.

    Args:
        kinds: of a prepared folder, those sets are worked on.
        columns: record field to column, where a file's names are not known ones.
        sets: of a prepared folder, only these; all of the kinds by default.
        symmetric: both sides of a file's rows are the same kind of text.

    Raises:
        DataError: nothing is there, or no set is of the kinds, or one of ``sets`` is not there or of another kind.
        SettingsError: options that do not go with the source.
    """
    if not (path / MANIFEST).is_file():
        if sets:
            raise SettingsError(f"--set names a data set of a prepared folder; {path} has no {MANIFEST}")
        plan = replace(plan_of_path(path, columns=columns), symmetric=symmetric)
        return MiningSource(path, None, {plan.name: plan}, [])
    if columns or symmetric:
        raise SettingsError(f"--column and --symmetric are for files; {path} is a prepared folder, which says both")
    manifest = read_manifest(path)
    entries = [entry for entry in manifest["datasets"] if entry["shards"]]
    chosen = _chosen(path, entries, kinds, sets)
    plans = dict(zip((entry["dataset"] for entry in entries), plans_of_paths([path]), strict=True))
    return MiningSource(path, manifest, {name: plans[name] for name in chosen}, entries)


def _chosen(path: Path, entries: Sequence[Entry], kinds: Sequence[str], sets: Sequence[str]) -> list[str]:
    found = {entry["dataset"]: entry["kind"] for entry in entries}
    for name in sets:
        if name not in found:
            raise DataError(f"{path} has no data set {name!r}; it has: {', '.join(found)}")
        if found[name] not in kinds:
            raise DataError(f"{path}: {name} holds {_spoken(found[name])}; wanted are {', '.join(map(_spoken, kinds))}")
    chosen = [name for name, kind in found.items() if kind in kinds and (not sets or name in sets)]
    if not chosen:
        raise DataError(f"{path} holds no set of {', '.join(map(_spoken, kinds))}")
    return chosen


def _spoken(kind: str) -> str:
    return "single texts" if kind == TEXT_KIND else f"{kind.replace('_', ' ')} rows"


def staged(source: MiningSource, folder: Path) -> dict[str, Rows]:
    """The rows of each set, read into ``folder``."""
    return {name: stage_rows(plan, folder / plan.folder / "rows") for name, plan in source.plans.items()}


def check_kind(rows: Rows, kinds: Sequence[str]) -> None:
    """Refuse rows of another kind.

    Raises:
        DataError: names the set, its kind, and the kinds that are wanted.
    """
    if rows.kind not in kinds:
        wanted = ", ".join(map(_spoken, kinds))
        raise DataError(f"{rows.plan.name} holds {_spoken(rows.kind)}; wanted are {wanted}")


@contextlib.contextmanager
def work_folder(out: Path, chosen: Path | None) -> Iterator[Path]:
    """Yield the folder of vectors and results; one beside ``out`` is removed when the block ends well or had none.

    Raises:
        OutputExistsError: the chosen folder holds something else.
        SettingsError: the disk refuses something.
    """
    folder = chosen or out.resolve().with_name(f".{out.resolve().name}.work")
    check_output_folder(folder, overwrite=False, step=WORK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if read_marker(folder) is None:
            write_marker(folder, WORK)
        yield folder
        if chosen is None:
            shutil.rmtree(folder)
    except M3EError:
        if chosen is None and not any(path.suffix != ".json" for path in folder.rglob("*") if path.is_file()):
            shutil.rmtree(folder)
        raise
    except OSError as error:
        raise SettingsError(
            f"{error.filename or folder} cannot be written: {error.strerror or error}; mend that, and the same command "
            f"goes on from what {folder} holds"
        ) from error


def finished(out: Path, step: str, inputs: str) -> dict[str, Any] | None:
    """The marker of an output folder that the same step made of the same inputs and that has all its files."""
    marker = read_marker(out)
    if marker is None or marker["m3e"] != step or marker.get("inputs") != inputs:
        return None
    shards = [out / shard["file"] for entry in read_manifest(out)["datasets"] for shard in entry["shards"]]
    return marker if all(path.is_file() for path in (*shards, out / FILE_NAME)) else None
