"""The filter of texts: it forgets nothing, is seldom wrong, and says when its file is damaged."""

from pathlib import Path

import pytest

from m3e.data.bloom import TextFilter
from m3e.data.keys import hashes_of_keys, text_keys
from m3e.errors import DataError


@pytest.fixture(scope="module")
def full() -> TextFilter:
    seen = TextFilter(20_000)
    for start in range(0, 20_000, 5_000):
        seen.add_hashes(hashes_of_keys([f"见过{number}" for number in range(start, start + 5_000)]))
    return seen


def test_no_text_is_forgotten(full: TextFilter) -> None:
    assert full.texts == 20_000
    assert full.has([f"见过 {number}！" for number in range(20_000)]).all()  # asked as typed, found by key


def test_a_hundred_thousand_others_are_mostly_unknown(full: TextFilter) -> None:
    taken = int(full.has([f"没见过{number}" for number in range(100_000)]).sum())
    assert 100 < taken < 2_000  # ten bits a text come to about 800
    assert len(full.bits) == 25_000


def test_saved_and_loaded(full: TextFilter, tmp_path: Path) -> None:
    full.save(tmp_path / "texts.bloom")
    again = TextFilter.load(tmp_path / "texts.bloom")
    assert again.texts == full.texts
    assert (again.bits == full.bits).all()
    again.add_hashes(hashes_of_keys(text_keys(["又一条"])))
    assert again.has(["又一条"]).all()


def test_an_empty_filter_knows_nothing(tmp_path: Path) -> None:
    TextFilter(0).save(tmp_path / "f")
    assert not TextFilter.load(tmp_path / "f").has(["一", "", "二"]).any()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "damaged"),
        (lambda content: content + b"x", "damaged"),
        (lambda content: content[:20], "damaged"),  # cut inside its header
        (lambda content: content.replace(b'"bytes"', b'"bites"'), "damaged"),
        (lambda content: content.replace(b'"probes": 7', b'"probes": 5'), "damaged"),
        (lambda content: b"PK" + content, "no filter of texts"),
        (lambda content: b"", "no filter of texts"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, damage, message: str) -> None:
    path = tmp_path / "texts.bloom"
    TextFilter(100).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        TextFilter.load(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.bloom cannot be read"):
        TextFilter.load(tmp_path / "none.bloom")
