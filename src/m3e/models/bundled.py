"""The models that ship inside the package: folders of sentence-transformers with weights in 8 bits a number.

A packed folder holds what the model's own folder holds, its card too, but for each ``X.safetensors`` an ``X.npz``
(matrices as int8 with one fp16 scale a row, the rest in fp16), and ``tokenizer.json`` compressed. It is unpacked once
into a plain folder, in fp32.
"""

from __future__ import annotations

import lzma
import math
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from m3e.errors import ModelError
from m3e.files import MARKER_NAME, atomic_folder, hash_file, read_json, write_json
from m3e.models.int8_rows import from_int8, to_int8

ASSETS = Path(__file__).parent.parent / "assets"
HASHES = "packed.json"
"""The hashes of a packed folder's files, by their paths in it."""

_SCALE = ".scale"


def pack(model: Path, folder: Path) -> None:
    """Write the folder of a model in its packed form.

    Args:
        model: as sentence-transformers saves it, in fp32, fp16 or bf16.
    """
    with atomic_folder(folder) as temporary:
        for path in sorted(path for path in model.rglob("*") if path.is_file() and path.name != MARKER_NAME):
            target = temporary / path.relative_to(model)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".safetensors":
                _pack_weights(path, target.with_suffix(".npz"))
            elif path.name == "tokenizer.json":
                target.with_name("tokenizer.json.xz").write_bytes(lzma.compress(path.read_bytes(), preset=9))
            else:
                shutil.copyfile(path, target)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        hashes = {path.relative_to(temporary).as_posix(): hash_file(path) for path in files}
        write_json(temporary / HASHES, hashes)


def unpack(folder: Path, target: Path) -> None:
    """Write a packed model's own folder into ``target``, which exists and is empty.

    Raises:
        ModelError: a file of it is missing or damaged.
    """
    for name, digest in read_json(folder / HASHES).items():
        path, to = folder / name, target / name
        if not path.is_file() or hash_file(path) != digest:
            raise ModelError(f"{path} is missing or damaged; reinstall m3e")
        to.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npz":
            _unpack_weights(path, to.with_suffix(".safetensors"))
        elif path.suffix == ".xz":
            to.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        else:
            shutil.copyfile(path, to)


def _pack_weights(path: Path, target: Path) -> None:
    from safetensors.torch import load_file

    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, tensor in load_file(path).items():
        values = tensor.float().numpy()
        if values.ndim != 2 or min(values.shape) < 2:
            arrays[name] = values.astype(np.float16)
            continue
        arrays[name], arrays[f"{name}{_SCALE}"] = to_int8(values)
    np.savez_compressed(target, allow_pickle=False, **arrays)


def _unpack_weights(path: Path, target: Path) -> None:
    from safetensors.numpy import save_file

    weights: dict[str, np.ndarray[Any, Any]] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for name in arrays.files:
            scales = f"{name}{_SCALE}"
            if scales in arrays.files:
                weights[name] = from_int8(arrays[name], arrays[scales])
            elif not name.endswith(_SCALE):
                weights[name] = arrays[name].astype(np.float32)
    save_file(weights, target, metadata={"format": "pt"})


def is_bundled(name: str) -> bool:
    """Whether the package carries the model."""
    return (ASSETS / name / HASHES).is_file()


def parameters(name: str) -> int:
    """Numbers in a bundled model, by the heads of its arrays."""
    count = 0
    for path in (ASSETS / name).rglob("*.npz"):
        with zipfile.ZipFile(path) as arrays:
            for entry in arrays.namelist():
                if entry.endswith(f"{_SCALE}.npy"):
                    continue
                with arrays.open(entry) as stream:
                    np.lib.format.read_magic(stream)
                    shape, _, _ = np.lib.format.read_array_header_1_0(stream)
                count += math.prod(shape)
    return count
