import pytest
from evaluation_sets import CORPUS, ORDERS, QUERIES, SENTENCES1, WEATHER, write_collection, write_pairs, write_texts

import m3e
from m3e.data.bloom import FILE_NAME, TextFilter
from m3e.data.keys import hashes_of_keys, text_key, text_keys
from tests.conftest import write_mini


def save_filter(folder, texts):
    seen = TextFilter(1000)
    seen.add_hashes(hashes_of_keys(text_keys(texts)))
    seen.save(folder / FILE_NAME)


def share(texts, trained):
    """By hand, over different texts of at least six key characters."""
    keys = {key for text in texts if len(key := text_key(text)) >= 6}
    return len(keys & {text_key(text) for text in trained}) / len(keys)


def test_the_share_of_texts_that_the_model_has_seen(tmp_path):
    """Queries and documents, sentences, texts of the scored split; short texts do not count, punctuation does not."""
    model = write_mini(tmp_path / "model")
    trained = [*WEATHER, "番茄叶黄了，怎么办？", QUERIES["q2"], "狗不去"]
    save_filter(model, trained)
    data = tmp_path / "data"
    write_collection(data, "find.test")
    write_pairs(data / "like.test.parquet")
    write_texts(data / "mood.train.parquet", [(text, "x") for text in WEATHER] + [(text, "y") for text in ORDERS])
    write_texts(data / "mood.test.parquet", [(text, "x") for text in ORDERS])
    found = {score.task: score for score in m3e.evaluate(model, suite="local", data=data).results}
    assert found["find.test"].contamination == pytest.approx(share([*CORPUS.values(), *QUERIES.values()], trained))
    assert found["like.test"].contamination == pytest.approx(share(SENTENCES1, trained))
    assert 0 < found["like.test"].contamination < 1
    assert found["mood.test"].contamination == 0.0  # its training rows are no texts of the split
    assert {row["contamination"] for row in m3e.evaluate(model, suite="local", data=data).as_dict()["results"]} == {
        score.contamination for score in found.values()
    }


def test_unknown_without_a_filter_and_said_with_a_broken_one(tmp_path, mini_folder):
    write_pairs(tmp_path / "data" / "like.test.parquet")
    results = m3e.evaluate(mini_folder, suite="local", data=tmp_path / "data")
    assert (results.results[0].contamination, results.notes) == (None, [])
    model = write_mini(tmp_path / "model")
    (model / FILE_NAME).write_bytes(b"something else")
    results = m3e.evaluate(model, suite="local", data=tmp_path / "data")
    assert results.results[0].contamination is None
    assert "unknown" in results.notes[0]
    assert FILE_NAME in results.notes[0]


def test_a_loaded_model_is_asked_too(tmp_path):
    write_pairs(tmp_path / "data" / "like.test.parquet")
    model = write_mini(tmp_path / "model")
    save_filter(model, SENTENCES1)
    for given in (m3e.load(model, device="cpu"), m3e.Encoder(m3e.load(model, device="cpu"))):
        assert m3e.evaluate(given, suite="local", data=tmp_path / "data").results[0].contamination == 1.0


def test_tasks_by_subset_and_lists_of_sentences(tmp_path):
    from types import SimpleNamespace

    from datasets import Dataset, DatasetDict

    from m3e.evaluation.contamination import contamination, task_texts

    clustering = Dataset.from_dict({"sentences": [[WEATHER[0], WEATHER[1]], [ORDERS[0]]], "labels": [[0, 1], [1]]})
    other = Dataset.from_dict({"text": [ORDERS[1]]})
    task = SimpleNamespace(dataset={"zh": DatasetDict({"test": clustering, "train": other})})
    assert [text for texts in task_texts(task, "test") for text in texts] == [WEATHER[0], WEATHER[1], ORDERS[0]]
    assert contamination(SimpleNamespace(dataset={}), "test", TextFilter(10)) is None
