"""Cards found by name, by group and by what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3e.catalogue.cards import DatasetCard, Licence
from m3e.catalogue.shelf import all_cards, filter_cards, find_card, select_cards, shipped_cards
from m3e.errors import DataError

HEADER = "name,kind,s2,language,domain,rows_per_split,commercial,licence_as_stated,commercial_in_words,source\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three sets: one of a shipped name, one that trains, one with a test split alone."""
    (tmp_path / "catalogue.csv").write_text(
        HEADER
        + "cmrc2018,pair,s2p,zh,Wikipedia,train 2,yes,CC BY-SA 4.0,permits,a @ 1\n"
        + "riddles,pair (riddle -> answer),s2s,zh,riddles,train 2,unknown,not stated,,b @ 2\n"
        + "quiz,pair,s2p,zh,school,test 2,no,research,no,c @ 3\n",
        encoding="utf-8",
    )
    for name in ("cmrc2018.train.parquet", "riddles.train.parquet", "quiz.test.parquet"):
        (tmp_path / name).touch()
    return tmp_path


def card(name: str, **more: object) -> DatasetCard:
    values: dict[str, object] = {
        "name": name,
        "title": name,
        "description": name,
        "kind": "pair",
        "category": "s2p",
        "languages": ("zh",),
        "domain": "news",
        "licence": Licence(stated="MIT", commercial="yes", reason="stated", source="README"),
    }
    return DatasetCard.model_validate(values | more)


def names(cards: list[DatasetCard]) -> list[str]:
    return [card.name for card in cards]


def test_without_a_folder_the_shipped_cards_are_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("M3E_DATA", raising=False)
    assert all_cards() == list(shipped_cards())


def test_a_folder_without_a_catalogue_adds_nothing(tmp_path: Path) -> None:
    assert all_cards(tmp_path) == list(shipped_cards())


def test_a_folders_sets_follow_and_a_taken_name_becomes_local(folder: Path) -> None:
    assert names(all_cards(folder))[-3:] == ["local/cmrc2018", "riddles", "quiz"]
    assert len(all_cards(folder)) == len(shipped_cards()) + 3


def test_the_folder_of_the_environment_is_the_default(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M3E_DATA", str(folder))
    assert names(all_cards())[-1] == "quiz"


def test_both_sets_of_one_name_can_be_found(folder: Path) -> None:
    cards = all_cards(folder)
    assert find_card("cmrc2018", cards).seed is not None
    assert find_card("local/cmrc2018", cards).seed is None


def test_a_name_is_found_whatever_its_case() -> None:
    assert find_card("simclue", shipped_cards()).name == "SimCLUE"


def test_of_names_that_differ_in_case_the_exact_one_is_found() -> None:
    cards = [card("Ocnli"), card("ocnli")]
    assert find_card("ocnli", cards) is cards[1]
    with pytest.raises(DataError, match=r"no data set 'OCNLI' in the catalogue"):
        find_card("OCNLI", cards)


def test_an_unknown_name_is_answered_with_those_most_like_it() -> None:
    with pytest.raises(DataError, match=r"no data set 'cmrc_2018' .* like it: cmrc2018"):
        find_card("cmrc_2018", shipped_cards())


def test_a_name_like_no_other_is_sent_to_the_list() -> None:
    with pytest.raises(DataError, match=r"no data set '大象' .*m3e data list shows all"):
        find_card("大象", shipped_cards())


def test_groups_hold_what_trains(folder: Path) -> None:
    cards = all_cards(folder)
    trained = [card for card in shipped_cards() if card.trains]
    assert len(select_cards(["m3e"], cards)) == 29
    assert select_cards(["shipped"], cards) == trained
    assert names(select_cards(["local"], cards)) == ["local/cmrc2018", "riddles"]
    assert select_cards(["all"], cards) == [*trained, *select_cards(["local"], cards)]


def test_names_and_groups_keep_their_order_and_come_once(folder: Path) -> None:
    chosen = select_cards(["riddles", "local", "xlsum", "RIDDLES"], all_cards(folder))
    assert names(chosen) == ["riddles", "local/cmrc2018", "xlsum"]


def test_a_set_named_outright_is_chosen_though_it_does_not_train(folder: Path) -> None:
    assert names(select_cards(["quiz"], all_cards(folder))) == ["quiz"]


def test_an_unknown_name_among_good_ones_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"no data set 'ridles' .*riddles"):
        select_cards(["xlsum", "ridles"], all_cards(folder))


def test_filters_hold_together() -> None:
    no = Licence(stated="by request", commercial="no", reason="stated", source="README")
    a = card("a", domain="Finance news")
    b = card("b", category="s2c", languages=("en", "code"), licence=no)
    c = card("c", use="evaluation", languages=("zh", "en"))
    cards = [a, b, c]

    assert filter_cards(cards) == cards
    assert filter_cards(cards, category="s2c") == [b]
    assert filter_cards(cards, domain="finance") == [a]
    assert filter_cards(cards, language="en") == [b, c]
    assert filter_cards(cards, commercial="no") == [b]
    assert filter_cards(cards, use="evaluation") == [c]
    assert filter_cards(cards, language="en", commercial="yes") == [c]
    assert filter_cards(cards, category="s2c", commercial="yes") == []


def test_the_m3e_table_is_a_filter() -> None:
    cards = shipped_cards()
    assert len(filter_cards(cards, in_m3e_table=True)) == 29
    assert len(filter_cards(cards, in_m3e_table=False)) == len(cards) - 29
