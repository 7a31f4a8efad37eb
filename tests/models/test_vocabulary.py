"""Vocabularies cut to what text uses: nothing becomes unknown, and vectors of covered text stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from m3e import load
from m3e.errors import ModelError
from m3e.models.folder import save
from m3e.models.scratch import Shape, write_scratch
from m3e.models.tokenizers import train_tokenizer
from m3e.models.vocabulary import cut_model, cut_tokenizer, needed_pieces

TEXTS = ["今天天气很好，我们去公园散步。", "how to reset the password of a server", "if a == b:\n    return 2026 😀"]
OTHER = ["明天下雨，他们在家看书。", "weather forecast for tomorrow and a walk"]


def new_model(folder: Path, kind: Any) -> Any:
    tokenizer = train_tokenizer([*TEXTS, *OTHER] * 60, kind=kind, vocabulary=7300)
    write_scratch(folder, tokenizer, Shape(2, 32, 2), seed=1, prompts={"query": "问"})
    return load(folder, device="cpu")


@pytest.mark.parametrize("kind", ["unigram", "wordpiece"])
def test_covered_text_has_the_same_vectors(kind: Any, tmp_path: Path) -> None:
    model = new_model(tmp_path / "model", kind)
    before = model.encode(TEXTS)
    backend = model.tokenizer.backend_tokenizer
    used = {index for text in TEXTS for index in backend.encode(text).ids}
    keep = needed_pieces(backend, used)
    size = len(model.tokenizer)
    unknown = [backend.encode(text).tokens.count("<unk>") for text in OTHER]
    ids = cut_model(model, keep)
    assert ids == keep
    assert len(ids) < size
    assert (
        len(model.tokenizer)
        == model[0].model.config.vocab_size
        == len(model[0].model.embeddings.word_embeddings.weight)
    )
    save(model, tmp_path / "cut")
    cut = load(tmp_path / "cut", device="cpu")
    after = cut.encode(TEXTS)
    cosines = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert cosines == pytest.approx(1, abs=1e-6)
    assert [cut.tokenizer.backend_tokenizer.encode(text).tokens.count("<unk>") for text in OTHER] == unknown
    assert cut.prompts["query"] == "问"
    assert cut.tokenizer.pad_token_id == 0
    assert cut.tokenizer.mask_token == "<mask>"
    # text that was left out is spelt by shorter pieces
    longer = [len(each.encode(OTHER[1]).ids) for each in (backend, cut.tokenizer.backend_tokenizer)]
    assert longer[1] > longer[0]


def test_what_cannot_be_spelt_otherwise_stays() -> None:
    names = ["[UNK]", "a", "##b", "ab", "##bb", "##cb", "cb", "##", "x#", "abz"]
    tokenizer = Tokenizer(models.WordPiece({name: index for index, name in enumerate(names)}, unk_token="[UNK]"))
    kept = {names[index] for index in needed_pieces(tokenizer, [])}
    assert kept == {"[UNK]", "a", "##b", "##cb", "cb", "##", "x#", "abz"}  # c, x, # and z are no pieces by themselves
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("天", -1.0), ("气", -1.0), ("天气", -1.5), ("气象", -2.0)], 0))
    assert needed_pieces(unigram, []) == [0, 1, 2, 4]
    assert needed_pieces(unigram, [3]) == [0, 1, 2, 3, 4]


def test_words_that_are_known_whole_or_not_at_all_stay() -> None:
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "天气": 1, "天": 2}, unk_token="[UNK]"))
    assert needed_pieces(words, []) == [0, 1, 2]


@pytest.mark.parametrize(
    "frame",
    [
        processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 5), ("[SEP]", 6)]
        ),
        processors.BertProcessing(("[SEP]", 6), ("[CLS]", 5)),
        processors.RobertaProcessing(("[SEP]", 6), ("[CLS]", 5)),
        processors.Sequence([processors.BertProcessing(("[SEP]", 6), ("[CLS]", 5))]),
    ],
)
def test_special_tokens_are_renumbered_wherever_they_stand(frame: Any) -> None:
    names = ["[PAD]", "[UNK]", "天", "气", "天气", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece({name: index for index, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])  # the mask comes after the vocabulary
    tokenizer.post_processor = frame
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]", length=5)
    cut, ids = cut_tokenizer(tokenizer, [2])
    assert ids == [0, 1, 2, 5, 6, 7]
    assert cut.encode("天").tokens == ["[CLS]", "天", "[SEP]", "[PAD]", "[PAD]"]
    assert cut.encode("天").ids == [3, 2, 4, 0, 0]
    assert cut.token_to_id("[MASK]") == 5


def test_positions_that_count_from_the_padding_stay(tmp_path: Path) -> None:
    from transformers import XLMRobertaConfig, XLMRobertaModel

    from m3e.models.folder import write_transformer

    names = ["水", "<pad>", "<unk>", "<s>", "</s>", "天", "气", "天气"]
    tokenizer = Tokenizer(models.Unigram([(name, -1.0 - len(name)) for name in names], 2))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 3), ("</s>", 4)]
    )
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=len(names),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=20,
        pad_token_id=1,
    )
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}
    write_transformer(tmp_path, XLMRobertaModel(config), tokenizer, special_tokens=special, max_length=16)
    model = load(tmp_path, device="cpu")
    before = model.encode(["天气", "气天"])
    assert cut_model(model, [5, 6]) == [0, 1, 2, 3, 4, 5, 6]
    assert model[0].model.config.pad_token_id == 1
    assert model.encode(["气天"])[0] == pytest.approx(before[1], abs=1e-6)


def test_static_models_are_cut_too() -> None:
    model = load("m3e-static", device="cpu")
    before = model.encode(["今天天气很好"])
    used = model.tokenizer.encode("今天天气很好").ids
    ids = cut_model(model, needed_pieces(model.tokenizer, used))
    assert len(ids) == model.tokenizer.get_vocab_size() == len(model[0].embedding.weight) < 27_000
    assert model.encode(["今天天气很好"]) == pytest.approx(before, abs=1e-6)


def test_merges_are_refused() -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    for refused in (lambda: needed_pieces(tokenizer, [0]), lambda: cut_tokenizer(tokenizer, [0])):
        with pytest.raises(ModelError, match="BPE vocabulary cannot be cut"):
            refused()


def test_an_id_that_is_none() -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    with pytest.raises(ModelError, match="id 7; the vocabulary has 2 pieces"):
        cut_tokenizer(tokenizer, [7])
