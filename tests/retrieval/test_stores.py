"""Every store answers alike: what was written comes back, the best come first, and no two models mix."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e.errors import DataError, SettingsError, StoreError
from m3e.retrieval import open_store
from m3e.retrieval.exact import top_k
from m3e.retrieval.filters import conditions_of
from m3e.retrieval.stores import Row, Store, StoreModel

MODEL = StoreModel("small", "a" * 64, 8, "mean", "query: ", "")
METADATA: list[dict[str, Any]] = [
    {},
    {"城市": "北京", "year": 2020, "score": 0.5, "draft": False, "author": None},
    {"year": 2020.0, "big": 2**60 + 1, "small": -1.5e-300, "draft": True, "Year": "1999"},
    {"a.b[0]\"'": "引号\"和'反斜杠\\", "empty": "", "": "no name", "emoji 😀": "👨‍👩‍👧"},
    {"nested": {"a": [1, 2.0, None, {"b": True}], "空": []}, "list": ["x", 1], "digits": "007", "line": "1\n2\t%s"},
]
TEXTS = ["一", "two 'quoted' \"words\"", "三\n行\t%s {} \\", "👨‍👩‍👧 emoji", "五" * 3000]
IDS = ["007", "7", "编号'五'", 'a"b\\c', "😀 %s"]


def vectors(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    found = np.random.default_rng(seed).standard_normal((count, MODEL.dimension)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def rows(count: int, seed: int = 0, text: str = "文") -> list[Row]:
    return [Row(f"{at:04d}", f"{text}{at}", {"n": at}, vector) for at, vector in enumerate(vectors(count, seed))]


def fill(store: Store, items: list[Row], model: StoreModel = MODEL, **options: Any) -> None:
    writer = store.write(model, source="s", **options)
    writer.upsert(items)
    writer.finish()


@pytest.fixture
def odd_rows() -> list[Row]:
    together = zip(IDS, TEXTS, METADATA, vectors(5), strict=True)
    return [Row(*parts) for parts in together]


def test_what_was_written_comes_back_with_its_types(url: str, odd_rows: list[Row]) -> None:
    with open_store(url, create=True) as store:
        fill(store, odd_rows)
    with open_store(url) as store:
        assert store.count() == 5
        assert store.model == MODEL
        assert not store.unfinished
        for row in odd_rows:
            [hit] = store.nearest(row.vector, 1)
            assert (hit.id, hit.text) == (row.id, row.text)
            assert hit.score == pytest.approx(1, abs=1e-6)
            assert repr(hit.metadata) == repr(row.metadata), "2020 and 2020.0 differ, and so do orders of keys"
        fetched = store.fetch([*IDS, "absent"])
        assert {key: row.text for key, row in fetched.items()} == dict(zip(IDS, TEXTS, strict=True))
        assert sorted(store.texts()) == sorted(zip(IDS, TEXTS, strict=True))


def test_the_best_come_first_as_in_an_exact_search(url: str) -> None:
    items = rows(1000)
    queries = vectors(20, seed=9)
    with open_store(url, create=True) as store:
        fill(store, items)
        scores, found = top_k(queries, np.stack([row.vector for row in items]), 10)
        for query, expected, best in zip(queries, found, scores, strict=True):
            hits = store.nearest(query * 7, 10)
            assert [hit.id for hit in hits] == [items[at].id for at in expected]
            assert [hit.score for hit in hits] == pytest.approx(best.tolist(), abs=1e-5)


def test_ties_go_by_id_also_at_the_end_of_the_list(url: str) -> None:
    same = vectors(1)[0]
    items = [Row(f"{at:03d}", "same", {}, same) for at in range(60)]
    random.Random(1).shuffle(items)
    with open_store(url, create=True) as store:
        fill(store, [*items, Row("best", "x", {}, vectors(1, seed=5)[0])])
        assert [hit.id for hit in store.nearest(same, 4)] == ["000", "001", "002", "003"]
        assert [hit.id for hit in store.nearest(vectors(1, seed=5)[0], 3)] == ["best", "000", "001"]


def test_the_same_id_replaces_and_a_deleted_one_is_gone(url: str) -> None:
    first, second = vectors(2)
    with open_store(url, create=True) as store:
        fill(store, [Row("1", "old", {"a": 1}, first), Row("2", "stays", {}, second)])
        before = store.revision
        fill(store, [Row("1", "new", {"b": "x"}, second)])
        assert store.revision != before
        assert store.count() == 2
        hits = store.nearest(second, 9)
        assert [(hit.id, hit.text, hit.metadata) for hit in hits] == [("1", "new", {"b": "x"}), ("2", "stays", {})]
        assert store.nearest(second, 9, conditions_of(["a=1"])) == []
        writer = store.write(MODEL, source="s")
        assert set(writer.digests(["1", "2", "3"])) == {"1", "2"}
        assert writer.delete(["1", "3"]) == 1
        writer.finish()
        assert [hit.id for hit in store.nearest(second, 9)] == ["2"]


def test_an_empty_store_and_more_than_there_is(url: str) -> None:
    with open_store(url, create=True) as store:
        fill(store, [])
        assert store.nearest(vectors(1)[0], 5) == []
        assert list(store.texts()) == []
        fill(store, rows(3))
        assert len(store.nearest(vectors(1)[0], 500)) == 3
        with pytest.raises(SettingsError, match="at least 1"):
            store.nearest(vectors(1)[0], 0)


def test_vectors_that_have_no_direction_are_refused(url: str) -> None:
    with open_store(url, create=True) as store:
        writer = store.write(MODEL, source="s")
        for bad, reason in ((np.zeros(8), "zeros"), (np.full(8, np.nan), "not finite"), (np.ones(7), "8 numbers")):
            with pytest.raises(DataError, match=f"document 'x'.*{reason}"):
                writer.upsert([*rows(2), Row("x", "t", {}, bad.astype(np.float32))])
        writer.finish()
        assert store.count() == 0
        with pytest.raises(DataError, match="the query"):
            store.nearest(np.zeros(8, np.float32), 1)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "other", "fingerprint": "b" * 64}, ["small", "other", "8 dimensions", "bbbbbbbb", "--rebuild"]),
        ({"fingerprint": "c" * 64, "dimension": 9}, ["8 dimensions", "9 dimensions"]),
        ({"query_prompt": ""}, ["query prompt"]),
        ({"pooling": "cls"}, ["pooling"]),
    ],
)
def test_another_model_is_refused_by_name(
    new_url: Callable[[str], str], change: dict[str, Any], named: list[str]
) -> None:
    with open_store(new_url("lance"), create=True) as store:
        fill(store, rows(4))
        with pytest.raises(StoreError) as refused:
            store.write(dataclasses.replace(MODEL, **change), source="s")
        assert all(part in str(refused.value) for part in named)
        assert store.count() == 4
        fill(store, rows(5), dataclasses.replace(MODEL, name="where it is now"))
        assert store.count() == 5


def test_a_rebuild_is_seen_when_it_is_finished(url: str) -> None:
    other = dataclasses.replace(MODEL, name="other", fingerprint="b" * 64, dimension=4)
    short = [Row(row.id, "new", {}, row.vector[:4]) for row in rows(3)]
    with open_store(url, create=True) as store:
        fill(store, rows(5, text="old"))
        begun = store.write(other, source="s", rebuild=True)
        begun.upsert(short[:2])
        assert (store.model, store.count()) == (MODEL, 5)
        assert {hit.text[:3] for hit in store.nearest(vectors(1)[0], 9)} == {"old"}
        # killed here; the same input goes on, another starts anew
        again = store.write(other, source="s", rebuild=True)
        assert set(again.digests(["0000", "0001", "0002"])) == {"0000", "0001"}
        again = store.write(other, source="another", rebuild=True)
        assert again.digests(["0000", "0001", "0002"]) == {}
        again.upsert(short)
        again.finish()
        assert (store.model, store.count()) == (other, 3)
        assert {hit.text for hit in store.nearest(vectors(1)[0][:4], 9)} == {"new"}
        fill(store, short[:1], other)
        assert store.count() == 3


def test_a_rebuild_that_starts_again_leaves_no_table_behind(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "s"), create=True) as store:
        fill(store, rows(5))
        for source in ("1", "2", "3"):
            store.write(MODEL, source=source, rebuild=True).upsert(rows(2))
        assert len(list((tmp_path / "s").glob("*.lance"))) == 2
        fill(store, rows(1), rebuild=True)
        assert len(list((tmp_path / "s").glob("*.lance"))) == 1
        assert store.count() == 1


def test_a_run_that_broke_off_is_known(url: str) -> None:
    with open_store(url, create=True) as store:
        fill(store, rows(2))
        store.write(MODEL, source="s").upsert(rows(3))
        assert store.unfinished
    with open_store(url, create=True) as store:
        assert store.unfinished
        assert store.count() == 3
        store.write(MODEL, source="s").finish()
        assert not store.unfinished


def test_stores_of_one_place_do_not_meet(url: str) -> None:
    with open_store(url + "#first", create=True) as store:
        fill(store, rows(2))
    mark = "&" if "?" in url else "?"
    other = dataclasses.replace(MODEL, name="other", fingerprint="b" * 64)
    with open_store(f"{url}{mark}collection=second", create=True) as store:
        fill(store, rows(3), other)
        assert (store.count(), store.model.name) == (3, "other")
    with open_store(url + "#first") as store:
        assert (store.count(), store.model.name) == (2, "small")
    with pytest.raises(StoreError, match="there is no store"):
        open_store(url + "#third")


def test_a_store_that_is_not_there_is_not_made(new_url: Callable[[str], str], tmp_path: Path) -> None:
    for kind in ("lance", "chroma", "milvus", "qdrant", "postgresql"):
        with pytest.raises(StoreError, match="there is no store"):
            open_store(new_url(kind))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["lance", "chroma", "qdrant"])
def test_a_folder_of_other_files_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(StoreError, match=r"other files|is a file"):
            open_store(f"{kind}:{place}", create=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_what_a_kill_left_of_a_first_state_is_no_other_file(tmp_path: Path) -> None:
    (tmp_path / ".m3e.store.json.0a1b2c3d.partial").write_text('{"m3e"')
    with open_store(str(tmp_path), create=True) as store:
        fill(store, rows(2))
        assert store.count() == 2


@pytest.mark.parametrize("scheme", ["chroma", "milvus", "qdrant"])
def test_a_server_that_does_not_answer_is_named(scheme: str) -> None:
    with pytest.raises(StoreError, match=rf"{scheme}:http://127.0.0.1:9.*does not answer"):
        open_store(f"{scheme}:http://127.0.0.1:9", create=True)


def test_a_postgres_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(StoreError, match="does not answer") as refused:
        open_store("postgresql://me:secret@127.0.0.1:9/x", create=True)
    assert "secret" not in str(refused.value)


def test_threads_share_a_store(url: str) -> None:
    items = rows(200)
    with open_store(url, create=True) as store:
        fill(store, items)
        found: dict[int, list[str]] = {}

        def look(at: int) -> None:
            found[at] = [hit.id for hit in store.nearest(items[at].vector, 1)]

        threads = [threading.Thread(target=look, args=(at,)) for at in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == {at: [items[at].id] for at in range(12)}


def test_an_approximate_index_finds_nearly_all(url: str) -> None:
    items = rows(500)
    with open_store(url, create=True) as store:
        fill(store, items, ann=True)
        queries = vectors(10, seed=3)
        _, exact = top_k(queries, np.stack([row.vector for row in items]), 10)
        found = [{hit.id for hit in store.nearest(query, 10)} for query in queries]
        shares = [len(ids & {items[at].id for at in best}) / 10 for ids, best in zip(found, exact, strict=True)]
        assert np.mean(shares) > 0.9
        fill(store, rows(10, seed=4))
        assert store.count() == 500


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        ("milvus", Row("x" * 9, "字" * 21_846, {}, vectors(1)[0])),
        ("postgresql", Row("x" * 9, "a\0b", {}, vectors(1)[0])),
    ],
)
def test_what_a_database_cannot_keep_is_refused_by_id(kind: str, row: Row, new_url: Callable[[str], str]) -> None:
    with open_store(new_url(kind), create=True) as store:
        writer = store.write(MODEL, source="s")
        with pytest.raises(DataError, match="x" * 9):
            writer.upsert([row])


def test_a_store_of_a_later_format_is_refused(tmp_path: Path) -> None:
    with open_store(str(tmp_path / "s"), create=True) as store:
        fill(store, rows(1))
    state = tmp_path / "s" / "m3e.store.json"
    state.write_text(state.read_text().replace('"format": 1', '"format": 2'))
    with open_store(str(tmp_path / "s")) as store, pytest.raises(StoreError, match="newer m3e"):
        store.count()


def test_opening_milvus_closes_no_handler_of_other_libraries(tmp_path: Path) -> None:
    pytest.importorskip("milvus_lite")
    program = (
        "import logging\n"
        "class Handler(logging.Handler):\n"
        "    closed = False\n"
        "    def close(self): type(self).closed = True\n"
        "mine = Handler()\n"
        "from m3e.retrieval import open_store\n"
        f"open_store({f'milvus:{tmp_path}/m.db'!r}, create=True).close()\n"
        "print(Handler.closed)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
