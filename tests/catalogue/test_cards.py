"""What a card may hold, and what is said of one that cannot be."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from m3e.catalogue.cards import STRICTNESS, DatasetCard, Source, columns_of, parse_card, read_card
from m3e.errors import DataError

CARD: dict[str, Any] = {
    "name": "Zoo",
    "title": "动物园问答",
    "description": "Questions of visitors.",
    "kind": "pair",
    "category": "s2p",
    "languages": ["zh"],
    "domain": "animals",
    "licence": {"stated": "MIT", "commercial": "yes", "reason": "stated", "source": "its README"},
    "seed": {
        "rows": 3,
        "commercial": "no",
        "quality": "high",
        "domain": "动物",
        "task": "问答",
        "prompt": "问答",
        "provider": "园",
        "source": "zoo.example",
        "open": "yes",
        "script": False,
    },
    "sources": [{"hub": "zoo/questions"}],
    "mapping": {"fields": [{"text": "question", "text_pos": "{title}：{answer}"}]},
}

TOML = """
name = "Zoo"
title = "动物园问答"
description = "Questions of visitors."
kind = "pair"
category = "s2p"
languages = ["zh", "en"]
domain = "animals"

[licence]
stated = "MIT"
commercial = "yes"
reason = "stated"
source = "its README"

[[sources]]
path = "zoo.zip"
files = ["*train.jsonl"]

[mapping]
where = { label = [1, "yes"] }

[[mapping.fields]]
text = "question"
text_pos = "answer"
"""


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    card = copy.deepcopy(CARD)
    change(card)
    return card


def test_a_card_has_what_it_says_and_defaults_for_the_rest() -> None:
    card = parse_card(CARD, "zoo.toml")

    assert (card.name, card.use, card.quality, card.symmetric, card.rows) == ("Zoo", "train", "medium", False, None)
    assert card.sources == (Source(hub="zoo/questions"),)
    assert card.sources[0].splits == ("train",)
    assert card.sources[0].place == "zoo/questions"
    assert card.mapping.fields[0].of_record == {"text": "question", "text_pos": "{title}：{answer}"}
    assert card.trains


def test_a_card_cannot_be_changed() -> None:
    card = parse_card(CARD, "zoo.toml")
    with pytest.raises(ValueError, match="frozen"):
        card.name = "Park"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card.pop("title"), "zoo.toml: title: Field required"),
        (lambda card: card["licence"].pop("reason"), "zoo.toml: licence.reason: Field required"),
        (lambda card: card.update(tittle="x"), "zoo.toml: tittle: no such key"),
        (lambda card: card["mapping"]["fields"][0].update(txt="q"), "zoo.toml: mapping.fields[0].txt: no such key"),
        (lambda card: card.update(kind="pairs"), "zoo.toml: kind: Input should be 'pair'"),
        (lambda card: card["licence"].update(commercial="maybe"), "zoo.toml: licence.commercial: Input should be"),
        (lambda card: card["licence"].update(stated=" "), "zoo.toml: licence.stated: String should have at least"),
        (lambda card: card.update(rows=0), "zoo.toml: rows: Input should be greater than 0"),
        (lambda card: card.update(languages=[]), "zoo.toml: languages: Tuple should have at least 1"),
        (lambda card: card.update(languages=["Chinese"]), "zoo.toml: languages: 'Chinese' is no language"),
        (lambda card: card.update(name="a zoo"), "zoo.toml: name: String should match pattern"),
        (lambda card: card["sources"][0].update(url="https://zoo"), "sources[0]: name exactly one of hub"),
        (lambda card: card["sources"][0].pop("hub"), "sources[0]: name exactly one of hub, url and path"),
        (lambda card: card.update(sources=[{"path": "x", "config": "zh"}]), "sources[0]: revision and"),
        (lambda card: card["sources"][0].update(sha256="12"), "zoo.toml: sources[0].sha256: String should match"),
        (lambda card: card["mapping"].update(convert={"question": "upper"}), "mapping.convert.question: Input should"),
        (lambda card: card["mapping"].update(records="data[0].qas"), "zoo.toml: mapping.records: String should match"),
        (
            lambda card: card["mapping"]["fields"][0].update(text="{question"),
            "zoo.toml: '{question' is no format string: expected '}'",
        ),
        (lambda card: card["mapping"]["fields"][0].update(text="{} {b}"), "'{} {b}' is a format string without"),
        (lambda card: card["mapping"]["fields"][0].pop("text_pos"), "a pair needs the field text_pos"),
        (lambda card: card["mapping"]["fields"][0].update(explode="tags"), "explodes the column 'tags', but no field"),
    ],
)
def test_an_error_names_the_file_and_the_key(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_card(changed(change), "zoo.toml")
    assert str(caught.value).startswith("zoo.toml: ")
    assert message in str(caught.value)


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(DataError) as caught:
        parse_card(changed(lambda card: (card.pop("title"), card.update(kind="x"))), "zoo.toml")
    assert "title: " in str(caught.value)
    assert "; kind: " in str(caught.value)


@pytest.mark.parametrize("own", ["yes", "unknown", "no"])
@pytest.mark.parametrize("seed", ["yes", "unknown", "no"])
def test_the_stricter_flag_counts(own: str, seed: str) -> None:
    def flag(card: dict[str, Any]) -> None:
        card["licence"]["commercial"] = own
        card["seed"]["commercial"] = seed

    expected = "no" if "no" in (own, seed) else "unknown" if "unknown" in (own, seed) else "yes"
    assert parse_card(changed(flag), "zoo.toml").commercial == expected


@pytest.mark.parametrize("own", ["yes", "unknown", "no"])
def test_without_the_m3e_card_the_sets_own_licence_counts(own: str) -> None:
    def flag(card: dict[str, Any]) -> None:
        card["licence"]["commercial"] = own
        del card["seed"]

    assert parse_card(changed(flag), "zoo.toml").commercial == own


def test_unknown_lies_between_yes_and_no() -> None:
    assert sorted(STRICTNESS, key=STRICTNESS.__getitem__) == ["yes", "unknown", "no"]


@pytest.mark.parametrize(
    ("use", "kind", "trains"),
    [
        ("train", "pair", True),
        ("train", "classification", True),
        ("train", "retrieval", False),
        ("evaluation", "pair", False),
    ],
)
def test_only_records_and_texts_of_training_sets_train(use: str, kind: str, trains: bool) -> None:
    assert parse_card({**CARD, "use": use, "kind": kind}, "zoo.toml").trains is trains


def test_sources_of_one_part_are_alternatives() -> None:
    sources = [
        {"path": "a.zip", "part": "a"},
        {"url": "https://zoo.example/b.zip", "part": "b"},
        {"url": "https://zoo.example/a.zip", "part": "a"},
    ]
    parts = parse_card({**CARD, "sources": sources}, "zoo.toml").parts
    assert [[source.place for source in part] for part in parts] == [
        ["a.zip", "https://zoo.example/a.zip"],
        ["https://zoo.example/b.zip"],
    ]


@pytest.mark.parametrize(
    ("template", "columns"),
    [
        ("question", ["question"]),
        ("问题 1", ["问题 1"]),
        ("{instruction} {input}", ["instruction", "input"]),
        ("题：{题}", ["题"]),
    ],
)
def test_columns_of_a_column_and_of_a_format_string(template: str, columns: list[str]) -> None:
    assert columns_of(template) == columns


@pytest.mark.parametrize("template", ["{a", "a}", "{}", "{{a}}", "{a} {}"])
def test_a_bad_format_string_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"format string|'\{'|'\}'"):
        columns_of(template)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_becomes_a_card(tmp_path: Path) -> None:
    card = read_card(write(tmp_path, "zoo.toml", TOML))
    assert isinstance(card, DatasetCard)
    assert card.title == "动物园问答"
    assert card.mapping.where == {"label": (1, "yes")}
    assert card.sources[0].files == ("*train.jsonl",)
    assert card.seed is None


@pytest.mark.parametrize(
    ("name", "in_card", "wanted"),
    [("Zoo.toml", "Zoo", "zoo.toml"), ("park.toml", "Zoo", "zoo.toml"), ("zoo.toml", "Big/Zoo", "big__zoo.toml")],
)
def test_a_wrong_file_name_is_refused(tmp_path: Path, name: str, in_card: str, wanted: str) -> None:
    path = write(tmp_path, name, TOML.replace('"Zoo"', json.dumps(in_card)))
    with pytest.raises(DataError, match=f"^{name}: name: is '{in_card}', so the file should be {wanted}$"):
        read_card(path)


def test_a_slash_in_a_name_is_two_underscores_in_the_files(tmp_path: Path) -> None:
    assert read_card(write(tmp_path, "big__zoo.toml", TOML.replace('"Zoo"', '"Big/Zoo"'))).name == "Big/Zoo"


def test_what_is_no_toml_is_refused_by_name_and_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^zoo\.toml: .*line 2"):
        read_card(write(tmp_path, "zoo.toml", 'name = "Zoo"\ntitle = \n'))


def test_a_file_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "zoo.toml"
    path.write_bytes(TOML.encode("gb18030"))
    with pytest.raises(DataError, match=r"^zoo\.toml: .*utf-8"):
        read_card(path)
