"""From a preset and the catalogue to a prepared folder: what ``m3e data prepare`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from m3e.catalogue.cards import DatasetCard
from m3e.catalogue.local import data_folder
from m3e.catalogue.shelf import GROUPS, all_cards, find_card, select_cards
from m3e.data.card_records import missing_reason
from m3e.data.evaluation_sets import evaluation_paths
from m3e.data.pipeline import SetPlan
from m3e.data.policy import apply_policy
from m3e.data.prepare import OnSet, Prepared, Say, run_pipeline
from m3e.data.preset import Preset, read_preset
from m3e.data.sets import plan_of_card, plans_of_paths
from m3e.errors import DataError, SettingsError
from m3e.faults import faults
from m3e.shipped_toml import key_and_value


def chosen_preset(
    name: str | None,
    sets: Sequence[str],
    policy: str | None,
    simplified: bool | None,
    near_duplicates: float | None,
    settings: Sequence[str],
) -> Preset:
    """A preset with what the command line says on top of it.

    Args:
        name: of a shipped preset, or a TOML file; ``None`` begins with the defaults.
        settings: ``key=value`` lines, the value as TOML has it.

    Raises:
        DataError: there is no such preset.
        SettingsError: a setting is unknown or out of range, or no set is named.
    """
    values = read_preset(name).model_dump() if name else {}
    given = {
        "sets": tuple(sets) or None,
        "policy": policy,
        "simplified": simplified,
        "near_duplicates": near_duplicates,
    }
    values |= {key: value for key, value in given.items() if value is not None}
    for line in settings:
        _assign(values, line)
    try:
        preset = Preset.model_validate(values)
    except ValidationError as error:
        raise SettingsError(faults(error)) from error
    if not preset.sets:
        raise SettingsError(f"name the sets: --sets NAME or FILE, or a group: {', '.join(GROUPS)}; or name a preset")
    return preset


def prepare_sets(
    preset: Preset,
    out: Path,
    *,
    against: Sequence[str] = (),
    raw: Path | None = None,
    say: Say = lambda line: None,
    on_set: OnSet = lambda done, total, name: None,
    overwrite: bool = False,
    named: Sequence[str] = (),
) -> tuple[Prepared, list[str]]:
    """Run a preset's sets through the pipeline; the folder, and lines about policy and evaluation sets.

    Args:
        against: evaluation files, folders or sets beside those that are here.
        raw: the folder to which cards' paths are relative.
        named: sets that the user asked for by name; the policy must not leave one out in silence.

    Raises:
        DataError: a set is unknown or not allowed, or none can be read.
        OutputExistsError: ``out`` holds something else.
    """
    options = preset.options
    cards = all_cards()
    paths = [Path(name) for name in preset.sets if name not in GROUPS and _is_file(name, cards)]
    chosen = select_cards([name for name in preset.sets if Path(name) not in paths], cards)
    _refuse_evaluation(chosen)
    asked = [find_card(name, cards).name for name in named if name not in GROUPS and Path(name) not in paths]
    if paths and preset.policy == "commercial":
        raise DataError(
            f"--policy commercial does not allow {', '.join(map(str, paths))}: the terms of a file are unknown; "
            "describe it in a folder with a catalogue.csv (M3E_DATA), or use --policy any"
        )
    kept, notes = apply_policy(chosen, preset.policy, named=asked) if chosen else ([], [])
    kept, absent = _here(kept, [name for name in preset.sets if name not in GROUPS], cards, raw)
    if absent:
        notes.append(
            f"{len(absent)} sets of the catalogue are not here and are passed over: {', '.join(absent)}; "
            "m3e data show NAME says where to get one"
        )
    if not kept and not paths:
        raise DataError(f"none of the sets is here: {', '.join(absent)}; m3e data show NAME says where to get one")
    evaluation, more = evaluation_paths(against, cards, folder=data_folder(), raw=raw)
    for line in (*notes, *more):
        say(line)
    plans = _plans(kept, paths, preset, raw)
    prepared = run_pipeline(
        plans,
        out,
        options,
        evaluation=evaluation,
        title=preset.title,
        policy=preset.policy,
        say=say,
        on_set=on_set,
        overwrite=overwrite,
    )
    return prepared, _surprises(kept, prepared)


def _here(
    cards: Sequence[DatasetCard], named: Sequence[str], catalogue: Sequence[DatasetCard], raw: Path | None
) -> tuple[list[DatasetCard], list[str]]:
    """The cards that can be read, and the names of those of a group that cannot; named ones fail when read."""
    wanted = {find_card(name, catalogue).name for name in named if not _is_file(name, catalogue)}
    absent = [card.name for card in cards if card.name not in wanted and missing_reason(card, raw=raw) is not None]
    return [card for card in cards if card.name not in absent], absent


def _plans(cards: Sequence[DatasetCard], paths: Sequence[Path], preset: Preset, raw: Path | None) -> list[SetPlan]:
    known = {card.name for card in cards}
    for table in (preset.max_rows, preset.weights):
        for name in table:
            if name not in known:
                raise SettingsError(f"{name!r} is not among the sets that are prepared; they are {', '.join(known)}")
    plans = [
        plan_of_card(card, raw=raw, weight=preset.weights.get(card.name, 1.0), max_rows=preset.max_rows.get(card.name))
        for card in cards
    ]
    return [*plans, *plans_of_paths(paths, taken=[plan.name for plan in plans])]


def _is_file(name: str, cards: Sequence[DatasetCard]) -> bool:
    return name not in {card.name for card in cards} and Path(name).exists()


def _refuse_evaluation(cards: Sequence[DatasetCard]) -> None:
    wrong = [card.name for card in cards if not card.trains]
    if wrong:
        raise DataError(f"{', '.join(wrong)}: sets for evaluation are never trained on; leave them out of --sets")


def _surprises(cards: Sequence[DatasetCard], prepared: Prepared) -> list[str]:
    """Sets that came out with quite another number of rows than their cards expect."""
    rows = {entry["dataset"]: entry["rows_in"] for entry in prepared.manifest["datasets"]}
    return [
        f"warning: {card.name} has {rows[card.name]:,} rows where its card expects {card.rows:,}"
        for card in cards
        if card.rows and card.name in rows and abs(rows[card.name] - card.rows) > 0.02 * card.rows
    ]


def _assign(values: dict[str, Any], line: str) -> None:
    key, value = key_and_value(line)
    *tables, last = key.split(".", 1) if key.startswith(("filters.", "max_rows.", "weights.")) else [key]
    target = values
    for table in tables:
        target = target.setdefault(table, {})
    target[last] = value
