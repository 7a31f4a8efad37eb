"""A miniature model whose tokenizer has a mask token and suffixes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.conftest import CHARACTERS


def write_masked(
    folder: Path, *, seed: int = 0, pooling: str = "mean", prompts: dict[str, str] | None = None, hidden: int = 32
) -> Path:
    """Two layers over single characters; Latin letters go on as suffixes."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    from m3e.models.scratch import Shape, write_scratch
    from m3e.models.tokenizers import SPECIAL_TOKENS

    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [*SPECIAL_TOKENS.values(), *dict.fromkeys(CHARACTERS), *"0123456789，。？！", *letters]
    names += [f"##{letter}" for letter in letters]
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer: Any = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    write_scratch(
        folder, tokenizer, Shape(2, hidden, 2, 64), seed=seed, pooling=pooling, max_length=64, prompts=prompts
    )
    return folder


def tokens_of(model: Any, texts: list[str]) -> Any:
    """Texts as a batch of a token store."""
    import numpy as np

    from m3e.training.packing import TextBatch

    rows = [model.tokenizer(text)["input_ids"] for text in texts]
    lengths = np.array([len(row) for row in rows])
    places = np.arange(len(rows))[:, None]
    return TextBatch(np.concatenate(rows).astype(np.int32), lengths, places, places + 1)
