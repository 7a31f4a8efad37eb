"""Single texts as batches: each once an epoch, the same for any number of processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e.errors import DataError, SettingsError
from m3e.records import Kind, Pair, Record
from m3e.training.sources import read_sources
from m3e.training.text_batches import TextBatches
from m3e.training.token_store import TokenSet
from m3e.training.tokenise import Prompts, Tokenisation, build_token_store
from tests.training.prepared import records, write_prepared

SHARED = [Pair("今天天气", "很好很好"), Pair("怎么退货", "找快递")]


@pytest.fixture
def sets(mini: Any, tmp_path: Path) -> tuple[TokenSet, ...]:
    data: dict[str, list[Record]] = {
        "faq": [*SHARED, *records(Kind.PAIR, 30)],
        "more": [*SHARED, *records(Kind.PAIR, 20, seed=5)],
    }
    sources = read_sources(write_prepared(tmp_path / "data", data))
    plain = {source.name: Prompts() for source in sources}
    return build_token_store(sources, Tokenisation.of(mini, sources, plain), tmp_path / "tokens", workers=1).sets


def keys(batches: TextBatches) -> list[int]:
    return [key for number in range(len(batches)) for key in batches[number].keys.ravel().tolist()]


def test_every_text_once_an_epoch(sets: tuple[TokenSet, ...]) -> None:
    batches = TextBatches(sets, 8, epochs=2, seed=1)
    different = {int(key) for each in sets for key in each.keys}
    found = keys(batches)
    assert len(found) == batches.texts == 2 * len(different)
    half = len(found) // 2
    assert set(found[:half]) == set(found[half:]) == different
    sizes = [len(batches[number].lengths) for number in range(len(batches))]
    assert max(sizes) <= 8
    assert max(sizes) - min(sizes) <= 1
    assert found[:half] != found[half:]
    assert keys(TextBatches(sets, 8, epochs=2, seed=1)) == found
    assert keys(TextBatches(sets, 8, epochs=2, seed=2)) != found


def test_a_batch_has_its_texts_ids(sets: tuple[TokenSet, ...]) -> None:
    by_key = {
        int(key): each.ids[each.starts[text] : each.starts[text + 1]].tolist()
        for each in sets
        for text, key in enumerate(each.keys)
    }
    batches = TextBatches(sets, 8)
    for number in range(len(batches)):
        batch = batches[number]
        for text, key in enumerate(batch.keys.ravel().tolist()):
            assert batch.ids[batch.starts[text] : batch.starts[text + 1]].tolist() == by_key[key]
        assert len(batches.rows_of(number)) == len(batch.lengths)


def test_texts_that_sets_share_count_for_the_first(sets: tuple[TokenSet, ...]) -> None:
    batches = TextBatches(sets, 8)
    counts = batches.texts_by_set(len(batches))
    assert counts == {
        "faq": len(set(sets[0].keys.tolist())),
        "more": len(set(sets[1].keys.tolist()) - set(sets[0].keys.tolist())),
    }
    assert counts["more"] == len(set(sets[1].keys.tolist())) - 4


def test_two_processes_share_every_batch(sets: tuple[TokenSet, ...]) -> None:
    whole = TextBatches(sets, 8, seed=3)
    parts = [TextBatches(sets, 8, seed=3, rank=rank, world=2) for rank in (0, 1)]
    for number in range(len(whole)):
        joined = sorted(key for part in parts for key in part[number].keys.ravel().tolist())
        assert joined == sorted(whole[number].keys.ravel().tolist())
        assert abs(len(parts[0][number].lengths) - len(parts[1][number].lengths)) <= 1


def test_steps_and_caps(sets: tuple[TokenSet, ...]) -> None:
    assert len(TextBatches(sets, 8, steps=3, epochs=2)) == 6
    capped = TextBatches(sets, 8, cap=10, caps={"more": 5}, epochs=2)
    assert capped.texts_by_set(len(capped)) == {"faq": 20, "more": 10}
    half = len(capped) // 2
    found = keys(capped)
    assert set(found[: len(found) // 2]) != set(found[len(found) // 2 :])  # another epoch has others
    assert capped.texts_by_set(half) == {"faq": 10, "more": 5}


def test_what_cannot_be_dealt(sets: tuple[TokenSet, ...]) -> None:
    with pytest.raises(SettingsError, match=r"batch\.caps names 'x'; the sets are faq, more"):
        TextBatches(sets, 8, caps={"x": 1})
    with pytest.raises(SettingsError, match="cannot be split over 4 processes"):
        TextBatches(sets, 2, world=4)
    empty = [each.__class__(**{**vars(each), "keys": np.empty(0, np.int64)}) for each in sets[:1]]
    with pytest.raises(DataError, match="faq: there is no text to train on"):
        TextBatches(empty, 8)
