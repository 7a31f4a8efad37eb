from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e.data.reading import read_records
from m3e.errors import DataError, ModelError, OutputExistsError, SettingsError
from m3e.mining import EmbeddingOptions, ScoringOptions, score
from m3e.records import Kind
from tests.mining.mining_rows import common_characters, pairs, read_jsonl, write_jsonl

FP32 = EmbeddingOptions(dtype="fp32", device="cpu")


def triplets(count: int) -> list[dict[str, Any]]:
    return [{**row, "text_neg": f"猫狗{index}"} for index, row in enumerate(pairs(count))]


def test_cosines_of_a_model(tmp_path: Path, mini: Any, mini_folder: Path) -> None:
    rows = triplets(20)
    report = score(write_jsonl(tmp_path / "t.jsonl", rows), tmp_path / "s.jsonl", mini_folder, embedding=FP32)
    scored = read_jsonl(tmp_path / "s.jsonl")
    for row, old in zip(scored, rows, strict=True):
        assert (row["query"], row["pos"], row["neg"]) == (old["text"], [old["text_pos"]], [old["text_neg"]])
        query = mini.encode_query([old["text"]], normalize_embeddings=True)[0]
        passages = mini.encode_document([old["text_pos"], old["text_neg"]], normalize_embeddings=True)
        np.testing.assert_allclose(row["pos_scores"] + row["neg_scores"], passages @ query, atol=2e-6)
    assert report.sets[0].scores["positives"]["mean"] == pytest.approx(
        np.mean([row["pos_scores"] for row in scored]), abs=1e-4
    )
    assert read_records(tmp_path / "s.jsonl").kind is Kind.RANKED


def test_a_cross_encoder_in_batches_of_like_length(tmp_path: Path, mini_folder: Path) -> None:
    from sentence_transformers import CrossEncoder

    CrossEncoder(str(mini_folder), num_labels=1, device="cpu").save_pretrained(str(tmp_path / "reranker"))
    rows = triplets(30)
    source = write_jsonl(tmp_path / "t.jsonl", rows)
    small = EmbeddingOptions(device="cpu", batch_tokens=100)
    score(source, tmp_path / "s.jsonl", embedding=small, reranker=str(tmp_path / "reranker"))
    model = CrossEncoder(str(tmp_path / "reranker"), device="cpu")
    for row, old in zip(read_jsonl(tmp_path / "s.jsonl"), rows, strict=True):
        expected = model.predict([(old["text"], old["text_pos"]), (old["text"], old["text_neg"])])
        np.testing.assert_allclose(row["pos_scores"] + row["neg_scores"], expected, atol=1e-5)


def test_each_pair_once_and_a_stopped_run_goes_on(
    tmp_path: Path, mini_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import m3e.mining.teacher_scores as scoring

    class Teacher:
        def __init__(self, stop: int | None = None) -> None:
            self.settings = {"name": "common characters"}
            self.asked: list[tuple[str, str]] = []
            self._stop = stop

        def __call__(self, rows: Any) -> list[float]:
            if self._stop is not None and len(self.asked) >= self._stop:
                raise KeyboardInterrupt
            self.asked += rows
            return common_characters(rows)

    monkeypatch.setattr(scoring, "PAIRS_AT_ONCE", 8)
    rows = [*triplets(20), triplets(20)[4]]
    source = write_jsonl(tmp_path / "t.jsonl", rows)
    stopped, goes_on = Teacher(16), Teacher()
    with pytest.raises(KeyboardInterrupt):
        score(source, tmp_path / "s.jsonl", reranker=stopped)
    score(source, tmp_path / "s.jsonl", reranker=goes_on)
    asked = stopped.asked + goes_on.asked
    wanted = {(row["text"], row[name]) for row in rows for name in ("text_pos", "text_neg")}
    assert len(stopped.asked) == 16
    assert len(asked) == len(wanted)
    assert set(asked) == wanted
    for row in read_jsonl(tmp_path / "s.jsonl"):
        expected = common_characters([(row["query"], text) for text in row["pos"] + row["neg"]])
        np.testing.assert_allclose(row["pos_scores"] + row["neg_scores"], expected, atol=1e-6)


def test_labels(tmp_path: Path, mini_folder: Path) -> None:
    source = write_jsonl(tmp_path / "t.jsonl", triplets(6))
    report = score(source, tmp_path / "s.jsonl", options=ScoringOptions(labels=True), reranker=common_characters)
    rows = read_jsonl(tmp_path / "s.jsonl")
    assert report.rows_out == len(rows) == 12
    for row in rows:
        expected = common_characters([(row["sentence1"], row["sentence2"])])[0]
        assert row["label"] == pytest.approx(expected, abs=1e-6)
    assert read_records(tmp_path / "s.jsonl").kind is Kind.SCORED_PAIR
    again = score(
        tmp_path / "s.jsonl", tmp_path / "again.jsonl", mini_folder, ScoringOptions(labels=True), embedding=FP32
    )
    assert again.rows_out == 12
    assert [row["sentence2"] for row in read_jsonl(tmp_path / "again.jsonl")] == [row["sentence2"] for row in rows]
    with pytest.raises(DataError, match="--labels"):
        score(tmp_path / "s.jsonl", tmp_path / "x.jsonl", mini_folder)


def test_what_is_refused(tmp_path: Path, mini_folder: Path) -> None:
    source = write_jsonl(tmp_path / "t.jsonl", triplets(4))
    with pytest.raises(SettingsError, match=r"--model .* or --reranker"):
        score(source, tmp_path / "s.jsonl")
    with pytest.raises(SettingsError, match="one teacher"):
        score(source, tmp_path / "s.jsonl", mini_folder, reranker=common_characters)
    with pytest.raises(ModelError, match=r"shape \(1,\) for"):
        score(source, tmp_path / "s.jsonl", reranker=lambda rows: [0.5])
    with pytest.raises(ModelError, match="no reranker folder"):
        score(source, tmp_path / "s.jsonl", reranker="./absent")
    write_jsonl(tmp_path / "s.jsonl", [])
    with pytest.raises(OutputExistsError):
        score(source, tmp_path / "s.jsonl", mini_folder)
