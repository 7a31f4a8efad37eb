"""Clients as they are, each in an environment of its own without m3e: by our folder and by our server.

The 2023 card names guidance too; its current release takes no embedding model, so there is nothing to try.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e import Encoder
from tests.slow.processes import environment_of, our_torch, run_m3e
from tests.slow.served import served

pytestmark = pytest.mark.slow

KEY = "k-client-123"
DOCUMENTS = [f"第{number}号仓库存放的是{'纸箱木板油漆螺丝'[number % 4 * 2 :][:2]}" for number in range(120)]
DOCUMENTS += ["How do I return an order?", "长" * 700, "🙂 emoji 与 ＡＢＣ", " "]
QUERIES = ["油漆放在哪里", "Where are the screws?"]
CLIENTS = {
    "openai": ("openai",),
    "langchain": ("langchain-openai", "langchain-huggingface[full]", our_torch()),
    "llama_index": ("llama-index-embeddings-openai-like", "llama-index-embeddings-huggingface", our_torch()),
    "chroma": ("chromadb", "sentence-transformers", "openai", our_torch()),
    "semantic_kernel": ("semantic-kernel[hugging-face]",),
}
IGNORE_PROMPTS = ("chroma", "semantic_kernel")
"""By folder, these encode every text without a prompt, queries too."""


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory, mini_model: Path) -> Iterator[list[dict[str, Any]]]:
    """A model without prompts and one with them, each as a folder and behind a server that wants a key."""
    folder = Path(run_m3e("models", "path", "m3e-tiny").stdout.strip().splitlines()[-1])
    models = [("m3e-tiny", "m3e-tiny", folder, {}), (mini_model, "mini", mini_model, {"query": "问", "document": "答"})]
    with ExitStack() as servers:
        made = []
        for model, name, path, prompts in models:
            log = tmp_path_factory.mktemp("serve") / "log"
            arguments = [model, "--dtype", "fp32", "--api-key", KEY]
            arguments += [] if name == model else ["--alias", name]
            address = servers.enter_context(served(log, *arguments))
            made.append({"name": name, "folder": str(path), "base_url": f"{address}/v1", "prompts": prompts})
        yield made


@pytest.fixture(scope="module")
def use(
    targets: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, dict[str, Any]]]:
    """``use(client)``: what the client gave, for each target."""

    def run(client: str) -> dict[str, dict[str, Any]]:
        try:
            python = environment_of(CLIENTS[client], seconds=1200)
        except AssertionError as error:
            pytest.skip(f"{', '.join(CLIENTS[client])} cannot be installed here: {str(error).strip()[-300:]}")
        folder = tmp_path_factory.mktemp(client)
        settings = {"documents": DOCUMENTS, "queries": QUERIES, "key": KEY, "targets": targets}
        (folder / "settings.json").write_text(json.dumps(settings), "utf-8")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
        environment.pop("PYTHONPATH", None)
        environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment |= {"ANONYMIZED_TELEMETRY": "False"}
        script = Path(__file__).with_name("clients.py")
        done = subprocess.run(
            [str(python), str(script), client, str(folder / "settings.json"), str(folder / "out.json")],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads((folder / "out.json").read_text("utf-8")))

    return run


def assert_same(given: dict[str, Any], documents: Any, queries: Any) -> None:
    for shown, wanted in ((given["documents"], documents), (given["queries"], queries)):
        vectors = np.array(shown)
        assert vectors.shape == wanted.shape
        cosines = (vectors * wanted).sum(axis=1) / np.linalg.norm(vectors, axis=1)
        assert cosines.min() >= 0.9999


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_get_the_encoders_vectors(
    client: str, use: Callable[[str], dict[str, dict[str, Any]]], targets: list[dict[str, Any]]
) -> None:
    given = use(client)
    for target in targets:
        encoder = Encoder(target["folder"], dtype="fp32", device="cpu")
        documents, queries = encoder.encode_document(DOCUMENTS), encoder.encode_query(QUERIES)
        answer = given[target["name"]]
        assert_same(answer["server"], documents, queries)
        if "floats" in answer:
            assert_same(answer["floats"], documents, queries)
        if "folder" in answer:
            plain = client in IGNORE_PROMPTS
            assert_same(
                answer["folder"],
                encoder.encode(DOCUMENTS) if plain else documents,
                encoder.encode(QUERIES) if plain else queries,
            )
        if "found" in answer:
            assert answer["found"] == DOCUMENTS[3]
        if target["prompts"]:
            same = (encoder.encode_document(QUERIES) * queries).sum(axis=1)
            assert same.max() < 0.999, "queries and passages differ, so that a swap would be seen"


def test_openai_understands_our_lists_and_refusals(
    use: Callable[[str], dict[str, dict[str, Any]]], targets: list[dict[str, Any]]
) -> None:
    for name, answer in use("openai").items():
        assert {name, f"{name}:query"} <= set(answer["models"])
        assert answer["model"] == name
        tokens, total = answer["usage"]
        assert tokens == total > len(DOCUMENTS)
        empty, unknown, unlocked = answer["refusals"]
        assert empty[:2] == ["BadRequestError", 400]
        assert "1" in empty[2]
        assert unknown[:2] == ["NotFoundError", 404]
        assert name in unknown[2]
        assert unlocked[:2] == ["AuthenticationError", 401]
        assert "wrong" not in unlocked[2]
        assert KEY not in unlocked[2]
