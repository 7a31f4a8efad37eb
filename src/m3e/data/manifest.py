"""What a data folder says of itself: ``manifest.json`` for programs, ``README.md`` for a hub and its readers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from m3e.data.bloom import FILE_NAME
from m3e.errors import DataError
from m3e.files import read_json

MANIFEST = "manifest.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder that ``m3e data prepare`` wrote.

    Raises:
        DataError: the folder has none, or it cannot be read.
    """
    try:
        manifest = read_json(folder / MANIFEST)
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} has no readable {MANIFEST}; m3e data prepare writes one") from error
    if not isinstance(manifest, dict) or "datasets" not in manifest:
        raise DataError(f"{folder / MANIFEST} is not a manifest of m3e data prepare")
    return manifest


def commercial_use(manifest: Mapping[str, Any]) -> str:
    """Whether the terms of all data sets with rows allow commercial use: ``yes``, ``no`` or ``unknown``.

    The terms of models that made some of the data (``steps``, by ``m3e.mining``) count too.
    """
    terms = {entry.get("commercial") or "unknown" for entry in manifest["datasets"] if entry["rows_out"]}
    terms |= {model.get("commercial") or "unknown" for step in manifest.get("steps", []) for model in step["models"]}
    return next((term for term in ("no", "unknown") if term in terms), "yes")


def dataset_card(manifest: Mapping[str, Any], title: str) -> str:
    """A data card for a hub: each set's licence, rows and shards, and what was dropped."""
    datasets: Sequence[Mapping[str, Any]] = [entry for entry in manifest["datasets"] if entry["rows_out"]]
    configs = [
        {
            "config_name": entry["dataset"].replace("/", "__"),
            "data_files": [{"split": "train", "path": [shard["file"] for shard in entry["shards"]]}],
        }
        for entry in datasets
    ]
    languages = sorted(
        {language for entry in datasets for language in entry.get("languages", []) if language != "code"}
    )
    licences = sorted({entry.get("licence", "not stated") for entry in datasets})
    head = {
        "language": languages,
        "license": "other",
        "license_name": "mixed",
        "task_categories": ["sentence-similarity", "feature-extraction"],
        "tags": ["sentence-transformers", "embeddings", "m3e"],
        "size_categories": [_size(manifest["rows_out"])],
        "configs": configs,
    }
    lines = [
        "---",
        yaml.safe_dump(head, allow_unicode=True, sort_keys=False).strip(),
        "---",
        f"# {title}",
        "",
        f"{manifest['rows_out']:,} rows of {len(datasets)} data sets for training text embedding models, cleaned, "
        f"deduplicated and decontaminated by m3e {manifest['version']}.",
        "",
        f"Policy: {manifest['policy']}. Licences: {'; '.join(licences)}.",
        "",
        "| data set | kind | category | licence | commercial | rows in | rows out |",
        "|---|---|---|---|---|---:|---:|",
        *(
            f"| {entry['dataset']} | {entry['kind']} | {entry.get('category', '')} | {_cell(entry.get('licence', ''))} "
            f"| {entry.get('commercial', 'unknown')} | {entry['rows_in']:,} | {entry['rows_out']:,} |"
            for entry in datasets
        ),
        "",
        "## What was dropped",
        "",
        "| data set | rule | rows |",
        "|---|---|---:|",
        *(
            f"| {entry['dataset']} | {rule} | {count:,} |"
            for entry in manifest["datasets"]
            for rule, count in entry["dropped"].items()
        ),
        "",
        "## Evaluation texts",
        "",
        *_contamination(manifest),
        "",
        f"`{FILE_NAME}` holds a Bloom filter of the keys of all {manifest['texts']:,} texts, 10 bits each: it can say "
        "whether a text was trained on.",
    ]
    return "\n".join(lines) + "\n"


def _contamination(manifest: Mapping[str, Any]) -> list[str]:
    against: Sequence[str] = manifest["evaluation"]
    if not against:
        return ["No evaluation texts were given to compare with."]
    by_pair = manifest["by_pair"]
    lines = [
        f"Rows that match a text of {len(against)} evaluation files, exactly or nearly, were dropped: "
        f"{', '.join(against)}."
    ]
    if by_pair:
        lines += [
            "",
            "| training set | evaluation file | shared rows | shared texts | shared passages |",
            "|---|---|---:|---:|---:|",
            *(
                f"| {pair['train']} | {pair['eval']} | {pair['rows']} | {pair['texts']} | {pair['passages']} |"
                for pair in by_pair
            ),
        ]
    return lines


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def _size(rows: int) -> str:
    for bound, name in ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")):
        if rows < bound:
            return name
    return "1M<n<10M" if rows < 10_000_000 else "10M<n<100M"
