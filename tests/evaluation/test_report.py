from rich.console import Console

from m3e.evaluation import Results, TaskScore, results_table
from m3e.evaluation.published import SOURCES, published_score, published_scores
from m3e.evaluation.tasks import CARDS


def score(task, metric="cosine_spearman", *, official=True, scores=None):
    return TaskScore(task, "test", metric, 0.75, {metric: 0.75, **(scores or {})}, (0.7, 0.8), 100, official)


def lines(model, *scores):
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(results_table(Results(model, "r", list(scores), {})))
    return capture.get().splitlines()


def test_published_scores_stand_beside_official_splits_of_the_same_model():
    printed = lines("e5-small", score("STSB"))
    assert any("STSB" in line and "0.7500" in line and "0.7773" in line for line in printed)


def test_no_published_score_beside_other_rows_or_other_models():
    printed = "\n".join(lines("e5-small", score("BQ", official=False), score("LCQMC")))
    assert "0.4327" not in printed
    assert "not official" in printed
    assert "0.7270" in printed
    assert "published" not in "\n".join(lines("m3e-small", score("STSB")))
    assert "published" not in "\n".join(lines("m3e-base", score("STSB")))  # the 2023 model has another name


def test_another_metric_of_the_publication_gets_its_own_row():
    printed = lines("e5-small", score("Ocnli", "max_accuracy", scores={"max_ap": 0.61}))
    main = next(line for line in printed if "max_accuracy" in line)
    other = next(line for line in printed if "max_ap" in line)
    assert "0.6077" not in main
    assert "0.6100" in other
    assert "0.6077" in other


def test_published_scores_are_shares_with_a_source():
    assert len(published_scores()) > 400
    assert all(0 < item.score < 1 and item.source in SOURCES for item in published_scores())
    assert published_score("moka-ai/m3e-base (2023)", "TNews").score == 0.4828
    assert published_score("m3e-base", "TNews") is None
    named = {item.task for item in published_scores()}
    assert {card.name for card in CARDS if card.mteb and card.language == "zh"} <= named


def test_results_keep_official_rows_only():
    results = Results("e5-small", "r", [score("STSB"), score("BQ", official=False)], {})
    assert set(results.published()) == {"STSB"}
