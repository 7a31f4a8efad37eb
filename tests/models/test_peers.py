from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from m3e import load
from m3e.errors import ModelError
from m3e.inference import Encoder
from m3e.models.peers import PEERS, peer_of
from tests.conftest import write_mini

ERLANGSHEN = "IDEA-CCNL/Erlangshen-SimCSE-110M-Chinese"
TEXTS = ["今天天气很好", "退货怎么办"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain transformer of a peer's dimension, under the last two parts of a peer's hub id."""
    folder = tmp_path_factory.mktemp("models") / ERLANGSHEN
    folder.mkdir(parents=True)
    return as_plain(write_mini(folder, hidden=768))


def as_plain(folder: Path) -> Path:
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    return folder


def hidden_states(folder: Path) -> list[np.ndarray]:
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, encoder = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return [encoder(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy() for text in TEXTS]


def test_a_peers_folder_loads_as_its_makers_used_it(plain: Path) -> None:
    model = load(plain)
    first = np.stack([states[0] for states in hidden_states(plain)])
    assert np.allclose(model.encode(TEXTS), first, atol=1e-5)
    assert model.max_seq_length == 64  # the folder's own, below the peer's 512
    assert np.allclose(Encoder(plain, dtype="fp32").encode(TEXTS), first, atol=1e-4)


def test_any_other_plain_folder_keeps_the_mean(tmp_path: Path) -> None:
    folder = tmp_path / "IDEA-CCNL" / "Another"
    folder.mkdir(parents=True)
    as_plain(write_mini(folder))
    mean = np.stack([states.mean(0) for states in hidden_states(folder)])
    assert np.allclose(load(folder).encode(TEXTS), mean, atol=1e-5)


def test_a_peer_from_the_hubs_cache(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = tmp_path / f"models--{ERLANGSHEN.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots").mkdir()
    (cached / "snapshots" / ("0" * 40)).symlink_to(plain, target_is_directory=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert np.allclose(load(ERLANGSHEN).encode(TEXTS), load(plain).encode(TEXTS), atol=1e-6)


def test_a_longer_folder_is_held_to_the_peers_length(tmp_path: Path) -> None:
    folder = tmp_path / "shibing624" / "text2vec-base-chinese"
    folder.mkdir(parents=True)
    write_mini(folder, hidden=768)
    settings = folder / "sentence_bert_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"max_seq_length": 512}))
    model = load(folder)
    assert (model.max_seq_length, model[1].pooling_mode) == (128, "mean")


def test_another_model_under_a_peers_name_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / ERLANGSHEN
    folder.mkdir(parents=True)
    with pytest.raises(ModelError, match="768 numbers, and what was loaded has 32"):
        load(write_mini(folder))


@pytest.mark.parametrize("name", ["text-embedding-ada-002", "api:https://api.openai.com/v1#text-embedding-ada-002"])
def test_a_model_behind_an_endpoint_is_no_model_to_load(name: str) -> None:
    with pytest.raises(ModelError, match=r"m3e eval api:https://api\.openai\.com/v1#text-embedding-ada-002"):
        load(name)


def test_the_table_is_the_cards() -> None:
    makers = {peer.name.split("/")[0] for peer in PEERS}
    assert makers == {"shibing624", "DMetaSoul", "uer", "IDEA-CCNL", "text-embedding-ada-002"}
    assert all(peer.source.startswith("https://") for peer in PEERS)
    assert all((peer.pooling is None) == (peer.endpoint is not None) for peer in PEERS)
    assert peer_of("m3e-small") is None
    assert peer_of(f"/models/{ERLANGSHEN}").pooling == "cls"
