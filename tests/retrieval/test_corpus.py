"""A corpus in parquet becomes vectors on disk: in order, once, and on from where a killed run stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m3e.errors import DataError
from m3e.inference import Encoder
from m3e.retrieval.corpus import write_corpus_vectors
from m3e.retrieval.exact import top_k

TEXTS = [f"{first}{second}怎么办" for first in "退货订单地址" for second in "天气花园猫狗"]


class Counting(Encoder):
    """Counts the texts that it encodes; may stop after some."""

    seen = 0
    most = 10**9

    def encode(self, texts: Any, **options: Any) -> Any:
        if self.seen >= self.most:
            raise KeyboardInterrupt
        self.seen += len(texts)
        return super().encode(texts, **options)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two files of 20 and 16 documents, read ten rows at a time."""
    monkeypatch.setattr("m3e.retrieval.corpus.BATCH_ROWS", 10)
    paths = []
    for name, start, stop in (("a", 0, 20), ("b", 20, 36)):
        paths.append(tmp_path / f"{name}.parquet")
        pq.write_table(pa.table({"id": list(range(start, stop)), "text": TEXTS[start:stop]}), paths[-1])
    return paths


def test_vectors_are_the_encoders_in_order(tmp_path: Path, files: list[Path], mini: Any) -> None:
    encoder = Counting(mini, dtype="fp32")
    done: list[tuple[int, int]] = []
    folder = write_corpus_vectors(encoder, files, tmp_path / "v", on_rows=lambda *counts: done.append(counts))
    assert len(TEXTS) == encoder.seen == 36
    assert np.allclose(folder.read(0, 36), Encoder(mini, dtype="fp32").encode_document(TEXTS), atol=1e-3)
    assert folder.ids() == [str(number) for number in range(36)]
    assert done == [(10, 36), (20, 36), (30, 36), (36, 36)]
    _, rows = top_k(folder.read(0, 36), folder, 1)
    assert rows[:, 0].tolist() == list(range(36))


def test_what_is_there_is_not_encoded_again(tmp_path: Path, files: list[Path], mini: Any) -> None:
    killed, second, third = (Counting(mini, dtype="fp32") for _ in range(3))
    killed.most = 20
    with pytest.raises(KeyboardInterrupt):
        write_corpus_vectors(killed, files, tmp_path / "v")
    found = write_corpus_vectors(second, files, tmp_path / "v")
    assert (killed.seen, second.seen) == (20, 16)
    assert np.allclose(found.read(0, 36), Encoder(mini, dtype="fp32").encode_document(TEXTS), atol=1e-3)
    write_corpus_vectors(third, files, tmp_path / "v")
    assert third.seen == 0
    changed = ["猫狗", *TEXTS[21:]]
    pq.write_table(pa.table({"id": list(range(16)), "text": changed}), files[1])
    assert np.allclose(
        write_corpus_vectors(third, files, tmp_path / "v").read(20, 21), third.encode_document(["猫狗"]), atol=1e-3
    )


def test_titles_go_before_the_text(tmp_path: Path, mini: Any) -> None:
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"id": ["x", "y"], "text": ["怎么办", "天气"], "title": ["退货", None]}), path)
    folder = write_corpus_vectors(Encoder(mini, dtype="fp32"), [path], tmp_path / "v", dtype="fp32")
    expected = Encoder(mini, dtype="fp32").encode_document(["退货 怎么办", "天气"])
    assert np.allclose(folder.read(0, 2), expected, atol=1e-6)


def test_files_that_are_no_corpus_are_refused(tmp_path: Path, mini: Any) -> None:
    path = tmp_path / "c.parquet"
    encoder = Encoder(mini, dtype="fp32")
    pq.write_table(pa.table({"id": ["x", "y"], "text": ["怎么办", None]}), path)
    with pytest.raises(DataError, match=r"c\.parquet: row 2 has no text"):
        write_corpus_vectors(encoder, [path], tmp_path / "v")
    pq.write_table(pa.table({"id": ["x"], "content": ["怎么办"]}), path)
    with pytest.raises(DataError, match=r"c\.parquet has no column text"):
        write_corpus_vectors(encoder, [path], tmp_path / "v")
