from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from m3e import load
from m3e.errors import HubUnreachableError, ModelError
from m3e.models.loading import unknown_rate
from tests.conftest import write_mini

TEXTS = ["今天天气很好", "退货怎么办", "猫", "a cat, 123"]


def test_a_folder_loads_with_prompts_length_and_normalisation(mini_folder: Path) -> None:
    model = load(mini_folder)
    assert model.prompts["query"] == "问"
    assert model.max_seq_length == 64
    assert model.similarity_fn_name == "cosine"
    assert np.allclose(np.linalg.norm(model.encode(TEXTS), axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value", "pooling"),
    [
        ("uniem_pooling_strategy", "last_mean", "mean"),
        ("uniem_embedding_strategy", "cls", "cls"),
        ("uniem_pooling_strategy", "last_weighted", "weightedmean"),
        ("other", "x", "mean"),
    ],
)
def test_uniem_folders_keep_their_pooling(tmp_path: Path, key: str, value: str, pooling: str) -> None:
    folder = uniem_folder(tmp_path, key, value)
    model = load(folder)
    assert model[1].pooling_mode == pooling
    expected = naive_pooling(folder, pooling)
    assert np.allclose(model.encode(TEXTS), expected, atol=1e-5)


def uniem_folder(folder: Path, key: str, value: str) -> Path:
    write_mini(folder)
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    return folder


def naive_pooling(folder: Path, pooling: str) -> np.ndarray:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, encoder = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in TEXTS:
        with torch.no_grad():
            hidden = encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
        weights = np.arange(1, len(hidden) + 1)[:, None]
        rows.append(
            {"mean": hidden.mean(0), "cls": hidden[0], "weightedmean": (hidden * weights).sum(0) / weights.sum()}[
                pooling
            ]
        )
    return np.stack(rows)


@pytest.mark.parametrize("value", ["first_last_mean", "embedding_last_mean", "nonsense"])
def test_poolings_without_a_module_are_refused_by_name(tmp_path: Path, value: str) -> None:
    with pytest.raises(ModelError, match=value):
        load(uniem_folder(tmp_path, "uniem_pooling_strategy", value))


@pytest.mark.parametrize("name", ["./absent", "/absent/folder", "../m3e-absent"])
def test_an_absent_folder_names_the_local_models(name: str) -> None:
    with pytest.raises(ModelError, match="m3e-tiny"):
        load(name)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match=r"modules\.json"):
        load(tmp_path)


def test_a_damaged_folder_is_one_line(tmp_path: Path) -> None:
    write_mini(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match=tmp_path.name) as raised:
        load(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["moka-ai/m3e-base", "m3e-huge", "a/b/c", "名字"])
def test_an_unknown_name_is_answered_at_once_offline(name: str) -> None:
    with pytest.raises(ModelError, match="m3e-tiny"):
        load(name)


def test_an_unreachable_hub_is_answered_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    started = time.monotonic()
    with pytest.raises(HubUnreachableError, match="HF_ENDPOINT") as raised:
        load("moka-ai/m3e-base")
    assert time.monotonic() - started < 60
    assert str(port) in str(raised.value)


def test_a_tokenizer_that_knows_nothing_is_refused(tmp_path: Path) -> None:
    write_mini(tmp_path)
    path = tmp_path / "tokenizer.json"
    tokenizer = json.loads(path.read_text("utf-8"))
    tokenizer["pre_tokenizer"] = {"type": "WhitespaceSplit"}  # whole sentences are unknown words
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), "utf-8")
    with pytest.raises(ModelError, match="handle_chinese_chars"):
        load(tmp_path)


def test_unknown_rate_counts_tokens(mini) -> None:
    assert unknown_rate(mini, "今天") == 0
    assert unknown_rate(mini, "今麒") == 0.5


def test_a_static_folder_loads(tmp_path: Path, mini_folder: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    from m3e.models.folder import save

    static = StaticEmbedding(load(mini_folder).tokenizer, embedding_dim=8)
    save(SentenceTransformer(modules=[static], device="cpu"), tmp_path / "static")
    assert load(tmp_path / "static").encode(TEXTS).shape == (4, 8)
