import numpy as np
import pytest

from m3e.data.cleaning import DROPS_NAMED, clean_rows
from m3e.data.kinds import find_layout
from m3e.data.tables import table_of_rows
from m3e.errors import DataError
from m3e.records import Pair, Ranked, ScoredPair, Triplet


def clean(*rows):
    table = table_of_rows(list(rows), "f.jsonl", lines=range(1, len(rows) + 1))
    return clean_rows(table, find_layout(table, {}))


GOOD = {"text": "几点开门", "text_pos": "九点"}


@pytest.mark.parametrize("hole", ["", " ", "\u3000\u200b", "\ufeff", "\n\t", None, float("nan"), np.nan])
def test_blank_texts_are_dropped_and_named(hole):
    cleaned = clean(GOOD, {"text": "几点关门", "text_pos": hole})
    assert cleaned.records == [Pair("几点开门", "九点")]
    assert cleaned.dropped == {"empty_text": 1}
    assert cleaned.drops == ["f.jsonl, row 2 (line 2): text_pos is empty"]


def test_an_absent_text_is_empty():
    cleaned = clean(GOOD, {"text": "几点关门"})
    assert cleaned.dropped == {"empty_text": 1}


@pytest.mark.parametrize("value", [3, 1.5, True, ["九点"], {"a": "九点"}, b"x", "\ud83d", "好\udc00"])
def test_what_is_no_text_is_dropped_and_named(value):
    cleaned = clean(GOOD, GOOD, {"text": value, "text_pos": "九点"})
    assert len(cleaned.records) == 2
    assert cleaned.dropped == {"not_text": 1}
    assert cleaned.drops == ["f.jsonl, row 3 (line 3): text is not text"]


def test_texts_stay_as_typed():
    text, positive = " ＡＢＣ，１２３\u200b \r\n", "👨\u200d👩\u200d👧\u3000"
    assert clean({"text": text, "text_pos": positive}).records == [Pair(text, positive)]


def test_strings_of_other_types_become_plain():
    (record,) = clean({"text": np.str_("甲"), "text_pos": "乙"}).records
    assert type(record.text) is str


def test_labels_missing_and_bad():
    base = {"sentence1": "甲", "sentence2": "乙"}
    labels = [5, None, float("nan"), "", "３", "高", float("inf")]
    cleaned = clean(*(base | {"label": label} for label in labels), base)
    assert cleaned.records == [ScoredPair("甲", "乙", 5.0), ScoredPair("甲", "乙", 3.0)]
    assert cleaned.dropped == {"missing_label": 4, "bad_label": 2}
    assert cleaned.drops[0] == "f.jsonl, row 2 (line 2): label is missing"
    assert cleaned.drops[3] == "f.jsonl, row 6 (line 6): label is not a number"


def test_a_row_counts_once():
    assert clean(
        {"sentence1": "甲", "sentence2": "乙", "label": 1}, {"sentence1": "", "sentence2": 3, "label": None}
    ).dropped == {"empty_text": 1}


def test_triplets_keep_one_string_or_a_tuple():
    base = {"text": "甲", "text_pos": "乙"}
    assert clean(base | {"text_neg": "丙"}).records == [Triplet("甲", "乙", "丙")]
    assert clean(base | {"text_neg": ["丙", "丁"]}).records == [Triplet("甲", "乙", ("丙", "丁"))]
    assert clean({"anchor": "甲", "positive": "乙", "negative_2": "丁", "negative_1": "丙"}).records == [
        Triplet("甲", "乙", ("丙", "丁"))
    ]


def test_blank_negatives_are_left_out_and_the_row_goes_with_the_last():
    base = {"text": "甲", "text_pos": "乙"}
    cleaned = clean(*(base | {"text_neg": found} for found in (["丙", "", None], [" "], "", None, ["丁", 3])))
    assert cleaned.records == [Triplet("甲", "乙", ("丙",))]
    assert cleaned.dropped == {"empty_text": 3, "not_text": 1}


def test_blank_numbered_negatives_are_left_out():
    base = {"anchor": "甲", "positive": "乙"}
    cleaned = clean(base | {"negative_1": "", "negative_2": "丙"}, base | {"negative_1": None, "negative_2": ""})
    assert cleaned.records == [Triplet("甲", "乙", ("丙",))]
    assert cleaned.drops == ["f.jsonl, row 2 (line 2): text_neg is empty"]


def test_ranked_rows():
    rows = [
        {"query": "甲", "pos": ["乙", "", "丙"], "neg": []},
        {"query": "甲", "pos": ["乙"]},
        {"query": "甲", "pos": "乙", "neg": ["", "丁", None]},
        {"query": "甲", "pos": ["乙"], "neg": None},
        {"query": "甲", "pos": [""], "neg": ["丁"]},
        {"query": "甲", "pos": [7], "neg": ["丁"]},
    ]
    cleaned = clean(*rows)
    assert cleaned.records == [
        Ranked("甲", ("乙", "丙")),
        Ranked("甲", ("乙",)),
        Ranked("甲", ("乙",), ("丁",)),
        Ranked("甲", ("乙",)),
    ]
    assert cleaned.dropped == {"empty_text": 1, "not_text": 1}


def test_arrays_are_lists():
    row = {"query": "甲", "pos": np.array(["乙", "丙"], dtype=object), "pos_scores": np.array([0.5, 0.25])}
    assert clean(row).records == [Ranked("甲", ("乙", "丙"), (), (0.5, 0.25))]


def test_scores_follow_their_texts():
    row = {"query": "甲", "pos": ["乙", " "], "neg": ["", "丁"], "pos_scores": [0.9, 0.1], "neg_scores": [0.3, "0.2"]}
    assert clean(row).records == [Ranked("甲", ("乙",), ("丁",), (0.9,), (0.2,))]


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({"pos_scores": [0.1, 0.2]}, "pos_scores has 2 numbers for 1 texts in pos"),
        ({"neg_scores": []}, "neg_scores has 0 numbers for 1 texts in neg"),
        ({"pos_scores": ["high"]}, "pos_scores must hold numbers"),
        ({"neg_scores": [None]}, "neg_scores must hold numbers"),
    ],
)
def test_scores_that_do_not_fit_stop_the_reading(scores, words):
    good = {"query": "甲", "pos": ["乙"], "neg": ["丙"]}
    with pytest.raises(DataError, match=rf"f\.jsonl, row 2 \(line 2\): {words}"):
        clean(good, good | scores)


def test_only_the_first_drops_are_named():
    cleaned = clean(GOOD, *({"text": "甲", "text_pos": ""} for _ in range(DROPS_NAMED + 5)))
    assert cleaned.dropped == {"empty_text": DROPS_NAMED + 5}
    assert len(cleaned.drops) == DROPS_NAMED
