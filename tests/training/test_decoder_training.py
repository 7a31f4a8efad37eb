"""A Qwen3 in miniature trained by LoRA on planned batches: left padding, every text closed, saved and loaded again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments

from m3e import load
from m3e.models.adapter import extract
from m3e.models.folder import save
from m3e.records import Pair, Record
from m3e.training.base import load_base
from m3e.training.batches import PlanOptions, plan_batches
from m3e.training.cached_loss import CachedTextLoss
from m3e.training.flops import model_flops
from m3e.training.losses import InBatchSoftmaxLoss
from m3e.training.planned_loader import PlannedBatches
from m3e.training.planned_trainer import PlannedTrainer
from m3e.training.recipe_parts import Base, Prompt
from m3e.training.sources import read_sources
from m3e.training.strategies import FullTraining, LoraTraining
from m3e.training.token_store import TokenStore
from m3e.training.tokenise import Tokenisation, build_token_store
from tests.conftest import pair_rows
from tests.models.small_decoder import END, TEXTS, write_decoder
from tests.training.prepared import write_prepared

INSTRUCTION = "Instruct: 找到回答\nQuery: "


@pytest.fixture
def base(tmp_path: Path) -> Path:
    plain = write_decoder(tmp_path / "plain")
    wanted = Base(model=str(plain), pooling="lasttoken", max_length=64, prompts=Prompt(query=INSTRUCTION))
    load_base(wanted, tmp_path / "base", "cpu")
    return tmp_path / "base"


def store_of(model: SentenceTransformer, folder: Path) -> TokenStore:
    rows: list[Record] = [Pair(**row) for row in pair_rows(60)]
    sources = read_sources(write_prepared(folder / "data", {"faq": rows}))
    return build_token_store(sources, Tokenisation.of(model, sources), folder / "tokens", workers=1)


def test_stored_texts_are_the_tokenizers_with_prompt_and_end(base: Path, tmp_path: Path) -> None:
    model = load(base, device="cpu")
    faq = store_of(model, tmp_path).sets[0]
    end = model.tokenizer.convert_tokens_to_ids(END)
    found = {tuple(faq.ids[first:last].tolist()) for first, last in zip(faq.starts, faq.starts[1:], strict=False)}
    row = pair_rows(60)[7]
    for text in (INSTRUCTION + row["text"], row["text_pos"]):
        ids = model.preprocess([text])["input_ids"][0].tolist()
        assert ids[-1] == end
        assert tuple(ids) in found
    assert all(ids[-1] == end for ids in found)
    assert max(map(len, found)) <= 64


@pytest.mark.parametrize("strategy", [LoraTraining(rank=4, alpha=8), FullTraining()], ids=["lora", "full"])
def test_it_learns_and_comes_back_with_equal_vectors(base: Path, tmp_path: Path, strategy: Any) -> None:
    torch.manual_seed(0)
    model = load(base, device="cpu")
    store = store_of(model, tmp_path)
    strategy.prepare(model)
    if strategy.name == "lora":
        names = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name, _ in model.named_parameters() if "lora_" in name}
        assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    plan = plan_batches(store.sets, PlanOptions(12, epochs=4))
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "out"),
        num_train_epochs=1,
        learning_rate=5e-3,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
    )
    loss = CachedTextLoss(model, InBatchSoftmaxLoss(model, 0.05), token_budget=200)
    trainer = PlannedTrainer(model, arguments, loss, PlannedBatches(plan, store.sets))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert max(entry.get("padding", 0) for entry in trainer.state.log_history) < 0.2
    strategy.finish(model)
    model.eval()
    save(model, tmp_path / "saved")
    plain = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    for prompt in ("query", None):
        ours, theirs = (each.encode(TEXTS, prompt_name=prompt) for each in (model, plain))
        assert np.allclose(ours, theirs, atol=1e-6)
    alone = np.concatenate([plain.encode([text], normalize_embeddings=True) for text in TEXTS])
    together = plain.encode(TEXTS, normalize_embeddings=True)
    assert (alone * together).sum(axis=1).min() > 1 - 1e-5
    start = load(base, device="cpu").encode(TEXTS, normalize_embeddings=True)
    assert (start * together).sum(axis=1).min() < 0.999


def test_the_loss_does_not_depend_on_how_texts_are_padded(base: Path, tmp_path: Path) -> None:
    model = load(base, device="cpu")
    faq = store_of(model, tmp_path).sets[0]
    batch = faq.batch(np.arange(12))
    gradients = []
    for side, budget in (("left", 100), ("right", 4000), ("left", 4000)):
        model.tokenizer.padding_side = side
        model.zero_grad()
        loss = CachedTextLoss(model, InBatchSoftmaxLoss(model, 0.05), token_budget=budget)
        value = loss(batch)
        value.backward()
        weight = model[0].model.layers[0].self_attn.q_proj.weight
        gradients.append((float(value.detach()), weight.grad.clone()))
    for value, gradient in gradients[1:]:
        assert value == pytest.approx(gradients[0][0], abs=1e-5)
        assert torch.allclose(gradient, gradients[0][1], atol=1e-5)


def test_an_adapter_of_a_decoder_remembers_its_pooling(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M3E_CACHE", str(tmp_path / "cache"))
    plain = str(tmp_path / "plain")
    tuned = load(base, device="cpu")
    with torch.no_grad():
        tuned[0].model.layers[1].mlp.down_proj.weight[:, 0] += 0.5
        tuned[0].model.norm.weight += 0.1
    start = load(plain, device="cpu", pooling="lasttoken")
    extract(tuned, start, tmp_path / "a", base_name=plain, pooling="lasttoken", texts=TEXTS)
    back = load(tmp_path / "a", device="cpu")
    assert back.prompts["query"] == INSTRUCTION
    assert back.tokenizer.padding_side == "left"
    for prompt in ("query", None):
        ours, theirs = (each.encode(TEXTS, prompt_name=prompt) for each in (tuned, back))
        assert np.allclose(ours, theirs, atol=2e-3)


def test_word_embeddings_do_no_products(base: Path) -> None:
    model = load(base, device="cpu")
    looked_up = model[0].model.embed_tokens.weight.numel()
    weights = sum(parameter.numel() for parameter in model.parameters()) - looked_up
    assert model_flops(model, 10, 0) == 6 * weights * 10
