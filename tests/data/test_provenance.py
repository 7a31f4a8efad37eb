"""The manifest and the filter of trained texts travel into model folders."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from m3e.data.bloom import TextFilter
from m3e.data.keys import hashes_of_keys, text_keys
from m3e.data.manifest import commercial_use, read_manifest
from m3e.data.provenance import carry
from m3e.errors import DataError
from m3e.evaluation.contamination import find_filter
from m3e.files import read_json, write_json
from m3e.records import Kind, Pair
from tests.training.prepared import records, write_prepared

UNSEEN = [f"从没有见过的一句话，编号{number}" for number in range(300)]


def filter_of(texts: list[str], capacity: int | None = None) -> TextFilter:
    made = TextFilter(capacity or len(texts))
    made.add_hashes(hashes_of_keys(text_keys(texts)))
    return made


def prepared(folder: Path, name: str, *, bloom: bool = True) -> list[str]:
    """A prepared folder with one set; its texts."""
    rows = records(Kind.RANKED, 60, seed=len(name)) if name == "ranked" else [
        Pair(f"{name}的问题第{number}号", f"{name}的回答第{number}号") for number in range(40)
    ]  # fmt: skip
    write_prepared(folder, {name: rows})
    texts = [
        text for row in rows for text in ((row.text, row.text_pos) if isinstance(row, Pair) else
                                          (row.query, *row.pos, *row.neg))
    ]  # fmt: skip
    if bloom:
        filter_of(texts).save(folder / "texts.bloom")
    return texts


def test_one_folder_goes_as_it_is(tmp_path: Path) -> None:
    texts = prepared(tmp_path / "data", "a")
    model = tmp_path / "model"
    model.mkdir()
    assert carry([tmp_path / "data"], model) == [tmp_path / "data"]
    assert (model / "texts.bloom").read_bytes() == (tmp_path / "data" / "texts.bloom").read_bytes()
    assert read_json(model / "manifest.json") == read_json(tmp_path / "data" / "manifest.json")
    notes: list[str] = []
    seen = find_filter(model, notes)
    assert seen is not None
    assert notes == []
    assert seen.has(texts).all()
    assert seen.has(UNSEEN).mean() < 0.05


def test_several_folders_and_a_base_are_one_filter_and_one_manifest(tmp_path: Path) -> None:
    texts = [prepared(tmp_path / name, name) for name in ("a", "bb", "ranked")]
    base, model = tmp_path / "base", tmp_path / "model"
    base.mkdir()
    model.mkdir()
    carry([tmp_path / "a"], base)  # a model that was trained on the first folder
    unknown = tmp_path / "unknown"
    unknown.mkdir()
    used = carry([tmp_path / "a", tmp_path / "bb", tmp_path / "ranked", base, unknown], model)
    assert used == [tmp_path / "a", tmp_path / "bb", tmp_path / "ranked", base]
    seen = find_filter(SimpleNamespace(model=str(model)).model, [])
    assert seen is not None
    for part in texts:
        assert seen.has(part).all()
    assert seen.has(UNSEEN).mean() < 0.08
    assert len(seen.parts) == 3  # the base's is the first folder's again
    assert seen.all_texts == sum(map(len, texts))
    manifest = read_manifest(model)
    assert [entry["dataset"] for entry in manifest["datasets"]] == ["a", "bb", "ranked"]
    assert manifest["rows_out"] == 40 + 40 + 60


def test_without_a_filter_one_is_made_of_the_shards(tmp_path: Path) -> None:
    texts = prepared(tmp_path / "data", "ranked", bloom=False)
    model = tmp_path / "model"
    model.mkdir()
    carry([tmp_path / "data"], model)
    seen = TextFilter.load(model / "texts.bloom")
    assert seen.has(texts).all()
    assert seen.texts == len(texts)
    assert seen.has(UNSEEN).mean() < 0.05
    next((tmp_path / "data").glob("*/*.parquet")).unlink()
    with pytest.raises(DataError, match=r"no texts\.bloom, and .*parquet is missing"):
        carry([tmp_path / "data"], model)


def test_nothing_known_writes_nothing(tmp_path: Path) -> None:
    assert carry([tmp_path], tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_filter_of_parts_is_read_whole_or_refused(tmp_path: Path) -> None:
    first, second = filter_of(["甲乙丙丁戊己"], 50), filter_of(["子丑寅卯辰巳"], 70)
    joined = TextFilter.union([first, second, first])
    joined.save(tmp_path / "texts.bloom")
    back = TextFilter.load(tmp_path / "texts.bloom")
    assert back.has(["甲乙丙丁戊己", "子丑寅卯辰巳", "没有这一句的"]).tolist() == [True, True, False]
    assert not first.has(["子丑寅卯辰巳"]).any()  # the parts stay what they were
    content = (tmp_path / "texts.bloom").read_bytes()
    for damaged in (content[:-3], content + b"xyz", content[: len(content) // 2 + 8]):
        (tmp_path / "texts.bloom").write_bytes(damaged)
        with pytest.raises(DataError, match="damaged"):
            TextFilter.load(tmp_path / "texts.bloom")


@pytest.mark.parametrize(
    ("terms", "expected"),
    [(["yes", "yes"], "yes"), (["yes", "unknown"], "unknown"), (["unknown", "no"], "no"), ([None], "unknown")],
)
def test_the_strictest_terms_hold(terms: list[str | None], expected: str) -> None:
    entries = [{"rows_out": 1, **({"commercial": term} if term else {})} for term in terms]
    assert commercial_use({"datasets": [*entries, {"rows_out": 0, "commercial": "no"}]}) == expected


def test_evaluation_files_of_only_one_folder_are_not_claimed(tmp_path: Path) -> None:
    for name, files in (("a", ["x.dev", "y.dev"]), ("bb", ["y.dev"])):
        prepared(tmp_path / name, name)
        manifest = read_json(tmp_path / name / "manifest.json")
        write_json(tmp_path / name / "manifest.json", {**manifest, "evaluation": files, "policy": "any"})
    model = tmp_path / "model"
    model.mkdir()
    carry([tmp_path / "a", tmp_path / "bb"], model)
    assert read_json(model / "manifest.json")["evaluation"] == ["y.dev"]
