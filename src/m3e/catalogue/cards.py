"""What the catalogue knows of a data set: where it comes from, what its rows mean, who may use it."""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from m3e.errors import DataError
from m3e.faults import faults
from m3e.records import REQUIRED_FIELDS, Kind

Commercial = Literal["yes", "no", "unknown"]
Category = Literal["s2s", "s2p", "s2c"]
Quality = Literal["high", "medium", "low"]
SetKind = Literal[
    "pair",
    "triplet",
    "scored_pair",
    "ranked",
    "classification",
    "clustering",
    "pair_classification",
    "sts",
    "retrieval",
    "reranking",
    "text",
]
TRAINING_KINDS = ("pair", "triplet", "scored_pair", "ranked")
TEXT_KINDS = ("text", "classification", "clustering")
"""Kinds whose training rows are single texts: for vocabularies, pre-training and distillation."""

FORMATS = ("jsonl", "json", "csv", "tsv", "parquet")
CONVERSIONS = ("words", "simplified", "tableqa_sql", "text")
"""What a column may be turned into before it is mapped: words joined again, simplified Chinese, SQL, plain text."""

STRICTNESS: dict[Commercial, int] = {"yes": 0, "unknown": 1, "no": 2}


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Licence(_Model):
    """Who may use a set.

    Attributes:
        stated: an SPDX identifier, or the words of the set's owner.
        commercial: whether a model trained on it may be sold; ``unknown`` where nothing is stated.
        reason: why ``commercial`` is what it is.
        source: where the licence was read.
    """

    stated: str = Field(min_length=1)
    commercial: Commercial
    reason: str = Field(min_length=1)
    source: str = Field(min_length=1)


class SeedFacts(_Model):
    """A row of the table in the M3E model card, as it stands there."""

    rows: int = Field(gt=0)
    commercial: Commercial
    quality: Quality
    domain: str
    task: str
    prompt: str
    provider: str
    source: str
    open: Commercial
    script: bool


class Source(_Model):
    """One place where a set can be read: exactly one of ``hub``, ``url`` and ``path``.

    Attributes:
        hub: a hub id; with ``revision``, ``config`` and the ``splits`` that are read.
        url: of a file or an archive (zip, tar, tar.gz, gz).
        path: a file, an archive or a folder, relative to the folder of raw data, or absolute.
        files: which files of an archive or a folder, as patterns; all of a known format by default.
        format: of the files, where their names do not say it.
        columns: names of the columns, for files without a header line.
        sha256: of what ``url`` gives.
        part: which part of the set it gives; sources of one part are tried in order, the parts together are the set.
        note: what a person must know or do to get it.
    """

    hub: str | None = None
    revision: str | None = None
    config: str | None = None
    splits: tuple[str, ...] = ("train",)
    url: str | None = None
    path: str | None = None
    files: tuple[str, ...] = ()
    format: Literal["jsonl", "json", "csv", "tsv", "parquet"] | None = None
    columns: tuple[str, ...] = ()
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    part: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _names_one_place(self) -> Source:
        if sum(place is not None for place in (self.hub, self.url, self.path)) != 1:
            raise ValueError("name exactly one of hub, url and path")
        if self.hub is None and (self.revision or self.config):
            raise ValueError("revision and config belong to a hub")
        return self

    @property
    def place(self) -> str:
        """The hub id, URL or path, for messages."""
        return self.hub or self.url or self.path or ""


class Fields(_Model):
    """How a raw row becomes one record: each field of the record from a column, or from a format string.

    A value with braces is a format string over columns: ``{instruction} {input}``.

    Attributes:
        explode: a column that holds a list; each of its items gives a record, with the item in that column.
    """

    text: str | None = None
    text_pos: str | None = None
    text_neg: str | None = None
    sentence1: str | None = None
    sentence2: str | None = None
    label: str | None = None
    query: str | None = None
    pos: str | None = None
    neg: str | None = None
    explode: str | None = None

    @property
    def of_record(self) -> dict[str, str]:
        """Record field to column or format string."""
        return {name: value for name, value in self if name != "explode" and value is not None}


class RowMapping(_Model):
    """How raw rows become records.

    Attributes:
        records: where rows lie inside a JSON document, as ``data[].paragraphs[].qas[]``; a row also has the
            values of what it lies in.
        where: column to the values that a row must have one of, compared as text.
        convert: column to one of :data:`CONVERSIONS`.
        labels: a class's name in the label column to the number that stands for it, higher for more alike.
        tables: pattern of files that hold the tables which ``tableqa_sql`` needs.
        fields: each raw row gives one record for each of these.
    """

    records: str | None = Field(default=None, pattern=r"^[^\[\].]+(\[\])?(\.[^\[\].]+(\[\])?)*$")
    where: dict[str, tuple[str | int, ...]] = {}
    convert: dict[str, Literal["words", "simplified", "tableqa_sql", "text"]] = {}
    labels: dict[str, float] = {}
    tables: str | None = None
    fields: tuple[Fields, ...] = ()


class DatasetCard(_Model):
    """All that is known of a data set.

    Attributes:
        name: by which commands name it.
        use: ``train``, or ``evaluation`` for what must never be trained on.
        kind: of its records, or of its task.
        category: ``s2s`` sentence to sentence, ``s2p`` sentence to passage, ``s2c`` sentence to code.
        symmetric: whether the two sides of a pair may be swapped.
        languages: BCP 47 codes; ``code`` stands for source code.
        query_instruction: what the query side is trained with, where it is.
        passage_instruction: the same for the other side.
        quality: how far its rows can be trusted; decides which of two duplicates stays.
        rows: how many records are expected of the sources; ``None`` where nobody counted.
        seed: what the M3E model card says of it.
        tasks: names of the mteb tasks that hold its texts.
        title_in_passage: rows whose text stands in its positive are dropped.
    """

    name: str = Field(pattern=r"^[\w][\w.\-]*(/[\w][\w.\-]*)?$")
    title: str
    description: str
    use: Literal["train", "evaluation"] = "train"
    kind: SetKind
    category: Category
    symmetric: bool = False
    languages: tuple[str, ...] = Field(min_length=1)
    domain: str
    query_instruction: str = ""
    passage_instruction: str = ""
    quality: Quality = "medium"
    provider: str = ""
    citation: str = ""
    rows: int | None = Field(default=None, gt=0)
    licence: Licence
    seed: SeedFacts | None = None
    sources: tuple[Source, ...] = ()
    mapping: RowMapping = RowMapping()
    tasks: tuple[str, ...] = ()
    title_in_passage: bool = False

    @field_validator("languages")
    @classmethod
    def _languages_are_codes(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        for language in languages:
            if not re.fullmatch(r"code|[a-z]{2,3}(-[A-Za-z0-9]+)*", language):
                raise ValueError(f"{language!r} is no language code")
        return languages

    @model_validator(mode="after")
    def _fields_suit_the_kind(self) -> DatasetCard:
        for fields in self.mapping.fields:
            columns = {column for template in fields.of_record.values() for column in columns_of(template)}
            if fields.explode is not None and fields.explode not in columns:
                raise ValueError(f"explodes the column {fields.explode!r}, but no field is made of it")
            needed = REQUIRED_FIELDS[Kind(self.kind)] if self.kind in TRAINING_KINDS else ()
            missing = [name for name in needed if name not in fields.of_record]
            if missing:
                raise ValueError(f"a {self.kind} needs the field {missing[0]}, which the mapping does not name")
        return self

    @property
    def parts(self) -> list[tuple[Source, ...]]:
        """The sources by part, in the order in which parts are named first; of each part one source is read."""
        parts: dict[str, list[Source]] = {}
        for source in self.sources:
            parts.setdefault(source.part, []).append(source)
        return [tuple(sources) for sources in parts.values()]

    @property
    def trains(self) -> bool:
        """Whether its rows are training records, or single texts to train on."""
        return self.use == "train" and self.kind in (*TRAINING_KINDS, *TEXT_KINDS)

    @property
    def commercial(self) -> Commercial:
        """The stricter of the set's own licence and of what the M3E card says."""
        flags = [self.licence.commercial, *([self.seed.commercial] if self.seed else [])]
        return max(flags, key=STRICTNESS.__getitem__)


def columns_of(template: str) -> list[str]:
    """The columns that a mapping's value names: itself, or those in the braces of a format string.

    Raises:
        ValueError: braces that do not close, or that hold no name.
    """
    if "{" not in template and "}" not in template:
        return [template]
    try:
        names = [name for _, name, spec, conversion in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ValueError(f"{template!r} is no format string: {error}") from error
    if not names or not all(names):
        raise ValueError(f"{template!r} is a format string without a column's name in its braces")
    return names


def parse_card(values: Mapping[str, object], where: str) -> DatasetCard:
    """The card of a TOML document's values.

    Raises:
        DataError: a key is missing, unknown, or of a wrong value; the message names the file and the key's path.
    """
    try:
        return DatasetCard.model_validate(values)
    except ValidationError as error:
        raise DataError(f"{where}: {faults(error)}") from error


def read_card(path: Path) -> DatasetCard:
    """The card in a TOML file, whose name must be the card's, in lower case and with ``__`` for ``/``.

    Raises:
        DataError: no TOML, or not a card; the message names the file and the key's path.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path.name}: {error}") from error
    card = parse_card(values, path.name)
    wanted = f"{card.name.lower().replace('/', '__')}.toml"
    if path.name != wanted:
        raise DataError(f"{path.name}: name: is {card.name!r}, so the file should be {wanted}")
    return card
