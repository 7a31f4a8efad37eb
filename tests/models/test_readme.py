"""What a model says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3e.models.readme import ModelCard, read_card


def test_a_local_models_card() -> None:
    card = read_card("m3e-tiny")
    assert card.licence == "apache-2.0"
    assert card.languages == ("zh", "en")
    assert card.text.startswith("# m3e-tiny")


def test_a_folder_without_a_card_has_an_empty_one(tmp_path: Path) -> None:
    assert read_card(str(tmp_path)) == ModelCard()
    assert read_card("no/such-model") == ModelCard()
    assert read_card("not a name at all!") == ModelCard()


@pytest.mark.parametrize(
    ("text", "card"),
    [
        ("# Plain\n", ModelCard(text="# Plain")),
        ("---\nlicense: mit\nlanguage: zh\n---\n# A\n", ModelCard("mit", ("zh",), "# A")),
        ("---\nlanguage:\n- zh\n- en\n---\n\nText\n", ModelCard(None, ("zh", "en"), "Text")),
        ("---\nlicense: mit\n", ModelCard(text="---\nlicense: mit")),
        ("---\n: : [\n---\nText", ModelCard(text="Text")),
        ("---\n- a\n- b\n---\nText", ModelCard(text="Text")),
        ("---\r\nlicense: mit\r\n---\r\nText", ModelCard("mit", (), "Text")),
        ("---\nlicense: null\nlanguage: [no, 5]\n---\nText", ModelCard(None, ("no", "5"), "Text")),
        ("", ModelCard()),
    ],
)
def test_cards_of_folders(tmp_path: Path, text: str, card: ModelCard) -> None:
    (tmp_path / "README.md").write_bytes(text.encode())
    assert read_card(str(tmp_path)) == card
