import itertools

import numpy as np
import pytest
from scipy.stats import permutation_test, spearmanr
from stored_results import evaluate_two, query_items, write_score

from m3e.errors import SettingsError
from m3e.evaluation import statistics
from m3e.evaluation.paired import compare
from m3e.evaluation.read_results import read_results
from m3e.evaluation.statistics import PERMUTATIONS, bootstrap_p, sign_flip_p

RETRIEVAL = {"metric": "ndcg_at_10", "type": "Retrieval", "category": "s2p"}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    return read_results([evaluate_two(tmp_path_factory.mktemp("two"))])


def write_queries(folder, model, values, **facts):
    items = query_items({f"q{index}": value for index, value in enumerate(values)})
    facts = {"n": len(values), **RETRIEVAL, **facts}
    write_score(folder, "Set", float(np.mean(values)), model=model, items=items, **facts)


def test_sign_flips_are_scipys_and_all_of_them_for_few_items():
    gaps = np.asarray([0.3, -0.1, 0.25, 0.0, 0.4, 0.15, -0.05, 0.2])
    expected = permutation_test((gaps,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=False)
    assert sign_flip_p(gaps) == pytest.approx(expected.pvalue, abs=1e-12)
    by_hand = [abs(np.dot(signs, gaps)) for signs in itertools.product((-1, 1), repeat=8)]
    assert sign_flip_p(gaps) == pytest.approx(np.mean(np.asarray(by_hand) >= abs(gaps.sum()) - 1e-9))


def test_random_sign_flips_come_near_the_normal_tail_and_are_seeded():
    gaps = np.random.default_rng(3).normal(0.02, 0.2, 400)
    p = sign_flip_p(gaps)
    z = gaps.sum() / np.sqrt((gaps**2).sum())
    from scipy.stats import norm

    assert p == pytest.approx(2 * norm.sf(abs(z)), abs=0.015)
    assert p == sign_flip_p(gaps) == sign_flip_p(-gaps)
    assert sign_flip_p(np.full(400, 0.1)) == pytest.approx(1 / (PERMUTATIONS + 1))


def test_models_that_are_alike_are_no_surprise():
    assert sign_flip_p([0.0, 0.0]) == 1.0
    assert bootstrap_p(np.zeros(10)) == 1.0
    assert bootstrap_p(np.ones(999)) == pytest.approx(0.002)


def test_queries_are_paired_by_id_whatever_their_order(tmp_path):
    random = np.random.default_rng(0)
    base = random.uniform(0, 0.8, 60)
    gain = random.normal(0.05, 0.05, 60)
    write_queries(tmp_path, "a", base)
    order = random.permutation(60)
    items = query_items({f"q{index}": float((base + gain)[index]) for index in order})
    write_score(tmp_path, "Set", float((base + gain).mean()), model="b", items=items, n=60, **RETRIEVAL)
    test = compare(read_results([tmp_path]), "a", "b").tests[0]
    assert test.difference == pytest.approx(gain.mean())
    assert [row["id"] for row in test.differences] == sorted(f"q{index}" for index in range(60))
    np.testing.assert_allclose(
        [row["difference"] for row in test.differences], [gain[int(row["id"][1:])] for row in test.differences]
    )
    low, high = test.ci95
    margin = 1.96 * gain.std() / np.sqrt(60)
    assert (low, high) == pytest.approx((gain.mean() - margin, gain.mean() + margin), abs=0.003)
    assert (test.n, test.unit, test.method, test.clear) == (60, "queries", "sign flip", True)
    points = f"{gain.mean() * 100:.1f}"
    assert test.sentence.startswith(f"b is better by {points} points (95 % interval ")
    assert test.sentence.endswith("n = 60 queries, p < 0.001")
    back = compare(read_results([tmp_path]), "b", "a").tests[0]
    assert back.sentence == test.sentence  # whoever is named first
    assert back.difference == pytest.approx(-gain.mean())


def test_a_difference_that_could_be_chance_is_said_to_be(tmp_path):
    values = np.random.default_rng(1).uniform(0, 1, 40)
    write_queries(tmp_path, "a", values)
    write_queries(tmp_path, "b", values[::-1] + 0.001)
    test = compare(read_results([tmp_path]), "a", "b").tests[0]
    assert not test.clear
    assert test.p > 0.5
    assert test.sentence.startswith("no clear difference: b is 0.1 points above a (95 % interval −")
    write_queries(tmp_path, "b", values)
    assert compare(read_results([tmp_path]), "a", "b").tests[0].sentence.startswith("no difference (95 % interval 0.0")


def test_every_kind_of_task_is_compared(two):
    paired = compare(two, "mini-a", "mini-b")
    assert paired.refused == {}
    tests = {test.task: test for test in paired.tests}
    facts = {name: (test.metric, test.unit, test.n, test.method) for name, test in tests.items()}
    assert facts == {
        "like.test": ("cosine_spearman", "pairs", 15, "bootstrap"),
        "same.test": ("max_ap", "pairs", 15, "bootstrap"),
        "mood.test": ("accuracy", "experiments", 10, "sign flip"),
        "find.test": ("ndcg_at_10", "queries", 4, "sign flip"),
    }
    for test in tests.values():
        assert test.ci95[0] <= test.difference + 1e-9
        assert test.difference <= test.ci95[1] + 1e-9
        assert 0 < test.p <= 1
    assert "training rows" in tests["mood.test"].sentence
    assert "by bootstrap" in tests["like.test"].sentence
    assert len(tests["find.test"].differences) == 4
    assert tests["like.test"].differences == []
    assert compare(two, "mini-a", "mini-b") == paired  # seeded


def test_the_interval_of_spearmans_difference_is_a_plain_loops(two, tmp_path):
    import pyarrow.parquet as pq

    paired = compare(two, "mini-a", "mini-b")
    test = next(test for test in paired.tests if test.task == "like.test")
    a, b = (
        pq.read_table(item.items).to_pydict()
        for name in ("mini-a", "mini-b")
        for item in two.results
        if (item.model, item.score.task) == (name, "like.test")
    )
    gaps = []
    for counts in np.concatenate(list(statistics._resamples(15))):
        drawn = np.repeat(np.arange(15), counts.astype(int))
        values = [
            spearmanr(np.asarray(side["cosine"])[drawn], np.asarray(side["label"])[drawn]).statistic for side in (a, b)
        ]
        gaps.append(values[1] - values[0])
    assert test.ci95 == pytest.approx(tuple(np.percentile(gaps, [2.5, 97.5])), abs=1e-6)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"data_revision": "d2"}, r"data revision differs \(d1 and d2\)"),
        ({"split": "dev"}, r"split differs \(test and dev\)"),
        ({"n": 3}, r"size differs \(4 and 3\)"),
        ({"official_split": False}, r"mteb's protocol differs \(kept and not kept\)"),
        ({"metric": "map_at_1000"}, "not the same metric: ndcg_at_10 and map_at_1000"),
    ],
)
def test_other_data_is_refused_by_name(tmp_path, facts, words):
    import re

    write_queries(tmp_path, "a", [0.1, 0.2, 0.3, 0.4])
    write_queries(tmp_path, "b", [0.1, 0.2, 0.3, 0.4], **facts)
    paired = compare(read_results([tmp_path]), "a", "b")
    assert paired.tests == []
    assert re.search(words, paired.refused["Set"])


def test_other_items_are_refused_by_name(tmp_path):
    write_queries(tmp_path, "a", [0.2, 0.4])
    for items, words in (
        (query_items({"q0": 0.2, "q9": 0.4}), "2 are in one only, the first is q1"),
        ({"cosine": [0.2, 0.4], "label": [0.0, 1.0]}, "one has queries"),
        (query_items({"q0": 0.9, "q1": 0.9}), "gives 0.9000 where Set.json says 0.3000; evaluate b again"),
    ):
        write_score(tmp_path, "Set", 0.3, model="b", items=items, **RETRIEVAL | {"n": 2})
        assert words in compare(read_results([tmp_path]), "a", "b").refused["Set"]
    (tmp_path / "b" / "r1" / "Set.parquet").write_bytes(b"PAR1 no more")
    assert "cannot be read" in compare(read_results([tmp_path]), "a", "b").refused["Set"]


def test_without_items_only_the_difference_is_said(tmp_path):
    for name, value in (("a", 0.4), ("b", 0.5)):
        write_score(tmp_path, "Groups", value, model=name, metric="v_measure", type="Clustering")
    test = compare(read_results([tmp_path]), "a", "b").tests[0]
    assert (test.method, test.ci95, test.p, test.clear) == ("none", None, None, False)
    assert "b scores 10.0 points higher than a; this task keeps no scores of single items" in test.sentence


def test_what_cannot_be_compared_at_all(tmp_path):
    write_score(tmp_path, "STSB", 0.5, model="a")
    write_score(tmp_path, "LCQMC", 0.5, model="b")
    read = read_results([tmp_path])
    with pytest.raises(SettingsError, match="no task in common"):
        compare(read, "a", "b")
    with pytest.raises(SettingsError, match="one model"):
        compare(read, "a", "a")
