"""A miniature sentence-transformers model with random weights, and small sets written for these tests."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

WEATHER = ["今天下雨路上很滑", "明天降温记得加衣服", "周末晴天适合爬山", "台风要来了别出门", "大雾天开车要慢"]
FOOD = ["红烧肉要用小火慢炖", "面条煮好过一遍凉水", "饺子馅里放点香油", "豆浆要煮开再喝", "凉拌黄瓜加点醋"]
SPORT = ["跑步前先热身十分钟", "游泳池下午五点开门", "篮球赛改到周三晚上", "羽毛球拍断线了", "瑜伽课要自带垫子"]


def write(path: Path, **columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def write_collection(folder: Path, stem: str, corpus, queries, qrels) -> None:
    """Files of a retrieval set from {id: text}, {id: text} and [(query, document, score)]."""
    write(folder / f"{stem}.corpus.parquet", id=list(corpus), text=list(corpus.values()))
    write(folder / f"{stem}.queries.parquet", id=list(queries), text=list(queries.values()))
    query_ids, document_ids, scores = (list(column) for column in zip(*qrels, strict=True))
    write(folder / f"{stem}.qrels.parquet", query_id=query_ids, doc_id=document_ids, score=scores)


def make_model(folder: Path, *, seed: int, prompts=None) -> Path:
    """A one-layer BertModel over single characters, saved as a sentence-transformers folder."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    from m3e.models.folder import write_transformer

    characters = sorted(set("".join(WEATHER + FOOD + SPORT)) | set("abcdefghijklmnopqrstuvwxyz:0123456789"))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    probe = sorted(set("今天天气很好，我们去公园散步。How to reset my password?".lower()) - {" "})
    pieces = [*special.values(), *dict.fromkeys([*characters, *probe])]
    pieces += [f"##{piece}" for piece in "abcdefghijklmnopqrstuvwxyz0123456789"]
    tokenizer = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", pieces.index("[CLS]")), ("[SEP]", pieces.index("[SEP]"))]
    )
    torch.manual_seed(seed)
    encoder = BertModel(
        BertConfig(
            vocab_size=len(pieces),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=64,
            initializer_range=0.3,
        )
    )
    folder.mkdir(parents=True)
    write_transformer(folder, encoder, tokenizer, special_tokens=special, max_length=64, prompts=prompts)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "mini", seed=1)


@pytest.fixture(scope="session")
def prompted_folder(tmp_path_factory):
    prompts = {"query": "query: ", "document": "passage: "}
    return make_model(tmp_path_factory.mktemp("models") / "prompted", seed=1, prompts=prompts)


@pytest.fixture(scope="session")
def encoder(model_folder):
    from m3e.inference import Encoder

    return Encoder(model_folder, dtype="fp32", device="cpu")


@pytest.fixture
def pairs():
    """Sentence pairs with graded likeness, 0 to 5."""
    one = WEATHER + FOOD + SPORT
    two = [one[(index + shift) % len(one)] for index, shift in enumerate([0, 1, 2, 5, 7] * 3)]
    return one, two, [5.0, 3.5, 3.0, 0.5, 0.0] * 3


@pytest.fixture
def labelled():
    """Training texts and labels, evaluation texts and labels."""
    train = [(text, label) for texts, label in ((WEATHER, "天气"), (FOOD, "吃的"), (SPORT, "运动")) for text in texts[:3]]
    test = [(text, label) for texts, label in ((WEATHER, "天气"), (FOOD, "吃的"), (SPORT, "运动")) for text in texts[2:]]
    return train, test


def write_labelled(folder: Path, name: str, labelled, *, train="train", test="test") -> None:
    for split, rows in ((train, labelled[0]), (test, labelled[1])):
        write(folder / f"{name}.{split}.parquet", text=[text for text, _ in rows], label=[label for _, label in rows])
