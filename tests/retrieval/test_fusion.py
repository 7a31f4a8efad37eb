from __future__ import annotations

import pytest

from m3e.errors import SettingsError
from m3e.retrieval.fusion import Fusion, reciprocal_rank, weighted


def test_reciprocal_ranks_by_their_formula() -> None:
    found = reciprocal_rank([["a", "b", "c"], ["c", "a"]])
    assert found == pytest.approx({"a": 1 / 61 + 1 / 62, "c": 1 / 63 + 1 / 61, "b": 1 / 62})
    assert list(found) == ["a", "c", "b"]
    assert reciprocal_rank([["a", "b"], ["b"]], k=0, weights=[0.25, 0.75]) == pytest.approx({"b": 0.875, "a": 0.25})
    assert list(reciprocal_rank([["b"], ["a"]])) == ["a", "b"], "ties go by id"
    assert reciprocal_rank([["a", "a", "b"]], k=0) == {"a": 1, "b": 0.5}, "an id counts once"
    assert reciprocal_rank([]) == {}


def test_weighted_scores_on_one_scale() -> None:
    dense, lexical = {"a": 0.9, "b": 0.5, "c": 0.7}, {"a": 0.0, "b": 12.0}
    found = weighted([dense, lexical], [0.5, 0.5])
    assert found == pytest.approx({"a": 0.5, "b": 0.5, "c": 0.25})
    assert list(found) == ["a", "b", "c"]
    by_highest = weighted([dense, lexical], [0.5, 0.5], scale="max")
    assert by_highest == pytest.approx({"b": 0.5 * 5 / 9 + 0.5, "a": 0.5, "c": 0.5 * 7 / 9})
    assert weighted([{"a": 3.0, "b": 3.0}, {}], [1, 1]) == {"a": 1, "b": 1}
    assert weighted([{"a": -0.5, "b": -0.1}], [1], scale="max") == {"a": 0, "b": 0}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"method": "sum"}, "rrf or weighted"),
        ({"dense_weight": 1.1}, r"0\.\.1"),
        ({"scale": "z"}, "min-max or max"),
        ({"k": -1}, "at least 0"),
        ({"depth": 0}, "at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        Fusion(**options)  # type: ignore[arg-type]
