"""The token store: the model's own ids of every text, kept on disk, made once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e.errors import DataError, SettingsError
from m3e.records import Kind, Pair, Ranked
from m3e.training import tokenise
from m3e.training.rows import text_id
from m3e.training.sources import read_sources
from m3e.training.token_store import TokenSet, TokenStore
from m3e.training.tokenise import Prompts, Tokenisation, build_token_store, id_type
from tests.training.prepared import records, write_prepared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sets = {"faq": records(Kind.PAIR, 50), "ranked": records(Kind.RANKED, 12), "sts": records(Kind.SCORED_PAIR, 9)}
    return write_prepared(tmp_path / "data", sets, shard_rows=20)


def store_of(folder: Path, model: Any, out: Path, **options: Any) -> TokenStore:
    sources = read_sources(folder)
    return build_token_store(sources, Tokenisation.of(model, sources), out, workers=1, **options)


def text_of(batch: Any, slot: int) -> list[int]:
    start = batch.starts[slot]
    return batch.ids[start : start + batch.lengths[slot]].tolist()


def test_every_row_has_the_models_own_ids_after_its_prompts(folder: Path, mini: Any, tmp_path: Path) -> None:
    store = store_of(folder, mini, tmp_path / "tokens")
    faq = store.sets[0]
    rows = records(Kind.PAIR, 50)
    batch = faq.batch(np.arange(50))
    for row, (query, passage) in zip(rows, batch.slots, strict=True):
        assert isinstance(row, Pair)
        assert text_of(batch, query) == mini.tokenizer("问" + row.text)["input_ids"]
        assert text_of(batch, passage) == mini.tokenizer("答" + row.text_pos)["input_ids"]
    assert batch.keys.tolist() == [[text_id(row.text), text_id(row.text_pos)] for row in rows]  # type: ignore[union-attr]
    assert store.tokens == sum(int(each.starts[-1]) for each in store.sets)


def test_a_symmetric_set_takes_the_query_prompt_on_both_sides(folder: Path, mini: Any, tmp_path: Path) -> None:
    sts = store_of(folder, mini, tmp_path / "tokens").sets[2]
    batch = sts.batch(np.array([4]))
    second = records(Kind.SCORED_PAIR, 9)[4].sentence2  # type: ignore[union-attr]
    assert text_of(batch, batch.slots[0, 1]) == mini.tokenizer("问" + second)["input_ids"]
    assert batch.labels is not None
    assert batch.labels.tolist() == [4.0]


def test_ranked_records_make_a_row_a_positive_with_empty_slots(folder: Path, mini: Any, tmp_path: Path) -> None:
    ranked = store_of(folder, mini, tmp_path / "tokens").sets[1]
    rows = [record for record in records(Kind.RANKED, 12) if isinstance(record, Ranked)]
    assert len(ranked) == sum(len(row.pos) for row in rows) == 18
    assert ranked.slots.shape[1] == 5  # query, positive, at most three negatives
    expected = [[row.query, positive, *row.neg] for row in rows for positive in row.pos]
    keys = [[text_id(text) for text in texts] + [0] * (5 - len(texts)) for texts in expected]
    assert ranked.row_keys.tolist() == keys
    batch = ranked.batch(np.array([0, 5]))
    assert (batch.slots < 0).tolist() == [[key == 0 for key in keys[row]] for row in (0, 5)]
    assert batch.scores is not None
    assert batch.scores.shape == (2, 4)
    assert batch.scores[:, 0].tolist() == pytest.approx([0.9, 0.9])
    assert np.isnan(batch.scores[:, 1:]).tolist() == (batch.slots[:, 2:] < 0).tolist()


def test_scores_stand_with_their_rows_where_only_some_were_scored(mini: Any, tmp_path: Path) -> None:
    rows = [
        Ranked(f"今天{number}", (f"公园{number}",), (f"猫{number}",), *(((number / 10,), (0.0,)) if number > 4 else ()))
        for number in range(8)
    ]
    bare = [Ranked(f"狗{number}", (f"树{number}",), (f"叶{number}",)) for number in range(3)]
    sources = read_sources(write_prepared(tmp_path / "data", {"some": rows, "none": bare}, shard_rows=3))
    some, none = build_token_store(sources, Tokenisation.of(mini, sources), tmp_path / "tokens", workers=1).sets
    assert none.scores is None
    assert some.scores is not None
    assert some.scores.shape == (8, 2)
    wanted = {text_id(row.query): row.pos_scores[0] if row.pos_scores else None for row in rows}
    for key, (positive, negative) in zip(some.row_keys[:, 0].tolist(), some.scores.tolist(), strict=True):
        score = wanted[key]
        assert np.isnan([positive, negative]).all() if score is None else positive == pytest.approx(score)


def test_a_text_that_rows_share_is_in_a_batch_once(folder: Path, mini: Any, tmp_path: Path) -> None:
    ranked = store_of(folder, mini, tmp_path / "tokens").sets[1]
    twins = np.flatnonzero(ranked.slots[1:, 0] == ranked.slots[:-1, 0])[:1]
    batch = ranked.batch(np.concatenate([twins, twins + 1]))
    assert batch.slots[0, 0] == batch.slots[1, 0]
    assert len(batch.lengths) == len(np.unique(batch.slots[batch.slots >= 0]))


def test_long_texts_are_cut_and_counted(folder: Path, mini: Any, tmp_path: Path) -> None:
    mini.max_seq_length = 10
    faq = store_of(folder, mini, tmp_path / "tokens").sets[0]
    lengths = np.diff(faq.starts)
    assert lengths.max() == 10
    whole = [len(mini.tokenizer.tokenize(text)) for row in records(Kind.PAIR, 50) for text in _with_prompts(row)]
    assert faq.cut == sum(length + 2 > 10 for length in whole) > 0


def _with_prompts(row: Any) -> list[str]:
    return ["问" + row.text, "答" + row.text_pos]


def test_own_prompts_of_a_set(folder: Path, mini: Any, tmp_path: Path) -> None:
    sources = read_sources(folder)
    tokenisation = Tokenisation.of(mini, sources, {"faq": Prompts("查找", "")})
    store = build_token_store(sources, tokenisation, tmp_path / "tokens", workers=1)
    row = records(Kind.PAIR, 50)[3]
    batch = store.sets[0].batch(np.array([3]))
    assert isinstance(row, Pair)
    assert text_of(batch, batch.slots[0, 0]) == mini.tokenizer("查找" + row.text)["input_ids"]
    assert text_of(batch, batch.slots[0, 1]) == mini.tokenizer(row.text_pos)["input_ids"]


def test_prompts_are_counted_where_the_pooling_leaves_them_out(folder: Path, mini: Any, tmp_path: Path) -> None:
    assert store_of(folder, mini, tmp_path / "with").sets[0].batch(np.arange(2)).prompts is None
    mini[1].include_prompt = False
    batch = store_of(folder, mini, tmp_path / "without").sets[0].batch(np.arange(2))
    assert batch.prompts is not None
    assert batch.prompts[batch.slots].tolist() == [[2, 2], [2, 2]]  # <s> and one character


def test_a_store_is_made_once_and_mixed_with_no_other(folder: Path, mini: Any, tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []
    first = store_of(folder, mini, tmp_path / "tokens", on_shard=lambda *at: done.append(at))
    assert done == [(0, 5), (1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    again = store_of(folder, mini, tmp_path / "tokens", on_shard=lambda *at: done.append(at))
    assert len(done) == 6
    assert again.hash == first.hash
    mini.max_seq_length = 12
    with pytest.raises(SettingsError, match="tokens holds the token ids of other data"):
        store_of(folder, mini, tmp_path / "tokens")


def test_a_stopped_run_goes_on_and_ends_the_same(
    folder: Path, mini: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = store_of(folder, mini, tmp_path / "whole")
    real, calls = tokenise._tokenise_shard, []

    def stops(job: Any) -> None:
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(job)

    monkeypatch.setattr(tokenise, "_tokenise_shard", stops)
    with pytest.raises(KeyboardInterrupt):
        store_of(folder, mini, tmp_path / "tokens")
    assert not (tmp_path / "tokens").exists()
    resumed = store_of(folder, mini, tmp_path / "tokens")
    assert len(calls) == 3 + 3  # two of five were done
    assert [bytes(each.ids) for each in resumed.sets] == [bytes(each.ids) for each in whole.sets]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "tokens", "whole"]


def test_several_processes_write_the_same(folder: Path, mini: Any, tmp_path: Path) -> None:
    one = store_of(folder, mini, tmp_path / "one")
    sources = read_sources(folder)
    two = build_token_store(sources, Tokenisation.of(mini, sources), tmp_path / "two", workers=2)
    for left, right in zip(one.sets, two.sets, strict=True):
        assert bytes(left.ids) == bytes(right.ids)
        assert (left.slots == right.slots).all()


def test_tokens_of_rows(folder: Path, mini: Any, tmp_path: Path) -> None:
    ranked: TokenSet = store_of(folder, mini, tmp_path / "tokens").sets[1]
    batch = ranked.batch(np.array([2]))
    assert ranked.row_tokens()[2] == batch.lengths.sum()


def test_ids_are_as_small_as_the_vocabulary_allows() -> None:
    assert id_type(65_536) is np.uint16
    assert id_type(65_537) is np.uint32


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no token store"):
        TokenStore.open(tmp_path)


def test_a_broken_store_is_named(folder: Path, mini: Any, tmp_path: Path) -> None:
    store_of(folder, mini, tmp_path / "tokens")
    (tmp_path / "tokens" / "000" / "keys.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"tokens cannot be read .* remove it"):
        TokenStore.open(tmp_path / "tokens")
