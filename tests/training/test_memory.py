from __future__ import annotations

from types import SimpleNamespace

import pytest

from m3e.training.memory import SHARE_OF_FREE_MEMORY, activation_bytes, free_memory, mini_batch_that_fits

BASE = SimpleNamespace(hidden_size=768, num_hidden_layers=12, num_attention_heads=12)


def test_activations_follow_the_papers_formula() -> None:
    # 12 layers · s·b·h·(34 + 5·a·s/h) bytes in 16 bits
    expected = 12 * 128 * 32 * 768 * (34 + 5 * 12 * 128 / 768)
    assert activation_bytes(BASE, 32, 128, 2) == expected
    assert activation_bytes(BASE, 32, 128, 4) == 2 * expected


@pytest.mark.parametrize("columns", [2, 3])
def test_a_step_that_fits_needs_no_cache(columns: int) -> None:
    needed = activation_bytes(BASE, columns * 64, 128, 4)
    assert mini_batch_that_fits(BASE, columns, 64, 128, 4, int(needed / SHARE_OF_FREE_MEMORY) + 1) is None
    size = mini_batch_that_fits(BASE, columns, 64, 128, 4, int(needed / SHARE_OF_FREE_MEMORY) - 1)
    assert size is not None
    assert activation_bytes(BASE, size, 128, 4) <= needed


def test_the_largest_power_of_two_that_fits_is_taken() -> None:
    free = int(activation_bytes(BASE, 16, 512, 4) / SHARE_OF_FREE_MEMORY)
    assert mini_batch_that_fits(BASE, 2, 64, 512, 4, free) == 16
    assert mini_batch_that_fits(BASE, 2, 64, 512, 4, free - 1) == 8
    assert mini_batch_that_fits(BASE, 2, 64, 512, 4, 1) == 4, "there is always something to try"


def test_free_memory_is_a_plausible_number() -> None:
    assert 1 << 20 < free_memory("cpu") < 1 << 50
