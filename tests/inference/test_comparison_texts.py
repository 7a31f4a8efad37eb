from __future__ import annotations

import re

import pytest

from m3e.inference.comparison_texts import LONGEST, comparison_texts


@pytest.mark.parametrize(("max_length", "longest"), [(64, 64), (512, 512), (None, LONGEST), (float("inf"), LONGEST)])
def test_lengths_run_from_a_word_to_more_than_the_maximum(max_length: float | None, longest: int) -> None:
    texts = comparison_texts(len, max_length)
    lengths = sorted(map(len, texts))
    assert lengths[0] < 10
    assert lengths[-1] > longest
    for share in (1 / 8, 1 / 4, 1 / 2, 3 / 4):
        assert any(longest * share <= length < longest * share + 400 for length in lengths)


def test_both_languages_and_code_are_there() -> None:
    texts = comparison_texts(len, 512)
    assert len(set(texts)) == len(texts) > 80
    chinese = sum(bool(re.search(r"[\u4e00-\u9fff]", text)) for text in texts)
    english = sum(bool(re.search(r"[a-z]{3} [a-z]{2}", text)) for text in texts)
    assert chinese > 60
    assert english > 9
    assert any("def " in text for text in texts)
