from __future__ import annotations

import difflib

from m3e.data.keys import text_key
from m3e.data.samples import general_data, help_centre


def test_the_help_centre_is_large_enough_and_leaks_nothing() -> None:
    data = help_centre()
    assert len(data.answers) >= 120
    assert len(data.train) + len(data.test) >= 600
    train, test = {answer for _, answer in data.train}, {answer for _, answer in data.test}
    assert train | test == set(data.answers)
    assert not train & test


def test_no_question_stands_twice_or_nearly_on_both_sides() -> None:
    data = help_centre()
    keys = [text_key(question) for question, _ in [*data.train, *data.test]]
    assert len(set(keys)) == len(keys)
    train = [text_key(question) for question, _ in data.train]
    for question, _ in data.test:
        key = text_key(question)
        close = difflib.get_close_matches(key, train, n=1, cutoff=0.9)
        assert not close, (question, close)


def test_the_general_check_is_whole() -> None:
    data = general_data()
    assert len(data.pairs) >= 200
    assert len(data.queries) >= 100
    assert {label for *_, label in data.pairs} <= {half / 2 for half in range(11)}
    assert {passage for _, passage in data.queries} <= set(data.passages)
    texts = [text_key(text) for text in [*data.passages.values(), *(query for query, _ in data.queries)]]
    assert len(set(texts)) == len(texts)
