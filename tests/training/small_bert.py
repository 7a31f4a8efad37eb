"""A plain transformers folder of a Chinese BERT in miniature, as hfl's and uer's on the hub are, made on the spot."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import CHARACTERS

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def write_bert(folder: Path, *, seed: int = 0, layers: int = 2, hidden: int = 32, dropout: float = 0.1) -> Path:
    """A masked language model over single characters, with its ``vocab.txt``; 512 positions, no pooling stated."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    letters = [*CHARACTERS, *"abcdefghijklmnopqrstuvwxyz0123456789，。？！,.?!"]
    names = [*SPECIAL, *dict.fromkeys(letters), *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789")]
    (folder / "vocab.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(names),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=512,
        pad_token_id=0,
        initializer_range=0.2,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    return folder
