from __future__ import annotations

from typing import Any

import pytest

from m3e.errors import SettingsError
from m3e.mining.options import MiningOptions, parse_ranks


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"negatives": -1}, "--negatives"),
        ({"negatives": 0}, "--consistency"),
        ({"negatives": 0, "consistency": 2, "replace": True}, "--replace"),
        ({"ranks": (10, 10)}, "--range 10-10"),
        ({"ranks": (10, 12), "negatives": 3}, "2 ranks"),
        ({"sampling": "best"}, "'best'"),
        ({"relative_margin": 1.5}, "--relative-margin"),
        ({"absolute_margin": -0.1}, "--absolute-margin"),
        ({"min_score": 0.5, "max_score": 0.4}, "--max-score 0.4"),
        ({"consistency": 0}, "--consistency"),
        ({"pool": 0}, "--pool"),
    ],
)
def test_what_is_out_of_range_is_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        MiningOptions(**values)


def test_ranges() -> None:
    assert parse_ranks("10-210") == (10, 210)
    for wrong in ("10", "a-b", "10-", "-3-5", "1:5"):
        with pytest.raises(SettingsError, match="10-210"):
            parse_ranks(wrong)
