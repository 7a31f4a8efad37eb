"""What the slow tests share: an old stack, miniature models, a browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import pair_rows, write_mini
from tests.slow.processes import OLD_STACK, environment_of, our_torch

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's chromium, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="wants playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("wants a browser: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def old_python() -> Path:
    """A Python with sentence-transformers 5.1 and transformers 4.57, the oldest that our folders promise to load in."""
    return environment_of([*OLD_STACK, our_torch()])


@pytest.fixture(scope="session")
def mini_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A miniature model folder with prompts."""
    return write_mini(tmp_path_factory.mktemp("slow-mini"), prompts={"query": "问", "document": "答"})


@pytest.fixture(scope="session")
def pair_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 question and answer pairs as JSON lines."""
    path = tmp_path_factory.mktemp("slow-data") / "pairs.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in pair_rows(400)), "utf-8")
    return path
