import pytest
from evaluation_sets import Ranker, write_collection, write_pairs

import m3e
from m3e.evaluation.speed import watch_encoding


class Slow:
    def encode(self, texts):
        import time

        time.sleep(0.02)
        return [0.0 for _ in texts]


def test_texts_and_seconds_are_counted_inside_the_block():
    model = Slow()
    with watch_encoding(model) as speed:
        model.encode(["a"] * 3)
        model.encode(["a"] * 5)
    assert speed.texts == 8
    assert speed.texts_per_second == pytest.approx(8 / speed.seconds)
    assert speed.texts_per_second < 8 / 0.04
    model.encode(["a"])
    assert speed.texts == 8
    assert "encode" not in vars(model)


def test_results_carry_it_where_something_was_encoded(tmp_path, mini):
    write_pairs(tmp_path / "like.test.parquet")
    score = m3e.evaluate(mini, suite="local", data=tmp_path).results[0]
    assert score.texts_per_second > 0
    write_collection(tmp_path / "r", "find.test")
    scores = {(query, f"d{index}"): 0.0 for query in ("q1", "q2", "q3", "q4") for index in range(15)}
    assert m3e.evaluate(Ranker(scores), suite="local", data=tmp_path / "r").results[0].texts_per_second is None
