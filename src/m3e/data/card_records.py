"""From a card to its records, out of the first of its sources that is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

from m3e.catalogue.cards import DatasetCard, RowMapping, Source
from m3e.data.archives import is_archive
from m3e.data.cleaning import DROPS_NAMED
from m3e.data.downloads import NotThereError, fetch
from m3e.data.hub import HubSplit, mirrored, stream_hub_splits
from m3e.data.kinds import Layout, find_layout
from m3e.data.mapping import MappedRows, layout_of, map_table, named_columns
from m3e.data.nested import read_nested
from m3e.data.raw_files import RawFile, list_raw_files, ready_to_read, scratch_folder, select_files
from m3e.data.streams import Account, stream_table, stream_tables
from m3e.data.tableqa import Header, read_headers
from m3e.data.tables import Row, Table
from m3e.data.text_files import read_table
from m3e.errors import DataError, HubUnreachableError, M3EError
from m3e.files import cache_folder
from m3e.records import Kind, Record

T = TypeVar("T")


class SourcesMissingError(DataError):
    """None of a set's sources is there; none is damaged."""


_HEAD_ROWS = 1000
"""Of a hub's data set without a mapping, the rows that tell what its columns mean: all cannot be read twice."""


def open_card(
    card: DatasetCard, *, raw: Path | None = None, cache: Path | None = None, account: Account
) -> Iterator[tuple[Kind, Record]]:
    """The records of a set, each with its kind: of each of its parts, from the first source that is there.

    Rows that ``where`` leaves out are counted in ``account.dropped`` too. Of an archive, one file at a time
    is unpacked.

    Args:
        card: its mapping says how rows become records; without one, the columns' names do.
        raw: the folder to which sources' paths are relative.
        cache: where files of the web are kept; :func:`m3e.files.cache_folder` by default.
        account: filled while the records are taken; the notes say which sources were passed over, and why.

    Raises:
        DataError: no source is there, or the one that is there is damaged, or does not have the columns that the
            mapping names. This can show after records were given, where there are several parts or files.
        MissingExtraError: a conversion needs a package that is not installed.
    """
    layout = layout_of(card.mapping, card.name)

    def read(source: Source) -> Iterator[tuple[Kind, Record]]:
        return _Reading(card, account).records(source, raw, cache or cache_folder(), layout)

    yield from _of_each_part(card, read, account)


def open_rows(
    card: DatasetCard, *, raw: Path | None = None, cache: Path | None = None, account: Account
) -> Iterator[Row]:
    """The rows of a set as its mapping makes them, whatever they hold: for sets that are no training records.

    Args:
        card: as for :func:`open_card`.
        raw: as for :func:`open_card`.
        cache: as for :func:`open_card`.
        account: its ``rows`` count the rows given.

    Raises:
        DataError: as :func:`open_card`.
        MissingExtraError: as :func:`open_card`.
    """

    def read(source: Source) -> Iterator[Row]:
        return _Reading(card, account).rows(source, raw, cache or cache_folder())

    yield from _of_each_part(card, read, account)


def missing_reason(card: DatasetCard, *, raw: Path | None = None) -> str | None:
    """Why a set is not here; ``None`` where its first row can be had, or cannot for another reason than that."""
    try:
        next(open_rows(card, raw=raw, account=Account()), None)
    except SourcesMissingError as error:
        return str(error)
    except M3EError:  # it is here, and damaged: who reads it will say so
        return None
    return None


def _of_each_part(card: DatasetCard, read: Callable[[Source], Iterator[T]], account: Account) -> Iterator[T]:
    if not card.sources:
        raise DataError(f"{card.name}: its card names no source; add one to its TOML")
    for sources in card.parts:
        refused: list[tuple[Source, str]] = []
        for source in sources:
            try:
                yield from read(source)
            except NotThereError as error:
                refused.append((source, str(error)))
                account.note(f"{card.name}: {source.place} is passed over: {error}")
            else:
                break
        else:
            raise SourcesMissingError(_nothing_message(card, refused))


@dataclass(frozen=True)
class _RawTable:
    """Rows as the source has them.

    Attributes:
        table: the rows.
        split: of a hub, where reading the rows again would fetch them again.
        headers: of the tables that TableQA's queries ask.
        is_last: whether it is known that no other table follows.
    """

    table: Table
    split: HubSplit | None = None
    headers: dict[str, Header] = field(default_factory=dict)
    is_last: bool = False


@dataclass
class _Reading:
    """The reading of one source."""

    card: DatasetCard
    account: Account
    columns: dict[str, None] = field(default_factory=dict)
    unwanted: dict[str, dict[str, None]] = field(default_factory=dict)
    kept: int = 0
    given: int = 0
    dropped: int = 0

    def records(
        self, source: Source, raw: Path | None, cache: Path, layout: Layout | None
    ) -> Iterator[tuple[Kind, Record]]:
        for table in self._tables(source, raw, cache):
            with self._mapped(table) as mapped:
                if layout is not None:
                    yield from stream_table(mapped, layout, self.account)
                elif table.split is None:
                    yield from stream_tables([lambda: mapped], {}, self.account)
                else:
                    yield from stream_table(mapped, self._layout_of_head(mapped), self.account)

    def rows(self, source: Source, raw: Path | None, cache: Path) -> Iterator[Row]:
        for table in self._tables(source, raw, cache):
            with self._mapped(table) as mapped:
                self.account.note(*mapped.notes)
                for row in mapped.rows:
                    self.account.rows += 1
                    yield row

    def _tables(self, source: Source, raw: Path | None, cache: Path) -> Iterator[_RawTable]:
        tables = self._hub_tables(source) if source.hub is not None else self._file_tables(source, raw, cache)
        for table in tables:
            self.columns |= dict.fromkeys(table.table.columns)
            if table.is_last:
                self._check_columns()
            yield table
        self._check_columns()
        self._check_something_is_left()

    @contextmanager
    def _mapped(self, raw: _RawTable) -> Iterator[Table]:
        """The table that the mapping makes; what its rows came to is counted when the block ends."""
        rows_before, dropped_before = self.account.rows, self.account.dropped.total()
        if self.card.mapping == RowMapping():
            yield raw.table
        else:
            class_names = raw.split.class_names if raw.split else {}
            table = map_table(raw.table, self.card.mapping, headers=raw.headers, class_names=class_names)
            yield table
            self._count(table.rows)
        self.given += self.account.rows - rows_before
        self.dropped += self.account.dropped.total() - dropped_before

    def _layout_of_head(self, table: Table) -> Layout:
        head = list(islice(table.rows, _HEAD_ROWS))
        self.account.note(f"{table.name}: what its columns mean is told from its first {len(head):,} rows")
        return find_layout(Table(table.name, table.columns, head, is_uniform=table.is_uniform), {})

    def _count(self, rows: MappedRows) -> None:
        self.kept += rows.kept
        for column, values in rows.unwanted.items():
            self.unwanted[column] = {**values, **self.unwanted.get(column, {})}
        self.account.dropped += rows.dropped
        self.account.drops += rows.drops[: DROPS_NAMED - len(self.account.drops)]

    def _check_columns(self) -> None:
        missing = [column for column in named_columns(self.card.mapping) if column not in self.columns]
        if missing:
            found = ", ".join(self.columns) or "none"
            raise DataError(
                f"{self.card.name}: its card maps the column {missing[0]!r}, which no row has; columns found: {found}"
            )

    def _check_something_is_left(self) -> None:
        if self.card.mapping.where and not self.kept:
            column, values = next(iter(self.unwanted.items()), (next(iter(self.card.mapping.where)), {}))
            wanted = ", ".join(map(str, self.card.mapping.where[column]))
            raise DataError(
                f"{self.card.name}: no row has {column} = {wanted}, as its card wants; found: {', '.join(values)}"
            )
        if not self.given:
            first = f"; first: {self.account.drops[0]}" if self.account.drops else ""
            raise DataError(f"{self.card.name} has no usable rows: all {self.dropped} were dropped{first}")

    def _hub_tables(self, source: Source) -> Iterator[_RawTable]:
        try:
            splits = stream_hub_splits(source.hub or "", source.splits, config=source.config, revision=source.revision)
        except (HubUnreachableError, DataError) as error:
            raise NotThereError(str(error)) from error
        for split in splits:
            yield _RawTable(split.table, split, is_last=len(splits) == 1)

    def _file_tables(self, source: Source, raw: Path | None, cache: Path) -> Iterator[_RawTable]:
        path = fetch(mirrored(source.url), cache, sha256=source.sha256) if source.url else _path_of(source, raw)
        name, mapping = f"{self.card.name}: {path.name}", self.card.mapping
        is_wanted = select_files(source.files, mapping.tables, any_name=source.format is not None)
        count = 0
        with scratch_folder(cache) as scratch:
            headers = self._headers(path, name, scratch) if mapping.tables else {}
            for file in list_raw_files(path, is_wanted, scratch, name):
                count += 1
                with self._table_of(file, source, scratch) as table:
                    yield _RawTable(table, None, headers, is_last=file.path == path)
        if not count:
            raise NotThereError(f"it has no file named {' or '.join(source.files) or 'as data files are'}")

    @contextmanager
    def _table_of(self, file: RawFile, source: Source, scratch: Path) -> Iterator[Table]:
        with ready_to_read(file, source.format, source.columns, scratch) as ready:
            if self.card.mapping.records:
                yield read_nested(ready.path, ready.name, self.card.mapping.records)
            else:
                yield read_table(ready.path, ready.name)

    def _headers(self, path: Path, name: str, scratch: Path) -> dict[str, Header]:
        """The headers of TableQA's tables, which lie beside the rows."""
        pattern = self.card.mapping.tables or ""
        place = path if path.is_dir() or is_archive(path) else path.parent
        headers: dict[str, Header] = {}
        for file in list_raw_files(place, select_files([pattern]), scratch, name):
            try:
                headers |= read_headers(read_table(file.path, file.name).rows)
            except ValueError as error:
                raise DataError(f"{file.name}: {error}") from error
        if not headers:
            raise DataError(f"{name} has no file {pattern}, which its SQL needs")
        return headers


def _path_of(source: Source, raw: Path | None) -> Path:
    path = Path(source.path or "").expanduser()
    if not path.is_absolute():
        if raw is None:
            raise NotThereError("no folder of raw files is named (--raw)")
        path = raw / path
    if not path.exists():
        raise NotThereError(f"there is no {path}")
    return path


def _nothing_message(card: DatasetCard, refused: Sequence[tuple[Source, str]]) -> str:
    tried = "; ".join(f"{source.place} ({reason})" for source, reason in refused)
    advice = [source.note for source, _ in refused if source.note]
    paths = [source.path for source, _ in refused if source.path and not Path(source.path).is_absolute()]
    advice += [f"put it at {path} in a folder, and name that with --raw" for path in paths[:1]]
    part = f" of its part {refused[0][0].part}" if refused[0][0].part else ""
    return (
        f"{card.name}: none of the sources{part} can be read: {tried}. "
        f"What to do: {'; '.join(advice) or 'try again where the web can be reached'}"
    )
