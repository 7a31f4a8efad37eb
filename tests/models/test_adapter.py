"""An adapter is the tuned model on its base, and on no other; peft reads it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from m3e import load
from m3e.errors import ModelError
from m3e.files import read_json, read_marker, write_json
from m3e.models.adapter import apply, base_of, extract, is_adapter
from m3e.models.folder import save
from m3e.models.loading import whole_folder
from m3e.training.strategies import LoraTraining
from tests.conftest import write_mini

TEXTS = ["今天天气很好", "退货怎么办", "猫", "a cat, 123", "订单地址修改"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("M3E_CACHE", str(tmp_path / "cache"))


def lora_tuned(folder: Path, rank: int = 4, size: float = 0.3) -> SentenceTransformer:
    """The miniature with merged random adapters, as a LoRA stage leaves it."""
    model = load(folder, device="cpu")
    strategy = LoraTraining(rank=rank, alpha=rank)
    strategy.prepare(model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=size, generator=generator)
    strategy.finish(model)
    return model


def fully_tuned(folder: Path) -> SentenceTransformer:
    """The miniature with every kind of parameter changed; of the embeddings only some rows."""
    model = lora_tuned(folder)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model[0].model.named_parameters():
            if "embeddings.word" in name:
                parameter[3:9].add_(torch.randn(6, parameter.shape[1], generator=generator) * 0.1)
            elif parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return model


def vectors(model: SentenceTransformer) -> np.ndarray:
    return np.asarray(model.encode(TEXTS))


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
@pytest.mark.parametrize("tune", [lora_tuned, fully_tuned])
def test_a_tuned_model_comes_back(tmp_path: Path, mini_folder: Path, tune: Any, dtype: Any) -> None:
    tuned = tune(mini_folder)
    tuned.prompts = {"query": "找", "faq-query": "问"}
    tuned.max_seq_length = 48
    base = load(mini_folder, device="cpu")
    report = extract(tuned, base, tmp_path / "a", base_name=str(mini_folder), rank=8, dtype=dtype, texts=TEXTS)
    assert report.rank == 4  # what it was trained in, though 8 were allowed
    limit = 2e-3 if dtype == "fp16" else 2e-2
    assert report.error < limit
    back = load(tmp_path / "a", device="cpu")
    for name, value in tuned.state_dict().items():
        assert torch.allclose(back.state_dict()[name], value, atol=limit), name
    assert (vectors(back) * vectors(tuned)).sum(axis=1).min() >= report.cosine - 1e-5 > 0.999
    assert np.abs(vectors(back) - vectors(load(mini_folder, device="cpu"))).max() > 0.05
    assert back.prompts["query"] == "找"
    assert back.prompts["faq-query"] == "问"
    assert back.max_seq_length == 48
    assert report.bytes == sum(path.stat().st_size for path in (tmp_path / "a").iterdir())


def test_an_average_with_the_start_is_exact_in_the_same_rank(tmp_path: Path, mini_folder: Path) -> None:
    tuned, base = lora_tuned(mini_folder), load(mini_folder, device="cpu")
    with torch.no_grad():
        for mine, start in zip(tuned.parameters(), base.parameters(), strict=True):
            mine.lerp_(start, 0.4)
    report = extract(tuned, base, tmp_path / "a", base_name="m", rank=4, texts=TEXTS)
    assert report.rank == 4
    assert report.error < 1e-3


@pytest.mark.parametrize("tune", [lora_tuned, fully_tuned])
def test_peft_reads_it(tmp_path: Path, mini_folder: Path, tune: Any) -> None:
    from peft import PeftModel

    tuned, base = tune(mini_folder), load(mini_folder, device="cpu")
    extract(tuned, base, tmp_path / "a", base_name="m", rank=4, texts=TEXTS)
    wrapped = PeftModel.from_pretrained(base[0].model, str(tmp_path / "a"))
    base[0].model = wrapped
    assert np.allclose(vectors(base), vectors(tuned), atol=2e-3)
    base[0].model = wrapped.merge_and_unload()
    assert np.allclose(vectors(base), vectors(tuned), atol=2e-3)


def test_too_low_a_rank_is_refused_with_what_was_measured(tmp_path: Path, mini_folder: Path) -> None:
    tuned, base = lora_tuned(mini_folder, rank=12), load(mini_folder, device="cpu")
    with pytest.raises(ModelError, match=r"rank 2.*relative error 0\.\d+.*cosine 0\.\d+ where 0\.999"):
        extract(tuned, base, tmp_path / "a", base_name="m", rank=2, texts=TEXTS)
    assert not (tmp_path / "a").exists()
    report = extract(tuned, base, tmp_path / "a", base_name="m", rank=2, texts=TEXTS, force=True)
    assert report.cosine < 0.999
    assert report.error > 0.1


def test_another_base_is_refused_by_both_names(tmp_path: Path, mini_folder: Path) -> None:
    other = write_mini(tmp_path / "other", seed=5)
    extract(
        lora_tuned(mini_folder), load(mini_folder), tmp_path / "a", base_name="acme/right-base", rank=4, texts=TEXTS
    )
    with pytest.raises(ModelError, match=r"acme/right-base.*other"):
        apply(tmp_path / "a", load(other, device="cpu"), str(other))


def test_prompts_and_number_types_of_the_base_do_not_matter(tmp_path: Path, mini_folder: Path) -> None:
    tuned = lora_tuned(mini_folder)
    base = load(mini_folder, device="cpu")
    base.prompts = {"query": "其他"}
    base.max_seq_length = 16
    extract(tuned, base, tmp_path / "a", base_name="m", rank=4, texts=TEXTS)
    back = apply(tmp_path / "a", load(mini_folder, device="cpu"), "m")
    assert np.allclose(vectors(back), vectors(tuned), atol=2e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("shape", "word_embeddings"),
        ("vocabulary", "vocabular"),
        ("nothing", "itself"),
        ("static", "StaticEmbedding"),
        ("dense", "Dense"),
    ],
)
def test_models_without_such_a_difference_are_refused(
    tmp_path: Path, mini_folder: Path, change: str, said: str
) -> None:
    from sentence_transformers.sentence_transformer.modules import Dense, StaticEmbedding

    base, tuned = load(mini_folder, device="cpu"), lora_tuned(mini_folder)
    if change == "shape":
        tuned[0].model.resize_token_embeddings(200)
    elif change == "vocabulary":
        tuned.tokenizer.add_tokens(["新词"])
    elif change == "nothing":
        tuned = load(mini_folder, device="cpu")
    elif change == "static":
        tuned = SentenceTransformer(modules=[StaticEmbedding(base.tokenizer, embedding_dim=8)], device="cpu")
    else:
        tuned.append(Dense(32, 8))
    with pytest.raises(ModelError, match=said):
        extract(tuned, base, tmp_path / "a", base_name="m", texts=TEXTS)


def test_a_size_limit_is_kept(tmp_path: Path, mini_folder: Path) -> None:
    tuned, base = lora_tuned(mini_folder), load(mini_folder, device="cpu")
    with pytest.raises(ModelError, match=r"more than 5,000; give a lower rank than 4"):
        extract(tuned, base, tmp_path / "a", base_name="m", rank=4, texts=TEXTS, largest=5_000)
    assert not (tmp_path / "a").exists()
    report = extract(tuned, base, tmp_path / "a", base_name="m", rank=4, texts=TEXTS, largest=50_000)
    assert report.bytes <= 50_000


def test_a_damaged_adapter_is_named(tmp_path: Path, mini_folder: Path) -> None:
    extract(lora_tuned(mini_folder), load(mini_folder), tmp_path / "a", base_name=str(mini_folder), texts=TEXTS)
    file = tmp_path / "a" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(ModelError, match=r"adapter_model\.safetensors is missing or damaged"):
        load(tmp_path / "a")


def test_what_the_tuned_model_carried_goes_along(tmp_path: Path, mini_folder: Path) -> None:
    from m3e.data.bloom import TextFilter
    from m3e.data.keys import hashes_of_keys, text_keys

    tuned = lora_tuned(mini_folder)
    folder = save(tuned, tmp_path / "tuned", card="# mine\n")
    seen = TextFilter(10)
    seen.add_hashes(hashes_of_keys(text_keys(["今天天气很好"])))
    seen.save(folder / "texts.bloom")
    write_json(folder / "manifest.json", {"datasets": []})
    extract(tuned, load(mini_folder), tmp_path / "a", base_name=str(mini_folder), rank=4, texts=TEXTS, carry=folder)
    whole = whole_folder(tmp_path / "a")
    assert TextFilter.load(whole / "texts.bloom").has(["今天天气很好", "没见过的一句话"]).tolist() == [True, False]
    assert read_json(whole / "manifest.json") == {"datasets": []}
    assert (whole / "README.md").read_text() == "# mine\n"


def test_the_whole_model_is_written_once_and_opens_in_plain_sentence_transformers(
    tmp_path: Path, mini_folder: Path
) -> None:
    tuned = lora_tuned(mini_folder)
    extract(tuned, load(mini_folder), tmp_path / "a", base_name=str(mini_folder), rank=4, texts=TEXTS)
    assert is_adapter(tmp_path / "a")
    assert base_of(tmp_path / "a").name == str(mini_folder.resolve())
    whole = whole_folder(tmp_path / "a")
    written = (whole / "model.safetensors").stat().st_mtime_ns
    assert whole_folder(tmp_path / "a") == whole
    assert (whole / "model.safetensors").stat().st_mtime_ns == written
    assert np.allclose(vectors(SentenceTransformer(str(whole), device="cpu")), vectors(tuned), atol=2e-3)
    assert not is_adapter(whole)
    assert whole_folder(whole) == whole
    (whole / "model.safetensors").write_bytes(b"damaged")
    assert np.allclose(vectors(load(tmp_path / "a", device="cpu")), vectors(tuned), atol=2e-3)


def test_a_base_that_is_gone_is_named(tmp_path: Path) -> None:
    base = write_mini(tmp_path / "base")
    extract(lora_tuned(base), load(base), tmp_path / "a", base_name=str(base), rank=4, texts=TEXTS)
    base.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"belongs to .*base, which cannot be loaded"):
        load(tmp_path / "a")


def test_a_base_without_modules_gets_the_tuned_models_pooling(tmp_path: Path, mini_folder: Path) -> None:
    plain = write_mini(tmp_path / "plain")
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (plain / name).unlink()
    tuned = lora_tuned(mini_folder)
    tuned[1].pooling_mode = "cls"
    extract(tuned, load(plain), tmp_path / "a", base_name=str(plain), rank=4, texts=TEXTS)
    back = load(tmp_path / "a", device="cpu")
    assert np.allclose(vectors(back), vectors(tuned), atol=2e-3)
    assert np.allclose(np.linalg.norm(vectors(back), axis=1), 1, atol=1e-5)


def test_the_marker_says_what_was_measured(tmp_path: Path, mini_folder: Path) -> None:
    report = extract(lora_tuned(mini_folder), load(mini_folder), tmp_path / "a", base_name="m", rank=4, texts=TEXTS)
    marker = read_marker(tmp_path / "a") or {}
    assert (marker["rank"], marker["error"], marker["cosine"]) == (report.rank, report.error, report.cosine)
