"""Scores equal those of mteb called directly on the same texts with a plain SentenceTransformer."""

import mteb
import pytest
from datasets import Dataset, DatasetDict
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

import m3e
from tests.evaluation.conftest import FOOD, SPORT, WEATHER, write, write_collection, write_labelled


def directly(model, task, split, dataset):
    """The scores of mteb's own evaluation."""
    task.filter_eval_splits([split])
    task.dataset, task.data_loaded = dataset, True
    wrapper = SentenceTransformerEncoderWrapper(model)
    result = mteb.evaluate(wrapper, task, cache=None, co2_tracker=False, show_progress_bar=False)
    return result.task_results[0].scores[split][0]


def task_of(base, kind, metric, **attributes):
    metadata = TaskMetadata(
        name="Direct",
        description="direct",
        dataset={"path": "direct", "revision": "1"},
        type=kind,
        category="t2t",
        eval_splits=["test"],
        eval_langs=["cmn-Hans"],
        main_score=metric,
    )
    return type("Direct", (base,), {"metadata": metadata, **attributes})()


def assert_equal(score, direct, *metrics):
    for metric in metrics:
        assert score.scores[metric] == pytest.approx(direct[metric], abs=1e-4), metric


def test_sts(tmp_path, encoder, pairs):
    one, two, labels = pairs
    write(tmp_path / "mine.test.parquet", sentence1=one, sentence2=two, label=labels)
    score = m3e.evaluate(encoder, suite="local", data=tmp_path).results[0]
    rows = Dataset.from_dict({"sentence1": one, "sentence2": two, "score": labels})
    task = task_of(mteb.abstasks.AbsTaskSTS, "STS", "cosine_spearman")
    direct = directly(encoder.model, task, "test", DatasetDict({"test": rows}))
    assert (score.metric, score.n) == ("cosine_spearman", 15)
    assert score.score == score.scores["cosine_spearman"]
    assert_equal(score, direct, "cosine_spearman", "cosine_pearson", "manhattan_spearman", "euclidean_pearson")


def test_pair_classification(tmp_path, encoder, pairs):
    one, two, labels = pairs
    binary = [int(label >= 3) for label in labels]
    write(tmp_path / "mine.test.parquet", sentence1=one, sentence2=two, label=binary)
    (tmp_path / "mine.json").write_text('{"type": "pair_classification"}')
    score = m3e.evaluate(encoder, suite="local", data=tmp_path).results[0]
    rows = Dataset.from_dict({"sentence1": one, "sentence2": two, "labels": binary})
    task = task_of(mteb.abstasks.AbsTaskPairClassification, "PairClassification", "max_ap")
    direct = directly(encoder.model, task, "test", DatasetDict({"test": rows}))
    assert score.metric == "max_ap"
    assert_equal(score, direct, "max_ap", "max_accuracy", "cosine_ap", "cosine_f1")


def test_classification(tmp_path, encoder, labelled):
    train, test = labelled
    write_labelled(tmp_path, "mine", labelled)
    score = m3e.evaluate(encoder, suite="local", data=tmp_path).results[0]
    number = {"吃的": 0, "天气": 1, "运动": 2}
    dataset = DatasetDict(
        {
            split: Dataset.from_dict({"text": [text for text, _ in rows], "label": [number[name] for _, name in rows]})
            for split, rows in (("train", train), ("test", test))
        }
    )
    task = task_of(mteb.abstasks.AbsTaskClassification, "Classification", "accuracy", samples_per_label=32)
    direct = directly(encoder.model, task, "test", dataset)
    assert (score.task, score.metric, score.n) == ("mine.test", "accuracy", len(test))
    assert_equal(score, direct, "accuracy", "f1", "f1_weighted")


def test_official_classification_keeps_mtebs_protocol(tmp_path, encoder, labelled):
    train, test = labelled
    write_labelled(tmp_path, "tnews", ([*train, *test], test), test="dev")
    results = m3e.evaluate(encoder, ["TNews"], data=tmp_path)
    score = results.results[0]
    number = {"吃的": 0, "天气": 1, "运动": 2}
    dataset = DatasetDict(
        {
            split: Dataset.from_dict({"text": [text for text, _ in rows], "label": [number[name] for _, name in rows]})
            for split, rows in (("train", [*train, *test]), ("validation", test))
        }
    )
    direct = directly(encoder.model, mteb.get_task("TNews"), "validation", dataset)
    assert (score.split, score.official_split, score.metric) == ("validation", True, "accuracy")
    assert_equal(score, direct, "accuracy", "f1")


def test_retrieval(tmp_path, encoder):
    corpus = {f"d{index}": text for index, text in enumerate(WEATHER + FOOD + SPORT)}
    queries = {"q1": "下雨天路滑", "q2": "怎么煮面条", "q3": "热身要多久", "q4": "降温加衣服"}
    qrels = [("q1", "d0", 1), ("q2", "d6", 2), ("q2", "d7", 1), ("q3", "d10", 1), ("q4", "d1", 1), ("q4", "d0", 0)]
    write_collection(tmp_path, "mine.test", corpus, queries, qrels)
    score = m3e.evaluate(encoder, suite="local", data=tmp_path).results[0]
    relevant = {}
    for query, document, grade in qrels:
        relevant.setdefault(query, {})[document] = grade
    rows = {
        "corpus": Dataset.from_dict({"id": list(corpus), "text": list(corpus.values())}),
        "queries": Dataset.from_dict({"id": list(queries), "text": list(queries.values())}),
        "relevant_docs": relevant,
        "top_ranked": None,
    }
    task = task_of(mteb.abstasks.AbsTaskRetrieval, "Retrieval", "ndcg_at_10")
    direct = directly(encoder.model, task, "test", {"default": {"test": rows}})
    assert (score.metric, score.n) == ("ndcg_at_10", 4)
    assert_equal(score, direct, "ndcg_at_10", "map_at_100", "mrr_at_10", "recall_at_5", "precision_at_3")


def test_prompts_reach_both_sides_of_symmetric_tasks(tmp_path, prompted_folder, pairs):
    """e5's rule: like sides both get the query prompt; retrieval gets one each."""
    from m3e.inference import Encoder

    seen = []

    class Spy(Encoder):
        def encode(self, texts, *, prompt_name=None, **options):
            seen.append(prompt_name)
            return super().encode(texts, prompt_name=prompt_name, **options)

    one, two, labels = pairs
    write(tmp_path / "a.test.parquet", sentence1=one, sentence2=two, label=labels)
    corpus = {f"d{index}": text for index, text in enumerate(FOOD)}
    write_collection(tmp_path, "b.test", corpus, {"q": "煮面条"}, [("q", "d1", 1)])
    m3e.evaluate(Spy(prompted_folder, dtype="fp32", device="cpu"), suite="local", data=tmp_path)
    assert seen[:2] == ["query", "query"]
    assert sorted(seen[2:]) == ["document", "query"]
