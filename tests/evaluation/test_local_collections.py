"""Files of pairs as retrieval sets."""

import pytest
from evaluation_sets import write

from m3e.errors import DataError
from m3e.evaluation.local_collections import read_pair_collection


def test_each_text_is_a_query_for_its_positive(tmp_path):
    path = write(tmp_path / "faq.test.parquet", text=["怎么退货", "几点开门"], text_pos=["七天内退货", "早上八点"])
    found = read_pair_collection("faq.test", path)
    assert found.queries == {"q0": "怎么退货", "q1": "几点开门"}
    assert found.corpus == {"d0": ("", "七天内退货"), "d1": ("", "早上八点")}
    assert found.relevant == {"q0": {"d0": 1}, "q1": {"d1": 1}}
    assert (found.candidates, found.unjudged, found.empty, found.dropped) == (None, [], [], 0)


def test_texts_of_one_key_share_what_is_relevant(tmp_path):
    path = write(
        tmp_path / "faq.test.parquet",
        text=["怎么退货？", "怎样退货", "怎么退货", "几点开门"],
        text_pos=["七天内退货。", "七天内退货", "打电话", "打电话！"],
    )
    found = read_pair_collection("faq.test", path)
    assert found.queries == {"q0": "怎么退货？", "q1": "怎样退货", "q3": "几点开门"}
    assert found.corpus == {"d0": ("", "七天内退货。"), "d2": ("", "打电话")}
    assert found.relevant == {"q0": {"d0": 1, "d2": 1}, "q1": {"d0": 1}, "q3": {"d2": 1}}


def test_the_other_way_round(tmp_path):
    path = write(
        tmp_path / "x.test.parquet", text=["天气", "天气", "公园"], text_pos=["weather", "the weather", "park"]
    )
    found = read_pair_collection("x", path, reverse=True)
    assert found.queries == {"q0": "weather", "q1": "the weather", "q2": "park"}
    assert found.corpus == {"d0": ("", "天气"), "d2": ("", "公园")}
    assert found.relevant == {"q0": {"d0": 1}, "q1": {"d0": 1}, "q2": {"d2": 1}}


def test_negatives_are_documents_that_nobody_wants(tmp_path):
    path = write(
        tmp_path / "t.test.parquet",
        text=["甲问", "乙问", "丙问"],
        text_pos=["甲答", "乙答", "丙答"],
        text_neg=["乙答。", "丁答", None],
    )
    found = read_pair_collection("t", path)
    assert list(found.corpus) == ["d0", "d1", "d2", "n1"]
    assert found.corpus["n1"] == ("", "丁答")
    assert found.relevant["q0"] == {"d0": 1}
    assert "n1" not in read_pair_collection("t", path, reverse=True).corpus


def test_rows_without_two_texts_are_counted(tmp_path):
    path = write(tmp_path / "h.test.parquet", text=["甲", None, " \u200b", "乙"], text_pos=["子", "丑", "寅", ""])
    found = read_pair_collection("h", path)
    assert found.dropped == 3
    assert found.relevant == {"q0": {"d0": 1}}
    path = write(tmp_path / "e.test.parquet", text=["甲"], text_pos=[""])
    with pytest.raises(DataError, match="no row with a text and a text_pos"):
        read_pair_collection("e", path)
