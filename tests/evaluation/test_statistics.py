import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr
from sklearn.metrics import average_precision_score

from m3e.evaluation import statistics
from m3e.evaluation.statistics import best_pair_interval, mean_interval, spearman_interval


def drawn(counts):
    return np.repeat(np.arange(counts.shape[1]), counts[0].astype(int))


@pytest.fixture
def random():
    return np.random.default_rng(7)


def counts_of(random, size):
    return np.bincount(random.integers(0, size, size), minlength=size)[None].astype(float)


def test_ranks_of_a_resample_are_scipys(random):
    values = random.integers(0, 6, 40).astype(float)
    counts = counts_of(random, 40)
    items = drawn(counts)
    expected = rankdata(values[items])
    centred = statistics._Ranks(values).centred(counts)[0][items]
    np.testing.assert_allclose(centred, expected - expected.mean(), atol=1e-9)


def test_average_precision_of_a_resample_is_sklearns(random):
    scores, labels = random.integers(0, 9, 60) / 9, random.integers(0, 2, 60)
    counts = counts_of(random, 60)
    items = drawn(counts)
    expected = average_precision_score(labels[items], scores[items])
    assert statistics._Curve(scores, labels).ap(counts)[0] == pytest.approx(expected, abs=1e-9)


def test_accuracy_of_a_resample_is_mtebs(random):
    from mteb.abstasks import AbsTaskPairClassification

    scores, labels = random.integers(0, 9, 60) / 9, random.integers(0, 2, 60)
    for counts in (np.ones((1, 60)), counts_of(random, 60)):
        items = drawn(counts)
        expected, _ = AbsTaskPairClassification._find_best_acc_and_threshold(None, scores[items], labels[items], True)
        assert statistics._Curve(scores, labels).accuracy(counts)[0] == pytest.approx(expected, abs=1e-9)


def test_interval_of_a_mean_is_near_the_normal_one(random):
    values = random.normal(0.5, 0.1, 400)
    low, high = mean_interval(values)
    margin = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - margin, abs=0.003)
    assert high == pytest.approx(values.mean() + margin, abs=0.003)


def test_interval_of_a_correlation_holds_it_and_is_seeded(random):
    left = random.normal(size=300)
    right = left + random.normal(size=300)
    interval = spearman_interval(left, right)
    assert interval[0] < spearmanr(left, right)[0] < interval[1]
    assert interval == spearman_interval(left, right)
    assert 0.05 < interval[1] - interval[0] < 0.25


def test_interval_of_pairs_takes_the_best_similarity(random):
    labels = random.integers(0, 2, 200)
    good, noise = labels + random.normal(0, 0.4, 200), random.normal(size=200)
    assert best_pair_interval([good, noise], labels, "ap") == best_pair_interval([good], labels, "ap")


def test_too_few_or_constant_items_have_no_interval():
    assert mean_interval([0.5]) is None
    assert spearman_interval([1.0], [2.0]) is None
    assert spearman_interval([1.0, 1.0, 1.0], [0.0, 1.0, 2.0]) is None
