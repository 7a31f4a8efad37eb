from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e import Encoder, load
from m3e.errors import DataError, SettingsError
from m3e.files import read_json
from m3e.inference.export import EXPORT_FILE, ExportOptions, export
from m3e.inference.export_static import read_words

TEXTS = ["退货怎么办", "今天天气很好", "a cat", "", "番茄" * 100]


def test_a_lookup_is_reported_for_what_it_is(tmp_path: Path) -> None:
    lines: list[str] = []
    report = export("m3e-tiny", tmp_path / "out", ExportOptions("static"), say=lines.append)
    found = report.comparison
    assert "never equals" in found.compared
    assert 0.5 < found.cosine.mean < 0.98, "below the floor of graphs, and kept"
    assert found.spearman is not None
    assert 0.85 < found.spearman < 1
    assert found.speed_after > found.speed_before
    assert found.runs_after == "static fp32"
    facts = read_json(tmp_path / "out" / EXPORT_FILE)
    assert facts["spearman"] == found.spearman
    assert facts["compared"] == found.compared
    rows = len(load("m3e-tiny", device="cpu").tokenizer)
    assert any(f"{rows} rows of 384 numbers, 0 of them words" in line for line in lines)
    model = load(tmp_path / "out", device="cpu")
    similar = model.similarity(*model.encode(["怎么退货", "我想退货，怎么办"])).item()
    assert similar > model.similarity(*model.encode(["怎么退货", "今天天气很好"])).item() + 0.2


def test_an_existing_lookup_in_int8(tmp_path: Path) -> None:
    report = export("m3e-static", tmp_path / "out", ExportOptions("static", "int8"))
    assert report.comparison.cosine.min > 0.999
    assert report.comparison.bytes_after < report.comparison.bytes_before * 0.27
    found, original = Encoder(tmp_path / "out").encode(TEXTS), Encoder("m3e-static").encode(TEXTS)
    assert np.abs(found - original).max() < 0.01


def test_fewer_numbers_words_and_texts(mini: Any, tmp_path: Path) -> None:
    options = ExportOptions("static", "int8", texts=("退货怎么办",) * 3, words=("退货", "快递"), dim=16)
    lines: list[str] = []
    export(mini, tmp_path / "out", options, say=lines.append)
    assert any("2 of them words" in line for line in lines)
    model = load(tmp_path / "out", device="cpu")
    assert model.encode(TEXTS).shape == (5, 16)
    assert model.prompts == {"query": "", "document": ""}
    assert "退货" in model.tokenizer.encode("我们退货", add_special_tokens=False).tokens


@pytest.mark.parametrize("dim", [0, 33, -1])
def test_a_size_out_of_range_is_refused(mini: Any, tmp_path: Path, dim: int) -> None:
    with pytest.raises(SettingsError, match=rf"--dim {dim} is outside 1..32"):
        export(mini, tmp_path / "out", ExportOptions("static", dim=dim))
    assert list(tmp_path.iterdir()) == []


def test_a_lookup_cannot_be_distilled_again(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="lookup already"):
        export("m3e-static", tmp_path / "out", ExportOptions("static", dim=64))


def test_a_frequency_list_is_its_first_column(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("退货 1200 v\n\n快递\t900\n闪电窗口\n".encode("gb18030"))
    assert read_words(path) == ["退货", "快递", "闪电窗口"]
    path.write_text("\n \n")
    with pytest.raises(DataError, match="no words"):
        read_words(path)
    with pytest.raises(DataError, match="no file"):
        read_words(tmp_path / "none.txt")
