from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m3e.records import Kind, Pair, Ranked, ScoredPair, Triplet
from m3e.training.guide import NO_TEXT
from m3e.training.rows import (
    NEGATIVES_A_ROW,
    connected,
    examples,
    hold_out,
    is_symmetric,
    record_texts,
    text_id,
    to_dataset,
)


def test_each_kind_becomes_rows() -> None:
    assert [row.texts for row in examples([Pair("问", "答")])] == [("问", "答")]
    assert [row.texts for row in examples([Triplet("问", "答", "否")])] == [("问", "答", "否")]
    ranked = Ranked("问", ("答一", "答二"), ("否一", "否二"))
    assert [row.texts for row in examples([ranked])] == [("问", "答一", "否一", "否二"), ("问", "答二", "否一", "否二")]
    [scored] = examples([ScoredPair("甲", "乙", 0.5)])
    assert (scored.texts, scored.label) == (("甲", "乙"), 0.5)


def test_a_row_takes_a_bounded_number_of_negatives() -> None:
    [row] = examples([Triplet("问", "答", tuple(f"否{number}" for number in range(50)))])
    assert len(row.texts) == 2 + NEGATIVES_A_ROW


def test_rows_without_negatives_get_empty_slots() -> None:
    rows = list(examples([Ranked("问一", ("答一",), ()), Ranked("问二", ("答二",), ("否",))]))
    dataset = to_dataset(rows, Kind.RANKED)
    assert dataset.column_names == ["text", "text_pos", "text_neg_1", "label"]
    assert dataset["text_neg_1"][:] == ["", "否"]
    assert dataset["label"][0][2] == NO_TEXT
    assert dataset["label"][1] == [text_id("问二"), text_id("答二"), text_id("否")]


def test_text_ids_are_equal_for_the_same_text_typed_differently() -> None:
    assert text_id("订单１２３") == text_id("订单123") == text_id(" 订单123。\u200b")
    assert text_id("订单123") != text_id("订单124")
    assert text_id("😀") != text_id("😂")
    assert text_id("") != NO_TEXT


def test_records_that_share_a_text_stay_on_one_side() -> None:
    records = [Pair(f"问题{number}", f"答案{number % 12}") for number in range(60)]
    train, held_out = hold_out(records, seed=1)
    assert len(train) + len(held_out) == 60
    assert len(held_out) >= 10
    train_texts = {text for record in train for text in record_texts(record)}
    assert not any(text in train_texts for record in held_out for text in record_texts(record))


def test_few_or_all_linked_records_are_all_trained_on() -> None:
    assert hold_out([Pair(f"问{n}", f"答{n}") for n in range(7)], 0)[1] == []
    assert hold_out([Pair(f"问{n}", "同一个答案") for n in range(50)], 0)[1] == []


def test_connected_groups_are_transitive() -> None:
    records = [Pair("甲", "乙"), Pair("丙", "丁"), Pair("乙", "丙"), Pair("戊", "己")]
    assert sorted(map(sorted, connected(records))) == [[0, 1, 2], [3]]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=8, max_size=80), st.integers(0, 5))
def test_a_split_loses_nothing_and_leaks_nothing(numbers: list[tuple[int, int]], seed: int) -> None:
    records = [Pair(f"问{left}", f"答{right}") for left, right in numbers]
    train, held_out = hold_out(records, seed)
    key = lambda record: (record.text, record.text_pos)  # noqa: E731
    assert sorted(map(key, [*train, *held_out])) == sorted(map(key, records))
    assert train
    left = {text for record in train for text in record_texts(record)}
    right = {text for record in held_out for text in record_texts(record)}
    assert left.isdisjoint(right)


@pytest.mark.parametrize(
    ("first", "second", "symmetric"), [("短句子", "短句", True), ("短", "很长很长很长很长的答案", False)]
)
def test_sides_of_like_length_count_as_symmetric(first: str, second: str, symmetric: bool) -> None:
    assert is_symmetric(list(examples([Pair(first, second)]))) is symmetric
