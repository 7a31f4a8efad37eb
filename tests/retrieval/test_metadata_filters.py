"""Filters mean the same in every store: the stores' answers, and a plain reading of the rules, agree."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from m3e.errors import SettingsError
from m3e.retrieval import open_store
from m3e.retrieval.filters import Filter, conditions_of, parse_filter, passes
from m3e.retrieval.stores import Row, StoreModel
from tests.retrieval.store_urls import CLIENTS

MODEL = StoreModel("small", "a" * 64, 4, "mean", "", "")
ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
_numbers = itertools.count()


@pytest.mark.parametrize(
    ("written", "key", "sign", "value"),
    [
        ("city=北京", "city", "=", "北京"),
        (" city  ==  北京 朝阳 ", "city", "=", "北京 朝阳"),
        ("year>=2020", "year", ">=", 2020.0),
        ("year != -1.5e3", "year", "!=", -1500.0),
        ('year="2020"', "year", "=", "2020"),
        ("code=007", "code", "=", "007"),
        ("author=null", "author", "=", None),
        ('author="null"', "author", "=", "null"),
        ("draft=true", "draft", "=", "true"),
        ('"a>=b"<1', "a>=b", "<", 1.0),
        (r'"quo\"te"="\u4e2d\n"', 'quo"te', "=", "中\n"),
        ("note=a=b", "note", "=", "a=b"),
        ("empty=", "empty", "=", ""),
        ("day<2024-02-29", "day", "<", datetime(2024, 2, 29, tzinfo=UTC)),
        ("day=2024-02-29", "day", "=", "2024-02-29"),
        ("x=1e999", "x", "=", "1e999"),
    ],
)
def test_what_is_written_is_what_is_meant(written: str, key: str, sign: str, value: object) -> None:
    assert parse_filter(written) == Filter(key, sign, value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("city", "not understood"),
        ("=x", "not understood"),
        ("", "not understood"),
        ("city>北京", "numbers and dates"),
        ("day>2024-02-30", "numbers and dates"),
        ('year>"2020"', "numbers and dates"),
        ("x<null", "by = and != only"),
        ('x="open', "one string in double quotes"),
        ('x="a" or "b"', "one string in double quotes"),
    ],
)
def test_what_cannot_be_meant_is_refused(written: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        parse_filter(written)


@pytest.mark.parametrize(
    ("written", "metadata", "holds"),
    [
        ("year=2020", {"year": 2020}, True),
        ("year=2020", {"year": 2020.0}, True),
        ("year=2020", {"year": "2020"}, True),
        ("year=2020", {"year": "2020年"}, False),
        ("year=7", {"year": "007"}, False),
        ("year=007", {"year": "007"}, True),
        ('year="2020"', {"year": 2020}, False),
        ("year>=2020", {"year": "2021"}, True),
        ("year>=2020", {"year": True}, False),
        ("year<5", {}, False),
        ("year!=5", {}, True),
        ("year!=5", {"year": 5}, False),
        ("draft=true", {"draft": True}, True),
        ("draft=true", {"draft": 1}, False),
        ("draft=1", {"draft": True}, False),
        ("a=null", {"a": None}, True),
        ("a=null", {}, True),
        ("a=null", {"a": ""}, False),
        ("a!=null", {"a": 0}, True),
        ("a!=null", {"a": []}, True),
        ('a="null"', {"a": None}, False),
        ("day>2024-01-01", {"day": "2024-01-01T08:30:00"}, True),
        ("day<2024-01-01T00:30Z", {"day": "2024-01-01T08:00+08:00"}, True),
        ("day>1", {"day": "2024-01-01"}, False),
        ("Year=1", {"year": 1}, False),
        ('t="' + "长" * 500 + '"', {"t": "长" * 500}, True),
        ('t="' + "长" * 500 + '"', {"t": "长" * 501}, False),
    ],
)
def test_conditions_on_one_row(written: str, metadata: dict[str, Any], holds: bool) -> None:
    assert passes(conditions_of([written]), metadata) is holds


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
keys = st.sampled_from(["城市", "year", "Year", "a.b[0]", "it's", 'q"uo', "", "p", "w_year", " x "]) | words
dates = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1)).map(
    lambda date: date.replace(microsecond=0).isoformat()
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([0, 1, -1, 2020, 2020.5])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["北京", "true", "null", "2020", "007", "1e3", "-0", "hash of ", "%s", "\\", "'", '"', "\0", "\n"]
    )
    | dates
    | words
)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(words, scalars, max_size=2)
metadata_rows = st.lists(st.dictionaries(keys, values, max_size=4), min_size=12, max_size=12)


def number(value: Any) -> float | None:
    """A number, or what a string spells as one in JSON."""
    if isinstance(value, str):
        if value.strip() != value or not value[-1:].isdigit():
            return None
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(float(value)) else None
    except OverflowError:
        return None


def holds(key: str, sign: str, value: Any, metadata: dict[str, Any]) -> bool:
    """The rules of filters, read plainly, for a value that is a string, a number, or ``None``."""
    if sign == "!=":
        return not holds(key, "=", value, metadata)
    own = metadata.get(key)
    if value is None:
        return own is None
    if isinstance(value, str):
        if sign != "=":
            moments = [datetime.fromisoformat(item).replace(tzinfo=UTC) for item in (own, value) if is_date(item)]
            return len(moments) == 2 and ORDERS[sign](*moments)
        if isinstance(own, bool):
            return value == json.dumps(own)
        if isinstance(own, list | dict):
            return value == json.dumps(own, ensure_ascii=False, sort_keys=True)
        return own == value
    mine = number(own)
    return mine is not None and (mine == value if sign == "=" else ORDERS[sign](mine, value))


def is_date(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 19 and value[10:11] == "T" and value[:1] in "12"


def written(key: str, sign: str, value: Any) -> str:
    quoted = json.dumps(key, ensure_ascii=False)
    if sign in ORDERS and isinstance(value, str):
        return f"{quoted}{sign}{value}"
    return f"{quoted}{sign}{json.dumps(value, ensure_ascii=False)}"


def questions(rows: list[dict[str, Any]]) -> list[tuple[str, str, Any]]:
    """Filters about what the rows hold, and about what they do not."""
    found: list[tuple[str, str, Any]] = [("absent", "=", "x"), ("absent", "!=", 1.0), ("absent", "<", 1.0)]
    for key, value in (pair for row in rows for pair in row.items()):
        found += [(key, "=", None), (key, "!=", None)]
        if isinstance(value, bool | list | dict):
            value = json.dumps(value, ensure_ascii=False, sort_keys=True)
        if isinstance(value, str):
            found += [(key, "=", value), (key, "!=", value)]
            found += [(key, sign, value) for sign in ORDERS if is_date(value)]
        if (as_number := number(value)) is not None:
            found += [(key, sign, as_number) for sign in ("=", "!=", *ORDERS)]
    return found


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], str]:
    folder = tmp_path_factory.mktemp("filters")

    def place(kind: str, postgres: str) -> str:
        return postgres if kind == "postgresql" else f"{kind}:{folder / kind}{'.db' if kind == 'milvus' else ''}"

    return place


@pytest.mark.parametrize("kind", CLIENTS)
@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(found=metadata_rows)
def test_every_store_answers_as_the_rules_say(
    kind: str, found: list[dict[str, Any]], places: Callable[[str, str], str], request: pytest.FixtureRequest
) -> None:
    pytest.importorskip(CLIENTS[kind])
    postgres = request.getfixturevalue("postgres") if kind == "postgresql" else ""
    vector = np.ones(4, np.float32)
    with open_store(f"{places(kind, postgres)}#f{next(_numbers)}", create=True) as store:
        writer = store.write(MODEL, source="s")
        writer.upsert([Row(str(at), "文", row, vector) for at, row in enumerate(found)])
        writer.finish()
        back = {hit.id: hit.metadata for hit in store.nearest(vector, 99)}
        assert repr([back[str(at)] for at in range(len(found))]) == repr(found)
        asked = questions(found)
        for key, sign, value in asked[:: max(1, len(asked) // 40)]:
            expected = {str(at) for at, row in enumerate(found) if holds(key, sign, value, row)}
            text = written(key, sign, value)
            hits = store.nearest(vector, 99, conditions_of([text]))
            assert {hit.id for hit in hits} == expected, text
            assert {at for at, row in back.items() if passes(conditions_of([text]), row)} == expected, text
        both = [asked[0], asked[-1]]
        expected = {str(at) for at, row in enumerate(found) if all(holds(*item, row) for item in both)}
        hits = store.nearest(vector, 99, conditions_of([written(*item) for item in both]))
        assert {hit.id for hit in hits} == expected


@given(st.text(max_size=20))
@settings(max_examples=300)
def test_any_text_is_a_filter_or_is_refused(text: str) -> None:
    try:
        conditions = conditions_of([text])
    except SettingsError:
        return
    assert isinstance(passes(conditions, {"a": 1}), bool)


@given(keys, scalars)
@settings(max_examples=200)
def test_a_row_passes_what_is_written_of_it(key: str, value: Any) -> None:
    assume(not isinstance(value, int | float) or isinstance(value, bool) or number(value) is not None)
    asked = json.dumps(value) if isinstance(value, bool) else value
    if isinstance(asked, int | float):
        asked = float(asked)
    assert passes(conditions_of([written(key, "=", asked)]), {key: value})
    assert not passes(conditions_of([written(key, "!=", asked)]), {key: value})
