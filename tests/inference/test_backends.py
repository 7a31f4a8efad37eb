"""Each backend gives the vectors of sentence-transformers, for every form of model that it takes."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding, Transformer
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel

import m3e
from m3e.errors import MissingExtraError, ModelError, SettingsError
from m3e.inference import Encoder
from m3e.inference.backends.lone import ends_in_unit_mean
from m3e.inference.backends.modules import ModulesBackend, pad
from m3e.inference.backends.packed import PackedBackend, can_pack
from m3e.inference.backends.static import StaticBackend
from m3e.inference.graph import graph_inputs, transformer_onnx, transformer_openvino
from tests.conftest import write_mini

TEXTS = ["今天天气很好" * repeat for repeat in (1, 9, 3, 30, 3)] + ["猫", "", "a cat, 123", " ", "怎么办退货" * 7]

needs_openvino = pytest.mark.skipif(not importlib.util.find_spec("openvino"), reason="openvino is not installed")
needs_onnx = pytest.mark.skipif(
    not (importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime")), reason="onnx is not installed"
)


def lowest_cosine(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(((ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)).min())


def with_encoder(mini: SentenceTransformer, encoder: torch.nn.Module, *after: Any) -> SentenceTransformer:
    """The miniature model with another encoder of random weights, and other modules after it."""
    for name, weight in encoder.named_parameters():
        torch.manual_seed(len(name))
        torch.nn.init.normal_(weight, mean=1.0 if "norm" in name.lower() and "weight" in name else 0.0, std=0.2)
    mini[0].model = encoder.eval()
    return SentenceTransformer(modules=[mini[0], *(after or (Pooling(32), Normalize()))], device="cpu")


SHAPE = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 80,
}
FORMS: dict[str, Callable[[], torch.nn.Module]] = {
    "bert": lambda: BertModel(BertConfig(**SHAPE, pad_token_id=0)),
    "bert without pooler": lambda: BertModel(BertConfig(**SHAPE, pad_token_id=0), add_pooling_layer=False),
    "bert with relu": lambda: BertModel(BertConfig(**SHAPE, hidden_act="relu")),
    "bert with silu": lambda: BertModel(BertConfig(**SHAPE, hidden_act="silu")),
    "bert with tanh's gelu": lambda: BertModel(BertConfig(**SHAPE, hidden_act="gelu_new")),
    "roberta": lambda: RobertaModel(RobertaConfig(**SHAPE, pad_token_id=0)),
    "roberta, padding 1": lambda: RobertaModel(RobertaConfig(**SHAPE, pad_token_id=1)),
}


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
@pytest.mark.parametrize("form", FORMS)
def test_packed_forms(mini, form: str, dtype: str) -> None:
    model = with_encoder(mini, FORMS[form]())
    assert can_pack(model)
    encoder = Encoder(model, dtype=dtype)
    assert isinstance(encoder._backend, PackedBackend)
    assert ends_in_unit_mean(list(model)[1:])
    expected = model.encode(TEXTS)
    for ours in (encoder.encode(TEXTS), np.concatenate([encoder.encode([text]) for text in TEXTS])):
        if dtype == "fp32":
            assert np.abs(ours - expected).max() < 1e-5
        else:
            assert lowest_cosine(ours, expected) > 0.999


def test_other_forms_take_the_models_own_modules(mini) -> None:
    config = DistilBertConfig(vocab_size=120, dim=32, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=80)
    model = with_encoder(mini, DistilBertModel(config))
    assert not can_pack(model)
    assert np.abs(Encoder(model, dtype="fp32").encode(TEXTS) - model.encode(TEXTS)).max() < 1e-5
    assert lowest_cosine(Encoder(model, dtype="bf16").encode(TEXTS), model.encode(TEXTS)) > 0.999


def test_layers_that_were_wrapped_are_not_packed(mini) -> None:
    class Wrapped(torch.nn.Linear):
        """As an adapter does: another product in a linear layer's place."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 1.5

    layer = mini[0].model.encoder.layer[0].intermediate
    layer.dense = Wrapped(32, 64)
    assert not can_pack(mini)
    assert np.abs(Encoder(mini, dtype="fp32").encode(TEXTS) - mini.encode(TEXTS)).max() < 1e-5


@pytest.mark.parametrize("include_prompt", [True, False])
@pytest.mark.parametrize("mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_poolings(mini_folder, mode: str, include_prompt: bool) -> None:
    modules = [Transformer(str(mini_folder)), Pooling(32, mode, include_prompt=include_prompt), Dense(32, 8)]
    model = SentenceTransformer(modules=modules, prompts={"query": "问订单"}, device="cpu")
    for prompt in (None, "query"):
        ours = Encoder(model, dtype="fp32").encode(TEXTS, prompt_name=prompt)
        assert np.abs(ours - model.encode(TEXTS, prompt_name=prompt)).max() < 1e-5, prompt


def test_several_poolings_at_once(mini_folder) -> None:
    modules = [Transformer(str(mini_folder)), Pooling(32, ("cls", "mean", "max"))]
    model = SentenceTransformer(modules=modules, device="cpu")
    assert np.abs(Encoder(model, dtype="fp32").encode(TEXTS) - model.encode(TEXTS)).max() < 1e-5


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_packed_vector_is_its_own(dtype: str) -> None:
    """Alone, in a batch, in another order, to another budget: the same bytes, or all but."""
    encoder = Encoder("m3e-tiny", backend="torch", dtype=dtype)
    texts = [text * repeat for repeat in (1, 2, 5, 17) for text in ("退货怎么办", "a cat sat on 12 mats, ", "好")]
    together = encoder.encode(texts)
    alone = np.stack([encoder.encode([text])[0] for text in texts])
    reordered = encoder.encode(texts[::-1])[::-1]
    small = Encoder(encoder.model, backend="torch", dtype=dtype, token_budget=64).encode(texts)
    for other in (alone, reordered, small):
        assert lowest_cosine(together, other) > (0.999999 if dtype == "fp32" else 0.9999)


def test_texts_without_tokens_have_vectors_of_their_own(mini) -> None:
    """A tokenizer without special tokens makes nothing of an empty text."""
    mini.tokenizer.backend_tokenizer.post_processor = None
    for mode in ("cls", "mean", "lasttoken"):
        model = SentenceTransformer(modules=[mini[0], Pooling(32, mode)], device="cpu")
        alone = Encoder(model, dtype="fp32").encode([""])
        among = Encoder(model, dtype="fp32").encode(["猫狗树", "", "今天"])
        assert np.isfinite(among).all()
        assert np.abs(among[1] - alone[0]).max() < 1e-6, mode
    assert Encoder(model, dtype="fp32").encode(["", ""]).shape == (2, 32)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_texts_in_any_order(mini, dtype: str) -> None:
    """The encoder sorts by length; a backend has to be right without."""
    tokens = Encoder(mini, dtype="fp32").tokenise(TEXTS)
    ids = [tokens.ids[0], [], *tokens.ids[1:5], [], [], *tokens.ids[5:], []]
    backend = PackedBackend(mini, dtype)
    found = backend(ids)
    for text, vector in zip(ids, found, strict=True):
        assert np.abs(backend([text])[0] - vector).max() < (1e-6 if dtype == "fp32" else 1e-2)
    full = [index for index, text in enumerate(ids) if text]
    assert lowest_cosine(found[full], mini.encode(TEXTS)) > 0.999


def test_a_padding_token_inside_a_text(mini) -> None:
    """RoBERTa gives no position to a token with the padding's id, wherever it stands."""
    model = with_encoder(mini, FORMS["roberta"]())
    ids = [[2, 30, 0, 31, 3], [2, 32, 3]]
    padded, mask = pad(ids, 0)
    features = {"input_ids": torch.from_numpy(padded), "attention_mask": torch.from_numpy(mask)}
    with torch.inference_mode():
        expected = model(features)["sentence_embedding"].numpy()
    backend = PackedBackend(model, "fp32")
    assert np.abs(backend(ids) - expected).max() < 1e-5
    assert np.abs(backend(ids[:1]) - expected[:1]).max() < 1e-5


@needs_openvino
@pytest.mark.parametrize("prompt_name", [None, "query"])
def test_openvino(mini, prompt_name: str | None) -> None:
    encoder = Encoder(mini, backend="openvino", dtype="fp32")
    alone = np.concatenate([encoder.encode([text], prompt_name=prompt_name) for text in TEXTS])
    assert np.abs(alone - mini.encode(TEXTS, prompt_name=prompt_name)).max() < 1e-4
    assert (encoder.backend, encoder.dtype) == ("openvino", "fp32")
    ours = encoder.encode(TEXTS, prompt_name=prompt_name)
    assert np.abs(ours - mini.encode(TEXTS, prompt_name=prompt_name)).max() < 1e-5


@needs_onnx
@pytest.mark.parametrize("prompt_name", [None, "query"])
def test_onnx(mini, prompt_name: str | None) -> None:
    encoder = Encoder(mini, backend="onnx")
    assert (encoder.backend, encoder.dtype) == ("onnx", "fp32")
    ours = encoder.encode(TEXTS, prompt_name=prompt_name)
    assert np.abs(ours - mini.encode(TEXTS, prompt_name=prompt_name)).max() < 1e-5


@needs_onnx
def test_a_graph_asks_for_what_the_tokenizer_returns(mini, tmp_path: Path) -> None:
    import onnxruntime

    transformer_onnx(mini, tmp_path / "plain.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "plain.onnx"))
    assert [port.name for port in session.get_inputs()] == ["input_ids", "attention_mask"]
    mini.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    assert graph_inputs(mini) == ["input_ids", "token_type_ids", "attention_mask"]
    transformer_onnx(mini, tmp_path / "typed.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "typed.onnx"))
    assert [port.name for port in session.get_inputs()] == graph_inputs(mini)
    for shape in ((1, 3), (5, 41)):
        inputs = {name: np.ones(shape, dtype=np.int64) for name in graph_inputs(mini)}
        assert session.run(None, inputs)[0].shape == (*shape, 32)


@needs_openvino
def test_a_graph_leaves_the_model_as_it_was(mini) -> None:
    before = mini[0].model.config._attn_implementation
    graph = transformer_openvino(mini)
    assert [port.any_name for port in graph.inputs] == ["input_ids", "attention_mask"]
    assert mini[0].model.config._attn_implementation == before


def test_what_has_no_graph_is_refused(mini) -> None:
    static = SentenceTransformer(modules=[StaticEmbedding(mini.tokenizer, embedding_dim=8)], device="cpu")
    with pytest.raises(ModelError, match="StaticEmbedding"):
        graph_inputs(static)
    with pytest.raises(SettingsError, match="openvino"):
        Encoder(static, backend="openvino")
    with pytest.raises(SettingsError, match="m3e export"):
        Encoder(mini, backend="static")
    with pytest.raises(SettingsError, match="--quantize int8"):
        Encoder(mini, dtype="int8")
    with pytest.raises(SettingsError, match="bf16"):
        Encoder(mini, backend="onnx", dtype="bf16")


@pytest.mark.parametrize(("backend", "extra"), [("openvino", "openvino"), ("onnx", "onnx")])
def test_a_library_that_is_missing_is_named(mini, monkeypatch, backend: str, extra: str) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=rf"m3e\[{extra}\]"):
        Encoder(mini, backend=backend)


@pytest.mark.parametrize("after", [[], [Normalize()], [Dense(8, 4), Normalize()]])
def test_static_lookup(mini, after: list[Any]) -> None:
    modules = [StaticEmbedding(mini.tokenizer, embedding_dim=8), *after]
    model = SentenceTransformer(modules=modules, device="cpu")
    encoder = Encoder(model)
    assert isinstance(encoder._backend, StaticBackend)
    expected = model.encode(TEXTS)
    assert np.abs(encoder.encode(TEXTS) - expected).max() < 1e-6
    for text, vector in zip(TEXTS, expected, strict=True):
        assert np.abs(encoder.encode([text])[0] - vector).max() < 1e-6
    assert np.isfinite(encoder.encode(["", ""])).all()


class TestExportedFolders:
    """What ``m3e export`` leaves: a model folder, a graph in it, and a file that says so."""

    @pytest.fixture
    def folder(self, tmp_path: Path, mini: SentenceTransformer) -> Path:
        root = write_mini_into(tmp_path / "exported")
        (root / "onnx").mkdir()
        transformer_onnx(mini, root / "onnx" / "model.onnx")
        facts = {"format": "onnx", "file": "onnx/model.onnx", "quantised": None}
        (root / "m3e_export.json").write_text(json.dumps(facts), encoding="utf-8")
        return root

    @needs_onnx
    def test_their_backend_is_the_default(self, folder: Path, mini: SentenceTransformer) -> None:
        encoder = Encoder(folder, device="cpu")
        assert encoder.backend == "onnx"
        assert "m3e export" in encoder.description
        assert np.abs(encoder.encode(TEXTS) - mini.encode(TEXTS)).max() < 1e-5

    @needs_onnx
    def test_the_weights_are_still_there(self, folder: Path, mini: SentenceTransformer) -> None:
        encoder = Encoder(folder, backend="torch", dtype="fp32", device="cpu")
        assert encoder.backend == "torch"
        assert np.abs(encoder.encode(TEXTS) - mini.encode(TEXTS)).max() < 1e-5

    @needs_onnx
    def test_a_graph_that_is_missing_is_named(self, folder: Path) -> None:
        (folder / "onnx" / "model.onnx").unlink()
        with pytest.raises(ModelError, match=r"model\.onnx"):
            Encoder(folder)

    @needs_onnx
    def test_a_graph_that_is_damaged_is_named(self, folder: Path) -> None:
        (folder / "onnx" / "model.onnx").write_bytes(b"not a graph")
        with pytest.raises(ModelError, match=r"model\.onnx"):
            Encoder(folder)


def write_mini_into(folder: Path) -> Path:
    folder.mkdir()
    return write_mini(folder, prompts={"query": "问", "document": "答"})


def test_weights_in_bf16_are_computed_in_fp32_where_that_is_asked_for(mini) -> None:
    mini.to(torch.bfloat16)
    ids = Encoder(mini, dtype="fp32").tokenise(TEXTS).ids
    exact = mini.to(torch.float32).encode(TEXTS)  # the rounded weights, in fp32
    mini.to(torch.bfloat16)
    for made in (PackedBackend, ModulesBackend):
        assert np.abs(made(mini, "fp32")(ids) - exact).max() < 1e-5, made


def test_the_bundled_models(tmp_path: Path) -> None:
    for name in ("m3e-tiny", "m3e-static"):
        model = m3e.load(name, device="cpu")
        assert np.abs(Encoder(model, dtype="fp32").encode(TEXTS) - model.encode(TEXTS)).max() < 1e-5, name
