"""The bound on approximate scores holds for the worst vectors, and is near enough to be of use."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from m3e.retrieval.blocks import Block, blocks
from m3e.retrieval.products import Bf16Products, Fp32Products, full_precision


def worst_documents(queries: torch.Tensor) -> torch.Tensor:
    """Documents along what each query loses in bf16, either way: there the loss is largest."""
    lost = queries - queries.bfloat16().float()
    lost /= torch.linalg.vector_norm(lost, dim=1, keepdim=True)
    return torch.cat([lost, -lost, queries, -queries])


def one_block(documents: torch.Tensor) -> Block:
    return next(iter(blocks(documents.numpy(), len(documents))))


@pytest.mark.parametrize("kind", [Bf16Products, Fp32Products])
@pytest.mark.parametrize("common", [0.0, 3.0, -3.0])
def test_no_score_lies_beyond_the_bound(kind: type[Fp32Products], common: float) -> None:
    """Also where all documents have much in common, and their mean is taken off."""
    queries = torch.randn(64, 256, generator=torch.Generator().manual_seed(0)) + 1
    documents = torch.cat([worst_documents(queries), torch.randn(500, 256, generator=torch.Generator().manual_seed(1))])
    documents += common
    products = kind(queries)
    products.load(one_block(documents), documents)
    everything = slice(0, 64)
    exact = (queries.double() @ documents.double().T).float()
    assert (getattr(products, "centre", None) is not None) == (common != 0 and kind is Bf16Products)
    numbers = products.scores(everything).clone()
    products.turn(numbers)
    for column in range(exact.shape[1]):
        approximate = products.decode(numbers[:, column])
        assert (products.least(approximate, everything) <= exact[:, column]).all()
        assert (numbers[:, column] > products.cut(exact[:, column], everything)).all()


def test_the_loss_of_the_queries_is_needed_in_the_bound() -> None:
    """Without it the documents along the loss would be missed."""
    queries = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    lost = worst_documents(queries)[:64].bfloat16().float()  # stored in bf16: they lose nothing themselves
    products = Bf16Products(queries)
    products.load(Block(0, lost.bfloat16(), 1.01, 0.0), lost)
    off = (queries * lost).sum(1) - (queries.bfloat16().float() * lost).sum(1)
    assert (off > 0.98 * products.lost).all()
    assert (products.error >= off).all()
    assert (products.error < 1.2 * off + 0.01).all()


def test_the_rounding_of_the_scores_is_needed_in_the_bound() -> None:
    """Vectors that bf16 holds exactly, products that it does not."""
    queries = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    documents = torch.randn(4000, 8, generator=torch.Generator().manual_seed(1)).bfloat16()
    products = Bf16Products(queries)
    products.load(Block(0, documents, 9.0, 0.0), documents.float())
    everything = slice(0, 64)
    numbers = products.scores(everything)
    products.turn(numbers)
    approximate = products.decode(numbers)
    exact = queries @ documents.float().T
    assert (exact - approximate).abs().max() > 50 * products.error.max()
    for column in range(4000):
        assert (products.least(approximate[:, column], everything) <= exact[:, column]).all()
        assert (numbers[:, column] > products.cut(exact[:, column], everything)).all()


def test_the_rounding_of_the_documents_is_needed_in_the_bound() -> None:
    documents = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    queries = worst_documents(documents)[:64].bfloat16().float()
    products = Bf16Products(queries)
    products.load(one_block(documents), documents)
    off = (queries * documents).sum(1) - (queries * documents.bfloat16().float()).sum(1)
    assert (off > 0.02).all()
    assert (products.error >= off).all()


def test_taking_off_the_mean_makes_the_bound_several_times_tighter() -> None:
    queries = torch.randn(16, 256, generator=torch.Generator().manual_seed(0)) + 2
    documents = torch.randn(500, 256, generator=torch.Generator().manual_seed(1)) + 2
    centred, plain = Bf16Products(queries), Bf16Products(queries)
    plain._loaded = True  # as though the choice had fallen on no centre
    for products in (centred, plain):
        products.load(one_block(documents), documents)
    assert (centred.error < 0.6 * plain.error).all()


def test_the_users_precision_is_set_aside_and_put_back() -> None:
    settings = torch.backends.mkldnn.matmul
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        with full_precision():
            assert settings.fp32_precision == "ieee"
        assert settings.fp32_precision == "bf16"
    finally:
        settings.fp32_precision = before


@pytest.mark.parametrize("by_onednn", [False, True])
def test_either_library_gives_the_fp32_product(by_onednn: bool) -> None:
    if by_onednn and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    queries = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    documents = torch.randn(70, 32, generator=torch.Generator().manual_seed(1))
    products = Fp32Products(queries)
    products.by_onednn = by_onednn
    products.load(one_block(documents), documents)
    scores = products.scores(slice(1, 4))
    assert torch.allclose(scores, queries[1:4] @ documents.T, atol=1e-5)


def test_negative_scores_keep_their_order() -> None:
    documents = torch.linspace(-2, 2, 101).reshape(-1, 1)
    products = Bf16Products(torch.ones(1, 1))
    products.load(one_block(documents), documents)
    numbers = products.scores(slice(0, 1))
    assert products.turn(numbers)
    assert (np.diff(numbers[0].numpy().astype(int)) > 0).all()
    assert torch.equal(products.decode(numbers[0]), documents[:, 0].bfloat16().float())
