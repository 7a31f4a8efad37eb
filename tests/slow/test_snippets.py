"""The snippets of the M3E model card, as they stand there, each in a Python of its own and twice in one folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import pair_rows
from tests.slow.processes import offline_environment, read_in

pytestmark = pytest.mark.slow

# word for word; the folders shibing624/nli_zh and moka-ai/m3e-small in the working folder stand for the hub's
CARD = """\
from datasets import load_dataset

from uniem.finetuner import FineTuner

dataset = load_dataset('shibing624/nli_zh', 'STS-B')
# 指定训练的模型为 m3e-small
finetuner = FineTuner.from_pretrained('moka-ai/m3e-small', dataset=dataset)
finetuner.run(epochs=1)
"""
OLDER_CARD = CARD.replace("FineTuner.from_pretrained(", "FineTuner(")  # of uniem 0.2
DATASET_CARD = """\
---
configs:
- config_name: STS-B
  data_files:
  - {split: train, path: STS-B/train.jsonl}
  - {split: validation, path: STS-B/validation.jsonl}
  - {split: test, path: STS-B/test.jsonl}
---
"""
OLD_SPELLINGS = """\
from uniem.finetuner import FineTuner
from uniem.training_strategy import BitFitTrainging

rows = [{{'text': text, 'text_pos': text + '公园'}} for text in '今天 天气 退货 快递 发票 会员 积分 猫狗'.split()]
finetuner = FineTuner.from_pretrained({model!r}, dataset=rows, model_type='uniem')
finetuner.run(epochs=1, training_strategy=BitFitTrainging(), lr=1e-3, ouptut_dir='elsewhere')
"""


@pytest.fixture
def hub_folder(mini_model: Path, tmp_path: Path) -> Path:
    """A working folder in which the card's two hub names are folders: rows of STS-B's form, a miniature model."""
    shutil.copytree(mini_model, tmp_path / "moka-ai" / "m3e-small")
    folder = tmp_path / "shibing624" / "nli_zh"
    (folder / "STS-B").mkdir(parents=True)
    (folder / "README.md").write_text(DATASET_CARD, "utf-8")
    pairs = pair_rows(160)
    rows = [
        {"sentence1": row["text"], "sentence2": pairs[(at * 3) % 160]["text_pos"], "label": at % 6}
        for at, row in enumerate(pairs)
    ]
    for name, part in {"train": rows[:120], "validation": rows[120:150], "test": rows[150:]}.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (folder / "STS-B" / f"{name}.jsonl").write_text(text, "utf-8")
    return tmp_path


def run_snippet(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code as a script in ``folder``."""
    script = folder / "snippet.py"
    script.write_text(code, "utf-8")
    environment = offline_environment(HF_HOME=str(folder / "hf"))
    return subprocess.run(
        [sys.executable, script.name], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("code", [CARD, OLDER_CARD], ids=["from_pretrained", "constructor"])
def test_the_cards_snippet_runs_twice(code: str, hub_folder: Path) -> None:
    texts = hub_folder / "texts.json"
    texts.write_text(json.dumps(["今天天气很好", "退货怎么办"]), "utf-8")
    vectors = []
    for _ in range(2):
        done = run_snippet(code, hub_folder)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        assert "scored_pair: 120 rows kept" in done.stdout
        read_in(sys.executable, hub_folder / "finetuned-model" / "model", texts, hub_folder / "out.npz")
        vectors.append(np.load(hub_folder / "out.npz")["plain"])
    assert np.array_equal(*vectors), "the same rows and the same seed give the same model"
    assert np.allclose(np.linalg.norm(vectors[0], axis=1), 1, atol=1e-5)


def test_old_spellings_run_and_a_script_sees_the_warnings(mini_model: Path, tmp_path: Path) -> None:
    done = run_snippet(OLD_SPELLINGS.format(model=str(mini_model)), tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("BitFitTrainging is now spelt", "ouptut_dir is now spelt", "model_type is not used"):
        assert part in done.stderr
    assert (tmp_path / "elsewhere" / "model" / "modules.json").exists()
