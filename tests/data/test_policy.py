"""What a licence policy keeps, refuses, and says."""

from __future__ import annotations

import pytest

from m3e.catalogue.cards import DatasetCard, parse_card
from m3e.data.policy import apply_policy
from m3e.errors import DataError, SettingsError


def card(
    name: str, commercial: str, category: str = "s2p", languages: tuple[str, ...] = ("zh",), seed: str = ""
) -> DatasetCard:
    values = {
        "name": name,
        "title": name,
        "description": name,
        "kind": "pair",
        "category": category,
        "languages": languages,
        "domain": "web",
        "licence": {"stated": f"L-{name}", "commercial": commercial, "reason": "r", "source": "s"},
    }
    if seed:
        facts = {"rows": 1, "commercial": seed, "quality": "high", "open": "yes", "script": True}
        values["seed"] = facts | dict.fromkeys(("domain", "task", "prompt", "provider", "source"), "x")
    return parse_card(values, "test")


CARDS = [
    card("free", "yes"),
    card("closed", "no", "s2s"),
    card("silent", "unknown", "s2c", ("zh", "code")),
    card("english", "no", languages=("en",)),
    card("doubted", "yes", seed="unknown"),
    card("contradicted", "unknown", seed="no"),
]


def test_any_keeps_everything_in_silence() -> None:
    assert apply_policy(CARDS, "any", named=["closed"]) == (CARDS, [])


def test_commercial_keeps_what_says_yes_and_says_what_that_costs() -> None:
    kept, lines = apply_policy(CARDS, "commercial")
    assert [card.name for card in kept] == ["free"]
    assert lines == [
        "--policy commercial leaves out 3 sets whose commercial use is no: closed, english, contradicted",
        "--policy commercial leaves out 2 sets whose commercial use is unknown: silent, doubted",
        "warning: --policy commercial leaves no set of category s2s",
        "warning: --policy commercial leaves no set of category s2c",
        "warning: --policy commercial leaves no English set",
    ]


def test_nothing_is_said_where_nothing_is_lost() -> None:
    cards = [CARDS[0], card("more", "yes", languages=("zh", "en"))]
    assert apply_policy(cards, "commercial") == (cards, [])


@pytest.mark.parametrize(("name", "flag"), [("closed", "no"), ("silent", "unknown"), ("doubted", "unknown")])
def test_a_set_asked_for_by_name_is_not_left_out_in_silence(name: str, flag: str) -> None:
    with pytest.raises(DataError) as caught:
        apply_policy(CARDS, "commercial", named=["free", name])
    assert f"does not allow {name} ({flag}: L-{name});" in str(caught.value)
    assert "free" not in str(caught.value)


def test_no_set_left_and_no_such_policy() -> None:
    with pytest.raises(DataError, match="leaves none of the 2 sets"):
        apply_policy(CARDS[1:3], "commercial")
    with pytest.raises(SettingsError, match="--policy 'strict' is not known; choose any or commercial"):
        apply_policy(CARDS, "strict")
