"""Prepared folders in, prepared folders out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m3e.data.bloom import TextFilter
from m3e.data.keys import text_key
from m3e.errors import DataError, OutputExistsError, SettingsError
from m3e.files import read_json, read_marker, write_json
from m3e.mining import EmbeddingOptions, MiningOptions, mine, score
from m3e.training.sources import read_sources, shard_rows
from tests.mining.mining_rows import pairs, prepared, write_jsonl

FP32 = EmbeddingOptions(dtype="fp32", device="cpu")
OPTIONS = MiningOptions(negatives=2, relative_margin=None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    scored = [{"sentence1": f"今天{n}", "sentence2": f"天气{n}", "label": n % 5} for n in range(8)]
    triplets = [{**row, "text_neg": f"猫{n}"} for n, row in enumerate(pairs(20, seed=3))]
    return prepared(tmp_path / "data", faq=pairs(40), scored=scored, triplets=triplets)


def rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    source = next(source for source in read_sources(folder) if source.name == name)
    return [row for shard in source.shards for row in pq.read_table(shard).to_pylist()]


def test_sets_become_ranked_and_others_stay_as_they_are(folder: Path, tmp_path: Path, mini_folder: Path) -> None:
    out = tmp_path / "mined"
    report = mine(folder, out, mini_folder, OPTIONS, FP32)
    before, after = read_json(folder / "manifest.json"), read_json(out / "manifest.json")
    assert {source.name: source.kind for source in read_sources(out)} == {
        "faq": "ranked",
        "scored": "scored_pair",
        "triplets": "ranked",
    }
    assert report.copied == ["scored"]
    scored = [
        next(entry for entry in manifest["datasets"] if entry["dataset"] == "scored") for manifest in (before, after)
    ]
    assert scored[0] == scored[1]
    assert (folder / "scored" / "00000.parquet").read_bytes() == (out / "scored" / "00000.parquet").read_bytes()
    assert after["rows_out"] == before["rows_out"] == 68
    assert (out / "texts.bloom").read_bytes() == (folder / "texts.bloom").read_bytes()
    (step,) = after["steps"]
    assert (step["step"], step["options"]["negatives"]) == ("mine", 2)
    assert step["models"][0]["name"] == mini_folder.name
    assert len(step["models"][0]["fingerprint"]) == 64
    assert "Made with models" in (out / "README.md").read_text(encoding="utf-8")
    own = {text_key(row["text_pos"]) for row in rows_of(folder, "faq")}
    for row, old in zip(rows_of(out, "faq"), rows_of(folder, "faq"), strict=True):
        assert (row["query"], row["pos"], row["dataset"]) == (old["text"], [old["text_pos"]], "faq")
        assert len(row["neg"]) == 2
        assert {text_key(text) for text in row["neg"]} <= own
    assert [len(row["neg"]) for row in rows_of(out, "triplets")] == [3] * 20
    training = next(shard_rows(out / "triplets" / "00000.parquet", "ranked"))
    assert ((training.slots >= 0).sum(axis=1) == 5).all()


def test_an_answer_in_one_set_is_no_negative_in_another(tmp_path: Path, mini_folder: Path) -> None:
    rows = pairs(6, seed=5)
    answer = next(row["text_pos"] for row in rows if row["text"] != rows[0]["text"])
    folder = prepared(
        tmp_path / "data", first=rows, second=[{"text": rows[0]["text"], "text_pos": answer}, *pairs(3, 8)]
    )
    mine(folder, tmp_path / "mined", mini_folder, MiningOptions(negatives=5, relative_margin=None), FP32)
    asked = [row for row in rows_of(tmp_path / "mined", "first") if row["query"] == rows[0]["text"]]
    assert asked
    assert all(answer not in row["neg"] for row in asked)


def test_a_corpus_extends_the_filter_and_makes_the_licence_unknown(
    folder: Path, tmp_path: Path, mini_folder: Path
) -> None:
    manifest = read_json(folder / "manifest.json")
    for entry in manifest["datasets"]:
        entry |= {"licence": "MIT", "commercial": "yes"}
    write_json(folder / "manifest.json", manifest)
    corpus = write_jsonl(tmp_path / "more.jsonl", [{"text": f"树叶黄了{n}号"} for n in range(30)])
    out = tmp_path / "mined"
    options = MiningOptions(negatives=20, relative_margin=None)
    mine(folder, out, mini_folder, options, FP32, corpus=corpus, sets=["faq"])
    negatives = {text for row in rows_of(out, "faq") for text in row["neg"]}
    new = sorted(text for text in negatives if text.startswith("树叶"))
    assert new
    seen, before = TextFilter.load(out / "texts.bloom"), TextFilter.load(folder / "texts.bloom")
    assert seen.has(new).all()
    assert not before.has(new).all()
    kept = [row["text"] for row in pairs(40)] + [f"今天{n}" for n in range(8)] + [f"猫{n}" for n in range(20)]
    assert seen.has(kept).all()
    after = read_json(out / "manifest.json")
    assert after["texts"] == seen.texts
    terms = {entry["dataset"]: (entry["commercial"], entry["licence"]) for entry in after["datasets"]}
    assert terms["faq"] == ("unknown", "MIT; negatives of more.jsonl: not stated")
    assert terms["scored"] == ("yes", "MIT")
    assert terms["triplets"] == ("yes", "MIT")
    assert after["steps"][0]["corpus"]["name"] == "more.jsonl"


def test_dropped_rows_leave_the_counts_and_the_filter(folder: Path, tmp_path: Path, mini_folder: Path) -> None:
    out = tmp_path / "kept"
    mine(folder, out, mini_folder, MiningOptions(negatives=0, consistency=4), FP32, sets=["faq"])
    entry = next(entry for entry in read_json(out / "manifest.json")["datasets"] if entry["dataset"] == "faq")
    assert entry["kind"] == "pair"
    assert 0 < entry["rows_out"] < 40
    assert entry["dropped"]["inconsistent"] == 40 - entry["rows_out"]
    kept = {row["text"] for row in rows_of(out, "faq")}
    gone = [row["text"] for row in rows_of(folder, "faq") if row["text"] not in kept]
    seen = TextFilter.load(out / "texts.bloom").has(gone)
    assert seen.mean() < 0.3
    assert TextFilter.load(out / "texts.bloom").has(sorted(kept)).all()


def test_the_same_again_is_done_already_and_other_settings_replace(
    folder: Path, tmp_path: Path, mini_folder: Path
) -> None:
    out = tmp_path / "mined"
    first = mine(folder, out, mini_folder, OPTIONS, FP32)
    again = mine(folder, out, mini_folder, OPTIONS, FP32)
    assert (first.reused, again.reused) == (False, True)
    assert {**again.as_dict(), "reused": False} == first.as_dict()
    other = mine(folder, out, mini_folder, MiningOptions(negatives=4, relative_margin=None), FP32)
    assert not other.reused
    assert len(rows_of(out, "faq")[0]["neg"]) == 4
    marker = read_marker(out)
    assert marker is not None
    assert marker["m3e"] == "data mine"


def test_what_is_refused(folder: Path, tmp_path: Path, mini_folder: Path) -> None:
    with pytest.raises(DataError, match="no data set 'nothing'; it has: faq, scored, triplets"):
        mine(folder, tmp_path / "m", mini_folder, sets=["nothing"])
    with pytest.raises(DataError, match="scored holds scored pair rows"):
        mine(folder, tmp_path / "m", mini_folder, sets=["scored"])
    with pytest.raises(SettingsError, match="name a folder"):
        mine(folder, tmp_path / "m.jsonl", mini_folder)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").write_text("keep")
    with pytest.raises(OutputExistsError, match="foreign"):
        mine(folder, tmp_path / "foreign", mini_folder)
    with pytest.raises(OutputExistsError, match="data mine did not write"):  # another step's folder
        mine(
            mine(folder, tmp_path / "m", mini_folder, OPTIONS, FP32).out,
            prepared(tmp_path / "two", a=pairs(3)),
            "m3e-static",
        )


def test_mined_then_scored(folder: Path, tmp_path: Path, mini_folder: Path) -> None:
    mine(folder, tmp_path / "mined", mini_folder, OPTIONS, FP32)
    score(tmp_path / "mined", tmp_path / "scored", "m3e-static", embedding=FP32)
    manifest = read_json(tmp_path / "scored" / "manifest.json")
    assert [step["step"] for step in manifest["steps"]] == ["mine", "score"]
    assert manifest["steps"][1]["models"][0]["licence"] == "Apache-2.0"
    assert (tmp_path / "scored" / "texts.bloom").read_bytes() == (folder / "texts.bloom").read_bytes()
    for row in rows_of(tmp_path / "scored", "faq"):
        assert (len(row["pos_scores"]), len(row["neg_scores"])) == (1, 2)
    rows = next(shard_rows(tmp_path / "scored" / "faq" / "00000.parquet", "ranked"))
    assert rows.scores is not None
    assert rows.scores.shape[0] == 40
