"""The snippets of the M3E model card, as they stand there, each in a Python of its own and twice in one folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import pair_rows
from tests.slow.processes import offline_environment, read_in

pytestmark = pytest.mark.slow

# the card loads 'shibing624/nli_zh', 'STS-B' from a hub and names 'moka-ai/m3e-small'; only these two differ here
CARD = """\
from datasets import load_dataset

from uniem.finetuner import FineTuner

dataset = load_dataset('json', data_files={files})
# 指定训练的模型为 m3e-small
finetuner = {call}({model!r}, dataset=dataset)
finetuner.run(epochs=1)
"""
CALLS = ["FineTuner.from_pretrained", "FineTuner"]
OLD_SPELLINGS = """\
from uniem.finetuner import FineTuner
from uniem.training_strategy import BitFitTrainging

rows = [{{'text': text, 'text_pos': text + '公园'}} for text in '今天 天气 退货 快递 发票 会员 积分 猫狗'.split()]
finetuner = FineTuner.from_pretrained({model!r}, dataset=rows, model_type='uniem')
finetuner.run(epochs=1, training_strategy=BitFitTrainging(), lr=1e-3, ouptut_dir='elsewhere')
"""


@pytest.fixture(scope="module")
def sts_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Train, validation and test rows of STS-B's form."""
    folder = tmp_path_factory.mktemp("sts")
    pairs = pair_rows(160)
    rows = [
        {"sentence1": row["text"], "sentence2": pairs[(at * 3) % 160]["text_pos"], "label": at % 6}
        for at, row in enumerate(pairs)
    ]
    parts = {"train": rows[:120], "validation": rows[120:150], "test": rows[150:]}
    for name, part in parts.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(text, "utf-8")
    return {name: str(folder / f"{name}.jsonl") for name in parts}


def run_snippet(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code as a script in ``folder``."""
    script = folder / "snippet.py"
    script.write_text(code, "utf-8")
    environment = offline_environment(HF_HOME=str(folder / "hf"))
    return subprocess.run(
        [sys.executable, script.name], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("call", CALLS)
def test_the_cards_snippet_runs_twice(
    call: str, sts_files: dict[str, str], mini_model: Path, tmp_path: Path
) -> None:
    code = CARD.format(files=sts_files, call=call, model=str(mini_model))
    (tmp_path / "texts.json").write_text(json.dumps(["今天天气很好", "退货怎么办"]), "utf-8")
    vectors = []
    for _ in range(2):
        done = run_snippet(code, tmp_path)
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        assert "scored_pair: 120 rows kept" in done.stdout
        read_in(sys.executable, tmp_path / "finetuned-model" / "model", tmp_path / "texts.json", tmp_path / "out.npz")
        vectors.append(np.load(tmp_path / "out.npz")["plain"])
    assert np.array_equal(*vectors), "the same rows and the same seed give the same model"
    assert np.allclose(np.linalg.norm(vectors[0], axis=1), 1, atol=1e-5)


def test_old_spellings_run_and_a_script_sees_the_warnings(mini_model: Path, tmp_path: Path) -> None:
    done = run_snippet(OLD_SPELLINGS.format(model=str(mini_model)), tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("BitFitTrainging is now spelt", "ouptut_dir is now spelt", "model_type is not used"):
        assert part in done.stderr
    assert (tmp_path / "elsewhere" / "model" / "modules.json").exists()
