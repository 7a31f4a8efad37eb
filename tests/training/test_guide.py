from __future__ import annotations

import pytest
import torch

from m3e.training import guide as module
from m3e.training.guide import NO_TEXT, Guide, drift, likely_positives
from m3e.training.losses import InBatchSoftmaxLoss, false_negatives, guided_false_negatives
from m3e.training.rows import Example, text_id


def made(*angles: float) -> Guide:
    """Texts 1, 2, … as unit vectors in the plane, at these angles in degrees."""
    turns = torch.deg2rad(torch.tensor(angles))
    return Guide(torch.arange(1, len(angles) + 1), torch.stack([turns.cos(), turns.sin()], dim=1))


def test_likeness_is_the_cosine_and_unknown_texts_are_like_nothing() -> None:
    likeness = made(0, 60, 90).likeness(torch.tensor([1, 9]), torch.tensor([2, 3, 1]))
    assert likeness.flatten().tolist() == pytest.approx([0.5, 0.0, 1.0, 0.0, 0.0, 0.0], abs=1e-3)


def naive(likeness: torch.Tensor, own: torch.Tensor, margin: float) -> list[list[bool]]:
    marks = []
    for values, mine in zip(likeness.tolist(), own.tolist(), strict=True):
        positive = values[mine.index(True)]
        others = [value for value, is_own in zip(values, mine, strict=True) if not is_own]
        bound = positive - margin * (positive - sum(others) / len(others))
        marks.append([value > bound and not is_own for value, is_own in zip(values, mine, strict=True)])
    return marks


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.7])
def test_marks_equal_the_naive_loop(margin: float) -> None:
    torch.manual_seed(3)
    own = torch.eye(6, dtype=torch.bool).repeat(1, 3)
    likeness = torch.rand(6, 18)
    found = likely_positives(likeness, own, margin)
    assert found.tolist() == naive(likeness, own, margin)
    assert not (found & own).any()


def test_a_margin_means_the_same_for_wide_and_narrow_cosines() -> None:
    torch.manual_seed(4)
    likeness, own = torch.rand(8, 8), torch.eye(8, dtype=torch.bool)
    narrow = 0.8 + likeness / 10
    assert torch.equal(likely_positives(likeness, own, 0.3), likely_positives(narrow, own, 0.3))


def test_a_paraphrase_of_another_row_is_no_negative_in_either_direction() -> None:
    # rows 1-2 and 3-4 are about one thing, row 5-6 about another
    guide = made(0, 4, 2, 6, 90, 92)
    ids = torch.tensor([[1, 2], [3, 4], [5, 6]])
    documents, queries = guided_false_negatives(ids, guide, 0.2)
    expected = [[False, True, False], [True, False, False], [False, False, False]]
    assert documents.tolist() == expected
    assert queries.tolist() == expected


def test_the_loss_leaves_them_out(mini) -> None:
    guide = made(0, 4, 2, 6, 90, 92)
    ids = torch.tensor([[1, 2], [3, 4], [5, 6]])
    torch.manual_seed(0)
    columns = [torch.nn.functional.normalize(torch.randn(3, 8), dim=1) for _ in range(2)]
    guided = InBatchSoftmaxLoss(mini, 0.1, guide, 0.2).compute_loss_from_embeddings(columns, ids)
    scores = (columns[0] @ columns[1].T) / 0.1
    documents, _ = guided_false_negatives(ids, guide, 0.2)
    total = 0.0
    for row in range(3):
        for values in (scores[row], scores[:, row]):
            kept = [float(values[other]) for other in range(3) if not documents[row, other]]
            total += float(torch.logsumexp(torch.tensor(kept), 0)) - float(scores[row, row])
    assert float(guided) == pytest.approx(total / 6, abs=1e-5)
    plain = InBatchSoftmaxLoss(mini, 0.1).compute_loss_from_embeddings(columns, ids)
    assert float(plain) > float(guided)


def test_own_negatives_and_masks_of_equal_texts_stay() -> None:
    guide = made(0, 1, 2, 90, 91, 92)
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    documents, _ = guided_false_negatives(ids, guide, 0.2)
    assert documents.tolist() == [[False] * 4, [False] * 4]
    assert documents.shape == false_negatives(ids)[0].shape


def test_a_guide_is_made_of_the_model_as_it_is(mini, monkeypatch) -> None:
    rows = [Example(("今天天气很好", "天气很好")), Example(("退货怎么办", "怎么退货"))]
    guide = Guide.of(mini, rows, "问")
    ids = torch.tensor([text_id(text) for row in rows for text in row.texts])
    vectors = torch.from_numpy(mini.encode([text for row in rows for text in row.texts], prompt="问"))
    expected = torch.nn.functional.normalize(vectors, dim=1)
    assert torch.allclose(guide.likeness(ids, ids), expected @ expected.T, atol=2e-2)
    monkeypatch.setattr(module, "MOST_TEXTS", 3)
    assert Guide.of(mini, rows, "问") is None


def test_the_spread_is_that_of_cosines_between_different_texts() -> None:
    guide = made(0, 60, 90)
    cosines = torch.tensor([0.5, 0.0, 3**0.5 / 2] * 2)
    assert guide.spread == pytest.approx(float(cosines.std()), abs=1e-3)
    assert made(5, 5, 5).spread == 0.001  # texts that are all alike do not divide by nothing


def naive_drift(columns: list[torch.Tensor], ids: list[list[int]], guide: Guide) -> list[float]:
    found = []
    for row, mine in enumerate(ids):
        changes = []
        for other, theirs in enumerate(ids):
            if other == row or set(mine[:2]) & set(theirs[:2]):
                continue
            for first, text in enumerate(mine):
                for second, partner in enumerate(theirs):
                    if NO_TEXT not in (text, partner):
                        now = torch.nn.functional.cosine_similarity(columns[first][row], columns[second][other], dim=0)
                        then = guide.likeness(torch.tensor([text]), torch.tensor([partner]))
                        changes.append(float((now - then) / guide.spread) ** 2)
        found.append(sum(changes) / max(1, len(changes)))
    return found


def test_drift_equals_the_naive_loop_and_skips_rows_that_share_a_text() -> None:
    guide = made(0, 10, 35, 70, 95, 120, 150, 200)
    ids = [[1, 2, 3], [4, 5, NO_TEXT], [1, 6, 7], [8, 2, 3]]  # rows 0 and 2 share a query, 0 and 3 a positive
    torch.manual_seed(5)
    columns = [torch.randn(4, 2) for _ in range(3)]
    found = drift(columns, torch.tensor(ids), guide)
    assert found.tolist() == pytest.approx(naive_drift(columns, ids, guide), rel=1e-4)
    part = drift(columns, torch.tensor(ids), guide, 1, 3)
    assert part.tolist() == pytest.approx(found[1:3].tolist(), rel=1e-6)


def test_nothing_has_drifted_at_the_start_and_the_loss_adds_its_share(mini) -> None:
    turns = torch.deg2rad(torch.tensor([0.0, 4.0, 50.0, 54.0, 90.0, 92.0]))
    vectors = torch.stack([turns.cos(), turns.sin()], dim=1)
    guide = Guide(torch.arange(1, 7), vectors)
    ids = torch.tensor([[1, 2], [3, 4], [5, 6]])
    assert drift([vectors[::2], vectors[1::2]], ids, guide).max() < 1e-4
    columns = [torch.randn(3, 2), torch.randn(3, 2)]
    plain = InBatchSoftmaxLoss(mini, 0.1, guide, 0.2).compute_loss_from_embeddings(columns, ids)
    held = InBatchSoftmaxLoss(mini, 0.1, guide, 0.2, preserve=0.5).compute_loss_from_embeddings(columns, ids)
    assert float(held - plain) == pytest.approx(0.5 * float(drift(columns, ids, guide).mean()), rel=1e-4)
