"""The public names: what users may rely on."""

from __future__ import annotations

import importlib

import pytest

import m3e


def test_the_surface_of_the_package() -> None:
    assert sorted(m3e.__all__) == ["Encoder", "FineTuner", "__version__", "errors", "evaluate", "load", "records"]
    for name in m3e.__all__:
        assert getattr(m3e, name) is not None
    assert dir(m3e) == m3e.__all__


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("m3e.records", {"Pair", "Triplet", "ScoredPair", "Ranked", "Kind"}),
        ("m3e.training", {"FineTuner", "FineTuneOptions", "LoraTraining", "BitFitTraining", "PrefixTraining"}),
        ("m3e.inference", {"Encoder"}),
        ("m3e.models", {"load"}),
        ("m3e.retrieval", {"index_file", "open_store", "search"}),
        ("m3e.evaluation", {"evaluate"}),
        ("m3e.mining", {"mine", "score", "MiningOptions", "ScoringOptions", "EmbeddingOptions"}),
        ("uniem", {"FineTuner", "Uniem"}),
        ("uniem.finetuner", {"FineTuner"}),
        ("uniem.training_strategy", {"BitFitTraining", "FullParametersTraining", "PrefixTraining"}),
    ],
)
def test_names_of_modules(module: str, names: set[str]) -> None:
    loaded = importlib.import_module(module)
    assert all(getattr(loaded, name) is not None for name in names)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        m3e.nonsense  # noqa: B018
