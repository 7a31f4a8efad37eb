"""A store: documents with their vectors in a database, and the one model that made them.

Its state says which table is searched. A first run writes into that table; a rebuild writes into a new one, and the
state moves over when all is in it. Every table is named in the state before it is made and until it is gone, so a
kill at any moment leaves the old documents or the new ones, and the next run removes what was left over.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from m3e.errors import M3EError, SettingsError, StoreError, first_line
from m3e.retrieval.filters import Condition
from m3e.retrieval.stores.cosines import cosines, unit_vector
from m3e.retrieval.stores.database import Database, Row, Vector
from m3e.retrieval.stores.identity import StoreModel, model_of
from m3e.retrieval.stores.url import StoreUrl
from m3e.retrieval.stores.writing import FORMAT, StoreWriter, goes_on, new_state, new_table

if TYPE_CHECKING:
    from m3e.inference.encoder import Encoder

_SPARE = 16
"""Rows asked for beyond ``k``, so that ties of the last are seen."""
_ROUNDING = 1e-5
"""How far a database's own cosine may lie from ours."""


@dataclass(frozen=True)
class Hit:
    """A document that was found.

    Attributes:
        id: as indexed, a string.
        score: the greater, the better; of a dense search the cosine.
        text: as indexed.
        metadata: as indexed, with its types.
    """

    id: str
    score: float
    text: str
    metadata: dict[str, Any]


class _Locked:
    """One thread at a time, with the database's own errors as ours."""

    def __init__(self, url: StoreUrl, database: Database) -> None:
        self._url = url
        self._database = database
        self._lock = threading.RLock()

    def __enter__(self) -> Database:
        self._lock.acquire()
        return self._database

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._lock.release()
        if isinstance(error, self._database.errors) and not isinstance(error, M3EError):
            reason = first_line(error)
            raise StoreError(f"{self._database.kind} failed at {self._url.shown}: {reason}") from error


class Store:
    """Opened by :func:`m3e.retrieval.open_store`; a context manager that closes it. Threads may share it.

    Attributes:
        url: where it is.
        database: use as a context manager that gives the database: one thread at a time, errors as ours.
    """

    def __init__(self, url: StoreUrl, database: Database) -> None:
        self.url = url
        self.database = _Locked(url, database)
        self._trusted: weakref.ReferenceType[Any] | None = None
        self._trusted_as: dict[str, Any] | None = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of files and connections."""
        with self.database as database:
            database.close()

    @property
    def exists(self) -> bool:
        """Whether something was indexed into it."""
        with self.database as database:
            return database.read_state(self.url.name) is not None

    @property
    def model(self) -> StoreModel:
        """The model of its vectors."""
        return StoreModel.from_state(self._state()["model"])

    @property
    def revision(self) -> str:
        """Another string after every change."""
        return str(self._state()["revision"])

    @property
    def unfinished(self) -> bool:
        """Whether the last run of indexing broke off."""
        return bool(self._state()["unfinished"])

    def count(self) -> int:
        """How many documents it holds."""
        with self.database as database:
            return database.count(self._state()["table"])

    def texts(self) -> Iterator[tuple[str, str]]:
        """Id and text of every document, in any order."""
        with self.database as database:
            yield from database.texts(self._state()["table"])

    def fetch(self, ids: Sequence[str]) -> dict[str, Row]:
        """The documents of these ids, those that are there."""
        with self.database as database:
            return {row.id: row for row in database.fetch(self._state()["table"], ids)}

    def check_model(self, encoder: Encoder, name: str = "this model") -> None:
        """Refuse an encoder whose vectors cannot be compared with the store's.

        Raises:
            StoreError: names both models, their dimensions, and how to index anew.
        """
        state = self._state()["model"]
        if self._trusted is not None and self._trusted() is encoder and self._trusted_as == state:
            return
        self.refuse_other(model_of(encoder, name))
        self._trusted, self._trusted_as = weakref.ref(encoder), state

    def refuse_other(self, model: StoreModel) -> None:
        """Raise :class:`StoreError` unless ``model`` is the store's."""
        own = self.model
        if own.is_same(model):
            return
        differs = "" if own.fingerprint != model.fingerprint else _difference(own, model)
        raise StoreError(
            f"the store {self.url.shown} holds vectors of the model {own}, not of {model}{differs}; use --model "
            f"{own.name}, or index all documents anew: m3e index INPUT --store {self.url.shown} "
            f"--model {model.name} --rebuild"
        )

    def nearest(self, query: Vector, k: int, conditions: Sequence[Condition] = ()) -> list[Hit]:
        """The ``k`` documents of the greatest cosine with a query's vector, best first, ties by id.

        Raises:
            SettingsError: a ``k`` below 1, or above what the database gives at once.
            DataError: a vector of another dimension, of zeros, or with numbers that are not finite.
        """
        if k < 1:
            raise SettingsError(f"--top-k must be at least 1, not {k}")
        with self.database as database:
            state = self._state()
            vector = unit_vector(query, state["model"]["dimension"])
            wanted = min(k, database.count(state["table"]))
            if wanted > database.most_hits:
                raise SettingsError(f"{database.kind} gives at most {database.most_hits} hits; lower --top-k")
            scored = _scored(database, state, vector, wanted, conditions) if wanted else []
        return [Hit(row.id, score, row.text, dict(row.metadata)) for score, row in scored[:k]]

    def _state(self) -> dict[str, Any]:
        with self.database as database:
            state = database.read_state(self.url.name)
        if state is None:
            raise StoreError(f"there is no store at {self.url.shown}; make it with m3e index INPUT --store --model")
        if state.get("format") != FORMAT:
            raise StoreError(f"the store {self.url.shown} was written by a newer m3e; update with pip install -U m3e")
        return state

    def write(self, model: StoreModel, *, source: str, rebuild: bool = False, ann: bool = False) -> StoreWriter:
        """What writes documents of ``model`` into the store.

        Args:
            source: hash of the input, so that a rebuild goes on only with the same.
            rebuild: into a new table, which takes the old one's place at the end.
            ann: the store will be searched by an approximate index.

        Raises:
            StoreError: without ``rebuild``, the store's vectors are another model's.
        """
        with self.database as database:
            state = database.read_state(self.url.name)
            if state is None:
                state = new_state(self.url.name, model, ann)
                database.write_state(self.url.name, state)
                rebuild = False
            state = self._state()
            if not rebuild:
                self.refuse_other(model)
                return StoreWriter(self, state, state["table"], ann=ann or state["ann"])
            building = {"model": asdict(model), "source": source, "ann": ann}
            if not goes_on(state["building"], building):
                if state["building"]:
                    state["retired"].append(state["building"]["table"])
                state["building"] = {**building, "table": new_table(self.url.name)}
                database.write_state(self.url.name, state)
            return StoreWriter(self, state, state["building"]["table"], ann=ann, replaces=True)


def _scored(
    database: Database, state: dict[str, Any], vector: Vector, k: int, conditions: Sequence[Condition]
) -> list[tuple[float, Row]]:
    """At least the best ``k`` rows, best first, with cosines that do not depend on the database's rounding."""
    asked = min(k + _SPARE, database.most_hits)
    while True:
        rows = database.nearest(state["table"], vector, asked, conditions, ann=state["ann"])
        scored = sorted(zip(cosines(vector, rows), rows, strict=True), key=lambda item: (-item[0], item[1].id))
        all_seen = len(rows) < asked or asked == database.most_hits
        if all_seen or scored[k - 1][0] - scored[-1][0] > _ROUNDING:
            return scored
        asked = min(4 * asked, database.most_hits)


def _difference(own: StoreModel, other: StoreModel) -> str:
    """Which of the settings differ, where the weights do not."""
    first, second = asdict(own), asdict(other)
    names = [name for name in first if name != "name" and first[name] != second[name]]
    return " (their weights are the same, but not: " + ", ".join(name.replace("_", " ") for name in names) + ")"
