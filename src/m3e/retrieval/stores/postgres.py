"""PostgreSQL with the extension pgvector."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from m3e.errors import DataError, MissingExtraError, StoreError, first_line
from m3e.retrieval.filters import Condition, facets
from m3e.retrieval.stores.database import Row, Vector, dump_metadata, row_of
from m3e.retrieval.stores.url import StoreUrl

_STATES = "m3e_stores"
_INDEXED_FROM = 10_000
_MOST_INDEXED = 2000
"""Dimensions that pgvector's HNSW takes."""
_IDS_AT_ONCE = 1000


def open_database(url: StoreUrl, *, create: bool) -> PostgresDatabase:
    """The database behind an address.

    Raises:
        StoreError: no answer, or pgvector is not there.
        MissingExtraError: psycopg or pgvector is not installed.
    """
    try:
        import psycopg
    except ImportError as error:
        raise MissingExtraError("psycopg", "postgres") from error
    try:
        from pgvector.psycopg import register_vector
    except ImportError as error:
        raise MissingExtraError("pgvector", "postgres") from error
    try:
        connection = psycopg.connect(url.place, autocommit=True, connect_timeout=15)
    except psycopg.Error as error:
        raise StoreError(f"the PostgreSQL server {url.shown} does not answer: {first_line(error)}") from error
    try:
        if create:
            with connection.transaction():
                # two sessions that create it at once would collide
                connection.execute("SELECT pg_advisory_xact_lock(hashtext('m3e'))")
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        if connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone():
            register_vector(connection)
    except psycopg.Error as error:
        connection.close()
        raise StoreError(
            f"{url.shown} has no extension pgvector, and it cannot be created: {first_line(error)}"
        ) from error
    return PostgresDatabase(connection)


class PostgresDatabase:
    """See :class:`m3e.retrieval.stores.database.Database`."""

    kind = "PostgreSQL"
    most_hits = 1_000_000

    def __init__(self, connection: Any) -> None:
        import psycopg

        self.errors: tuple[type[Exception], ...] = (psycopg.Error,)
        self._connection = connection

    def read_state(self, store: str) -> dict[str, Any] | None:
        """The state, from a row of a table of its own."""
        if self._run("SELECT to_regclass(%s)", [_STATES]).fetchone()[0] is None:
            return None
        found = self._run("SELECT state FROM m3e_stores WHERE name = %s", [store]).fetchone()
        return dict(json.loads(found[0])) if found else None

    def write_state(self, store: str, state: Mapping[str, Any]) -> None:
        """Replace the state's row."""
        self._run("CREATE TABLE IF NOT EXISTS m3e_stores (name text PRIMARY KEY, state text NOT NULL)")
        self._run(
            "INSERT INTO m3e_stores VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET state = EXCLUDED.state",
            [store, json.dumps(dict(state))],
        )

    def create_table(self, table: str, dimension: int, *, ann: bool) -> None:
        """An empty table."""
        self._run(
            f'CREATE TABLE IF NOT EXISTS {table} (id text COLLATE "C" PRIMARY KEY, text text NOT NULL, '
            "metadata json NOT NULL, digest text NOT NULL, facets jsonb NOT NULL, "
            f"vector vector({int(dimension)}) NOT NULL)"
        )

    def drop_table(self, table: str) -> None:
        """Remove a table."""
        self._run(f"DROP TABLE IF EXISTS {table}")

    def upsert(self, table: str, rows: Sequence[Row]) -> None:
        """One transaction for all rows.

        Raises:
            DataError: a text with a NUL character, which PostgreSQL does not keep; names its id.
        """
        for row in rows:
            if "\0" in row.id or "\0" in row.text:
                raise DataError(f"document {row.id!r}: PostgreSQL keeps no NUL characters (U+0000); remove them")
        values = [
            (row.id, row.text, dump_metadata(row.metadata), row.digest, json.dumps(facets(row.metadata)), row.vector)
            for row in rows
        ]
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO {table} (id, text, metadata, digest, facets, vector) VALUES (%s, %s, %s, %s, %s, %s) "
                "ON CONFLICT (id) DO UPDATE SET text = EXCLUDED.text, metadata = EXCLUDED.metadata, "
                "digest = EXCLUDED.digest, facets = EXCLUDED.facets, vector = EXCLUDED.vector",
                values,
            )

    def delete(self, table: str, ids: Sequence[str]) -> None:
        """Remove rows."""
        self._run(f"DELETE FROM {table} WHERE id = ANY(%s)", [list(ids)])

    def finish(self, table: str, *, ann: bool) -> None:
        """Build HNSW over a large table for ``ann``, and let the planner know the table."""
        [dimension] = self._run(
            "SELECT atttypmod FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'vector'", [table]
        ).fetchone()
        if ann and self.count(table) >= _INDEXED_FROM and dimension <= _MOST_INDEXED:
            # pgvector's own 64 loses whole groups of texts that are alike
            self._run(
                f"CREATE INDEX IF NOT EXISTS {table}_hnsw ON {table} USING hnsw (vector vector_cosine_ops) "
                "WITH (m = 16, ef_construction = 200)"
            )
        self._run(f"ANALYZE {table}")

    def count(self, table: str) -> int:
        """How many rows there are."""
        return int(self._run(f"SELECT count(*) FROM {table}").fetchone()[0])

    def digests(self, table: str, ids: Sequence[str]) -> dict[str, str]:
        """Digests by id."""
        return dict(self._run(f"SELECT id, digest FROM {table} WHERE id = ANY(%s)", [list(ids)]).fetchall())

    def fetch(self, table: str, ids: Sequence[str]) -> list[Row]:
        """Rows by id."""
        found = self._run(f"SELECT id, text, metadata::text, vector FROM {table} WHERE id = ANY(%s)", [list(ids)])
        return [_row(*row) for row in found.fetchall()]

    def nearest(self, table: str, vector: Vector, k: int, conditions: Sequence[Condition], *, ann: bool) -> list[Row]:
        """A scan of all vectors, unless ``ann`` and there is an index."""
        clauses = [_sql(item) for item in conditions]
        where = f"WHERE {' AND '.join(clause for clause, _ in clauses)}" if clauses else ""
        operands = [operand for _, part in clauses for operand in part]
        with self._connection.transaction():
            if ann:
                self._run(f"SET LOCAL hnsw.ef_search = {min(1000, max(2 * k, 200))}")
                self._run("SET LOCAL hnsw.iterative_scan = strict_order")
            else:
                self._run("SET LOCAL enable_indexscan = off")
            found = self._run(
                f"SELECT id, text, metadata::text, vector FROM {table} {where} ORDER BY vector <=> %s LIMIT %s",
                [*operands, vector, k],
            ).fetchall()
        return [_row(*row) for row in found]

    def texts(self, table: str) -> Iterator[tuple[str, str]]:
        """Id and text of every row."""
        last = ""
        while True:
            page = self._run(
                f"SELECT id, text FROM {table} WHERE id > %s ORDER BY id LIMIT %s", [last, _IDS_AT_ONCE]
            ).fetchall()
            yield from page
            if not page:
                return
            last = page[-1][0]

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()

    def _run(self, statement: str, operands: Sequence[Any] = ()) -> Any:
        # without operands a percent sign is no placeholder; there is none in our statements either way
        return self._connection.execute(statement, operands or None)


def _row(identifier: str, text: str, metadata: str, vector: Any) -> Row:
    # pgvector gives a NumPy array, or since 0.4 a class of its own
    return row_of(identifier, text, metadata, vector.to_numpy() if hasattr(vector, "to_numpy") else vector)


def _sql(item: Condition) -> tuple[str, list[str | float]]:
    """The condition in SQL, and its operands."""
    is_text = isinstance(item.operand, str)
    value = "(facets ->> %s)" if is_text else "(facets ->> %s)::float8"
    cast = "text" if is_text else "float8"
    if item.operator == "!=":
        return f"{value} IS DISTINCT FROM %s::{cast}", [item.facet, item.operand]
    return f"{value} {item.operator} %s::{cast}", [item.facet, item.operand]
