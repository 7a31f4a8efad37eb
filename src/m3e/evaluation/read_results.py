"""Results from disk: the folders that ``m3e eval --out`` writes, and the files of ``m3e eval --json``."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from m3e.errors import DataError, M3EError, SettingsError, first_line
from m3e.evaluation.results import TaskScore, category_of, finite_scores
from m3e.evaluation.tasks import card_of
from m3e.files import read_json

_TYPE_OF_KIND = {
    "classification": "Classification",
    "sts": "STS",
    "pair_classification": "PairClassification",
    "retrieval": "Retrieval",
    "reranking": "Reranking",
    "clustering": "Clustering",
}
_TEXT_FIELDS = ("type", "category", "data_revision", "recipe", "hardware")
_NUMBER_FIELDS = ("contamination", "texts_per_second", "truncated")
_NAMED_AT_MOST = 8


@dataclass(frozen=True)
class StoredResult:
    """One task's score of one model, and where it was found.

    Attributes:
        items: the scores of single items; ``None`` where they are not there.
    """

    model: str
    revision: str
    score: TaskScore
    file: Path
    items: Path | None = None
    parameters: int | None = None
    dim: int | None = None


@dataclass
class StoredResults:
    """What was read.

    Attributes:
        problems: why a file, or a part of one, was left out, by its path.
    """

    results: list[StoredResult] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)

    def models(self) -> list[tuple[str, str]]:
        """Name and revision of each model, in the order of the files."""
        return list(dict.fromkeys((found.model, found.revision) for found in self.results))

    def labels(self) -> dict[tuple[str, str], str]:
        """What to call each model: its name, and its revision where two share the name."""
        models = self.models()
        names = [name for name, _ in models]
        return {
            (name, revision): f"{name}@{revision[:8] or 'unknown'}" if names.count(name) > 1 else name
            for name, revision in models
        }

    def label(self, result: StoredResult) -> str:
        """What to call a result's model; of a run with its prompts switched off, that too."""
        name = self.labels()[result.model, result.revision]
        return name if result.score.prompts else f"{name} without prompts"

    def find_model(self, wanted: str) -> tuple[str, str]:
        """The model of a name, of ``name@revision`` (its first digits will do), or of a folder of results.

        Raises:
            SettingsError: there is none, or more than one.
        """
        name, _, digits = wanted.partition("@")
        found = [model for model in self.models() if model[0] == name and model[1].startswith(digits)]
        if not found and Path(wanted).exists():
            inside = Path(wanted).resolve()
            places = [item for item in self.results if item.file.resolve().is_relative_to(inside)]
            found = list(dict.fromkeys((item.model, item.revision) for item in places))
        labels = self.labels()
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(labels[model] for model in found)
            raise SettingsError(f"{wanted!r} has results of several revisions; name one of {names}")
        raise SettingsError(f"there are no results of {wanted!r}; there are some of {', '.join(labels.values())}")


def read_results(paths: Sequence[Path]) -> StoredResults:
    """Every result in folders and files; what cannot be read is named and left out.

    Raises:
        SettingsError: a path that is not there.
        DataError: not one result could be read.
    """
    read = StoredResults()
    for path in paths:
        if not path.exists():
            raise SettingsError(f"there are no results at {path}; m3e eval writes them into its --out folder")
        for file in _files(path):
            _read_file(file, read)
    if not read.results:
        raise DataError(f"no result could be read from {', '.join(map(str, paths))}{_reasons(read.problems)}")
    return read


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    inside = (file.relative_to(path) for file in path.rglob("*.json"))
    return sorted(path / file for file in inside if not any(part.startswith(".") for part in file.parts))


def _read_file(file: Path, read: StoredResults) -> None:
    try:
        value = read_json(file)
    except (OSError, ValueError) as error:
        read.problems[str(file)] = f"it cannot be read as JSON: {first_line(error)}"
        return
    try:
        for found in _results(file, value, read.problems):
            _add(found, read)
    except M3EError as error:
        read.problems[str(file)] = str(error)


def _results(file: Path, value: Any, problems: dict[str, str]) -> Iterator[StoredResult]:
    """The results in one JSON value: one task's, or a list of a model's."""
    if not isinstance(value, dict) or not ("m3e" in value or "results" in value):
        raise DataError("it is no result of m3e eval")
    if "m3e" in value:
        yield _stored(file, value["m3e"], value["m3e"], _record_scores(value))
        return
    if not isinstance(value["results"], list):
        raise DataError("results is no list; m3e eval --json writes one")
    for index, row in enumerate(value["results"]):
        try:
            yield _stored(file, value, row, row.get("scores") if isinstance(row, dict) else None)
        except DataError as error:
            problems[f"{file}, result {index + 1}"] = str(error)


def _record_scores(value: Mapping[str, Any]) -> Any:
    """All metrics of mteb's own record."""
    facts, scores = value["m3e"], value.get("scores")
    subsets = scores.get(facts.get("split")) if isinstance(scores, dict) and isinstance(facts, dict) else None
    if not isinstance(subsets, list) or not subsets or not all(isinstance(part, dict) for part in subsets):
        raise DataError("it holds no scores of the split that it names")
    return finite_scores(subsets)


def _stored(file: Path, about: Any, row: Any, scores: Any) -> StoredResult:
    if not isinstance(row, dict) or not isinstance(about, dict):
        raise DataError("it holds no fields")
    model = about.get("model")
    if not isinstance(model, str) or not model:
        raise DataError("it does not say which model it is of")
    items = file.with_suffix(".parquet")
    return StoredResult(
        model=model,
        revision=str(about.get("revision") or ""),
        score=_score(row, scores),
        file=file,
        items=items if "split" in about and items.is_file() else None,
        parameters=_whole(about.get("parameters")),
        dim=_whole(about.get("dim")),
    )


def _score(row: Mapping[str, Any], scores: Any) -> TaskScore:
    missing = [name for name in ("task", "split", "metric", "score", "n") if row.get(name) is None]
    if missing:
        raise DataError(f"it has no {', '.join(missing)}")
    if not _is_number(row["score"]):
        raise DataError(f"its score is {row['score']!r}, not a number")
    interval = row.get("ci95")
    values: dict[str, Any] = {part.name: row.get(part.name) for part in fields(TaskScore)}
    values |= {name: str(row.get(name) or "") for name in _TEXT_FIELDS}
    values |= {name: float(row[name]) if _is_number(row.get(name)) else None for name in _NUMBER_FIELDS}
    values |= {name: str(row[name]) for name in ("task", "split", "metric")}
    values["scores"] = {key: float(item) for key, item in (scores or {}).items() if _is_number(item)}
    values["n"] = _whole(row["n"]) or 0
    values["prompts"] = row.get("prompts") is not False
    values["official_split"] = row.get("official_split") is True
    values["ci95"] = (
        (float(interval[0]), float(interval[1]))
        if isinstance(interval, list) and len(interval) == 2 and all(map(_is_number, interval))
        else None
    )
    card = card_of(values["task"])
    values["type"] = values["type"] or (_TYPE_OF_KIND[card.kind] if card else "other")
    values["category"] = values["category"] or category_of(values["type"])
    return TaskScore(**values)


def _add(found: StoredResult, read: StoredResults) -> None:
    """Keep a result, once; of one that stands in two files with different scores, the first."""
    for place, other in enumerate(read.results):
        if (other.model, other.revision, identity(other.score)) != (found.model, found.revision, identity(found.score)):
            continue
        if abs(other.score.score - found.score.score) > 1e-6:
            read.problems[str(found.file)] = (
                f"{found.score.task} of {found.model} stands in {other.file} with another score; that one is kept"
            )
        elif other.items is None and found.items is not None:
            read.results[place] = found
        return
    read.results.append(found)


def identity(score: TaskScore) -> tuple[str, str, str, int, bool, str, bool]:
    """What must be equal where two scores are compared: task, split, data, size, protocol, prompts on or off."""
    return (
        score.task,
        score.split,
        score.data_revision,
        score.n,
        score.official_split,
        score.recipe,
        score.prompts,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> int | None:
    return int(value) if _is_number(value) else None


def _reasons(problems: Mapping[str, str]) -> str:
    named = [f"{path}: {reason}" for path, reason in problems.items()][:_NAMED_AT_MOST]
    return f"; {'; '.join(named)}" if named else ""
