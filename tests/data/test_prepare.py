"""The whole of it: what lies in the folder, the same bytes again, going on after a stop, sets that fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from planned_sets import entry_of, planned, row, sums, texts, written

from m3e.data import shards
from m3e.data.bloom import TextFilter
from m3e.data.filters import Filters
from m3e.data.pipeline import PipelineOptions, SetPlan
from m3e.data.prepare import run_pipeline
from m3e.data.reading import read_records
from m3e.data.sets import plan_of_path
from m3e.errors import DataError, OutputExistsError
from m3e.files import hash_file, hash_settings
from m3e.records import Pair, ScoredPair

OPTIONS = PipelineOptions()


def pairs(start: int, count: int) -> list[dict]:
    return [row(f"第{number}个问题是什么呢", f"这是第{number}号的回答啊") for number in range(start, start + count)]


def four_sets() -> list[SetPlan]:
    scored = [row(f"句子{n}", f"又一句{n}", label=float(n % 3)) for n in range(9)]
    triplets = [row(f"提问{n}", f"应答{n}", negatives=[f"错的{n}", f"也错{n}"][: 1 + n % 2]) for n in range(9)]
    return [
        planned("pairs", pairs(0, 40), weight=2.5, facts={"licence": "mit", "commercial": "yes"}),
        planned("org/scored", scored, "scored_pair", category="s2s", symmetric=True, languages=("zh",)),
        planned("triplets", triplets, "triplet", quality="high"),
        planned("texts", [row(f"单独的第{n}条文本") for n in range(9)], "text"),
    ]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "out"
    options = replace(OPTIONS, filters=Filters(max_query=30))
    plans = four_sets()
    long = planned(
        "pairs", [*pairs(0, 40), *pairs(0, 3), row("太" + "长的问题" * 9, "回答")], weight=2.5, facts=plans[0].facts
    )
    run_pipeline([long, *plans[1:]], folder, options, policy="any", title="一些数据")
    return folder


def test_what_lies_in_the_folder(out: Path) -> None:
    assert sorted(sums(out)) == sorted(
        [
            *("README.md", "m3e.json", "manifest.json", "texts.bloom"),
            *(f"{name}/00000.parquet" for name in ("pairs", "org__scored", "triplets", "texts")),
        ]
    )
    assert [path.name for path in out.parent.iterdir()] == ["out"]  # nothing is left beside it


def test_the_manifest_adds_up(out: Path) -> None:
    text = (out / "manifest.json").read_text("utf-8")
    manifest = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    sets = {entry["dataset"]: entry for entry in manifest["datasets"]}
    assert list(sets) == ["pairs", "org/scored", "triplets", "texts"]
    for entry in sets.values():
        assert entry["rows_in"] == entry["rows_out"] + sum(entry["dropped"].values())
        assert entry["rows_out"] == sum(shard["rows"] for shard in entry["shards"])
        assert [hash_file(out / shard["file"]) for shard in entry["shards"]] == [s["sha256"] for s in entry["shards"]]
        assert entry["content_hash"] == hash_settings([shard["sha256"] for shard in entry["shards"]])
    first = sets["pairs"]
    assert (first["rows_in"], first["rows_out"]) == (44, 40)
    assert first["dropped"] == {"too_long": 1, "exact_duplicate": 3}
    assert (first["weight"], first["licence"], first["commercial"]) == (2.5, "mit", "yes")
    scored = sets["org/scored"]
    assert (scored["kind"], scored["category"], scored["symmetric"], scored["languages"]) == (
        "scored_pair",
        "s2s",
        True,
        ["zh"],
    )
    assert (scored["weight"], scored["quality"]) == (1.0, "medium")
    assert (manifest["rows_in"], manifest["rows_out"], manifest["pairs_out"]) == (71, 67, 58)
    assert manifest["texts"] == 80 + 18 + 9 * 3 + 4 + 9
    assert manifest["options"]["filters"]["max_query"] == 30
    assert (manifest["policy"], manifest["failed"], manifest["evaluation"], manifest["by_pair"]) == ("any", {}, [], [])


def test_the_filter_has_seen_what_stayed_and_nothing_else(out: Path) -> None:
    seen = TextFilter.load(out / "texts.bloom")
    assert seen.has(["第０个问题，是什么呢？", "这是第39号的回答啊", "也错3", "单独的第8条文本"]).all()
    assert seen.has([f"没有的{number}" for number in range(1000)]).sum() < 30
    assert not seen.has(["太" + "长的问题" * 9]).any()


def test_our_reader_reads_it(out: Path) -> None:
    found = read_records(out / "pairs")
    assert sorted(found.records, key=lambda pair: pair.text)[0] == Pair("第0个问题是什么呢", "这是第0号的回答啊")
    assert (found.rows, found.dropped) == (40, {})
    assert ScoredPair("句子1", "又一句1", 1.0) in read_records(out / "org__scored").records
    triplets = {record.text: record.negatives for record in read_records(out / "triplets").records}
    assert (triplets["提问1"], triplets["提问2"]) == (("错的1", "也错1"), ("错的2",))


def test_datasets_reads_it(out: Path, tmp_path: Path) -> None:
    import datasets

    loaded = datasets.load_dataset("parquet", data_dir=str(out / "pairs"), split="train", cache_dir=str(tmp_path))
    assert loaded.column_names == ["text", "text_pos", "dataset"]
    assert set(loaded["dataset"]) == {"pairs"}
    assert sorted(loaded["text"])[0] == "第0个问题是什么呢"
    named = datasets.load_dataset(str(out), "org__scored", split="train", cache_dir=str(tmp_path))
    assert sorted(named["sentence1"]) == [f"句子{number}" for number in range(9)]


def test_the_same_input_and_seed_give_the_same_bytes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 16)
    monkeypatch.setattr(shards, "_GROUP_ROWS", 8)
    for name, bucket_bytes in (("one", 64 << 20), ("two", 64 << 20), ("small", 400)):
        monkeypatch.setattr(shards, "_BUCKET_BYTES", bucket_bytes)
        run_pipeline(four_sets(), tmp_path / name, OPTIONS, title="一些数据")
    first = sums(tmp_path / "one")
    assert [f"pairs/0000{number}.parquet" in first for number in range(4)] == [True, True, True, False]
    assert sums(tmp_path / "two") == first
    assert sums(tmp_path / "small") == first


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    whole = run_pipeline(four_sets(), tmp_path / "whole", OPTIONS)
    plans = four_sets()

    def stopped(account):
        yield "scored_pair", row("句子", "句子二", label=1.0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_pipeline([plans[0], replace(plans[1], read=stopped), *plans[2:]], tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()
    assert [plan.read.calls for plan in plans] == [1, 0, 0, 0]
    done = run_pipeline(plans, tmp_path / "out", OPTIONS)
    assert [plan.read.calls for plan in plans] == [1, 1, 1, 1]
    assert sums(done.folder) == sums(whole.folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_a_run_stopped_while_it_writes_goes_on(tmp_path: Path, monkeypatch) -> None:
    plans = four_sets()
    with monkeypatch.context() as patch:

        def fail(*arguments):
            raise KeyboardInterrupt

        patch.setattr("m3e.data.prepare.dataset_card", fail)
        with pytest.raises(KeyboardInterrupt):
            run_pipeline(plans, tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()
    run_pipeline(plans, tmp_path / "out", OPTIONS)
    assert [plan.read.calls for plan in plans] == [1, 1, 1, 1]


def test_nothing_is_done_twice(tmp_path: Path) -> None:
    plans = four_sets()
    first = run_pipeline(plans, tmp_path / "out", OPTIONS)
    before = sums(first.folder)
    again = run_pipeline(plans, tmp_path / "out", OPTIONS)
    assert (first.reused, again.reused) == (False, True)
    assert again.manifest == first.manifest
    assert [plan.read.calls for plan in plans] == [1, 1, 1, 1]
    assert sums(first.folder) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda plans, options: ([replace(plans[0], inputs="other"), *plans[1:]], options),
        lambda plans, options: (plans[:3], options),
        lambda plans, options: (plans, replace(options, near_duplicates=0.7)),
        lambda plans, options: (plans, replace(options, filters=Filters(min_query=2))),
        lambda plans, options: (plans, replace(options, seed=1)),
        lambda plans, options: ([replace(plans[0], max_rows=3), *plans[1:]], options),
        lambda plans, options: ([replace(plans[0], weight=3.0), *plans[1:]], options),
    ],
)
def test_what_changed_is_done_again(tmp_path: Path, change) -> None:
    run_pipeline(four_sets(), tmp_path / "out", OPTIONS)
    plans, options = change(four_sets(), OPTIONS)
    again = run_pipeline(plans, tmp_path / "out", options)
    assert not again.reused
    assert plans[0].read.calls == 1
    assert sums(again.folder) == sums(run_pipeline(plans, tmp_path / "fresh", options).folder)


def test_other_evaluation_files_are_looked_for_in_the_same_folder(tmp_path: Path) -> None:
    """Also where the process has read an index from a folder of that name before."""
    rows = [row("问题甲乙", f"{letters * 6}是答案") for letters in ("春夏秋冬", "东西南北")]
    for name, letters, kept in (("a.test.jsonl", "春夏秋冬", "东"), ("b.test.jsonl", "东西南北", "春")):
        path = tmp_path / name
        path.write_text(json.dumps({"text": f"{letters * 6}是答案吗"}, ensure_ascii=False), "utf-8")
        done = run_pipeline([planned("a", rows)], tmp_path / "out", OPTIONS, evaluation=[path])
        assert [found["text_pos"][0] for found in written(done, "a")] == [kept]
        assert entry_of(done, "a")["dropped"] == {"contaminated_near": 1}


def test_a_shard_that_is_gone_is_written_again(tmp_path: Path) -> None:
    done = run_pipeline(four_sets(), tmp_path / "out", OPTIONS)
    before = sums(done.folder)
    (tmp_path / "out/triplets/00000.parquet").unlink()
    assert not run_pipeline(four_sets(), tmp_path / "out", OPTIONS).reused
    assert sums(done.folder) == before


def test_a_set_that_is_left_out_leaves_no_shards(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 16)
    monkeypatch.setattr(shards, "_GROUP_ROWS", 8)
    run_pipeline(four_sets(), tmp_path / "out", OPTIONS)
    plans = four_sets()[1:]
    run_pipeline([planned("pairs", pairs(0, 10)), *plans], tmp_path / "out", OPTIONS)
    assert [path.name for path in (tmp_path / "out/pairs").iterdir()] == ["00000.parquet"]
    run_pipeline(plans, tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out/pairs").exists()


def test_a_set_that_fails_costs_that_set_only(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    lines = [json.dumps({"text": f"问题{n}", "text_pos": f"回答{n}号"}, ensure_ascii=False) for n in range(6)]
    good.write_text("\n".join(lines[:3]), "utf-8")
    bad.write_text("\n".join(lines[3:])[:-7], "utf-8")
    plans = [plan_of_path(path) for path in (bad, good)]
    done = run_pipeline(plans, tmp_path / "out", OPTIONS)
    assert list(done.failed) == ["bad"]
    assert "bad.jsonl" in done.failed["bad"]
    assert "3" in done.failed["bad"]
    assert done.manifest["failed"] == done.failed
    assert texts(done, "good") == {"问题0", "问题1", "问题2"}
    assert not run_pipeline(plans, tmp_path / "out", OPTIONS).reused  # it is tried again

    bad.write_text("\n".join(lines[3:]), "utf-8")
    counted = planned("good", [])  # must not be read again
    plans = [plan_of_path(bad), replace(plan_of_path(good), read=counted.read)]
    mended = run_pipeline(plans, tmp_path / "out", OPTIONS)
    assert counted.read.calls == 0
    assert (mended.failed, texts(mended, "bad"), texts(mended, "good")) == (
        {},
        {"问题3", "问题4", "问题5"},
        {"问题0", "问题1", "问题2"},
    )
    assert run_pipeline(plans, tmp_path / "out", OPTIONS).reused


@pytest.mark.parametrize("damage", ["middle", "end"])
def test_a_damaged_parquet_file_is_named(tmp_path: Path, damage: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "text": [f"问题{n * 7919}" for n in range(20_000)],
        "text_pos": [f"回答{n * 104729}" for n in range(20_000)],
    }
    pq.write_table(pa.table(columns), tmp_path / "broken.parquet", row_group_size=5_000)
    content = bytearray((tmp_path / "broken.parquet").read_bytes())
    at = len(content) * 3 // 5
    content[at : at + 3000] = b"\xff" * 3000
    (tmp_path / "broken.parquet").write_bytes(content if damage == "middle" else content[:at])
    plans = [plan_of_path(tmp_path / "broken.parquet"), planned("good", pairs(0, 3))]
    done = run_pipeline(plans, tmp_path / "out", OPTIONS)
    assert list(done.failed) == ["broken"]
    assert "broken.parquet" in done.failed["broken"]
    assert done.manifest["rows_out"] == 3


def test_all_sets_failing_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no set could be read: a has no usable rows; b has"):
        run_pipeline([planned("a", []), planned("b", [])], tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("keep")
    plans = four_sets()
    with pytest.raises(OutputExistsError, match="--overwrite"):
        run_pipeline(plans, tmp_path / "out", OPTIONS)
    assert plans[0].read.calls == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    run_pipeline(plans, tmp_path / "out", OPTIONS, overwrite=True)
    assert (tmp_path / "out/notes.txt").read_text() == "keep"
    assert (tmp_path / "out/manifest.json").is_file()


def test_progress_is_told_set_by_set(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    plans = [planned("a", pairs(0, 2)), planned("b", pairs(5, 2))]
    run_pipeline(plans, tmp_path / "out", OPTIONS, on_set=lambda *progress: told.append(progress))
    assert told == [(0, 2, "a"), (1, 2, "b"), (2, 2, "")]


def test_a_set_named_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "x.test.jsonl"
    path.write_text(json.dumps({"text": "一个用来评测的很长的问题"}, ensure_ascii=False), "utf-8")
    rows = [*pairs(0, 2), row("我有一个用来评测的很长的问题", "回答")]
    done = run_pipeline([planned("evaluation", rows)], tmp_path / "out", OPTIONS, evaluation=[path])
    assert entry_of(done, "evaluation")["dropped"] == {"contaminated_near": 1}


def test_what_was_prepared_can_be_prepared_again(out: Path, tmp_path: Path) -> None:
    names = ("pairs", "org__scored", "triplets", "texts")
    options = PipelineOptions(normalise=False, filters=None)
    again = run_pipeline([plan_of_path(out / name) for name in names], tmp_path / "again", options)
    assert again.failed == {}
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    for before, after in zip(manifest["datasets"], again.manifest["datasets"], strict=True):
        assert (after["kind"], after["rows_in"], after["rows_out"]) == (
            before["kind"],
            before["rows_out"],
            before["rows_out"],
        )
        assert after["dropped"] == {}
    assert (again.folder / "texts.bloom").read_bytes() == (out / "texts.bloom").read_bytes()
