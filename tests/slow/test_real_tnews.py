"""On the real TNews files, the command's score is that of mteb called directly with a plain SentenceTransformer."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from m3e.catalogue.local import data_folder
from m3e.models.names import model_path
from tests.slow.processes import run_m3e

pytestmark = [pytest.mark.slow, pytest.mark.realdata]


def test_the_real_tnews_score_is_mtebs(tmp_path: Path) -> None:
    import mteb
    from datasets import Dataset, DatasetDict
    from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
    from sentence_transformers import SentenceTransformer

    folder = data_folder()
    if folder is None or not (folder / "tnews.dev.parquet").is_file():
        pytest.skip("M3E_DATA names no folder with tnews.train.parquet and tnews.dev.parquet")
    run_m3e("eval", "m3e-tiny", "--task", "TNews", "--data", folder, "--json", tmp_path / "f.json")
    ours = json.loads((tmp_path / "f.json").read_text("utf-8"))["results"][0]
    tables = {split: pq.read_table(folder / f"tnews.{split}.parquet").to_pydict() for split in ("train", "dev")}
    numbers = {label: number for number, label in enumerate(sorted(set(tables["train"]["label"])))}
    rows = {
        split: Dataset.from_dict({"text": table["text"], "label": [numbers[label] for label in table["label"]]})
        for split, table in tables.items()
    }
    task = mteb.get_task("TNews")
    task.dataset, task.data_loaded = DatasetDict({"train": rows["train"], "validation": rows["dev"]}), True
    wrapper = SentenceTransformerEncoderWrapper(SentenceTransformer(str(model_path("m3e-tiny")), device="cpu"))
    result = mteb.evaluate(wrapper, task, cache=None, co2_tracker=False, show_progress_bar=False)
    direct = result.task_results[0].scores["validation"][0]
    assert ours["split"] == "validation"
    assert ours["score"] == pytest.approx(direct["accuracy"], abs=1e-4)
    assert ours["scores"]["f1"] == pytest.approx(direct["f1"], abs=1e-4)
