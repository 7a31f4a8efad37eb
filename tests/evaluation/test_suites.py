"""Which tasks a suite has, which of them have data, and what is said of the others."""

import pytest
from evaluation_sets import TEST, TRAIN, write, write_collection, write_pairs, write_texts

import m3e
from m3e.catalogue.shelf import find_card, shipped_cards
from m3e.evaluation.listing import list_tasks
from m3e.evaluation.task_cards import CARDS, SUITES
from m3e.evaluation.tasks import card_of, mteb_card, suite_tasks

M3E_ZH = [
    "TNews",
    "JDIphone",
    "GubaEastmoney",
    "TYQSentiment",
    "StockComSentiment",
    "IFlyTek",
    "MedQQPairs",
    "T2RReranking",
    "T2RRetrieval-1W",
    "T2RRetrieval-10W",
    "T2RRetrieval-50W",
    "T2RRetrieval-full",
]


def write_zh_en(path):
    return write(path, text=["今天天气很好", "公园在哪"], text_pos=["the weather is good", "where is the park"])


def test_keys_are_unique_and_suites_hold_known_tasks():
    keys = [card.key for card in CARDS]
    assert len(keys) == len(set(keys))
    import mteb

    for names in SUITES.values():
        assert len(names) == len(set(names))
        for name in names:
            assert card_of(name) is not None or mteb.get_task(name).metadata.name == name


def test_every_catalogue_set_of_a_card_is_one_for_evaluation():
    for card in CARDS:
        if card.hub:
            assert find_card(card.hub, shipped_cards()).use == "evaluation"


def test_m3e_zh_is_uniems_recipe(tmp_path):
    """Splits, rows a label and draws of study/uniem.md's table, on files of each task."""
    for files, split in (("tnews", "dev"), ("jdiphone", "dev"), ("gubaeastmoney", "test"), ("iflytek", "dev")):
        write_texts(tmp_path / f"{files}.train.parquet", TRAIN)
        write_texts(tmp_path / f"{files}.{split}.parquet", TEST)
    for files in ("multilingual_sentiment_zh", "stockcomsentiment"):
        write_texts(tmp_path / f"{files}.train.parquet", TRAIN)
        write_texts(tmp_path / f"{files}.dev.parquet", TEST)
    write_pairs(tmp_path / "medqqpairs.train.parquet", [0, 1, 1] * 5)
    found = list_tasks(suite="m3e-zh", data=tmp_path)
    by_name = {item.name: item for item in found.tasks}
    assert [*by_name] == M3E_ZH[:7]
    assert [*found.missing] == M3E_ZH[7:]
    draws = {"TNews": 5, "JDIphone": 10, "GubaEastmoney": 10, "TYQSentiment": 10, "StockComSentiment": 10, "IFlyTek": 3}
    assert {name: by_name[name].task.n_experiments for name in draws} == draws
    assert all(by_name[name].task.samples_per_label == 32 for name in draws)
    assert all(item.official for item in found.tasks)
    assert by_name["GubaEastmoney"].split == "test"
    assert (by_name["MedQQPairs"].split, by_name["MedQQPairs"].task.metadata.main_score) == ("train", "max_ap")
    assert {item.name: item.recipe for item in found.tasks if item.recipe} == {"TNews": "uniem", "IFlyTek": "uniem"}


def test_uniems_tnews_and_mtebs_are_two_results(tmp_path, mini):
    write_texts(tmp_path / "data" / "tnews.train.parquet", TRAIN)
    write_texts(tmp_path / "data" / "tnews.dev.parquet", TEST)
    results = m3e.evaluate(mini, ["TNews", "TNews@uniem"], data=tmp_path / "data", out=tmp_path / "out")
    assert [(score.task, score.recipe) for score in results.results] == [("TNews", ""), ("TNews", "uniem")]
    names = sorted(path.name.split(".")[0] for path in (tmp_path / "out").rglob("*.json"))
    assert names == ["TNews", "TNews@uniem"]


def test_what_is_missing_is_named_with_how_to_get_it(tmp_path):
    write_pairs(tmp_path / "stsb_zh.test.parquet")
    missing = list_tasks(suite="m3e-zh", data=tmp_path).missing
    assert list(missing) == M3E_ZH
    assert "jdiphone.dev.parquet and jdiphone.train.parquet (text, label)" in missing["JDIphone"]
    assert "kuroneko5943/jd21:iPhone" in missing["JDIphone"]
    assert "medqqpairs.train.parquet (sentence1, sentence2, label)" in missing["MedQQPairs"]
    for suite in ("c-mteb", "code", "en", "cross"):
        found = list_tasks(suite=suite, data=tmp_path)
        assert {item.name for item in found.tasks} | set(found.missing) == set(suite_tasks(suite))
        assert all(tmp_path.name in reason or "no local files" in reason for reason in found.missing.values())
    assert "HF_ENDPOINT" in list_tasks(suite="c-mteb", data=tmp_path).missing["T2Retrieval"]
    assert "put them there" in list_tasks(suite="cross", data=tmp_path).missing["Tldr-zh-en"]


def test_cross_lingual_pairs_are_asked_both_ways(tmp_path, mini):
    write_zh_en(tmp_path / "tldr_zh_en.test.parquet")
    results = m3e.evaluate(mini, ["Tldr-zh-en", "Tldr-en-zh"], data=tmp_path)
    assert [(score.task, score.metric, score.n) for score in results.results] == [
        ("Tldr-zh-en", "ndcg_at_10", 2),
        ("Tldr-en-zh", "ndcg_at_10", 2),
    ]
    there, back = list_tasks(["Tldr-zh-en", "Tldr-en-zh"], data=tmp_path).tasks
    asked = [item.task.dataset["default"]["test"]["queries"]["text"][0] for item in (there, back)]
    assert asked == ["今天天气很好", "the weather is good"]


def test_xquad_searches_the_other_languages_passages(tmp_path):
    chinese, english = {"d0": "公园", "d1": "天气"}, {"d0": "park", "d1": "weather"}
    judged = [("q0", "d1", 1)]
    write_collection(tmp_path, "xquad_zh_retrieval.test", chinese, {"q0": "今天天气"}, judged)
    write_collection(tmp_path, "xquad_en_retrieval.test", english, {"q0": "weather today"}, judged)
    item = list_tasks(["XQuAD-zh-en"], data=tmp_path).tasks[0]
    data = item.task.dataset["default"]["test"]
    assert (data["queries"]["text"][0], data["corpus"]["text"][:]) == ("今天天气", ["park", "weather"])
    (tmp_path / "xquad_en_retrieval.test.corpus.parquet").unlink()
    assert "XQuAD-zh-en" in list_tasks(["XQuAD-zh-en"], data=tmp_path).missing


def test_tasks_of_code_say_so(tmp_path):
    write(tmp_path / "tldr_zh.dev.parquet", text=["看天气", "去公园"], text_pos=["weather", "cd park"])
    item = list_tasks(["TldrZh"], data=tmp_path).tasks[0]
    assert item.task.metadata.domains == ["Programming"]
    assert (item.split, item.official) == ("dev", False)


def test_local_files_may_be_called_by_mtebs_name(tmp_path, mini):
    write_texts(tmp_path / "Waimai.train.parquet", TRAIN)
    write_texts(tmp_path / "Waimai.test.parquet", TEST)
    write_collection(tmp_path, "CovidRetrieval.dev")
    found = list_tasks(suite="c-mteb", data=tmp_path)
    assert {(item.name, item.split, item.official) for item in found.tasks} == {
        ("Waimai", "test", True),
        ("CovidRetrieval", "dev", True),
    }
    unasked = m3e.evaluate(mini, data=tmp_path)
    assert {score.task for score in unasked.results} == {"Waimai", "CovidRetrieval"}
    assert mteb_card("CodeSearchNetRetrieval") is None
    assert mteb_card("CLSClusteringS2S") is None


def test_pair_files_and_clustering_in_suite_local(tmp_path, mini):
    write_zh_en(tmp_path / "faq.test.parquet")
    write_zh_en(tmp_path / "faq.train.parquet")
    write_texts(tmp_path / "topics.test.parquet", TEST)
    (tmp_path / "topics.json").write_text('{"type": "clustering"}')
    results = m3e.evaluate(mini, suite="local", data=tmp_path)
    assert [(score.task, score.type, score.metric, score.n) for score in results.results] == [
        ("faq.test", "Retrieval", "ndcg_at_10", 2),
        ("topics.test", "Clustering", "v_measure", len(TEST)),
    ]


def test_a_set_of_another_declared_kind_lacks_its_files(tmp_path):
    write_zh_en(tmp_path / "faq.test.parquet")
    (tmp_path / "faq.json").write_text('{"type": "reranking"}')
    assert "candidates" in list_tasks(suite="local", data=tmp_path).missing["faq.test"]


@pytest.mark.realdata
def test_what_runs_on_the_real_folder():
    from m3e.catalogue.local import data_folder

    if data_folder() is None:
        pytest.skip("wants M3E_DATA")
    names = {item.name for item in list_tasks(data=data_folder()).tasks}
    assert {"TNews", "TYQSentiment", "STSB", "LCQMC", "CosQA", "ZhDocstringCode", "Tldr-zh-en", "XQuAD-en-zh"} <= names
    assert {"Cmrc2018", "CSLCategoryClustering", "STS12", "XQuADen"} <= names
