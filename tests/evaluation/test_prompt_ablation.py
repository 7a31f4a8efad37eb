"""Prompts switched off: what is encoded, how results tell, and what the difference is."""

import pyarrow.parquet as pq
import pytest
from evaluation_sets import Ranker, write_collection, write_pairs
from rich.console import Console

import m3e
from m3e.errors import SettingsError
from m3e.evaluation.comparison import compare_models
from m3e.evaluation.html_report import page
from m3e.evaluation.prompt_ablation import compare_prompts, prompt_differences, prompts_table
from m3e.evaluation.read_results import read_results
from m3e.inference import Encoder


@pytest.fixture
def prompted(mini):
    mini.prompts = {"query": "怎么", "document": "今天天气很好"}
    return mini


@pytest.fixture
def data(tmp_path):
    write_pairs(tmp_path / "data" / "p.test.parquet")
    write_collection(tmp_path / "data", "r.test")
    return tmp_path / "data"


def test_off_is_the_model_without_prompts(prompted, data):
    off = m3e.evaluate(prompted, suite="local", data=data, prompts="off")
    on = m3e.evaluate(prompted, suite="local", data=data)
    prompted.prompts = {}
    bare = m3e.evaluate(prompted, suite="local", data=data)
    assert [score.prompts for score in off.results] == [False, False]
    assert [score.prompts for score in on.results] == [True, True]
    for without, plain, with_prompts in zip(off.results, bare.results, on.results, strict=True):
        assert without.scores == pytest.approx(plain.scores, abs=1e-6)
        assert without.scores != pytest.approx(with_prompts.scores, abs=1e-6)


def test_vectors_that_are_kept_are_not_mixed_with_those_of_other_prompts(prompted, data, tmp_path):
    expected = m3e.evaluate(prompted, ["r.test"], suite="local", data=data, prompts="both").results
    for _ in range(2):
        found = m3e.evaluate(
            prompted, ["r.test"], suite="local", data=data, prompts="both", vectors=tmp_path / "v"
        ).results
        assert [score.scores for score in found] == [pytest.approx(score.scores, abs=1e-6) for score in expected]
    assert found[0].scores != found[1].scores
    assert len(list((tmp_path / "v").iterdir())) == 2


def test_a_default_prompt_is_switched_off_too(mini, data):
    mini.prompts, mini.default_prompt_name = {"query": "怎么"}, "query"
    off = m3e.evaluate(mini, ["p.test"], suite="local", data=data, prompts="off").results[0]
    mini.prompts, mini.default_prompt_name = {}, None
    assert off.score == pytest.approx(m3e.evaluate(mini, ["p.test"], suite="local", data=data).results[0].score)


def test_both_give_a_result_each_and_the_difference(prompted, data, tmp_path):
    results = m3e.evaluate(prompted, suite="local", data=data, prompts="both", out=tmp_path / "out")
    assert [(score.task, score.prompts) for score in results.results] == [
        ("p.test", True),
        ("p.test", False),
        ("r.test", True),
        ("r.test", False),
    ]
    single = m3e.evaluate(prompted, suite="local", data=data)
    assert [score.score for score in single.results] == [score.score for score in results.results if score.prompts]
    files = sorted(path.name for path in (tmp_path / "out").rglob("*.json"))
    assert [name.endswith(".no-prompts.json") for name in files] == [False, True, False, True]
    back = read_results([tmp_path / "out"])
    assert not back.problems
    assert sorted((item.score.task, item.score.prompts) for item in back.results) == sorted(
        (score.task, score.prompts) for score in results.results
    )
    (compared,) = compare_prompts(back)
    assert (compared.model_a, compared.model_b) == (f"{results.model} without prompts", results.model)
    assert [test.task for test in compared.tests] == ["p.test", "r.test"]
    assert compared.refused == {}
    assert all(test.ci95 is not None for test in compared.tests)
    pairs = prompt_differences(results)
    for test, (on, off) in zip(compared.tests, pairs, strict=True):
        assert test.difference == pytest.approx(on.score - off.score)
    told = page(back, compare_models(back), prompts=[compared])
    assert f"{results.model} against {results.model} without prompts" in told
    assert [on.task for on, _ in pairs] == ["p.test", "r.test"]
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(prompts_table(results))
    on, off = pairs[0]
    assert f"{on.score - off.score:+.4f}" in capture.get()
    assert "mean" in capture.get()


def test_a_model_without_prompts_runs_once_and_says_so(mini, data):
    mini.prompts = {"query": "", "document": ""}
    results = m3e.evaluate(mini, ["p.test"], suite="local", data=data, prompts="both")
    assert len(results.results) == 1
    assert any("has no prompts" in line for line in results.notes)


def test_what_cannot_be_switched_off_is_refused(mini, data):
    with pytest.raises(SettingsError, match="'of' is not known; choose on, off, both"):
        m3e.evaluate(mini, suite="local", data=data, prompts="of")
    with pytest.raises(SettingsError, match="cannot be switched off"):
        m3e.evaluate(Ranker({}), suite="local", data=data, prompts="off")


def test_the_share_of_cut_texts_is_in_the_result(mini, data):
    mini.prompts, mini.max_seq_length = {}, 7  # five characters and the marks of both ends
    score = m3e.evaluate(Encoder(mini, dtype="fp32"), ["p.test"], suite="local", data=data).results[0]
    table = pq.read_table(data / "p.test.parquet")
    texts = [*table["sentence1"].to_pylist(), *table["sentence2"].to_pylist()]
    assert score.truncated == pytest.approx(sum(len(text) > 5 for text in texts) / len(texts))
    assert 0 < score.truncated < 1
