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
    write,
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
        eval_splits=["test", "dev"],
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
    words[9], words[10] = words[10], words[9]  # pairs of equal texts tie, up to rounding: they get one label
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


def test_a_file_of_pairs_is_retrieval(tmp_path, plain):
    """The same as documents, queries and judgements written out, whatever repeats."""
    asked = [*SENTENCES1[:6], SENTENCES1[0], f"{SENTENCES1[1]}。"]
    wanted = [*SENTENCES2[:6], SENTENCES1[9], SENTENCES1[3]]
    write(tmp_path / "faq.test.parquet", text=asked, text_pos=wanted)
    score = m3e.evaluate(plain, suite="local", data=tmp_path).results[0]
    documents = list(dict.fromkeys(wanted))
    relevant = {}
    for query, document in zip([*asked[:6], asked[0], asked[1]], wanted, strict=True):
        relevant.setdefault(f"q{asked.index(query)}", {})[f"d{documents.index(document)}"] = 1
    rows = {
        "corpus": Dataset.from_dict({"id": [f"d{place}" for place in range(len(documents))], "text": documents}),
        "queries": Dataset.from_dict({"id": [f"q{place}" for place in range(6)], "text": asked[:6]}),
        "relevant_docs": relevant,
        "top_ranked": None,
    }
    task = task_of(mteb.abstasks.AbsTaskRetrieval, "Retrieval", "ndcg_at_10")
    direct = directly(plain.model, task, "test", {"default": {"test": rows}})
    assert (score.task, score.metric, score.n) == ("faq.test", "ndcg_at_10", 6)
    assert_equal(score, direct, "ndcg_at_10", "map_at_100", "mrr_at_10", "recall_at_3")


def test_clustering(tmp_path, plain):
    write_texts(tmp_path / "topics.test.parquet", TEST)
    (tmp_path / "topics.json").write_text('{"type": "clustering"}')
    score = m3e.evaluate(plain, suite="local", data=tmp_path).results[0]
    rows = {"sentences": [text for text, _ in TEST], "labels": [label for _, label in TEST]}
    task = task_of(
        mteb.abstasks.AbsTaskClustering,
        "Clustering",
        "v_measure",
        max_fraction_of_documents_to_embed=None,
        max_document_to_embed=2048,
    )
    direct = directly(plain.model, task, "test", DatasetDict({"test": Dataset.from_dict(rows)}))
    assert (score.metric, score.n) == ("v_measure", len(TEST))
    assert_equal(score, direct, "v_measure")
    again = m3e.evaluate(plain, suite="local", data=tmp_path).results[0]
    assert again.score == score.score


def test_uniems_recipe_is_mtebs_classification_with_fewer_draws(tmp_path, plain):
    train = (TRAIN + TEST) * 9
    write_texts(tmp_path / "tnews.train.parquet", train)
    write_texts(tmp_path / "tnews.dev.parquet", TEST)
    score = m3e.evaluate(plain, ["TNews@uniem"], data=tmp_path).results[0]
    kind = mteb.abstasks.AbsTaskClassification
    task = task_of(kind, "Classification", "accuracy", samples_per_label=32, n_experiments=5)
    direct = directly(plain.model, task, "dev", classification(train, "dev", TEST))
    assert (score.task, score.recipe, score.split, score.n) == ("TNews", "uniem", "dev", len(TEST))
    assert len(direct["scores_per_experiment"]) == 5
    assert_equal(score, direct, "accuracy", "f1")


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
