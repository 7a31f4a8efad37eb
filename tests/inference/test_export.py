from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling

from m3e import Encoder, load
from m3e.errors import M3EError, MissingExtraError, ModelError, OutputExistsError, SettingsError
from m3e.files import read_json
from m3e.inference import export as module
from m3e.inference.export import EXPORT_FILE, ExportOptions, export

onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")

TEXTS = ["今天", "退货怎么办", "a cat", "番茄叶黄" * 30, " ", "我们去公园吧" * 5]


def close(first: np.ndarray, second: np.ndarray) -> float:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(1) / norms).min())


@pytest.mark.parametrize("quantise", [None, "int8"])
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_a_graph_in_a_folder_that_loads_everywhere(mini: Any, tmp_path: Path, kind: Any, quantise: Any) -> None:
    lines: list[str] = []
    report = export(mini, tmp_path / "out", ExportOptions(kind, quantise), say=lines.append)
    out = tmp_path / "out"
    for again in (load(out, device="cpu"), SentenceTransformer(str(out), device="cpu")):
        assert np.abs(again.encode(TEXTS) - mini.encode(TEXTS)).max() < 1e-5
        assert again.prompts == mini.prompts
    exported = Encoder(out, backend=kind)
    assert exported.backend == kind
    assert exported.dtype == ("int8" if quantise else exported.dtype)
    assert report.comparison.runs_after == f"{kind} {exported.dtype}", "what was timed is the file"
    assert close(exported.encode(TEXTS), mini.encode(TEXTS)) > (0.995 if quantise else 0.999)
    assert (out / report.file).is_file()
    facts = read_json(out / EXPORT_FILE)
    assert (facts["format"], facts["quantised"], facts["file"]) == (kind, quantise, report.file)
    assert facts["cosine"]["mean"] == report.comparison.cosine.mean > (0.999 if quantise else 0.99999)
    assert facts["versions"][kind if kind == "openvino" else "onnxruntime"]
    assert len(facts["fingerprint"]) == 64
    assert report.comparison.longest == 64, "the longest text is cut to the model's length"
    assert f"| {report.rows()[0][2]} |" in (out / "README.md").read_text("utf-8")
    assert any("12 weight matrices in int8" in line for line in lines) == (quantise == "int8")
    assert not list(tmp_path.glob(".*"))


def test_int8_is_smaller(tmp_path: Path) -> None:
    small = export("m3e-tiny", tmp_path / "int8", ExportOptions("onnx", "int8"))
    assert small.comparison.bytes_after < small.comparison.bytes_before * 0.3
    assert small.comparison.cosine.mean > 0.999
    assert "# m3e-tiny" in (tmp_path / "int8" / "README.md").read_text("utf-8"), "the original's card comes along"


@pytest.mark.parametrize("names", [["input_ids", "attention_mask"], ["input_ids", "token_type_ids", "attention_mask"]])
def test_the_graph_asks_for_what_the_saved_tokenizer_returns(mini: Any, tmp_path: Path, names: list[str]) -> None:
    mini.tokenizer.model_input_names = names
    export(mini, tmp_path / "out", ExportOptions("onnx"))
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "onnx" / "model.onnx"))
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path / "out"))
    assert {item.name for item in session.get_inputs()} == set(tokenizer("荷花")) == set(names)
    assert all(not isinstance(size, int) for item in session.get_inputs() for size in item.shape)
    one = session.run(None, dict(tokenizer(["荷花"], return_tensors="np")))[0]
    six = session.run(None, dict(tokenizer(TEXTS, padding=True, truncation=True, return_tensors="np")))[0]
    assert one.shape == (1, 4, 32)
    assert six.shape == (6, 64, 32)
    assert not np.isnan(six).any()


def test_what_follows_the_transformer_stays(mini: Any, tmp_path: Path) -> None:
    modules = [mini[0], Pooling(32, "cls", include_prompt=True), Dense(32, 24), Normalize()]
    model = SentenceTransformer(modules=modules, device="cpu")
    report = export(model, tmp_path / "out", ExportOptions("openvino"))
    assert report.comparison.cosine.min > 0.99999
    assert Encoder(tmp_path / "out", backend="openvino").encode(TEXTS).shape == (6, 24)


def test_a_graph_that_differs_is_refused_unless_forced(
    mini: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: Any) -> int:  # a quantisation that loses everything but the signs
        from onnx import numpy_helper

        for tensor in model.graph.initializer:
            if len(tensor.dims) == 2:
                values = numpy_helper.to_array(tensor)
                tensor.CopyFrom(numpy_helper.from_array(np.sign(values), tensor.name))
        return 1

    monkeypatch.setattr("m3e.inference.quantise.quantise_onnx", wrong)
    with pytest.raises(ModelError, match=r"mean cosine .* below 0.98; nothing was written; --force") as refused:
        export(mini, tmp_path / "out", ExportOptions("onnx", "int8"))
    assert "onnx int8" in str(refused.value)
    assert list(tmp_path.iterdir()) == []
    report = export(mini, tmp_path / "out", ExportOptions("onnx", "int8", force=True))
    assert report.comparison.cosine.mean < 0.98
    assert (tmp_path / "out" / "onnx" / "model.onnx").is_file()


def test_a_foreign_folder_is_refused_and_our_own_replaced(mini: Any, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("keep")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        export(mini, foreign, ExportOptions("onnx"))
    assert [path.name for path in foreign.iterdir()] == ["notes.txt"]
    own = tmp_path / "own"
    export(mini, own, ExportOptions("onnx"))
    export(mini, own, ExportOptions("onnx", "int8"))
    assert read_json(own / EXPORT_FILE)["quantised"] == "int8"
    with pytest.raises(OutputExistsError, match="export openvino did not write"):
        export(mini, own, ExportOptions("openvino"))
    export(mini, foreign, ExportOptions("onnx"), overwrite=True)
    assert (foreign / "notes.txt").read_text() == "keep"


def test_an_error_half_way_leaves_nothing(mini: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **facts: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(module, "write_marker", broken)
    with pytest.raises(OSError, match="disk full"):
        export(mini, tmp_path / "out", ExportOptions("onnx"))
    assert list(tmp_path.iterdir()) == []


def test_a_lookup_has_no_graph(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="StaticEmbedding"):
        export("m3e-static", tmp_path / "out", ExportOptions("openvino"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("package", "kind"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_a_missing_library_is_named_with_its_extra(
    mini: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, kind: Any
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(MissingExtraError, match=rf"{package}.*m3e\[{kind}\]"):
        export(mini, tmp_path / "out", ExportOptions(kind))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "tflite"}, "tflite.*onnx, openvino, static"),
        ({"format": "onnx", "quantise": "int4"}, "int4.*int8"),
        ({"format": "onnx", "dim": 8}, "--format static"),
        ({"format": "openvino", "words": ("词",)}, "--format static"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message) as refused:
        ExportOptions(**options)
    assert isinstance(refused.value, M3EError)


def test_the_report_is_strict_json(mini: Any, tmp_path: Path) -> None:
    report = export(mini, tmp_path / "out", ExportOptions("onnx"))
    value = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert value["texts_per_second"]["before"] > 0 < value["texts_per_second"]["after"]
    assert value["bytes"]["after"] == (tmp_path / "out" / "onnx" / "model.onnx").stat().st_size
    assert report.table().row_count == 5
