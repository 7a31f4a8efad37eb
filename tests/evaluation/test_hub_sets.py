"""Sets that mteb does not have, from a hub (played by a stand-in) by the catalogue's cards."""

import pytest
from evaluation_sets import LIKENESS, SENTENCES1, SENTENCES2, TEST, TRAIN
from test_t2ranking import GRADES, PASSAGES, QUERIES, rows

import m3e
from m3e.data.hub import HubSplit
from m3e.data.tables import Table
from m3e.errors import DataError
from m3e.evaluation.listing import list_tasks

NUMBERS = {"天气": 0, "花园": 1, "订单": 2}


class Hub:
    """A hub's sets by id, configuration and split; remembers what was asked for."""

    def __init__(self):
        self.sets = {}
        self.asked = []

    def __call__(self, hub_id, splits, *, config=None, revision=None):
        found = []
        for split in splits:
            self.asked.append((hub_id, config, split, revision))
            if (hub_id, config, split) not in self.sets:
                raise DataError(f"the hub does not give {hub_id}")
            rows = self.sets[hub_id, config, split]
            found.append(HubSplit(Table(hub_id, tuple(rows[0]), rows, is_uniform=True), {}))
        return found


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setenv("M3E_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("m3e.models.loading.hub_is_reachable", lambda: True)
    made = Hub()
    monkeypatch.setattr("m3e.data.card_records.stream_hub_splits", made)
    return made


def texts(pairs, column):
    return [{column: text, "label": NUMBERS[label]} for text, label in pairs]


def test_classification_takes_both_splits_by_the_cards_mapping(hub, mini):
    hub.sets["kuroneko5943/jd21", "iPhone", "validation"] = texts(TEST, "sentence")
    hub.sets["kuroneko5943/jd21", "iPhone", "train"] = texts(TRAIN, "sentence")
    score = m3e.evaluate(mini, ["JDIphone"]).results[0]
    assert (score.task, score.metric, score.n, score.official_split) == ("JDIphone", "accuracy", len(TEST), True)
    assert [(config, split) for _, config, split, _ in hub.asked] == [("iPhone", "validation"), ("iPhone", "train")]
    again = list_tasks(["JDIphone"]).tasks[0]
    assert len(hub.asked) == 2
    assert again.revision == score.data_revision


def test_what_was_fetched_once_needs_no_hub(hub, monkeypatch):
    hub.sets["kuroneko5943/jd21", "iPhone", "validation"] = texts(TEST, "sentence")
    hub.sets["kuroneko5943/jd21", "iPhone", "train"] = texts(TRAIN, "sentence")
    first = list_tasks(["JDIphone"]).tasks[0]
    monkeypatch.setattr("m3e.models.loading.hub_is_reachable", lambda: False)
    assert list_tasks(["JDIphone"]).tasks[0].revision == first.revision


def test_pairs_keep_their_labels_and_the_cards_revision(hub):
    hub.sets["vegaviazhang/Med_QQpairs", None, "train"] = [
        {"question1": one, "question2": two, "label": int(label > 2)}
        for one, two, label in zip(SENTENCES1, SENTENCES2, LIKENESS, strict=True)
    ]
    item = list_tasks(["MedQQPairs"]).tasks[0]
    assert item.task.dataset["train"]["labels"][:] == [int(label > 2) for label in LIKENESS]
    assert hub.asked[0][3] == "4c4c063ca92832afb4170fa2b502ae4d349a58b0"


def test_a_set_that_the_hub_does_not_give_is_missing(hub):
    missing = list_tasks(["GubaEastmoney"]).missing
    assert "loading from the hub failed" in missing["GubaEastmoney"]
    hub.sets["Fearao/guba_eastmoney", None, "test"] = [{"text": "天气", "kind": 1}]
    hub.sets["Fearao/guba_eastmoney", None, "train"] = [{"text": "天气", "kind": 1}]
    assert "label" in list_tasks(["GubaEastmoney"]).missing["GubaEastmoney"]


def test_t2ranking_is_kept_in_its_own_layout(hub):
    name = "THUIR/T2Ranking"
    hub.sets[name, "collection", "train"] = [
        {"pid": number, "text": f"{text}\n续" if number == 4 else text} for number, text in enumerate(PASSAGES)
    ]
    hub.sets[name, "queries.dev", "train"] = [{"qid": number, "text": text} for number, text in QUERIES.items()]
    hub.sets[name, "qrels.dev", "train"] = [{"qid": q, "pid": p, "rel": g, "-": 0} for q, p, g in GRADES]
    item = list_tasks(["T2RRetrieval-full"]).tasks[0]
    corpus, queries, relevant, _ = rows(item)
    assert (len(corpus), corpus["4"]) == (15, f"{PASSAGES[4]} 续")
    assert set(queries) == {"0", "3", "7", "9"}
    assert relevant["0"] == {"0": 3, "1": 0, "14": 2}
