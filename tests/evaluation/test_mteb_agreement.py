"""Scores equal those of mteb called directly on the same texts with a plain SentenceTransformer."""

import mteb
import pytest
from datasets import Dataset, DatasetDict
from evaluation_sets import (
    CORPUS,
    JUDGEMENTS,
    LIKENESS,
    QUERIES,
    SENTENCES1,
    SENTENCES2,
    TEST,
    TRAIN,
    write_collection,
    write_pairs,
    write_texts,
)
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper

import m3e
from m3e.inference import Encoder

NUMBERS = {"天气": 0, "花园": 1, "订单": 2}


@pytest.fixture
def plain(mini):
    """The miniature without prompts, so that mteb's own wrapper encodes the same texts."""
    mini.prompts = {}
    return Encoder(mini, dtype="fp32")


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


def classification(train, split, test):
    return DatasetDict(
        {
            name: Dataset.from_dict(
                {"text": [text for text, _ in rows], "label": [NUMBERS[label] for _, label in rows]}
            )
            for name, rows in (("train", train), (split, test))
        }
    )


def assert_equal(score, direct, *metrics):
    assert score.score == score.scores[score.metric]
    for metric in metrics:
        assert score.scores[metric] == pytest.approx(direct[metric], abs=1e-4), metric


def test_sts(tmp_path, plain):
    write_pairs(tmp_path / "mine.test.parquet")
    score = m3e.evaluate(plain, suite="local", data=tmp_path).results[0]
    rows = Dataset.from_dict({"sentence1": SENTENCES1, "sentence2": SENTENCES2, "score": LIKENESS})
    task = task_of(mteb.abstasks.AbsTaskSTS, "STS", "cosine_spearman")
    direct = directly(plain.model, task, "test", DatasetDict({"test": rows}))
    assert (score.task, score.metric, score.n) == ("mine.test", "cosine_spearman", 15)
    assert_equal(score, direct, "cosine_spearman", "cosine_pearson", "manhattan_spearman", "euclidean_pearson")


def test_pair_classification(tmp_path, plain):
    binary = [int(label >= 3) for label in LIKENESS]
    write_pairs(tmp_path / "mine.test.parquet", binary)
    (tmp_path / "mine.json").write_text('{"type": "pair_classification"}')
    score = m3e.evaluate(plain, suite="local", data=tmp_path).results[0]
    rows = Dataset.from_dict({"sentence1": SENTENCES1, "sentence2": SENTENCES2, "labels": binary})
    task = task_of(mteb.abstasks.AbsTaskPairClassification, "PairClassification", "max_ap")
    direct = directly(plain.model, task, "test", DatasetDict({"test": rows}))
    assert score.metric == "max_ap"
    assert_equal(score, direct, "max_ap", "max_accuracy", "cosine_ap", "cosine_f1")
    assert score.ci95[0] <= score.score <= score.ci95[1]


def test_nli_drops_neutral_pairs_and_keeps_mtebs_metric(tmp_path, plain):
    words = ["entailment", "contradiction", "neutral"] * 5
    write_pairs(tmp_path / "ocnli.dev.parquet", words)
    score = m3e.evaluate(plain, ["Ocnli"], data=tmp_path).results[0]
    kept = [index for index, word in enumerate(words) if word != "neutral"]
    columns = {
        "sentence1": [SENTENCES1[index] for index in kept],
        "sentence2": [SENTENCES2[index] for index in kept],
        "labels": [int(words[index] == "entailment") for index in kept],
    }
    dataset = DatasetDict({"validation": Dataset.from_dict(columns)})
    direct = directly(plain.model, mteb.get_task("Ocnli"), "validation", dataset)
    assert (score.metric, score.n, score.split, score.official_split) == ("max_accuracy", 10, "validation", True)
    assert_equal(score, direct, "max_accuracy", "max_ap")


def test_classification(tmp_path, plain):
    write_texts(tmp_path / "mine.train.parquet", TRAIN)
    write_texts(tmp_path / "mine.test.parquet", TEST)
    score = m3e.evaluate(plain, suite="local", data=tmp_path).results[0]
    task = task_of(mteb.abstasks.AbsTaskClassification, "Classification", "accuracy", samples_per_label=32)
    direct = directly(plain.model, task, "test", classification(TRAIN, "test", TEST))
    assert (score.task, score.metric, score.n) == ("mine.test", "accuracy", len(TEST))
    assert_equal(score, direct, "accuracy", "f1", "f1_weighted")


def test_official_classification_keeps_mtebs_sampling(tmp_path, plain):
    train = (TRAIN + TEST) * 9  # more than the 32 rows a label that TNews draws
    write_texts(tmp_path / "tnews.train.parquet", train)
    write_texts(tmp_path / "tnews.dev.parquet", TEST)
    score = m3e.evaluate(plain, ["TNews"], data=tmp_path).results[0]
    direct = directly(plain.model, mteb.get_task("TNews"), "validation", classification(train, "validation", TEST))
    assert (score.split, score.official_split, score.metric) == ("validation", True, "accuracy")
    assert_equal(score, direct, "accuracy", "f1")


def test_retrieval(tmp_path, plain):
    write_collection(tmp_path, "mine.test")
    score = m3e.evaluate(plain, suite="local", data=tmp_path).results[0]
    relevant = {}
    for query, document, grade in JUDGEMENTS:
        relevant.setdefault(query, {})[document] = grade
    rows = {
        "corpus": Dataset.from_dict({"id": list(CORPUS), "text": list(CORPUS.values())}),
        "queries": Dataset.from_dict({"id": list(QUERIES), "text": list(QUERIES.values())}),
        "relevant_docs": relevant,
        "top_ranked": None,
    }
    task = task_of(mteb.abstasks.AbsTaskRetrieval, "Retrieval", "ndcg_at_10")
    direct = directly(plain.model, task, "test", {"default": {"test": rows}})
    assert (score.metric, score.n) == ("ndcg_at_10", 4)
    assert_equal(score, direct, "ndcg_at_10", "map_at_100", "mrr_at_10", "recall_at_5", "precision_at_3")


class Spy(Encoder):
    """Notes the prompt of every call."""

    def encode(self, texts, *, prompt_name=None, **options):
        self.seen = [*getattr(self, "seen", []), prompt_name]
        return super().encode(texts, prompt_name=prompt_name, **options)


@pytest.mark.parametrize(
    ("prompts", "symmetric", "sides"),
    [
        ({"query": "问", "document": "答"}, "query", {"query", "document"}),
        ({"query": "问", "passage": "答"}, "query", {"query", "passage"}),
        ({"query": "问"}, None, {"query", None}),
        ({}, None, {None}),
    ],
)
def test_prompts(tmp_path, mini, prompts, symmetric, sides):
    """e5's rule: two like sides both get the query prompt; an instruction for queries only stays there."""
    mini.prompts = prompts
    write_pairs(tmp_path / "a.test.parquet")
    write_collection(tmp_path, "b.test")
    spy = Spy(mini, dtype="fp32")
    m3e.evaluate(spy, suite="local", data=tmp_path)
    assert spy.seen[:2] == [symmetric, symmetric]
    assert set(spy.seen[2:]) == sides
