"""Miniature models and small inputs, made in the test run; no network, no weights from anywhere."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["OMP_NUM_THREADS"] = "1"  # tests run side by side; two pools of spinning threads starve each other

import pytest

OLD_POOLING_KEYS = {  # what sentence-transformers 5.1 knows
    "word_embedding_dimension",
    "pooling_mode_cls_token",
    "pooling_mode_mean_tokens",
    "pooling_mode_max_tokens",
    "pooling_mode_mean_sqrt_len_tokens",
    "include_prompt",
}
CHARACTERS = "今天气很好我们去公园吧怎么办退货款订单地址修改快递到哪了发票会员积分猫狗树叶黄番茄阳台花开不的是在有问答"


@pytest.fixture(scope="session")
def mini_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a two-layer random BERT over single characters, with prompts; loads in 20 ms."""
    return write_mini(tmp_path_factory.mktemp("mini"), prompts={"query": "问", "document": "答"})


def write_mini(folder: Path, prompts: dict[str, str] | None = None, seed: int = 0, hidden: int = 32) -> Path:
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    from m3e.models.folder import write_transformer

    letters = [*CHARACTERS, *"abcdefghijklmnopqrstuvwxyz0123456789，。？！,.?!"]
    names = ["<pad>", "<unk>", "<s>", "</s>", *dict.fromkeys(letters)]
    tokenizer = Tokenizer(models.WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split("", "isolated")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        pad_token_id=0,
        initializer_range=0.2,
    )
    write_transformer(
        folder,
        BertModel(config),
        tokenizer,
        special_tokens={"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"},
        max_length=64,
        prompts=prompts,
    )
    return folder


@pytest.fixture
def mini(mini_folder: Path) -> Any:
    """A fresh copy of the miniature model."""
    from m3e import load

    return load(mini_folder, device="cpu")


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[[str, Iterable[Any]], Path]:
    """Write rows as JSON lines under a name; the path."""

    def write(name: str, rows: Iterable[Any]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


def pair_rows(count: int) -> list[dict[str, str]]:
    """Question and answer pairs of the miniature's characters: an answer repeats its question's rare characters."""
    letters = CHARACTERS
    rows = []
    for index in range(count):
        first, second = letters[index % 40], letters[(index * 7 + 3) % 41]
        rows.append({"text": f"{first}{second}怎么办", "text_pos": f"我们去{second}{first}公园有{index}"})
    return rows


@pytest.fixture
def pairs() -> Callable[[int], list[dict[str, str]]]:
    """``pairs(n)``: n distinct question and answer pairs."""
    return pair_rows
