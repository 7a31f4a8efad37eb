"""The models that ship inside the package: weights in 8 bits a number, one scale a row.

``m3e-tiny`` (a small BERT) and ``m3e-static`` (lookup and mean) are unpacked once into plain
sentence-transformers folders in fp32; what is bundled is only their packed form.
"""

from __future__ import annotations

import lzma
import math
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.errors import ModelError
from m3e.files import atomic_folder, hash_file, read_json, write_json
from m3e.models.int8_rows import from_int8, to_int8

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

ASSETS = Path(__file__).parent.parent / "assets"
MAX_LENGTH = 512
SPECIAL_TOKENS = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "mask_token": "<mask>",
}


def pack(
    folder: Path,
    tokenizer: Tokenizer,
    weights: dict[str, torch.Tensor],
    config: dict[str, Any] | None,
    facts: dict[str, Any],
) -> None:
    """Write a bundled model: int8 rows with fp16 scales, vectors in fp16, tokenizer, config and training facts.

    Args:
        config: of a ``BertModel``; ``None`` for a static model.
        facts: what it was trained on, for the model card.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, tensor in weights.items():
        values = tensor.detach().float().numpy()
        if values.ndim < 2 or min(values.shape) < 2:
            arrays[name] = values.astype(np.float16)
            continue
        arrays[name], arrays[f"{name}.scale"] = to_int8(values)
    with atomic_folder(folder) as temporary:
        np.savez_compressed(temporary / "weights.npz", allow_pickle=False, **arrays)
        (temporary / "tokenizer.json.xz").write_bytes(lzma.compress(tokenizer.to_str().encode(), preset=9))
        digests = {name: hash_file(temporary / name) for name in ("weights.npz", "tokenizer.json.xz")}
        write_json(temporary / "model.json", {"config": config, "sha256": digests, "training": facts})


def read_facts(name: str) -> dict[str, Any]:
    """What ``model.json`` of a bundled model says: config, hashes, training facts."""
    return dict(read_json(ASSETS / name / "model.json"))


def is_bundled(name: str) -> bool:
    """Whether the package carries the model."""
    return (ASSETS / name / "model.json").is_file()


def _unpack(name: str) -> tuple[dict[str, Any], Tokenizer, dict[str, np.ndarray[Any, Any]]]:
    from tokenizers import Tokenizer

    folder = ASSETS / name
    facts = read_facts(name)
    for file, digest in facts["sha256"].items():
        if hash_file(folder / file) != digest:
            raise ModelError(f"{folder / file} is damaged; reinstall m3e")
    tokenizer = Tokenizer.from_str(lzma.decompress((folder / "tokenizer.json.xz").read_bytes()).decode())
    with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
        weights = {}
        for key in arrays.files:
            if key.endswith(".scale"):
                continue
            scales = f"{key}.scale"
            weights[key] = (
                from_int8(arrays[key], arrays[scales]) if scales in arrays.files else arrays[key].astype(np.float32)
            )
    return facts, tokenizer, weights


def write_m3e_tiny(folder: Path) -> None:
    """Write the bundled small BERT as a sentence-transformers folder."""
    import torch
    from transformers import BertConfig, BertModel

    from m3e.models.folder import write_transformer

    facts, tokenizer, weights = _unpack("m3e-tiny")
    encoder = BertModel(BertConfig(**facts["config"]))
    state = {key: torch.from_numpy(values) for key, values in weights.items()}
    # trained without a pooler; zeros keep every reader from reporting a missing one
    state["pooler.dense.weight"] = torch.zeros_like(encoder.pooler.dense.weight)
    state["pooler.dense.bias"] = torch.zeros_like(encoder.pooler.dense.bias)
    encoder.load_state_dict(state)
    write_transformer(folder, encoder, tokenizer, special_tokens=SPECIAL_TOKENS, max_length=MAX_LENGTH)


def write_m3e_static(folder: Path) -> None:
    """Write the bundled static model as a sentence-transformers folder."""
    from m3e.models.static import write_static

    _, tokenizer, weights = _unpack("m3e-static")
    write_static(folder, tokenizer, weights["embedding.weight"])


def parameters(name: str) -> int:
    """Numbers in a bundled model, by the heads of its arrays."""
    count = 0
    with zipfile.ZipFile(ASSETS / name / "weights.npz") as arrays:
        for entry in arrays.namelist():
            if entry.endswith(".scale.npy"):
                continue
            with arrays.open(entry) as stream:
                np.lib.format.read_magic(stream)
                shape, _, _ = np.lib.format.read_array_header_1_0(stream)
            count += math.prod(shape)
    return count


def training_summary(name: str) -> str:
    """One line a set that a bundled model was trained on."""
    sets = read_facts(name)["training"]["sets"]
    return "\n".join(f"- {part['name']} ({part['licence']}): {part['texts']:,} texts" for part in sets)
