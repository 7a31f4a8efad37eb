"""Near-duplicates, against Jaccard similarities counted one by one."""

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from m3e.data.keys import text_key
from m3e.data.near import HASHES, Signatures, near_duplicates
from m3e.data.pipeline import EvaluationTexts, PipelineOptions, SetPlan, Staged, stage
from m3e.data.verdicts import decide

OPTIONS = PipelineOptions(normalise=False, filters=None, duplicates=False)
LETTERS = [chr(point) for point in range(0x4E00, 0x5400)]

Row = tuple[str, str] | tuple[str, str, float]


def staged_rows(folder: Path, rows: Sequence[Row], name: str = "a", kind: str = "", **facts) -> Staged:
    kind = kind or ("scored_pair" if len(rows[0]) == 3 else "pair")

    def read(account):
        for query, passage, *label in rows:
            yield kind, {"query": query, "positives": [passage], "negatives": [], "label": label[0] if label else None}

    return stage(SetPlan(name, read, 0, **facts), OPTIONS, EvaluationTexts(), folder / name, "0")


def dropped(folder: Path, *sets: Staged, threshold: float = 0.8) -> list[list[int]]:
    options = PipelineOptions(normalise=False, filters=None, duplicates=False, near_duplicates=threshold)
    return [np.flatnonzero(verdicts).tolist() for verdicts in decide(sets, options)]


@cache
def shingles(text: str) -> set[str]:
    key = text_key(text)
    return {key[start : start + 3] for start in range(len(key) - 2)} if len(key) >= 10 else {key}


def jaccard(one: str, other: str) -> float:
    first, second = shingles(one), shingles(other)
    return len(first & second) / len(first | second)


def likeness(one: Row, other: Row) -> float:
    first = jaccard(one[0], other[0])
    return first and min(first, jaccard(one[1], other[1]))


def random_text(rng: random.Random, size: int) -> str:
    return "".join(rng.choices(LETTERS, k=size))


def edited(rng: random.Random, text: str, edits: int) -> str:
    letters = list(text)
    for position in rng.sample(range(len(letters)), edits):
        letters[position] = rng.choice(LETTERS)
    return "".join(letters)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], Staged]:
    rng = random.Random(7)
    rows: list[Row] = []
    for number in range(100):
        query, passage = random_text(rng, rng.randint(20, 60)), random_text(rng, rng.randint(100, 300))
        rows.append((query, passage))
        edits = (0, 1, 1, 2, 2, 3, 5, 10, 25, 40)[number % 10]
        rows.append((query if rng.random() < 0.8 else edited(rng, query, 1), edited(rng, passage, edits)))
        rows.append((edited(rng, query, len(query) // 10), passage))  # of the questions, half is the same
        if rng.random() < 0.5:
            rows.append((random_text(rng, 30), passage))
    rng.shuffle(rows)
    return rows, staged_rows(tmp_path_factory.mktemp("near"), rows)


def test_what_is_dropped_is_what_is_alike(planted: tuple[list[Row], Staged], tmp_path: Path) -> None:
    rows, staged = planted
    gone = set(dropped(tmp_path, staged)[0])
    best = [max((likeness(row, other) for other in rows[:number]), default=0.0) for number, row in enumerate(rows)]
    surely = [n for n, like in enumerate(best) if like >= 0.95]
    nearly = [n for n, like in enumerate(best) if like >= 0.9]
    unlike = [n for n, like in enumerate(best) if like < 0.6]
    assert (len(surely) > 20, len(nearly) > 40, len(unlike) > 150) == (True, True, True)
    assert gone.issuperset(surely)
    assert len(gone & set(nearly)) >= 0.95 * len(nearly)  # 63 hashes estimate 0.9 as 0.9 ± 0.04
    assert not gone & set(unlike)


def test_a_lower_threshold_drops_more(planted: tuple[list[Row], Staged], tmp_path: Path) -> None:
    _, staged = planted
    strict, middle, loose = (len(dropped(tmp_path, staged, threshold=threshold)[0]) for threshold in (0.95, 0.8, 0.6))
    assert 10 < strict < middle - 10 < loose - 20


def test_a_second_run_finds_nothing(planted: tuple[list[Row], Staged], tmp_path: Path) -> None:
    rows, staged = planted
    gone = set(dropped(tmp_path, staged)[0])
    kept = [row for number, row in enumerate(rows) if number not in gone]
    assert dropped(tmp_path, staged_rows(tmp_path, kept)) == [[]]


def test_many_questions_about_one_passage_all_stay(tmp_path: Path) -> None:
    rng = random.Random(1)
    passage = random_text(rng, 200)
    rows = [(random_text(rng, 20), passage) for _ in range(40)]
    rows += [(rows[0][0], random_text(rng, 200))]
    rows += [(rows[3][0], edited(rng, passage, 1))]
    assert dropped(tmp_path, staged_rows(tmp_path, rows)) == [[41]]


def test_short_sides_are_alike_only_where_equal(tmp_path: Path) -> None:
    passage = random_text(random.Random(2), 100)
    rows = [("一二三四五六七八九", passage), ("一二三四五六七八十", passage), ("一二三，四五六七八九！", passage)]
    assert dropped(tmp_path, staged_rows(tmp_path, rows)) == [[2]]


def test_swapped_sides_are_alike_where_the_set_is_symmetric(tmp_path: Path) -> None:
    rng = random.Random(3)
    one, other = random_text(rng, 80), random_text(rng, 80)
    rows = [(one, other), (other, one), (other, one[:-1] + "完")]
    assert dropped(tmp_path, staged_rows(tmp_path, rows, "symmetric", symmetric=True)) == [[1, 2]]
    assert dropped(tmp_path, staged_rows(tmp_path, rows, "directed")) == [[2]]


def test_rows_of_different_labels_are_never_alike(tmp_path: Path) -> None:
    rng = random.Random(4)
    one, other = random_text(rng, 80), random_text(rng, 80)
    rows = [(one, other, 1.0), (one, other[:-1] + "完", 0.0), (other[:-1] + "完", one, 1.0), (one, other, 0.5)]
    assert dropped(tmp_path, staged_rows(tmp_path, rows)) == [[2]]


def test_a_pair_is_not_alike_to_a_scored_pair_or_a_single_text(tmp_path: Path) -> None:
    rng = random.Random(5)
    one, other = random_text(rng, 80), random_text(rng, 80)
    pairs = staged_rows(tmp_path, [(one, other)], "pairs", symmetric=True)
    scored = staged_rows(tmp_path, [(one, other, 0.0)], "scored")  # 0: they are not alike at all
    assert dropped(tmp_path, pairs, scored) == [[], []]


def test_the_best_set_s_row_stays(tmp_path: Path) -> None:
    rng = random.Random(6)
    rows = [(random_text(rng, 40), random_text(rng, 120)) for _ in range(6)]
    near = [(query, passage[:-1] + "完") for query, passage in rows]
    low = staged_rows(tmp_path, rows, "low", quality="low")
    medium = staged_rows(tmp_path, near[:3], "medium")
    high = staged_rows(tmp_path, rows[2:5], "high", quality="high")
    assert dropped(tmp_path, low, medium, high) == [[0, 1, 2, 3, 4], [2], []]


def test_only_a_row_that_stays_drops_others(tmp_path: Path) -> None:
    """Of chains, each link like its neighbours only, rows are kept and dropped in turn, not all but the first."""
    rng = random.Random(8)
    rows = []
    for chain in range(30):
        letters = list(random_text(rng, 100))
        for step in range(25):
            rows.append((f"同一个很长很长的问题是什么{chain}", "".join(letters)))
            letters[(step * 37) % 100] = rng.choice(LETTERS)
    rng.shuffle(rows)
    staged = staged_rows(tmp_path, rows)
    gone = dropped(tmp_path, staged)[0]
    kept = [number for number in range(len(rows)) if number not in set(gone)]
    assert 60 < len(kept) < 400
    hashes = staged.signatures.hashes()

    def alike(number: int, others: list[int]) -> np.ndarray:
        equal = hashes[others] == hashes[number]
        return (equal[:, :HASHES].sum(axis=1) >= 51) & (equal[:, HASHES:].sum(axis=1) >= 51)

    for number in gone:
        assert alike(number, [before for before in kept if before < number]).any()
    assert dropped(tmp_path, staged_rows(tmp_path, [rows[number] for number in kept], "again")) == [[]]


def test_hundreds_of_equal_and_nearly_equal_rows(tmp_path: Path) -> None:
    rng = random.Random(9)
    families = [(random_text(rng, 30), random_text(rng, 150)) for _ in range(12)]
    rows = [(query, edited(rng, passage, rng.choice([0, 0, 0, 1]))) for query, passage in families * 50]
    # one question, many passages: one bucket in a band's left half only
    rows += [(families[0][0], random_text(rng, 100)) for _ in range(200)]
    kept = set(range(len(rows))) - set(dropped(tmp_path, staged_rows(tmp_path, rows))[0])
    assert kept.issuperset(range(600, 800))
    assert 12 <= len(kept) - 200 <= 16
    assert {number % 12 for number in kept if number < 600} == set(range(12))


def test_signatures_on_disk(tmp_path: Path) -> None:
    signatures = Signatures.create(tmp_path, 3)
    left = np.arange(3 * HASHES, dtype=np.uint32).reshape(3, HASHES) + 70_000
    right = left + 5
    signatures.put(np.array([2, 0]), left[[2, 0]], right[[2, 0]], np.zeros(2, np.uint64))
    signatures.put(np.array([], np.int64), left[:0], right[:0], np.zeros(0, np.uint64))
    assert signatures.hashes()[2].tolist() == [*(left[2] & 0xFFFF).tolist(), *(right[2] & 0xFFFF).tolist()]
    assert signatures.hashes()[1].tolist() == [0] * 2 * HASHES
    assert len({int(signatures.band(band)[0]) for band in range(21)}) == 21
    other = Signatures.create(tmp_path, 1)
    other.put(np.array([0]), left[[2]], right[[2]], np.ones(1, np.uint64))
    assert other.band(0)[0] != signatures.band(0)[2]


def test_only_rows_that_take_part_are_compared(tmp_path: Path) -> None:
    rng = random.Random(10)
    row = (random_text(rng, 40), random_text(rng, 80))
    signatures = [staged_rows(tmp_path, [row, row, row]).signatures]
    assert near_duplicates(signatures, np.empty(0, np.uint32)).tolist() == [False, False, False]
    assert near_duplicates(signatures, np.array([2, 0], np.uint32)).tolist() == [True, False, False]
