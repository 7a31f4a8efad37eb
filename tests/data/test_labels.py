from decimal import Decimal

import numpy as np
import pytest

from m3e.data.labels import is_entailment_class, is_number, parse_label


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (5, 5.0),
        (0.25, 0.25),
        (-1, -1.0),
        (True, 1.0),
        (False, 0.0),
        ("4.0", 4.0),
        ("４", 4.0),
        (" 3 ", 3.0),
        ("\u30001．５\t", 1.5),
        ("1e-2", 0.01),
        ("true", 1.0),
        ("False", 0.0),
        (np.float32(0.5), 0.5),
        (np.int64(2), 2.0),
        (Decimal("0.5"), 0.5),
    ],
)
def test_numbers_in_every_dress(value, number):
    assert parse_label(value) == number
    assert is_number(value)


@pytest.mark.parametrize("value", [None, float("nan"), np.float64("nan"), "", "  ", "NaN", "NA", "null", "None"])
def test_missing(value):
    assert parse_label(value) == "missing_label"


@pytest.mark.parametrize(
    "value", [float("inf"), "-inf", "Infinity", "五", "1_0", "4,5", "50%", "相似", [1], {"a": 1}, b"1"]
)
def test_bad(value):
    assert parse_label(value) == "bad_label"
    assert not is_number(value)


def test_entailment_classes():
    assert is_entailment_class(" Entailment ")
    assert is_entailment_class("矛盾")
    assert not is_entailment_class("similar")
    assert not is_entailment_class(1)
