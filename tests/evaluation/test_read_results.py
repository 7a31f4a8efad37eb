import json
from dataclasses import replace

import pytest
from stored_results import write_score

from m3e.errors import DataError, SettingsError
from m3e.evaluation.read_results import read_results


def test_folders_and_json_files_hold_the_same_scores(tmp_path, mini):
    import m3e
    from tests.evaluation.evaluation_sets import write_collection, write_pairs

    write_pairs(tmp_path / "data" / "like.test.parquet")
    write_collection(tmp_path / "data", "find.test")
    results = m3e.evaluate(mini, suite="local", data=tmp_path / "data", out=tmp_path / "out")
    (tmp_path / "out.json").write_text(json.dumps(results.as_dict()), encoding="utf-8")
    folder, file = read_results([tmp_path / "out"]), read_results([tmp_path / "out.json"])
    assert folder.problems == file.problems == {}
    for read in (folder, file):
        found = {item.score.task: item for item in read.results}
        for score in results.results:
            back = found[score.task].score
            assert back.scores == pytest.approx(score.scores, abs=1e-5)  # mteb's record rounds
            assert replace(back, scores={}) == replace(score, scores={})
        assert {item.score.data_revision for item in found.values()} == {item.data_revision for item in results.results}
        assert {(item.model, item.revision, item.dim) for item in found.values()} == {
            (results.model, results.revision, 32)
        }
        assert {item.parameters for item in found.values()} == {sum(part.numel() for part in mini.parameters())}
    assert all(item.items is not None and item.items.is_file() for item in folder.results)
    assert all(item.items is None for item in file.results)
    both = read_results([tmp_path / "out.json", tmp_path / "out"])
    assert len(both.results) == 2
    assert all(item.items for item in both.results)  # the same result: the one with items stays


def test_damaged_and_partial_results_are_named_and_left_out(tmp_path):
    write_score(tmp_path, "STSB", 0.7)
    bad = {
        "cut.json": '{"m3e": {"mod',
        "other.json": '{"hello": 1}',
        "list.json": "[1]",
        "empty.json": "",
        "nan.json": json.dumps({"model": "m", "results": [{"task": "T", "split": "s", "metric": "m", "n": 3}]}),
        "word.json": json.dumps(
            {"model": "m", "results": [{"task": "T", "split": "s", "metric": "m", "n": 3, "score": "high"}]}
        ),
        "nobody.json": json.dumps({"results": [{"task": "T", "split": "s", "metric": "m", "n": 3, "score": 0.5}]}),
        "split.json": json.dumps({"m3e": {"model": "m", "task": "T", "split": "dev"}, "scores": {"test": [{}]}}),
    }
    for name, text in bad.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / ".STSB.json.partial.json").write_text("{")  # a write in progress is nobody's result
    read = read_results([tmp_path])
    assert [item.score.task for item in read.results] == ["STSB"]
    named = {path.rpartition("/")[2].partition(",")[0]: reason for path, reason in read.problems.items()}
    assert set(named) == set(bad)
    assert "cannot be read as JSON" in named["cut.json"]
    assert "no result of m3e eval" in named["other.json"]
    assert "no score" in named["nan.json"]
    assert "'high', not a number" in named["word.json"]
    assert "which model" in named["nobody.json"]
    assert "no scores of the split" in named["split.json"]


def test_one_bad_result_of_a_file_leaves_the_others(tmp_path):
    good = {"task": "STSB", "split": "test", "metric": "cosine_spearman", "score": 0.7, "n": 5, "ci95": None}
    path = tmp_path / "e.json"
    path.write_text(json.dumps({"model": "m", "results": [{**good, "task": None}, good, 3], "missing": {}}))
    read = read_results([path])
    assert [item.score.task for item in read.results] == ["STSB"]
    assert read.results[0].score.type == "STS"  # files of an older m3e do not say; the task's card does
    assert list(read.problems) == [f"{path}, result 1", f"{path}, result 3"]


def test_nothing_to_read_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="no results at"):
        read_results([tmp_path / "nowhere"])
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(DataError, match=r"no result could be read from .*x\.json"):
        read_results([tmp_path])


def test_the_same_result_with_another_score_is_named(tmp_path):
    write_score(tmp_path / "a", "STSB", 0.7)
    write_score(tmp_path / "b", "STSB", 0.8)
    write_score(tmp_path / "c", "STSB", 0.7)
    read = read_results([tmp_path / name for name in "abc"])
    assert [item.score.score for item in read.results] == [0.7]
    assert [path.split("/")[-4] for path in read.problems] == ["b"]


def test_models_by_name_revision_or_folder(tmp_path):
    write_score(tmp_path, "STSB", 0.7, model="ours", revision="aaaa1")
    write_score(tmp_path, "STSB", 0.8, model="ours", revision="bbbb2")
    write_score(tmp_path, "STSB", 0.6, model="theirs")
    read = read_results([tmp_path])
    assert sorted(read.labels().values()) == ["ours@aaaa1", "ours@bbbb2", "theirs"]
    assert read.find_model("theirs") == ("theirs", "r1")
    assert read.find_model("ours@b") == ("ours", "bbbb2")
    assert read.find_model(str(tmp_path / "theirs")) == ("theirs", "r1")
    with pytest.raises(SettingsError, match=r"several revisions; name one of ours@aaaa1, ours@bbbb2"):
        read.find_model("ours")
    with pytest.raises(SettingsError, match=r"no results of 'nobody'; .* theirs"):
        read.find_model("nobody")
