"""Every loss against its naive loop in float64: values and gradients, with masks, gaps and equal texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.losses import AnglELoss, DistillKLDivLoss, MarginMSELoss
from torch import Tensor

from m3e.errors import DataError, SettingsError
from m3e.training.distillation_loss import DistillationLoss
from m3e.training.losses import InBatchSoftmaxLoss
from m3e.training.matryoshka_loss import MatryoshkaLoss
from m3e.training.named_losses import LOSSES, loss_named, loss_options
from m3e.training.text_vectors import TextVectors
from tests.training import naive_losses

WIDTH = 8
NAN = float("nan")
# row 2 repeats row 0's positive and row 3 its query; slots are empty in rows 1 and 4
IDS = [[1, 11, 21, 31], [2, 12, 22, 0], [3, 11, 23, 33], [1, 14, 24, 11], [5, 15, 0, 0], [6, 16, 26, 5]]
# of row 1 a score lacks, of row 3 the positive's, of row 4 all but one, of row 5 all
SCORES = [[0.9, 0.2, 0.4], [0.8, NAN, NAN], [0.7, 0.1, 0.69], [NAN, 0.3, 0.5], [0.6, NAN, NAN], [NAN, NAN, NAN]]
LABELS = [3.0, 0.0, 5.0, 3.0, 1.0, 4.0]
MATRYOSHKA = {4: 0.5, 2: 2.0, WIDTH: 1.0}


def teacher() -> TextVectors:
    """Of all texts but two; another text's id stands first and last."""
    ids = np.unique([each for row in IDS for each in row if each not in (0, 23, 16)] + [1000])[::-1].copy()
    vectors = np.random.default_rng(7).normal(size=(len(ids), WIDTH))
    return TextVectors(ids, (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16))


def vectors_of(table: TextVectors) -> dict[int, Tensor]:
    ids = sorted({each for row in IDS for each in row} - {0, 23, 16})
    found, known = table.look_up(torch.tensor(ids), torch.float64)
    assert known.all()
    return {name: vector / vector.norm() for name, vector in zip(ids, found, strict=True)}


def columns_of(count: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(len(IDS), WIDTH, generator=generator, dtype=torch.float64) for _ in range(count)]


@dataclass(frozen=True)
class Case:
    """A loss and its naive loop; ``columns`` of embeddings."""

    name: str
    options: dict[str, Any]
    naive: Callable[[list[Tensor]], Tensor]
    columns: int = 4


def naive_distil(weights: tuple[float, float, float]) -> Callable[[list[Tensor]], Tensor]:
    table = teacher()

    def loss(columns: list[Tensor]) -> Tensor:
        # with the student's narrower vectors relations are to the whole of the teacher's
        return naive_losses.distil(columns, IDS, vectors_of(table), table.spread, 0.05, weights)

    return loss


CASES = [
    Case("in_batch_softmax", {}, lambda columns: naive_losses.in_batch_softmax(columns, IDS, 0.05)),
    Case(
        "in_batch_softmax",
        {"directions": ["query_to_doc"], "temperature": 0.2},
        lambda columns: naive_losses.in_batch_softmax(columns, IDS, 0.2, ("query_to_doc",)),
    ),
    Case(
        "in_batch_softmax",
        {"directions": ["query_to_doc"], "own_margin": 0.1},
        lambda columns: naive_losses.in_batch_softmax(columns, IDS, 0.05, ("query_to_doc",), 0.1),
    ),
    Case(
        "in_batch_softmax",
        {"own_margin": 0.2},
        lambda columns: naive_losses.in_batch_softmax(columns, IDS, 0.05, own_margin=0.2),
    ),
    Case("cosent", {}, lambda columns: naive_losses.cosent(columns, LABELS, 0.05), 2),
    Case("angle", {}, lambda columns: naive_losses.angle(columns, LABELS, 0.05, 1, 1), 2),
    Case(
        "angle",
        {"temperature": 0.1, "cosine": 0.0, "angle": 0.3},
        lambda columns: naive_losses.angle(columns, LABELS, 0.1, 0, 0.3),
        2,
    ),
    Case("kl", {}, lambda columns: naive_losses.kl(columns, IDS, SCORES, 0.05, 0.05)),
    Case(
        "kl",
        {"temperature": 0.1, "teacher_temperature": 0.3},
        lambda columns: naive_losses.kl(columns, IDS, SCORES, 0.1, 0.3),
    ),
    Case("margin_mse", {"scale": 0.5}, lambda columns: naive_losses.margin_mse(columns, IDS, SCORES, 0.5)),
    Case("distil", {}, naive_distil((2.0, 0.1, 0.0))),
    Case("distil", {"cosine": 0.0, "contrast": 1.0}, naive_distil((0.0, 1.0, 0.0))),
    Case("distil", {"cosine": 0.3, "contrast": 0.0, "relational": 0.5}, naive_distil((0.3, 0.0, 0.5))),
]
every_case = pytest.mark.parametrize(
    "case", CASES, ids=[f"{case.name} {' '.join(case.options)}".strip() for case in CASES]
)


def made(case: Case, model: Any, **more: Any) -> Any:
    options = case.options | ({"teacher": teacher()} if case.name == "distil" else {}) | more
    return loss_named(case.name, model, **options)


def labels_of(loss: Any) -> Any:
    found = {
        "keys": torch.tensor(IDS),
        "labels": torch.tensor(LABELS, dtype=torch.float64),
        "scores": torch.tensor(SCORES, dtype=torch.float64),
    }
    wanted = [found[name] for name in loss.wants]
    return wanted[0] if len(wanted) == 1 else tuple(wanted)


def computed(loss: Callable[[list[Tensor]], Tensor], columns: list[Tensor]) -> tuple[float, list[Tensor]]:
    """The value and the gradients."""
    leaves = [column.clone().requires_grad_() for column in columns]
    value = loss(leaves)
    value.backward()
    return value.item(), [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]


def same(found: tuple[float, list[Tensor]], wanted: tuple[float, list[Tensor]], within: float = 1e-6) -> None:
    assert wanted[0] > 1e-3
    assert max(float(gradient.abs().max()) for gradient in wanted[1]) > 1e-3
    assert found[0] == pytest.approx(wanted[0], abs=within)
    for ours, theirs in zip(found[1], wanted[1], strict=True):
        assert torch.allclose(ours, theirs, atol=within, rtol=0)


@pytest.fixture
def small(mini: Any) -> Any:
    """The miniature, said to make vectors of as many numbers as the test's."""
    mini.get_embedding_dimension = lambda: WIDTH
    return mini


@every_case
def test_value_and_gradients_equal_the_naive_loop(small: Any, case: Case) -> None:
    loss = made(case, small)
    columns = columns_of(case.columns)
    wanted = computed(case.naive, columns)
    labels = labels_of(loss)
    same(computed(lambda leaves: loss.compute_loss_from_embeddings(leaves, labels), columns), wanted)
    if hasattr(loss, "compute_loss_of_rows"):

        def in_parts(leaves: list[Tensor]) -> Tensor:
            bounds = [(0, 1), (1, 4), (4, 6)]
            return sum(loss.compute_loss_of_rows(leaves, labels, *each) for each in bounds)

        same(computed(in_parts, columns), wanted)


@every_case
def test_matryoshka_is_the_weighted_sum_over_widths(small: Any, case: Case) -> None:
    dims, weights = [4, 2], [0.5, 2.0]
    loss = made(case, small, matryoshka=dims, matryoshka_weights=weights)
    columns = columns_of(case.columns, seed=1)
    wanted = computed(lambda leaves: naive_losses.matryoshka(leaves, MATRYOSHKA, case.naive), columns)
    labels = labels_of(loss)
    same(computed(lambda leaves: loss.compute_loss_from_embeddings(leaves, labels), columns), wanted)
    assert hasattr(loss, "compute_loss_of_rows") == (case.name in ("in_batch_softmax", "distil"))
    if hasattr(loss, "compute_loss_of_rows"):

        def in_parts(leaves: list[Tensor]) -> Tensor:
            return sum(loss.compute_loss_of_rows(leaves, labels, *each) for each in [(0, 5), (5, 6)])

        same(computed(in_parts, columns), wanted)


@every_case
@pytest.mark.parametrize("matryoshka", [(), (2, 4)])
def test_bf16_is_finite_at_a_low_temperature_and_near_fp32(small: Any, case: Case, matryoshka: tuple[int, ...]) -> None:
    more = {"temperature": 0.01} if "temperature" in loss_options(case.name) else {}
    loss = made(case, small, matryoshka=matryoshka, **more)
    columns = [column.bfloat16() for column in columns_of(case.columns)]
    labels = labels_of(loss)
    exact, _ = computed(
        lambda leaves: loss.compute_loss_from_embeddings(leaves, labels), [column.double() for column in columns]
    )
    value, gradients = computed(lambda leaves: loss.compute_loss_from_embeddings(leaves, labels), columns)
    assert value == pytest.approx(exact, rel=1e-3)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    # all texts alike, as in a model that has collapsed: cosines of exactly 1
    alike = [torch.ones(len(IDS), WIDTH, dtype=torch.bfloat16) for _ in columns]
    value, gradients = computed(lambda leaves: loss.compute_loss_from_embeddings(leaves, labels), alike)
    assert np.isfinite(value)
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", ["kl", "margin_mse"])
def test_a_batch_without_a_score_says_nothing(small: Any, name: str) -> None:
    loss: Any = loss_named(name, small)
    labels = torch.tensor(IDS), torch.full((len(IDS), 3), NAN)
    value, gradients = computed(lambda leaves: loss.compute_loss_from_embeddings(leaves, labels), columns_of(4))
    assert value == 0
    assert all(not gradient.any() for gradient in gradients)


@pytest.mark.parametrize("name", ["kl", "margin_mse"])
def test_what_stands_in_an_empty_slot_does_not_matter(small: Any, name: str) -> None:
    loss: Any = loss_named(name, small)
    scores = torch.tensor(SCORES)
    scores[1, 1:] = 0.5  # the last of them stands for no text
    columns = columns_of(4)
    labels = torch.tensor(IDS), scores
    first = computed(lambda leaves: loss.compute_loss_from_embeddings(leaves, labels), columns)
    columns[3][1] += 1
    second = computed(lambda leaves: loss.compute_loss_from_embeddings(leaves, labels), columns)
    assert first[0] == second[0]
    assert not second[1][3][1].any()


def test_whole_rows_give_the_losses_of_sentence_transformers(small: Any) -> None:
    columns = columns_of(4)
    units = [torch.nn.functional.normalize(column, dim=1) for column in columns]
    scores = torch.rand(len(IDS), 3, dtype=torch.float64)
    ids = torch.arange(1, 25).view(6, 4)
    kl, margins, angle = (loss_named(name, small) for name in ("kl", "margin_mse", "angle"))
    theirs = DistillKLDivLoss(small, temperature=0.05).compute_loss_from_embeddings(units, scores)
    assert kl.compute_loss_from_embeddings(columns, (ids, scores)).item() == pytest.approx(float(theirs) / 0.05**2)
    theirs = MarginMSELoss(small).compute_loss_from_embeddings(units, scores)
    assert margins.compute_loss_from_embeddings(columns, (ids, scores)).item() == pytest.approx(float(theirs))
    labels = torch.tensor(LABELS)
    theirs = AnglELoss(small).compute_loss_from_embeddings(columns[:2], labels)
    angle.cosine = 0.0  # type: ignore[attr-defined]
    assert angle.compute_loss_from_embeddings(columns[:2], labels).item() == pytest.approx(float(theirs))


def test_a_row_above_the_margin_is_no_negative_but_its_own_negatives_are(small: Any) -> None:
    """Query 0 is nearest to row 1's positive and to its own negative: only the second pushes."""
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    positive = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    negative = torch.tensor([[1.0, 0.1], [-1.0, 0.0]])
    columns = [query.double(), positive.double(), negative.double()]
    ids = torch.tensor([[1, 11, 21], [2, 12, 22]])
    loss = InBatchSoftmaxLoss(small, 0.1, directions=["query_to_doc"], own_margin=0.1)
    _, gradients = computed(lambda leaves: loss.compute_loss_of_rows(leaves, ids, 0, 1), columns)
    assert not gradients[1][1].any()
    assert gradients[2][0].abs().max() > 1e-3


def test_a_student_that_equals_the_teacher_has_only_the_contrast_to_learn(small: Any) -> None:
    table = teacher()
    names = torch.tensor([1, 2, 3, 5])
    vectors, _ = table.look_up(names, torch.float64)
    loss = DistillationLoss(table, WIDTH, cosine=1.0, contrast=0.0, relational=1.0)
    assert loss.compute_loss_from_embeddings([vectors], names[:, None]).item() == pytest.approx(0, abs=1e-4)
    loss = DistillationLoss(table, WIDTH, cosine=0.0, contrast=1.0)
    assert loss.compute_loss_from_embeddings([vectors], names[:, None]).item() > 1e-4


def test_a_teacher_of_another_dimension_is_refused_where_numbers_are_compared() -> None:
    table = teacher()
    with pytest.raises(SettingsError, match=r"8 numbers, the student's 12.*relational above 0"):
        DistillationLoss(table, 12)
    with pytest.raises(SettingsError, match="map them to 4"):
        DistillationLoss(table, 4, cosine=0.0)
    narrow = DistillationLoss(table, 12, cosine=0.0, contrast=0.0, relational=1.0)
    columns = [torch.randn(len(IDS), 12, dtype=torch.float64) for _ in range(4)]
    wanted = computed(naive_distil_of_cosines, columns)
    found = computed(lambda leaves: narrow.compute_loss_from_embeddings(leaves, torch.tensor(IDS)), columns)
    same(found, wanted)


def naive_distil_of_cosines(columns: list[Tensor]) -> Tensor:
    table = teacher()
    return naive_losses.distil_by_relations(columns, IDS, vectors_of(table), table.spread)


def test_a_batch_that_the_teacher_does_not_know_is_an_error() -> None:
    with pytest.raises(DataError, match="no vector of any text"):
        DistillationLoss(teacher(), WIDTH).compute_loss_from_embeddings(columns_of(1), torch.full((6, 1), 23))


def test_losses_have_names_and_options(small: Any) -> None:
    assert list(LOSSES) == ["in_batch_softmax", "cosent", "angle", "kl", "margin_mse", "distil"]
    with pytest.raises(SettingsError, match="no loss is named cosnet; there are in_batch_softmax, cosent"):
        loss_named("cosnet", small)
    with pytest.raises(SettingsError, match="the loss kl has no option temprature; it has temperature, teacher_temp"):
        loss_named("kl", small, temprature=0.1)
    with pytest.raises(SettingsError, match="the loss distil needs teacher"):
        loss_named("distil", small)
    with pytest.raises(SettingsError, match="directions are query_to_doc or"):
        loss_named("in_batch_softmax", small, directions=["doc_to_query"])
    assert loss_options("distil")["teacher"]
    config = loss_named("kl", small, temperature=0.1, matryoshka=[4]).get_config_dict()  # type: ignore[attr-defined]
    assert config == {"temperature": 0.1, "teacher_temperature": 0.1, "matryoshka": {4: 1.0, WIDTH: 1.0}}


@pytest.mark.parametrize(
    ("dims", "weights", "message"),
    [([16], None, r"within 1 and 8.*\[16\]"), ([4, 2], [1.0], "1 weights for 2"), ([4, 4], None, "named twice")],
)
def test_widths_that_cannot_be_are_refused(small: Any, dims: list[int], weights: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        MatryoshkaLoss(InBatchSoftmaxLoss(small), WIDTH, dims, weights)
