"""Losses against naive loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MultipleNegativesRankingLoss

from m3e.records import Kind
from m3e.training.losses import NO_TEXT, CachedLoss, InBatchSoftmaxLoss, false_negatives, loss_for


def cosine(left: torch.Tensor, right: torch.Tensor) -> float:
    return float(left @ right / left.norm() / right.norm())


def naive_in_batch(columns: list[torch.Tensor], ids: list[list[int]], temperature: float) -> float:
    """The formula of the docstring, row by row and candidate by candidate."""
    batch, total = len(columns[0]), 0.0
    for i in range(batch):
        own = cosine(columns[0][i], columns[1][i]) / temperature
        forward = [own]
        for at in range(1, len(columns)):
            for j in range(batch):
                if at == 1 and j == i:
                    continue
                same_text = ids[j][at] in (ids[i][0], ids[i][1], NO_TEXT)
                positive_of_equal_query = at == 1 and ids[j][0] == ids[i][0]
                if not same_text and not positive_of_equal_query:
                    forward.append(cosine(columns[0][i], columns[at][j]) / temperature)
        backward = [own]
        for j in range(batch):
            equal = ids[j][0] == ids[i][0] or ids[j][1] == ids[i][1] or ids[j][0] == ids[i][1]
            if j != i and not equal:
                backward.append(cosine(columns[0][j], columns[1][i]) / temperature)
        for logits in (forward, backward):
            total += (math.log(sum(math.exp(value) for value in logits)) - own) / 2
    return total / batch


def random_columns(columns: int, batch: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 7, generator=generator, dtype=torch.float64) for _ in range(columns)]


@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize(
    "ids",
    [
        [[1, 11], [2, 12], [3, 13], [4, 14]],
        [[1, 11], [2, 11], [3, 13], [4, 11]],
        [[1, 11], [1, 12], [3, 13], [3, 14]],
        [[1, 2], [2, 1], [3, 13], [13, 3]],
        [[1, 11], [1, 11], [1, 11], [1, 11]],
    ],
    ids=["distinct", "shared answers", "shared questions", "swapped", "all equal"],
)
def test_pairs_equal_the_naive_loop(mini, ids: list[list[int]], temperature: float) -> None:
    columns = random_columns(2, 4)
    loss = InBatchSoftmaxLoss(mini, temperature).compute_loss_from_embeddings(columns, torch.tensor(ids))
    assert float(loss) == pytest.approx(naive_in_batch(columns, ids, temperature), abs=1e-6)


@pytest.mark.parametrize(
    "ids",
    [
        [[1, 11, 21, 31], [2, 12, 22, 32], [3, 13, 23, 33]],
        [[1, 11, 21, NO_TEXT], [2, 12, NO_TEXT, NO_TEXT], [3, 13, 23, 33]],
        [[1, 11, 12, 31], [2, 12, 11, 1], [3, 13, 13, 3]],
    ],
    ids=["distinct", "empty slots", "negatives that are positives"],
)
def test_triplets_take_all_positives_and_negatives_as_candidates(mini, ids: list[list[int]]) -> None:
    columns = random_columns(4, 3, seed=1)
    loss = InBatchSoftmaxLoss(mini, 0.1).compute_loss_from_embeddings(columns, torch.tensor(ids))
    assert float(loss) == pytest.approx(naive_in_batch(columns, ids, 0.1), abs=1e-6)


def test_distinct_texts_give_the_loss_of_sentence_transformers(mini) -> None:
    columns = random_columns(3, 5, seed=2)
    ids = torch.arange(1, 16).reshape(5, 3)
    reference = MultipleNegativesRankingLoss(
        mini, scale=20, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
    )
    ours = InBatchSoftmaxLoss(mini, 0.05)
    expected = reference.compute_loss_from_embeddings(columns, None)
    assert torch.allclose(ours.compute_loss_from_embeddings(columns, ids), expected, atol=1e-9)
    assert torch.allclose(ours.compute_loss_from_embeddings(columns, None), expected, atol=1e-9)


def test_equal_texts_pull_no_gradient_from_each_other(mini) -> None:
    columns = [column.requires_grad_() for column in random_columns(2, 3)]
    ids = torch.tensor([[1, 11], [2, 11], [3, 11]])
    InBatchSoftmaxLoss(mini, 0.05).compute_loss_from_embeddings(columns, ids).backward()
    assert columns[0].grad is not None
    assert columns[0].grad.abs().max() < 1e-12


def test_a_rows_own_positive_is_never_masked() -> None:
    not_document, not_query = false_negatives(torch.tensor([[5, 5], [5, 5]]))
    assert not not_document.diagonal().any()
    assert not not_query.diagonal().any()
    assert not_document[0, 1]
    assert not_query[0, 1]


def naive_cosent(left: torch.Tensor, right: torch.Tensor, labels: list[float], temperature: float) -> float:
    cosines = [cosine(a, b) for a, b in zip(left, right, strict=True)]
    total = 1.0
    for i, lower in enumerate(cosines):
        for j, higher in enumerate(cosines):
            if labels[j] > labels[i]:
                total += math.exp((lower - higher) / temperature)
    return math.log(total)


@pytest.mark.parametrize("labels", [[0.0, 1.0, 2.0, 5.0], [1.0, 0.0, 1.0, 0.0], [3.0, 3.0, 3.0, 3.0]])
def test_cosent_equals_the_naive_loop(mini, labels: list[float]) -> None:
    left, right = random_columns(2, 4, seed=3)
    loss = loss_for(Kind.SCORED_PAIR, mini, 0.05, None)
    assert isinstance(loss, CoSENTLoss)
    value = loss.compute_loss_from_embeddings([left, right], torch.tensor(labels, dtype=torch.float64))
    assert float(value) == pytest.approx(naive_cosent(left, right, labels, 0.05), abs=1e-6)


def test_cosent_depends_on_the_order_of_labels_only(mini) -> None:
    columns = random_columns(2, 6, seed=4)
    labels = torch.tensor([0.0, 3.0, 1.0, 5.0, 2.0, 4.0], dtype=torch.float64)
    loss = loss_for(Kind.SCORED_PAIR, mini, 0.05, None)
    plain = loss.compute_loss_from_embeddings(columns, labels)
    assert torch.equal(plain, loss.compute_loss_from_embeddings(columns, labels / 5))
    assert torch.equal(plain, loss.compute_loss_from_embeddings(columns, labels**3))


@pytest.mark.parametrize("kind", [Kind.PAIR, Kind.SCORED_PAIR])
def test_gradient_caching_changes_neither_loss_nor_gradient(mini, kind: Kind) -> None:
    mini.eval().double()
    texts = [["今天气很好", "退货款", "猫", "花开了吗"], ["公园", "怎么办", "狗", "花"]]
    labels = torch.tensor([[1, 11], [2, 12], [3, 11], [4, 14]])
    if kind is Kind.SCORED_PAIR:
        labels = torch.tensor([1.0, 0.0, 3.0, 2.0], dtype=torch.float64)
    results = []
    for mini_batch_size in (None, 1, 3):
        mini.zero_grad()
        loss = loss_for(kind, mini, 0.05, mini_batch_size)
        assert isinstance(loss, CachedLoss) == (mini_batch_size is not None)
        value = loss([mini.preprocess(column) for column in texts], labels)
        value.backward()
        gradient = torch.cat([p.grad.flatten() for p in mini.parameters() if p.grad is not None])
        results.append((float(value.detach()), gradient))
    for value, gradient in results[1:]:
        assert value == pytest.approx(results[0][0], abs=1e-9)
        assert torch.allclose(gradient, results[0][1], atol=1e-9)
