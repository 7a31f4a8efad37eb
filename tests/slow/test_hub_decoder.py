"""A decoder by its hub id, out of a hub cache that the test fills; offline, in a Python of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.small_decoder import write_decoder
from tests.slow.processes import offline_environment

pytestmark = pytest.mark.slow

REVISION = "0123456789abcdef0123456789abcdef01234567"
SCRIPT = """
import json, sys
from pathlib import Path
from m3e import load
from m3e.models.adapter import extract
from m3e.training.base import load_base
from m3e.training.recipe_parts import Base
folder = Path(sys.argv[1])
base = Base(model="acme/decoder", pooling="lasttoken", max_length=32)
found = load_base(base, folder / "base", "cpu")
tuned = load(folder / "base", device="cpu")
tuned[0].model.layers[0].mlp.down_proj.weight.data[:, 0] += 0.5
start = load("acme/decoder", device="cpu", pooling="lasttoken")
extract(tuned, start, folder / "a", base_name="acme/decoder", pooling="lasttoken", texts=["今天"])
back = load(folder / "a", device="cpu")
difference = abs(back.encode(["今天天气"]) - tuned.encode(["今天天气"])).max()
print(json.dumps([found.licence, found.commercial, tuned.tokenizer.padding_side, tuned.max_seq_length,
                  tuned[1].pooling_mode, float(difference)]))
"""


def test_a_hub_model_without_modules_takes_the_pooling_that_is_asked_for(tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "hub" / "models--acme--decoder"
    snapshot = write_decoder(cached / "snapshots" / REVISION)
    (snapshot / "README.md").write_text("---\nlicense: apache-2.0\n---\n# a decoder\n")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(REVISION)
    environment = offline_environment(HF_HOME=str(tmp_path / "hub"), M3E_CACHE=str(tmp_path / "cache"))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    licence, commercial, side, length, pooling, difference = json.loads(done.stdout.splitlines()[-1])
    assert (licence, commercial, side, length) == ("apache-2.0", "yes", "left", 32)
    assert pooling in ("lasttoken", ["lasttoken"])
    assert difference < 2e-3
