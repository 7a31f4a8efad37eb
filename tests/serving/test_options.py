"""Names and limits."""

from __future__ import annotations

from typing import Any

import pytest

from m3e.errors import SettingsError
from m3e.serving import ServeOptions
from m3e.serving.ids import ServedIds
from m3e.serving.options import parse_aliases


@pytest.mark.parametrize(
    ("given", "aliases"),
    [
        ([], {}),
        (["ada"], {"ada": "m3e"}),
        (["ada=m3e"], {"ada": "m3e"}),
        (["m3e=ada"], {"ada": "m3e"}),
        (["q=m3e:query"], {"q": "m3e:query"}),
        (["m3e:query=q"], {"q": "m3e:query"}),
        ([" ada = m3e "], {"ada": "m3e"}),
        (["org/ada", "ada"], {"org/ada": "m3e", "ada": "m3e"}),
        (["ada", "ada=m3e"], {"ada": "m3e"}),
    ],
)
def test_aliases(given: list[str], aliases: dict[str, str]) -> None:
    assert parse_aliases(given, "m3e") == aliases


@pytest.mark.parametrize("given", [["=m3e"], [""], ["ada=bert"], ["m3e"], ["m3e=m3e:query"], ["ada", "ada=m3e:query"]])
def test_aliases_that_mean_nothing_are_refused(given: list[str]) -> None:
    with pytest.raises(SettingsError, match="--alias"):
        parse_aliases(given, "m3e")


def test_an_alias_that_is_named_like_another_ones_queries_keeps_its_own_meaning() -> None:
    ids = ServedIds("m3e", {"a": "m3e", "a:query": "m3e"})
    assert not ids.is_query("a:query")
    assert ids.is_query("a:query:query")


@pytest.mark.parametrize("field", ["max_body", "max_items", "round_tokens", "queue_tokens", "queue_requests"])
def test_limits_are_at_least_one(field: str) -> None:
    options: dict[str, Any] = {field: 0}
    with pytest.raises(SettingsError, match=field):
        ServeOptions(**options)
