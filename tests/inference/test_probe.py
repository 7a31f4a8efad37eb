"""Which backend ``auto`` takes, and that it remembers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from m3e.errors import ModelError
from m3e.files import cache_folder
from m3e.inference import Encoder
from m3e.inference.backends import Vectors
from m3e.inference.backends import choice as choice_module
from m3e.inference.backends.modules import ModulesBackend
from m3e.inference.backends.probe import Probe


class Slowed:
    """The model's own vectors, late, or others."""

    packs = False
    token_budget = 100

    def __init__(self, model: SentenceTransformer, name: str, seconds: float, dtype: str = "fp32", turn: float = 0.0):
        self.name, self.dtype = name, dtype
        self._exact = ModulesBackend(model, "fp32")
        self._seconds, self._turn = seconds, turn

    def __call__(self, ids: Sequence[Sequence[int]], prompt: int = 0) -> Vectors:
        time.sleep(self._seconds)
        vectors = self._exact(ids, prompt)
        vectors[:, 0] += self._turn
        return vectors


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("M3E_CACHE", str(tmp_path / "cache"))
    return cache_folder()


def race(mini: SentenceTransformer, first: Slowed, *others: Slowed) -> tuple[str, str]:
    by_name = {other.name: other for other in others}
    found = Probe(mini).race(first, list(by_name), lambda name: by_name[name])
    return found.backend.name, found.how


def test_the_fastest_wins_by_a_margin(mini) -> None:
    first = Slowed(mini, "torch", 0.02)
    name, how = race(mini, first, Slowed(mini, "onnx", 0.002), Slowed(mini, "openvino", 0.03))
    assert name == "onnx"
    assert "torch" in how
    assert "openvino" in how


def test_a_graph_that_is_hardly_faster_loses(mini) -> None:
    assert race(mini, Slowed(mini, "torch", 0.02), Slowed(mini, "openvino", 0.02))[0] == "torch"


@pytest.mark.parametrize("wrong", [{"turn": 0.5}, {"dtype": "bf16"}])
def test_other_vectors_are_never_taken(mini, wrong: dict[str, Any]) -> None:
    name, how = race(mini, Slowed(mini, "torch", 0.02), Slowed(mini, "openvino", 0.0, **wrong))
    assert name == "torch"
    assert "openvino gives other vectors" in how


def test_a_backend_that_cannot_run_the_model_is_said(mini) -> None:
    def refuse(name: str) -> Any:
        raise ModelError("no graph")

    found = Probe(mini).race(Slowed(mini, "torch", 0.001), ["onnx"], refuse)
    assert found.backend.name == "torch"
    assert "onnx cannot run it" in found.how


def test_the_winner_is_remembered_for_the_models_shape(mini, cache: Path) -> None:
    race(mini, Slowed(mini, "torch", 0.02), Slowed(mini, "openvino", 0.001))
    assert len(list((cache / "probes").glob("*.json"))) == 1
    name, how = race(mini, Slowed(mini, "torch", 0.0), Slowed(mini, "openvino", 0.05))
    assert name == "openvino", "measured again"
    assert "measured before" in how
    mini[0].model.encoder.layer = mini[0].model.encoder.layer[:1]
    assert race(mini, Slowed(mini, "torch", 0.0), Slowed(mini, "openvino", 0.05))[0] == "torch", "another shape"


def test_a_damaged_record_is_measured_anew(mini, cache: Path) -> None:
    race(mini, Slowed(mini, "torch", 0.02), Slowed(mini, "openvino", 0.001))
    record = next((cache / "probes").glob("*.json"))
    record.write_text("{", encoding="utf-8")
    assert race(mini, Slowed(mini, "torch", 0.001), Slowed(mini, "openvino", 0.02))[0] == "torch"
    assert json.loads(record.read_text(encoding="utf-8"))["winner"] == "torch"


def test_bf16_that_changes_the_vectors_is_not_taken(mini, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice_module, "bf16_is_fast", lambda: True)
    encoder = Encoder(mini)
    assert (encoder.dtype, encoder.backend) == ("bf16", "torch")
    for layer in mini[0].model.encoder.layer:  # which token a token attends to hangs on the last digits
        layer.attention.self.query.weight.data *= 30
    encoder = Encoder(mini)
    assert encoder.dtype == "fp32"
    assert "cosine" in encoder.description


def test_auto_makes_no_graph_of_small_or_loaded_models(mini_folder, mini, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real: Callable[..., Any] = choice_module.make

    def note(model: Any, backend: str, dtype: str) -> Any:
        made.append(backend)
        return real(model, backend, dtype)

    monkeypatch.setattr(choice_module, "make", note)
    assert Encoder(mini_folder, device="cpu").backend == "torch"
    assert Encoder("m3e-tiny", device="cpu", backend="torch").backend == "torch"
    assert set(made) == {"torch"}


def test_settings_say_all_that_decides_the_bytes(mini) -> None:
    first = Encoder(mini, dtype="fp32").settings()
    json.dumps(first, allow_nan=False)
    assert Encoder(mini, dtype="fp32").settings() == first
    assert Encoder(mini, dtype="bf16").settings() != first
    assert Encoder(mini, dtype="fp32", dim=8).settings() != first
    mini.max_seq_length = 5
    assert Encoder(mini, dtype="fp32").settings() != first
    mini.max_seq_length = 64
    mini[0].model.embeddings.word_embeddings.weight.data[5, 0] += 1
    assert Encoder(mini, dtype="fp32").settings()["model"] != first["model"]


def test_vectors_of_probed_texts_are_plain(mini) -> None:
    assert Probe(mini).cosine(ModulesBackend(mini, "fp32")) == pytest.approx(1.0, abs=1e-6)
    assert not Probe(mini).is_worth_it
    assert np.isfinite(Probe(mini).cosine(ModulesBackend(mini, "bf16")))
