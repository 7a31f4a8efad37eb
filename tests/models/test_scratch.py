"""New encoders that start as a static model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from m3e.errors import SettingsError
from m3e.models.scratch import Shape, write_scratch
from m3e.models.tokenizers import SPECIAL_TOKENS

WORDS = 200


def tokenizer() -> Tokenizer:
    names = [*SPECIAL_TOKENS.values(), *(f"w{number}" for number in range(WORDS))]
    made = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)])
    return made


def texts(rng: np.random.Generator) -> list[str]:
    return [" ".join(f"w{word}" for word in rng.integers(0, WORDS, rng.integers(1, 40))) for _ in range(50)]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def mean_of(rows: np.ndarray, text: str) -> np.ndarray:
    return rows[[len(SPECIAL_TOKENS) + int(word[1:]) for word in text.split()]].mean(axis=0)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_it_gives_what_a_lookup_gives(tmp_path: Path, pooling: str) -> None:
    rng = np.random.default_rng(1)
    themes = rng.normal(size=(8, 64))[rng.integers(0, 8, WORDS + len(SPECIAL_TOKENS))]
    rows = unit(themes + rng.normal(size=themes.shape)) * np.exp(rng.normal(size=(len(themes), 1)))
    rows = rows.astype(np.float32)
    before = rows.copy()
    write_scratch(tmp_path / "model", tokenizer(), Shape(3, 64, 4), seed=1, rows=rows, pooling=pooling)
    assert np.array_equal(rows, before)
    asked = texts(rng)
    found = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(asked)
    lookup = unit(np.stack([mean_of(rows, text) for text in asked]))
    without_lengths = unit(np.stack([mean_of(unit(rows), text) for text in asked]))
    assert (found * lookup).sum(axis=1).mean() > 0.95
    assert (found * lookup).sum(axis=1).min() > 0.85
    assert (without_lengths * lookup).sum(axis=1).mean() < 0.85


def test_rows_of_zeros_hardly_count(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(WORDS + len(SPECIAL_TOKENS), 64)).astype(np.float32)
    rows[len(SPECIAL_TOKENS) :: 2] = 0  # every word with an even number
    write_scratch(tmp_path / "model", tokenizer(), Shape(2, 64, 4), seed=1, rows=rows)
    model = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    alone, among = model.encode(["w1 w3", "w1 w3 w0 w2 w4"])
    assert float(alone @ among) > 0.95
    assert np.isfinite(model.encode(["w0 w2"])).all()


def test_nothing_but_zeros(tmp_path: Path) -> None:
    rows = np.zeros((WORDS + len(SPECIAL_TOKENS), 32), np.float32)
    write_scratch(tmp_path / "model", tokenizer(), Shape(1, 32, 2), seed=1, rows=rows)
    assert np.isfinite(SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(["w1"])).all()


def test_rows_of_another_width(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"205 of 16 numbers, the encoder's tokens 205 of 32"):
        write_scratch(tmp_path / "model", tokenizer(), Shape(1, 32, 2), seed=1, rows=np.ones((205, 16), np.float32))
