"""Losses in the memory of a mini-batch: the value and the gradients of the whole batch at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from m3e.errors import DataError
from m3e.records import Kind
from m3e.training.cached_loss import CachedTextLoss
from m3e.training.forward import training_form
from m3e.training.guide import Guide
from m3e.training.losses import InBatchSoftmaxLoss
from m3e.training.named_losses import loss_named
from m3e.training.packing import TextBatch
from m3e.training.sources import read_sources
from m3e.training.token_store import TokenStore
from m3e.training.tokenise import Tokenisation, build_token_store
from tests.training.loss_cases import CASES, loss_of
from tests.training.prepared import records, write_prepared


def store_of(model: Any, folder: Path) -> TokenStore:
    data = folder / "data"
    if not data.exists():
        kinds = (Kind.PAIR, Kind.TRIPLET, Kind.RANKED, Kind.SCORED_PAIR)
        write_prepared(data, {kind.value: records(kind, 40) for kind in kinds})
    sources = read_sources(data)
    return build_token_store(sources, Tokenisation.of(model, sources), folder / "tokens", workers=1)


def batch_of(model: Any, folder: Path, kind: Kind, rows: int = 16) -> TextBatch:
    store = store_of(model, folder)
    return next(each for each in store.sets if each.name == kind.value).batch(np.arange(rows))


def result(model: Any, loss: CachedTextLoss, batch: TextBatch, seed: int = 0) -> tuple[float, torch.Tensor]:
    """The loss and all gradients."""
    model.zero_grad()
    torch.manual_seed(seed)
    with training_form(model):
        value = loss(batch)
        value.backward()
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in model.parameters()]
    return value.item(), torch.cat([each.flatten() for each in gradients])


def plainly(model: Any, loss: Any, batch: TextBatch, labels: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The same by the model's own forward pass, one text at a time, without any of our means."""
    model.zero_grad()
    vectors = []
    for start, length in zip(batch.starts, batch.lengths, strict=False):
        ids = torch.from_numpy(batch.ids[start : start + length].astype(np.int64))[None]
        vectors.append(model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["sentence_embedding"][0])
    slots = torch.from_numpy(batch.slots).clamp(min=0)
    columns = [torch.stack(vectors)[slots[:, column]] for column in range(slots.shape[1])]
    value = loss.compute_loss_from_embeddings(columns, labels)
    value.backward()
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in model.parameters()]
    return value.item(), torch.cat([each.flatten() for each in gradients])


def wanted(batch: TextBatch, loss: Any) -> Any:
    """What the loss says it wants of a batch."""
    arrays = [torch.from_numpy(getattr(batch, name)) for name in loss.wants]
    return arrays[0] if len(arrays) == 1 else tuple(arrays)


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("unpadded", [True, False])
def test_cached_is_uncached(mini: Any, tmp_path: Path, name: str, unpadded: bool) -> None:
    mini.double().eval()
    case = CASES[name]
    batch = batch_of(mini, tmp_path, case.kind)
    inner = loss_of(case, mini, batch.keys)
    value, gradients = plainly(mini, inner, batch, wanted(batch, inner))
    assert gradients.abs().max() > 1e-3
    loss = CachedTextLoss(mini, inner, token_budget=100, rows_at_once=5)
    loss.unpadded = unpadded
    for kept in (0, 150, 1 << 20):
        loss.kept_tokens = kept
        found, ours = result(mini, loss, batch)
        assert found == pytest.approx(value, abs=1e-9)
        assert torch.allclose(ours, gradients, atol=1e-9, rtol=1e-7)


def test_a_loss_without_wishes_is_given_labels_where_there_are_any_and_keys_elsewhere(
    mini: Any, tmp_path: Path
) -> None:
    class Spy:
        def compute_loss_from_embeddings(self, embeddings: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
            self.labels = labels
            return embeddings[0].sum()

    for kind, name in ((Kind.SCORED_PAIR, "labels"), (Kind.PAIR, "keys")):
        batch, spy = batch_of(mini, tmp_path, kind), Spy()
        CachedTextLoss(mini, spy)(batch)
        assert spy.labels.tolist() == getattr(batch, name).tolist()


def test_a_set_may_have_a_loss_of_its_own(mini: Any, tmp_path: Path) -> None:
    mini.double().eval()
    plain, other = loss_named("in_batch_softmax", mini), loss_named("in_batch_softmax", mini, temperature=0.5)
    loss = CachedTextLoss(mini, plain, losses_of_sets={"triplet": other})
    for kind, inner in ((Kind.PAIR, plain), (Kind.TRIPLET, other)):
        batch = batch_of(mini, tmp_path, kind)
        value, gradients = plainly(mini, inner, batch, wanted(batch, inner))
        found, ours = result(mini, loss, batch)
        assert found == pytest.approx(value, abs=1e-9)
        assert torch.allclose(ours, gradients, atol=1e-9, rtol=1e-7)


def test_a_set_that_lacks_what_the_loss_wants_is_named(mini: Any, tmp_path: Path) -> None:
    loss = CachedTextLoss(mini, loss_named("kl", mini))
    with pytest.raises(DataError, match=r"the data set triplet has no teacher's scores.*m3e data score"):
        loss(batch_of(mini, tmp_path, Kind.TRIPLET))
    loss = CachedTextLoss(mini, loss_named("cosent", mini))
    with pytest.raises(DataError, match="the data set pair has no label a row"):
        loss(batch_of(mini, tmp_path, Kind.PAIR))


def test_dropout_is_the_same_in_both_passes(mini: Any, tmp_path: Path) -> None:
    mini.double().train()
    batch = batch_of(mini, tmp_path, Kind.PAIR)
    loss = CachedTextLoss(mini, InBatchSoftmaxLoss(mini, 0.05), token_budget=100)
    recomputed, first = result(mini, loss, batch)
    loss.kept_tokens = 1 << 20
    kept, second = result(mini, loss, batch)
    assert recomputed == pytest.approx(kept, abs=1e-12)
    assert torch.allclose(first, second, atol=1e-10)
    assert result(mini, loss, batch, seed=1)[0] != pytest.approx(kept, abs=1e-6)


def test_the_rest_of_the_run_draws_what_it_would_have_drawn(mini: Any, tmp_path: Path) -> None:
    mini.train()
    batch = batch_of(mini, tmp_path, Kind.PAIR)
    draws = []
    for budget in (100, 10_000):
        loss = CachedTextLoss(mini, InBatchSoftmaxLoss(mini, 0.05), token_budget=budget)
        result(mini, loss, batch)
        draws.append(torch.rand(3))
    assert torch.equal(*draws)


def test_work_is_counted(mini: Any, tmp_path: Path) -> None:
    batch = batch_of(mini, tmp_path, Kind.PAIR)
    loss = CachedTextLoss(mini, InBatchSoftmaxLoss(mini, 0.05), token_budget=100, kept_tokens=200)
    result(mini, loss, batch)
    tokens = int(batch.lengths.sum())
    assert (loss.work.rows, loss.work.tokens, loss.work.positions) == (16, tokens, tokens)
    assert 0 < loss.work.recomputed <= tokens - 100
    assert loss.work.square == int((batch.lengths**2).sum())


def test_a_scaled_loss_scales_the_gradients(mini: Any, tmp_path: Path) -> None:
    mini.double().eval()
    batch = batch_of(mini, tmp_path, Kind.PAIR)
    loss = CachedTextLoss(mini, InBatchSoftmaxLoss(mini, 0.05), token_budget=100)
    _, whole = result(mini, loss, batch)
    mini.zero_grad()
    with training_form(mini):
        (loss(batch) / 4).backward()
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in mini.parameters()]
    part = torch.cat([each.flatten() for each in gradients])
    assert torch.allclose(4 * part, whole)


def test_without_gradients_only_the_loss_is_computed(mini: Any, tmp_path: Path) -> None:
    mini.eval()
    batch = batch_of(mini, tmp_path, Kind.PAIR)
    loss = CachedTextLoss(mini, InBatchSoftmaxLoss(mini, 0.05), token_budget=100)
    value, _ = result(mini, loss, batch)
    mini.zero_grad()
    with torch.no_grad(), training_form(mini):
        assert loss(batch).item() == pytest.approx(value, rel=1e-5)
    assert all(parameter.grad is None for parameter in mini.parameters())


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("precision", ["bf16", "autocast"])
def test_bf16_is_finite_at_a_low_temperature_and_near_fp32(
    mini: Any, tmp_path: Path, name: str, precision: Any
) -> None:
    mini.eval()
    case = CASES[name]
    batch = batch_of(mini, tmp_path, case.kind)
    inner = loss_of(case, mini, batch.keys, temperature=0.01)
    exact, exactly = result(mini, CachedTextLoss(mini, inner), batch)
    value, gradients = result(mini, CachedTextLoss(mini, inner, precision=precision, token_budget=100), batch)
    assert torch.isfinite(gradients).all()
    assert value == pytest.approx(exact, rel=0.1)
    assert torch.cosine_similarity(gradients, exactly, dim=0) > 0.98


def test_prompts_left_out_of_the_pooling(mini: Any, tmp_path: Path) -> None:
    mini.double().eval()
    mini[1].include_prompt = False
    batch = batch_of(mini, tmp_path, Kind.PAIR)
    assert batch.prompts is not None
    loss = CachedTextLoss(mini, InBatchSoftmaxLoss(mini, 0.05), token_budget=100)
    with training_form(mini), torch.no_grad():
        value = loss(batch).item()
    rows = records(Kind.PAIR, 16)
    with torch.no_grad():
        left, right = (
            mini.encode([getattr(row, name) for row in rows], prompt=prompt, convert_to_tensor=True)
            for name, prompt in (("text", "问"), ("text_pos", "答"))
        )
        wanted = loss.loss.compute_loss_from_embeddings([left, right], torch.from_numpy(batch.keys)).item()
    assert value == pytest.approx(wanted, abs=1e-6)


def test_only_an_adapter_trains(mini: Any, tmp_path: Path) -> None:
    from peft import LoraConfig

    mini.add_adapter(LoraConfig(r=4, target_modules=["query", "value"]))
    mini.double().eval()
    batch = batch_of(mini, tmp_path, Kind.PAIR)
    loss = CachedTextLoss(mini, InBatchSoftmaxLoss(mini, 0.05), token_budget=100)
    _, gradients = result(mini, loss, batch)
    assert gradients.abs().max() > 0
    assert all(each.grad is None for each in mini.parameters() if not each.requires_grad)


def test_static_models_train_too(tmp_path: Path) -> None:
    from m3e import load

    static = load("m3e-static", device="cpu")
    batch = batch_of(static, tmp_path, Kind.PAIR)
    _, gradients = result(static, CachedTextLoss(static, InBatchSoftmaxLoss(static, 0.05)), batch)
    assert gradients.abs().max() > 0


@pytest.mark.parametrize("preserve", [0.0, 0.3])
def test_the_parts_of_a_guided_loss_sum_to_the_whole(mini: Any, preserve: float) -> None:
    torch.manual_seed(0)
    ids = torch.arange(1, 31).reshape(10, 3)
    ids[4, 1] = ids[7, 1]
    guide = Guide(torch.arange(1, 31), torch.nn.functional.normalize(torch.randn(30, 4), dim=1))
    loss = InBatchSoftmaxLoss(mini, 0.05, guide, 0.5, preserve)
    embeddings = list(torch.randn(3, 10, 8))
    whole = loss.compute_loss_from_embeddings(embeddings, ids)
    parts = [loss.compute_loss_of_rows(embeddings, ids, start, min(start + 4, 10)) for start in (0, 4, 8)]
    assert sum(part.item() for part in parts) == pytest.approx(whole.item(), rel=1e-5)
