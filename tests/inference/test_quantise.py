from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e.errors import ModelError
from m3e.inference import quantise
from m3e.inference.graph import transformer_onnx, transformer_openvino
from m3e.inference.quantise import quantise_onnx, quantise_openvino, quantise_rows, save_onnx

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")


def feed(rows: list[list[int]]) -> dict[str, Any]:
    width = max(map(len, rows))
    ids = np.array([[*row, *[0] * (width - len(row))] for row in rows], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], dtype=np.int64)
    return {"input_ids": ids, "attention_mask": mask}


def pooled(run: Any, rows: list[list[int]]) -> np.ndarray:
    inputs = feed(rows)
    mask = inputs["attention_mask"][..., None]
    return (run(inputs) * mask).sum(1) / mask.sum(1)


ROWS = [[2, 20, 21, 3], [2, *range(5, 45), 3], [2, 7, 3], [2, *range(30, 50), 3]]


def test_rows_are_within_half_a_scale() -> None:
    weights = np.random.default_rng(0).normal(size=(7, 33)).astype(np.float32) * np.logspace(-6, 3, 7)[:, None]
    values, scales = quantise_rows(weights)
    assert values.dtype == np.int8
    assert scales.shape == (7, 1)
    assert np.abs(values).max(axis=1).tolist() == [127] * 7
    assert (np.abs(values * scales - weights) <= scales * 0.5001).all()


def test_columns_share_a_scale_where_asked() -> None:
    values, scales = quantise_rows(np.array([[1.0, 100.0], [-0.5, 50.0]]), axis=0)
    assert scales.shape == (1, 2)
    assert values.tolist() == [[127, 127], [-64, 64]]


def test_zeros_stay_zeros() -> None:
    values, scales = quantise_rows(np.zeros((3, 4), dtype=np.float32))
    assert not (values * scales).any()
    assert np.isfinite(scales).all()


@pytest.fixture
def plain(mini: Any, tmp_path: Path) -> Path:
    return transformer_onnx(mini, tmp_path / "plain.onnx")


def run_onnx(path: Path) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda inputs: session.run(None, inputs)[0]


def test_an_onnx_vector_does_not_depend_on_its_batch(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise, "_SMALLEST_TABLE", 1)  # the miniature's tables too
    model = onnx.load(str(plain))
    matrices = quantise_onnx(model)
    assert matrices == 2 * 6 + 3  # six products a layer; words, positions and types
    onnx.checker.check_model(model)
    save_onnx(model, tmp_path / "int8.onnx")
    assert (tmp_path / "int8.onnx").stat().st_size < plain.stat().st_size
    run = run_onnx(tmp_path / "int8.onnx")
    together = pooled(run, ROWS)
    alone = np.concatenate([pooled(run, [row]) for row in ROWS])
    assert np.abs(together - alone).max() < 1e-5
    exact = pooled(run_onnx(plain), ROWS)
    cosines = (together * exact).sum(1) / np.linalg.norm(together, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > 0.999
    assert np.abs(together - exact).max() > 1e-6, "something was rounded"


def test_onnx_activations_get_no_scale_of_the_batch(plain: Path) -> None:
    model = onnx.load(str(plain))
    quantise_onnx(model)
    kinds = [node.op_type for node in model.graph.node]
    assert "DynamicQuantizeLinear" not in kinds
    assert kinds.count("MatMulInteger") == 12
    largest = next(node for node in model.graph.node if node.op_type == "ReduceMax")
    assert {item.name: list(item.ints) for item in largest.attribute if item.name == "axes"} == {"axes": [-1]}
    assert all(not domain.domain for domain in model.opset_import), "standard operators only"


def test_a_graph_without_weights_is_refused() -> None:
    value = onnx.helper.make_tensor_value_info("x", 1, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Abs", ["x"], ["y"])], "g", [value], [value])
    with pytest.raises(ModelError, match="no weight matrices"):
        quantise_onnx(onnx.helper.make_model(graph))


def test_a_large_graph_has_its_weights_beside_it(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantise, "_ONE_FILE", 1000)
    save_onnx(onnx.load(str(plain)), tmp_path / "large.onnx")
    assert (tmp_path / "large.onnx_data").stat().st_size > 1000
    assert np.array_equal(run_onnx(tmp_path / "large.onnx")(feed(ROWS)), run_onnx(plain)(feed(ROWS)))


def run_openvino(model: Any, **settings: Any) -> Any:
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **settings})
    return lambda inputs: compiled(inputs)[0]


def test_an_openvino_vector_does_not_depend_on_its_batch(mini: Any, tmp_path: Path) -> None:
    exact = pooled(run_openvino(transformer_openvino(mini)), ROWS)
    model = transformer_openvino(mini)
    assert quantise_openvino(model) == 2 * 6
    openvino.save_model(model, str(tmp_path / "int8.xml"), compress_to_fp16=False)
    read = openvino.Core().read_model(str(tmp_path / "int8.xml"))
    weights = [item for item in read.get_ops() if item.get_type_name() == "Constant" and item.get_byte_size() > 900]
    kinds = {item.get_element_type().get_type_name() for item in weights if len(item.get_output_shape(0)) == 2}
    assert "i8" in kinds
    run = run_openvino(read)
    together = pooled(run, ROWS)
    alone = np.concatenate([pooled(run, [row]) for row in ROWS])
    assert np.abs(together - alone).max() < 1e-5
    cosines = (together * exact).sum(1) / np.linalg.norm(together, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > 0.999
    assert np.abs(together - exact).max() > 1e-6, "something was rounded"


def test_an_openvino_file_asks_for_no_rounding_of_activations(mini: Any, tmp_path: Path) -> None:
    model = transformer_openvino(mini)
    quantise_openvino(model)
    openvino.save_model(model, str(tmp_path / "int8.xml"))
    compiled = openvino.Core().compile_model(str(tmp_path / "int8.xml"), "CPU")
    assert compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE") == 0
