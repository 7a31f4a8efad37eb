"""Decoders as encoders: a Qwen3 in miniature, closed by its end token, padded on the left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

import m3e
from m3e import load
from m3e.errors import ModelError
from m3e.models.folder import save
from tests.models.small_decoder import END, TEXTS, write_decoder


def ids(model: Any, text: str) -> list[int]:
    return list(model.tokenizer(text)["input_ids"])


@pytest.mark.parametrize("tokenizer", ["PreTrainedTokenizerFast", "Qwen2Tokenizer"])
def test_texts_are_closed_and_padding_does_not_matter(tmp_path: Path, tokenizer: str) -> None:
    model = load(write_decoder(tmp_path / "plain", tokenizer), device="cpu", pooling="lasttoken")
    end = model.tokenizer.convert_tokens_to_ids(END)
    assert ids(model, "今天天气")[-1] == end
    assert ids(model, "今天天气").count(end) == 1
    assert model.tokenizer.padding_side == "left"
    assert model[1].pooling_mode in ("lasttoken", ("lasttoken",))
    model.max_seq_length = 8
    cut = model.tokenize(["今天天气很好我们去公园吧" * 3])["input_ids"]
    assert cut.shape == (1, 8)
    assert cut[0, -1] == end
    model.max_seq_length = 64
    alone = np.stack([model.encode([text], normalize_embeddings=True)[0] for text in TEXTS])
    together = model.encode(TEXTS, normalize_embeddings=True, batch_size=len(TEXTS))
    assert (alone * together).sum(axis=1).min() > 1 - 1e-5
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    right = load(tmp_path / "plain", device="cpu", pooling="lasttoken")
    right.tokenizer.padding_side, right.max_seq_length = "right", 64
    assert (alone * right.encode(TEXTS, normalize_embeddings=True)).sum(axis=1).min() > 1 - 1e-5


@pytest.mark.parametrize("tokenizer", ["PreTrainedTokenizerFast", "Qwen2Tokenizer"])
def test_what_is_saved_opens_in_plain_sentence_transformers(tmp_path: Path, tokenizer: str) -> None:
    model = load(write_decoder(tmp_path / "plain", tokenizer), device="cpu", pooling="lasttoken")
    model.prompts = {"query": "Instruct: 找到回答\nQuery: ", "document": ""}
    save(model, tmp_path / "saved")
    plain = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert plain.tokenizer.padding_side == "left"
    for text in (*TEXTS, ""):
        assert ids(plain, text) == ids(model, text)
    for prompt in ("query", "document"):
        ours, theirs = (each.encode(TEXTS, prompt_name=prompt) for each in (model, plain))
        assert np.allclose(ours, theirs, atol=1e-6)
    assert json.loads((tmp_path / "saved" / "1_Pooling" / "config.json").read_text())["pooling_mode_lasttoken"]
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["rope_theta"] == 1e6  # transformers 4's name
    again = load(tmp_path / "saved", device="cpu", pooling="lasttoken")  # agrees with its own files
    assert ids(again, "今天") == ids(model, "今天")


def test_the_encoder_gives_the_same_vectors(tmp_path: Path) -> None:
    model = load(write_decoder(tmp_path / "plain"), device="cpu", pooling="lasttoken")
    encoder = m3e.Encoder(model, backend="torch", dtype="fp32", token_budget=40)
    assert np.allclose(encoder.encode(TEXTS), model.encode(TEXTS), atol=1e-5)


def test_a_tokenizer_that_closes_texts_already_stays_as_it_is(tmp_path: Path) -> None:
    folder = write_decoder(tmp_path / "plain", closes=True)
    assert ids(load(folder, device="cpu", pooling="lasttoken"), "今天") == ids(load(folder, device="cpu"), "今天")


def test_a_tokenizer_without_an_end_token_is_refused(mini_folder: Path, tmp_path: Path) -> None:
    from tests.conftest import write_mini

    folder = write_mini(tmp_path / "bert")
    (folder / "modules.json").unlink()
    with pytest.raises(ModelError, match=r"lasttoken wants .* end token"):
        load(folder, pooling="lasttoken")


@pytest.mark.parametrize(("name", "said"), [("lasttoken", "mean"), ("cls", "leave out pooling cls")])
def test_another_pooling_than_the_models_own_is_refused(mini_folder: Path, name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        load(mini_folder, pooling=name)


def test_an_unknown_pooling_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'last' is not known; choose one of .*lasttoken"):
        load(write_decoder(tmp_path / "plain"), pooling="last")
