"""Bases and teachers: folders in, terms known or not claimed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from m3e import load
from m3e.data.bloom import TextFilter
from m3e.errors import ModelError, SettingsError
from m3e.files import read_json, write_json
from m3e.models.fingerprint import weights_fingerprint
from m3e.models.licences import commercial_use, strictest
from m3e.training.base import ingredient, load_base, prompts_by_set, teacher_ingredient
from m3e.training.recipe_parts import Base, Prompt
from tests.conftest import write_mini
from tests.models.small_decoder import write_decoder


def with_readme(folder: Path, licence: str) -> Path:
    write_mini(folder)
    (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n# a model\n")
    return folder


def test_a_folder_becomes_the_base_as_the_recipe_says(tmp_path: Path) -> None:
    source = with_readme(tmp_path / "source", "mit")
    base = Base(model=str(source), max_length=20, prompts=Prompt(query="问：", document="答："))
    found = load_base(base, tmp_path / "base", "cpu")
    model = SentenceTransformer(str(tmp_path / "base"), device="cpu")
    assert (model.prompts["query"], model.prompts["document"], model.max_seq_length) == ("问：", "答：", 20)
    assert np.array_equal(model.encode(["今天天气"]), load(source, device="cpu").encode(["今天天气"]))
    assert (found.role, found.name, found.licence, found.commercial) == ("base", str(source), "mit", "yes")
    assert found.fingerprint == weights_fingerprint(model)
    assert read_json(tmp_path / "base" / "m3e.json")["m3e"] == "base"


@pytest.mark.parametrize(
    ("readme", "licence", "commercial", "expected"),
    [
        ("apache-2.0", None, "unknown", ("apache-2.0", "yes")),
        ("cc-by-nc-4.0", None, "unknown", ("cc-by-nc-4.0", "no")),
        ("other", None, "unknown", ("other", "unknown")),
        ("cc-by-nc-4.0", "MIT", "unknown", ("MIT", "yes")),
        ("other", "our contract", "yes", ("our contract", "yes")),
        ("mit", None, "no", ("mit", "no")),
        (None, None, "unknown", ("", "unknown")),
    ],
)
def test_terms(
    tmp_path: Path, readme: str | None, licence: str | None, commercial: Any, expected: tuple[str, str]
) -> None:
    source = with_readme(tmp_path / "source", readme) if readme else write_mini(tmp_path / "source")
    found = load_base(Base(model=str(source), licence=licence, commercial=commercial), tmp_path / "base", "cpu")
    assert (found.licence, found.commercial) == expected
    taught = teacher_ingredient("t", source, licence, commercial)
    assert (taught.role, taught.name, taught.licence, taught.commercial) == ("teacher", "t", *expected)
    assert taught.fingerprint == found.fingerprint


def test_a_local_model_has_its_own_terms(tmp_path: Path) -> None:
    found = load_base(Base(model="m3e-static"), tmp_path / "base", "cpu")
    assert (found.licence, found.commercial) == ("Apache-2.0", "yes")
    assert load(tmp_path / "base").encode(["今天"]).shape == (1, 384)


def test_what_a_base_was_trained_on_comes_along_and_binds(tmp_path: Path) -> None:
    source = with_readme(tmp_path / "source", "mit")
    write_json(
        source / "manifest.json", {"datasets": [{"dataset": "a", "rows_out": 3, "commercial": "no", "shards": []}]}
    )
    TextFilter(10).save(source / "texts.bloom")
    found = load_base(Base(model=str(source)), tmp_path / "base", "cpu")
    assert found.commercial == "no"  # whatever its card claims
    assert (tmp_path / "base" / "texts.bloom").is_file()
    assert (tmp_path / "base" / "manifest.json").is_file()


def test_sixteen_bit_weights_are_trained_in_thirty_two(tmp_path: Path) -> None:
    source = write_mini(tmp_path / "source")
    model = load(source, device="cpu")
    model[0].model.to(torch.bfloat16)
    model.save_pretrained(str(tmp_path / "half"))
    found = load_base(Base(model=str(tmp_path / "half")), tmp_path / "base", "cpu")
    written = load(tmp_path / "base", device="cpu")
    assert {value.dtype for value in written.parameters()} == {torch.float32}
    assert found.fingerprint == weights_fingerprint(load(tmp_path / "half", device="cpu"))


def test_a_decoder_by_its_pooling(tmp_path: Path) -> None:
    source = write_decoder(tmp_path / "plain")
    prompt = Prompt(query="Instruct: 找到回答\nQuery: ")
    load_base(Base(model=str(source), pooling="lasttoken", max_length=64, prompts=prompt), tmp_path / "base", "cpu")
    model = SentenceTransformer(str(tmp_path / "base"), device="cpu")
    assert model[1].pooling_mode in ("lasttoken", ("lasttoken",))
    assert model.tokenizer.padding_side == "left"
    assert model.prompts["query"] == "Instruct: 找到回答\nQuery: "


def test_faults_name_the_key(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"base\.model: .*no model folder"):
        load_base(Base(model="./absent"), tmp_path / "base")
    with pytest.raises(SettingsError, match=r"base\.max_length is 600, and .* has 64 positions"):
        load_base(Base(model=str(write_mini(tmp_path / "mini")), max_length=600), tmp_path / "base")
    with pytest.raises(SettingsError, match="scratch"):
        load_base(Base(model="scratch"), tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_a_hub_models_card_is_fetched_for_its_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked = []

    def download(name: str, file: str, revision: str | None = None) -> str:
        asked.append((name, file, revision))
        raise OSError("no such file")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    model = load(write_mini(tmp_path / "mini"), device="cpu")
    found = ingredient("base", "acme/encoder", model, revision="v2")
    assert asked == []  # the hub is not asked offline
    monkeypatch.setattr("m3e.models.loading.hub_is_reachable", lambda: True)
    assert ingredient("base", "acme/encoder", model, revision="v2") == found
    assert asked == [("acme/encoder", "README.md", "v2")]
    assert (found.licence, found.commercial) == ("", "unknown")


def test_prompts_of_data_sets_have_mtebs_names() -> None:
    prompts = {"faq": Prompt(query="问：", document="答："), "sts": Prompt(query="句：")}
    assert prompts_by_set(prompts) == {"faq-query": "问：", "faq-document": "答：", "sts-query": "句："}


def test_licences() -> None:
    assert [commercial_use(name) for name in ("MIT", "Apache-2.0 ", "CC-BY-NC 4.0", "research only", "llama3", "")] == [
        "yes", "yes", "no", "no", "unknown", "unknown",
    ]  # fmt: skip
    assert (strictest(["yes", "unknown"]), strictest(["unknown", "no", "yes"]), strictest(["yes"])) == (
        "unknown", "no", "yes",
    )  # fmt: skip
