"""``m3e index`` and ``m3e search`` as a shell sees them; case 33, and more failures of its kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from m3e import load
from m3e.models.folder import save
from m3e.retrieval import open_store
from tests.conftest import write_mini

ROWS = [
    {"id": "d1", "text": "公园的荷花七月开得最好看", "city": "北京", "year": 2020},
    {"id": "d2", "text": "自行车链条掉了可以自己装回去", "city": "上海", "year": 2021},
    {"id": "d3", "text": "煮粥时水开再放米不容易糊底", "city": "北京", "year": 2022},
    {"id": "d4", "text": "小区停车位按月缴费每月三百元"},
    {"id": "d5", "text": "会议室需要提前一天预约"},
    {"id": "d6", "text": "打印机卡纸要先断电再取纸"},
]


@pytest.fixture(autouse=True)
def documents(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "docs.jsonl", ROWS)


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def hits(path: str = "s.json") -> list[dict[str, Any]]:
    found = json.loads(Path(path).read_text("utf-8"), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert set(found) == {"model", "hits"}
    assert all(set(hit) == {"id", "score", "text", "metadata"} for hit in found["hits"])
    return found["hits"]


def refused(done: Any, *named: str) -> None:
    assert done.code == 2, done.out
    assert len(done.err.strip().splitlines()) == 1
    for part in named:
        assert part.lower() in done.err.lower(), done.err


def works_as_before(cli: Any, count: int = 6) -> None:
    done = cli("search", "自行车链条", "--store", "./s33", "--json", "s.json", "--top-k", "99")
    assert done.code == 0, done.err
    assert hits()[0]["id"] == "d2"
    assert len(hits()) == count


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """m3e-tiny with a little other weights: the same name of architecture, the same dimension."""
    import torch

    model = load("m3e-tiny", device="cpu")
    with torch.no_grad():
        next(model.parameters()).mul_(1.001)
    return save(model, tmp_path / "o15")


@pytest.fixture
def indexed(cli: Any) -> None:
    done = cli("index", "docs.jsonl", "--store", "./s33", "--model", "m3e-tiny", "--json", "i.json")
    assert done.code == 0, done.err
    assert "6 documents in the store" in done.out


def test_33_the_recorded_model_is_used(cli: Any, indexed: None) -> None:
    done = cli("search", "自行车链条", "--store", "./s33", "--json", "s.json")
    assert done.code == 0, done.err
    assert "d2" in done.out
    assert json.loads(Path("s.json").read_text("utf-8"))["model"] == "m3e-tiny"
    best, *others = hits()
    assert (best["id"], best["metadata"]) == ("d2", {"city": "上海", "year": 2021})
    assert all(0 <= hit["score"] <= best["score"] <= 1 for hit in others)
    report = json.loads(Path("i.json").read_text("utf-8"))
    assert (report["model"], report["rows"], report["written"], report["total"]) == ("m3e-tiny", 6, 6, 6)


def test_33_another_model_is_refused_by_name(cli: Any, indexed: None, tuned: Path, mini_folder: Path) -> None:
    for model, dimensions in (("m3e-static", "384"), (tuned, "384"), (mini_folder, "32")):
        for command in (("search", "自行车链条"), ("index", "docs.jsonl")):
            done = cli(*command, "--store", "./s33", "--model", model)
            refused(done, "m3e-tiny", str(model), "384", dimensions, "m3e index", "--rebuild")
    works_as_before(cli)


def test_33_equal_weights_with_another_prompt_are_another_model(cli: Any, tmp_path: Path) -> None:
    for name, prompt in (("first", "问"), ("second", "答")):
        (tmp_path / name).mkdir()
        write_mini(tmp_path / name, prompts={"query": prompt})
    assert cli("index", "docs.jsonl", "--store", "s", "--model", "first").code == 0
    refused(cli("search", "猫", "--store", "s", "--model", "second"), "first", "second", "--rebuild")


def test_33_a_rebuild_changes_the_model(cli: Any, indexed: None) -> None:
    done = cli("index", "docs.jsonl", "--store", "./s33", "--model", "m3e-static", "--rebuild")
    assert done.code == 0, done.err
    refused(cli("search", "x", "--store", "./s33", "--model", "m3e-tiny"), "m3e-static", "m3e-tiny")
    works_as_before(cli)
    with open_store("./s33") as store:
        assert store.model.name == "m3e-static"


def test_33_a_model_that_has_moved_is_named(cli: Any, tuned: Path, tmp_path: Path) -> None:
    assert cli("index", "docs.jsonl", "--store", "s", "--model", "o15").code == 0
    tuned.rename(tmp_path / "moved")
    refused(cli("search", "自行车链条", "--store", "s"), str(tuned), "--model")
    done = cli("search", "自行车链条", "--store", "s", "--model", "moved", "--json", "s.json")
    assert done.code == 0, done.err
    assert hits()[0]["id"] == "d2"


def test_33_a_model_that_was_trained_on_in_its_place_is_refused(cli: Any, tuned: Path) -> None:
    assert cli("index", "docs.jsonl", "--store", "s", "--model", tuned).code == 0
    save(load("m3e-tiny", device="cpu"), tuned)
    refused(cli("search", "自行车链条", "--store", "s"), "what is now at", str(tuned), "--rebuild")


def test_33_the_same_model_under_another_name_is_the_same(cli: Any, indexed: None, tmp_path: Path) -> None:
    save(load("m3e-tiny", device="cpu"), tmp_path / "copy")
    assert cli("index", "docs.jsonl", "--store", "./s33", "--model", "copy").code == 0
    works_as_before(cli)


def test_33_a_store_that_is_not_there_is_not_made(cli: Any, tmp_path: Path) -> None:
    refused(cli("search", "x", "--store", "./absent"), "./absent", "m3e index")
    refused(cli("search", "x", "--store", "mongo:x"), "mongo", "postgresql")
    refused(cli("index", "docs.jsonl", "--store", "./new", "--model", "no-such/model"), "no-such/model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs.jsonl"]


def test_33_a_folder_of_other_files_stays_as_it_is(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("keep")
    refused(cli("index", "docs.jsonl", "--store", "other", "--model", "m3e-static"), "other", "folder")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["notes.txt"]


def test_33_a_broken_input_leaves_the_store_as_it_was(cli: Any, indexed: None, tmp_path: Path) -> None:
    lines = (tmp_path / "docs.jsonl").read_text("utf-8").splitlines()
    (tmp_path / "broken.jsonl").write_text(
        "\n".join([lines[0].replace("公园", "花园"), lines[1], lines[2][:20]]), "utf-8"
    )
    refused(cli("index", "broken.jsonl", "--store", "./s33", "--model", "m3e-tiny"), "broken.jsonl", "line 3")
    works_as_before(cli)
    with open_store("./s33") as store:
        assert store.fetch(["d1"])["d1"].text.startswith("公园")


def test_33_ids_are_strings_whatever_the_file(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n007,荷花\n7,链条\n", "utf-8")
    write_rows(tmp_path / "b.jsonl", [{"id": 7, "text": "自行车链条"}, {"id": "007", "text": "池塘的荷花"}])
    for name in ("a.csv", "b.jsonl"):
        assert cli("index", name, "--store", "s", "--model", "m3e-static").code == 0
    cli("search", "荷花", "--store", "s", "--json", "s.json")
    assert [(hit["id"], hit["text"]) for hit in hits()] == [("007", "池塘的荷花"), ("7", "自行车链条")]


def test_33_what_is_dropped_is_counted(cli: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [*ROWS, {"id": "d1", "text": "湖边的荷花"}, {"id": "d9", "text": " \u3000"}])
    done = cli("index", "a.jsonl", "--store", "s", "--model", "m3e-static", "--json", "i.json")
    assert "1 rows dropped without text" in done.out
    assert "1 rows dropped whose id comes again" in done.out
    assert json.loads(Path("i.json").read_text("utf-8"))["dropped"] == {"blank": 1, "duplicate_id": 1}
    assert "湖边的荷花" in cli("search", "荷花", "--store", "s").out
    (tmp_path / "b.csv").write_text("text\n没有编号的一句话\n", "utf-8")
    assert "each id is a hash" in cli("index", "b.csv", "--store", "s", "--model", "m3e-static").out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--mode", "fuzzy"], "dense, bm25, hybrid"),
        (["--top-k", "0"], "--top-k"),
        (["--filter", "city"], "KEY=VALUE"),
        (["--filter", "city>北京"], "numbers and dates"),
        (["--mode", "hybrid", "--fusion", "sum"], "rrf or weighted"),
        (["--rerank", "./no-reranker"], "no-reranker"),
    ],
)
def test_33_settings_that_do_not_exist_are_named(cli: Any, indexed: None, options: list[str], named: str) -> None:
    refused(cli("search", "链条", "--store", "./s33", *options), named)


def test_modes_and_filters(cli: Any, indexed: None) -> None:
    for mode in ("dense", "bm25", "hybrid"):
        done = cli("search", "自行车鏈條", "--store", "./s33", "--mode", mode, "--json", "s.json", "--top-k", "3")
        assert done.code == 0, done.err
        assert hits()[0]["id"] == "d2"
    options = ("--filter", "city=北京", "--filter", "year>=2021", "--json", "s.json")
    assert cli("search", "自行车链条", "--store", "./s33", *options).code == 0
    assert [hit["id"] for hit in hits()] == ["d3"]
    done = cli("search", "zzz", "--store", "./s33", "--mode", "bm25", "--json", "s.json")
    assert done.code == 0
    assert "nothing found" in done.out
    assert hits() == []
    assert cli("search", " ", "--store", "./s33").code == 2


def test_brackets_in_texts_are_shown(cli: Any, tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", [{"id": "[b]", "text": "荷花[/b]开了[red]"}])
    cli("index", "a.jsonl", "--store", "s", "--model", "m3e-static")
    assert "荷花[/b]开了[red]" in cli("search", "荷花", "--store", "s").out


def test_a_run_that_broke_off_is_said(cli: Any, indexed: None) -> None:
    state = Path("s33/m3e.store.json")
    state.write_text(state.read_text("utf-8").replace('"unfinished": false', '"unfinished": true'), "utf-8")
    assert "broke off" in cli("search", "链条", "--store", "./s33").out
    cli("index", "docs.jsonl", "--store", "./s33", "--model", "m3e-tiny")
    assert "broke off" not in cli("search", "链条", "--store", "./s33").out


@pytest.mark.parametrize("place", ["chroma:c", "milvus:m.db", "qdrant:q"])
def test_other_stores_by_their_urls(cli: Any, place: str) -> None:
    pytest.importorskip({"c": "chromadb", "m": "milvus_lite", "q": "qdrant_client"}[place[0]])
    for _ in range(2):
        done = cli("index", "docs.jsonl", "--store", place, "--model", "m3e-static")
        assert done.code == 0, done.err
    done = cli("search", "自行车链条", "--store", place, "--json", "s.json", "--top-k", "99")
    assert done.code == 0, done.err
    assert hits()[0]["id"] == "d2"
    assert len(hits()) == 6
    refused(cli("search", "自行车链条", "--store", place, "--model", "m3e-tiny"), "m3e-static", "m3e-tiny", "--rebuild")
