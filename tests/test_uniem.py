"""The shim: code written for uniem 0.2 and 0.3 runs on m3e, its old spellings with a warning at the caller's line."""

from __future__ import annotations

import warnings
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer

from m3e import load
from m3e.errors import DataError
from m3e.training.finetuner import FineTuner as M3EFineTuner
from m3e.training.options import FineTuneOptions
from tests.conftest import pair_rows
from uniem import FineTuner, Uniem
from uniem.training_strategy import BitFitTraining, FullParametersTraining, PrefixTraining

TEXTS = ["今天天气很好", "退货怎么办", "猫狗", "a cat"]
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 16, "mixed_precision": "no"}


def sts_rows(count: int) -> list[dict[str, Any]]:
    rows = pair_rows(count)
    return [
        {"sentence1": row["text"], "sentence2": rows[(at * 3) % count]["text_pos"], "label": at % 6}
        for at, row in enumerate(rows)
    ]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def caught_options(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What reaches m3e's own run, which does not train here."""
    caught: dict[str, Any] = {}

    def run(self: Any, output_dir: Any, **settings: Any) -> None:
        names = {"model_subfolder", "epoch_end"}
        FineTuneOptions(**{name: value for name, value in settings.items() if name not in names})
        caught.update(settings, output_dir=output_dir)

    monkeypatch.setattr(M3EFineTuner, "run", run)
    return caught


@pytest.mark.parametrize("form", ["from_pretrained", "constructor", "constructor of 0.3"])
def test_every_form_of_the_constructor_trains(form: str, mini_folder: Path) -> None:
    splits = {
        name: Dataset.from_list(sts_rows(size)) for name, size in (("train", 48), ("validation", 16), ("test", 8))
    }
    dataset = DatasetDict(splits)
    if form == "from_pretrained":
        finetuner = FineTuner.from_pretrained(str(mini_folder), dataset=dataset)
    elif form == "constructor":
        finetuner = FineTuner(str(mini_folder), dataset=dataset)
    else:
        model = load(mini_folder, device="cpu")
        with pytest.warns(DeprecationWarning, match="tokenizer is not used"):
            finetuner = FineTuner(model, model.tokenizer, dataset)
    model = finetuner.run(**QUICK)
    assert finetuner.report.kind == "scored_pair"
    assert finetuner.report.rows == 48, "test rows are not trained on"
    again = SentenceTransformer("finetuned-model/model", device="cpu")
    assert np.abs(again.encode(TEXTS) - model.encode(TEXTS)).max() < 1e-5


def test_the_same_folder_is_written_twice(mini_folder: Path) -> None:
    for _ in range(2):
        FineTuner.from_pretrained(str(mini_folder), dataset=pair_rows(24)).run(**QUICK)
    assert {path.name for path in Path("finetuned-model").iterdir()} == {"model", "m3e.json"}


def test_parameters_reach_m3e_by_their_new_names(mini_folder: Path, caught_options: dict[str, Any]) -> None:
    def note(trainer: Any) -> None: ...

    FineTuner.from_pretrained(str(mini_folder), dataset=pair_rows(24)).run(
        temperature=0.01,
        training_strategy=FullParametersTraining(),
        lr=3e-5,
        weight_decay=0.002,
        num_warmup_steps=0.05,
        batch_size=12,
        max_length=20,
        drop_last=True,
        shuffle=False,
        num_workers=1,
        mixed_precision="no",
        gradient_accumulation_steps=2,
        epochs=4,
        num_max_checkpoints=3,
        log_with=None,
        seed=7,
        epoch_end_callbacks=[note],
        output_dir="elsewhere",
    )
    assert caught_options == {
        "temperature": 0.01,
        "strategy": FullParametersTraining(),
        "lr": 3e-5,
        "weight_decay": 0.002,
        "warmup": 0.05,
        "schedule": "cosine",
        "batch_size": 12,
        "max_length": 20,
        "drop_last": True,
        "shuffle": False,
        "num_workers": 1,
        "precision": "fp32",
        "gradient_accumulation_steps": 2,
        "epochs": 4,
        "keep_checkpoints": 3,
        "log_with": (),
        "seed": 7,
        "epoch_end": [note],
        "output_dir": "elsewhere",
        "model_subfolder": "model",
    }


class MixedPrecisionType(str, Enum):  # noqa: UP042  # uniem's own bases
    """As in uniem.types."""

    fp16 = "fp16"
    bf16 = "bf16"
    no = "no"


@pytest.mark.parametrize(
    ("given", "option", "value"),
    [
        ({"mixed_precision": MixedPrecisionType.no}, "precision", "fp32"),
        ({"mixed_precision": MixedPrecisionType.bf16}, "precision", "bf16"),
        ({"mixed_precision": "bf16"}, "precision", "bf16"),
        ({"log_with": "tensorboard"}, "log_with", ("tensorboard",)),
        ({"log_with": ["wandb"]}, "log_with", ("wandb",)),
        ({"num_warmup_steps": 100}, "warmup", 100),
        ({"seed": None}, "seed", 42),
        ({}, "temperature", 0.05),
        ({}, "weight_decay", 1e-3),
        ({}, "epochs", 3),
        ({}, "output_dir", "finetuned-model"),
    ],
)
def test_values_of_uniem_are_understood(
    given: dict[str, Any], option: str, value: Any, mini_folder: Path, caught_options: dict[str, Any]
) -> None:
    FineTuner.from_pretrained(str(mini_folder), dataset=pair_rows(24)).run(**given)
    assert caught_options[option] == value


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"accelerator_kwargs": {"cpu": True}}, "accelerator_kwargs is not used"),
        ({"save_on_epoch_end": True}, "save_on_epoch_end is not used"),
        ({"ouptut_dir": "elsewhere"}, "ouptut_dir is now spelt output_dir"),
    ],
)
def test_what_is_old_is_said_at_the_callers_line(
    given: dict[str, Any], message: str, mini_folder: Path, caught_options: dict[str, Any]
) -> None:
    finetuner = FineTuner.from_pretrained(str(mini_folder), dataset=pair_rows(24))
    with pytest.warns(DeprecationWarning, match=message) as caught:
        finetuner.run(**given)
    assert [item.filename for item in caught] == [__file__]
    assert caught_options["output_dir"] == given.get("ouptut_dir", "finetuned-model")


@pytest.mark.parametrize("form", ["constructor", "from_pretrained"])
def test_the_model_type_is_said_to_be_unused_at_the_callers_line(form: str, mini_folder: Path) -> None:
    make = FineTuner if form == "constructor" else FineTuner.from_pretrained
    with pytest.warns(DeprecationWarning, match="model_type is not used") as caught:
        make(str(mini_folder), dataset=pair_rows(24), model_type="uniem")
    assert [item.filename for item in caught] == [__file__]


def test_a_misspelt_parameter_is_refused(mini_folder: Path) -> None:
    with pytest.raises(TypeError, match="epoch_count"):
        FineTuner.from_pretrained(str(mini_folder), dataset=pair_rows(24)).run(epoch_count=2)


def test_the_kind_of_records_may_be_named(mini_folder: Path) -> None:
    with pytest.raises(DataError, match="triplet"):
        FineTuner.from_pretrained(str(mini_folder), dataset=pair_rows(24), record_type="triplet")


def test_callbacks_get_the_trainer_after_each_epoch(mini_folder: Path) -> None:
    seen: list[tuple[float, str]] = []
    FineTuner.from_pretrained(str(mini_folder), dataset=pair_rows(40)).run(
        **{**QUICK, "epochs": 3},
        epoch_end_callbacks=[lambda trainer: seen.append((trainer.state.epoch, type(trainer.model).__name__))],
    )
    assert seen == [(1.0, "SentenceTransformer"), (2.0, "SentenceTransformer"), (3.0, "SentenceTransformer")]


def test_bitfit_trains_biases_and_its_old_name_warns(mini_folder: Path) -> None:
    with pytest.warns(DeprecationWarning, match="BitFitTrainging is now spelt BitFitTraining") as caught:
        from uniem.training_strategy import BitFitTrainging
    assert [item.filename for item in caught] == [__file__]
    assert BitFitTrainging is BitFitTraining
    start = dict(load(mini_folder).named_parameters())
    model = FineTuner.from_pretrained(str(mini_folder), dataset=pair_rows(120)).run(
        **{**QUICK, "epochs": 5}, training_strategy=BitFitTrainging(keywords="bias"), lr=0.01
    )
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, start[name])}
    assert changed
    assert all("bias" in name for name in changed)


def test_prefix_tokens_are_saved_with_the_model(mini_folder: Path) -> None:
    FineTuner.from_pretrained(str(mini_folder), dataset=pair_rows(24)).run(
        **QUICK, training_strategy=PrefixTraining(["[faq]"], prefix="[faq]")
    )
    model = SentenceTransformer("finetuned-model/model", device="cpu")
    assert model.prompts["query"].startswith("[faq]")
    assert model.tokenizer.tokenize("[faq]今天")[0] == "[faq]"


def test_the_inference_class_gives_the_models_vectors(mini_folder: Path) -> None:
    model = Uniem.from_pretrained(str(mini_folder))
    expected = load(mini_folder, device="cpu").encode(TEXTS)
    vectors = model.encode(TEXTS, batch_size=2, progress_bar=False)
    assert isinstance(vectors, list)
    assert ((np.stack(vectors) * expected).sum(axis=1) > 0.9995).all()  # bf16 where the processor has it
    assert model.encode_single(TEXTS[0]) @ expected[0] > 0.9995


def test_the_plain_path_warns_of_nothing(mini_folder: Path, caught_options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        FineTuner.from_pretrained(str(mini_folder), dataset=pair_rows(24)).run(epochs=1)
    assert caught_options["epochs"] == 1
