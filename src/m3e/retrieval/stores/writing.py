"""Writing into a store: one table at a time, named in the store's state before it is made and until it is gone."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from m3e.retrieval.stores.cosines import unit_vector
from m3e.retrieval.stores.database import Row

if TYPE_CHECKING:
    from m3e.retrieval.stores.identity import StoreModel
    from m3e.retrieval.stores.store import Store

FORMAT = 1


class StoreWriter:
    """Writes into one table of a store; :meth:`finish` makes it the table that is searched.

    Attributes:
        replaces: whether the table takes another's place at the end.
    """

    def __init__(self, store: Store, state: dict[str, Any], table: str, *, ann: bool, replaces: bool = False) -> None:
        self.store = store
        self.replaces = replaces
        self._state = state
        self._table = table
        self._ann = ann
        self._dimension = (state["building"] if replaces else state)["model"]["dimension"]
        self._changed = False
        with store.database as database:
            for retired in state["retired"]:
                database.drop_table(retired)
            if state["retired"]:
                self._update(retired=[])
            database.create_table(table, self._dimension, ann=ann)

    def digests(self, ids: Sequence[str]) -> dict[str, str]:
        """The digests of those documents that are in the table, by id."""
        with self.store.database as database:
            return database.digests(self._table, ids)

    def upsert(self, rows: Sequence[Row]) -> None:
        """Write documents of distinct ids; the same id replaces.

        Raises:
            DataError: a vector of another dimension, of zeros, or with numbers that are not finite; names the id.
        """
        units = [unit_vector(row.vector, self._dimension, f"document {row.id!r}") for row in rows]
        written = [Row(row.id, row.text, row.metadata, unit) for row, unit in zip(rows, units, strict=True)]
        if written:
            self._note_change()
            with self.store.database as database:
                database.upsert(self._table, written)

    def delete(self, ids: Sequence[str]) -> int:
        """Remove those documents that are there; how many."""
        present = list(self.digests(ids)) if ids else []
        if present:
            self._note_change()
            with self.store.database as database:
                database.delete(self._table, present)
        return len(present)

    def finish(self) -> None:
        """Build indexes, and let searches see the table where it replaces another."""
        state = self._state
        if not (self._changed or self.replaces or self._ann != state["ann"] or state["unfinished"]):
            return
        fresh = {"revision": uuid.uuid4().hex, "unfinished": False, "ann": self._ann}
        with self.store.database as database:
            database.finish(self._table, ann=self._ann)
            if not self.replaces:
                self._update(**fresh)
                return
            old = state["table"]
            self._update(**fresh, table=self._table, model=state["building"]["model"], building=None, retired=[old])
            database.drop_table(old)
            self._update(retired=[])

    def _note_change(self) -> None:
        if not self._changed and not self.replaces:
            self._update(revision=uuid.uuid4().hex, unfinished=True)
        self._changed = True

    def _update(self, **changes: Any) -> None:
        self._state.update(changes)
        with self.store.database as database:
            database.write_state(self.store.url.name, self._state)


def new_state(name: str, model: StoreModel, ann: bool) -> dict[str, Any]:
    """The state of a store into which nothing was written yet."""
    return {
        "m3e": "store",
        "format": FORMAT,
        "model": asdict(model),
        "table": new_table(name),
        "ann": ann,
        "revision": uuid.uuid4().hex,
        "unfinished": True,
        "building": None,
        "retired": [],
    }


def new_table(name: str) -> str:
    """A name that no table has, so that a table of somebody else's is never taken for ours."""
    return f"{name}_{uuid.uuid4().hex[:12]}"


def goes_on(before: dict[str, Any] | None, now: dict[str, Any]) -> bool:
    """Whether a rebuild that broke off was of the same model, input and kind of index."""
    return before is not None and all(before[key] == value for key, value in now.items())
