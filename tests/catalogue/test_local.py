"""Cards of a folder's catalogue.csv."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3e.catalogue.local import data_folder, evaluation_files, read_catalogue, split_of, training_files
from m3e.catalogue.shelf import all_cards
from m3e.errors import DataError

HEADER = "name,kind,s2,language,domain,rows_per_split,commercial,licence_as_stated,commercial_in_words,source\n"
ROWS = """\
riddles,pair (riddle -> answer),s2s,zh,riddles,train 2 dev 1,yes,MIT,licence permits,a/b @ 1
inference,NLI (label str),s2s,zh,stories,train 9,no,"research, by request",no (upstream),c/d @ 2
questions,scored pair (binary),s2s,zh,bank,train 4 test 4,unknown,,not stated,e/f @ 3
translations,pair (translation),s2s cross-lingual,zh-en,menus,train 5,yes,CC BY 2.0,permits,g/h @ 4
functions,pair (comment -> function),s2c,zh + code,programming,all 6,yes,MIT,permits,i/j @ 5
sections,pair (heading -> section),s2p,zh (classical/modern),books,train 7,yes,MIT,permits,k/l @ 6
hard,triplet,s2p,zh,web,train 3,no,not stated,no,m/n @ 7
reviews,classification,classification,zh,films,train 8,unknown,not stated,,o/p @ 8
wiki,retrieval,s2p,zh,Wikipedia,test 2 q / 2 docs,yes,CC0,permits,q/r @ 9
held,pair (question -> answer),s2p,en,school,test 3,yes,MIT,permits,s/t @ 10
"""
FILES = [
    "riddles.train.parquet",
    "riddles.dev.parquet",
    "inference.train.parquet",
    "questions.train.parquet",
    "questions.train_partial.parquet",
    "questions.test.parquet",
    "translations.train.parquet",
    "functions.all.parquet",
    "sections.unlabelled.parquet",
    "hard.train.parquet",
    "reviews.train.parquet",
    "wiki.test.corpus.parquet",
    "wiki.train.corpus.parquet",
    "held.test.parquet",
    "held.trial.parquet",
    "notes.parquet",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "catalogue.csv").write_text(HEADER + ROWS, encoding="utf-8")
    for name in FILES:
        (tmp_path / name).touch()
    return tmp_path


def test_a_row_becomes_a_card_with_its_files(folder: Path) -> None:
    card = read_catalogue(folder)[0]

    assert (card.name, card.kind, card.category, card.domain) == ("riddles", "pair", "s2s", "riddles")
    assert (card.use, card.provider, card.languages) == ("train", "a/b @ 1", ("zh",))
    assert card.licence.model_dump() == {
        "stated": "MIT",
        "commercial": "yes",
        "reason": "licence permits",
        "source": "a/b @ 1",
    }
    assert [source.path for source in card.sources] == [str(folder / "riddles.train.parquet")]
    assert card.trains


def test_cards_keep_the_order_of_the_rows(folder: Path) -> None:
    assert [card.name for card in read_catalogue(folder)] == [line.split(",")[0] for line in ROWS.splitlines()]


def test_kind_category_and_languages_come_from_the_words_of_the_row(folder: Path) -> None:
    found = {card.name: (card.kind, card.category, card.languages) for card in read_catalogue(folder)}
    assert found == {
        "riddles": ("pair", "s2s", ("zh",)),
        "inference": ("scored_pair", "s2s", ("zh",)),
        "questions": ("scored_pair", "s2s", ("zh",)),
        "translations": ("pair", "s2s", ("zh", "en")),
        "functions": ("pair", "s2c", ("zh", "code")),
        "sections": ("pair", "s2p", ("zh",)),
        "hard": ("triplet", "s2p", ("zh",)),
        "reviews": ("classification", "s2s", ("zh",)),
        "wiki": ("retrieval", "s2p", ("zh",)),
        "held": ("pair", "s2p", ("en",)),
    }


def test_only_alike_sides_without_a_direction_may_be_swapped(folder: Path) -> None:
    symmetric = [card.name for card in read_catalogue(folder) if card.symmetric]
    assert symmetric == ["inference", "questions", "translations", "reviews"]


def test_classes_of_inference_become_grades_of_likeness(folder: Path) -> None:
    mapping = read_catalogue(folder)[1].mapping
    assert mapping.labels == {"entailment": 2, "neutral": 1, "contradiction": 0}
    assert [fields.of_record for fields in mapping.fields] == [
        {"sentence1": "sentence1", "sentence2": "sentence2", "label": "label"}
    ]


def test_every_training_file_of_a_set_is_a_part_of_it(folder: Path) -> None:
    parts = read_catalogue(folder)[2].parts
    assert [[Path(source.place).name for source in part] for part in parts] == [
        ["questions.train.parquet"],
        ["questions.train_partial.parquet"],
    ]


def test_a_set_without_a_training_file_is_for_evaluation(folder: Path) -> None:
    evaluated = {card.name: card.sources for card in read_catalogue(folder) if card.use == "evaluation"}
    assert evaluated == {"wiki": (), "held": ()}


def test_what_states_no_licence_says_so(folder: Path) -> None:
    licence = read_catalogue(folder)[2].licence
    assert (licence.stated, licence.commercial, licence.reason) == ("not stated", "unknown", "not stated")


def test_training_and_evaluation_files_never_meet(folder: Path) -> None:
    training = {path.name for paths in training_files(folder).values() for path in paths}
    evaluation = {path.name for path in evaluation_files(folder)}
    assert evaluation == {
        "riddles.dev.parquet",
        "questions.test.parquet",
        "wiki.test.corpus.parquet",
        "held.test.parquet",
        "held.trial.parquet",
    }
    assert training == set(FILES) - evaluation - {"wiki.train.corpus.parquet", "notes.parquet"}


@pytest.mark.parametrize(
    ("name", "split"),
    [("a.train.parquet", "train"), ("a.test.corpus.parquet", "test"), ("a.parquet", ""), ("a-b.dev.parquet", "dev")],
)
def test_the_split_is_the_second_word_of_a_name(name: str, split: str) -> None:
    assert split_of(Path(name)) == split


def test_a_byte_order_mark_is_no_part_of_the_first_column(folder: Path) -> None:
    (folder / "catalogue.csv").write_text(HEADER + ROWS, encoding="utf-8-sig")
    assert read_catalogue(folder)[0].name == "riddles"


def test_a_missing_catalogue_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"catalogue\.csv is missing: name a folder that holds"):
        read_catalogue(tmp_path)


def test_a_missing_column_is_named(folder: Path) -> None:
    (folder / "catalogue.csv").write_text("name,kind\nriddles,pair\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"^catalogue\.csv, line 2: column 'licence_as_stated' is missing$"):
        read_catalogue(folder)


def test_a_wrong_value_is_named_with_its_line(folder: Path) -> None:
    (folder / "catalogue.csv").write_text(HEADER + ROWS.replace(",unknown,,", ",perhaps,,"), encoding="utf-8")
    with pytest.raises(DataError, match=r"^catalogue\.csv, line 4: licence\.commercial: Input should be"):
        read_catalogue(folder)


def test_the_folder_is_that_of_the_environment_where_it_exists(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M3E_DATA", str(folder))
    assert data_folder() == folder
    monkeypatch.setenv("M3E_DATA", str(folder / "nowhere"))
    assert data_folder() is None
    monkeypatch.delenv("M3E_DATA")
    assert data_folder() is None


@pytest.mark.realdata
def test_the_real_folder_becomes_cards() -> None:
    folder = data_folder()
    if folder is None or not (folder / "catalogue.csv").is_file():
        pytest.skip("M3E_DATA names no folder with a catalogue.csv")
    cards = read_catalogue(folder)
    training = training_files(folder)
    assert {card.name for card in cards if card.use == "train"} == set(training)
    assert sum(len(card.sources) for card in cards) == sum(map(len, training.values()))
    assert len({card.name for card in all_cards(folder)}) == len(all_cards(folder))
