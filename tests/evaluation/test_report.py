from dataclasses import replace

import pytest
from rich.console import Console
from stored_results import write_score

from m3e.evaluation import Results, TaskScore, results_table
from m3e.evaluation.comparison import compare_models
from m3e.evaluation.published import (
    CARD_CLASSIFICATION,
    CARD_RETRIEVAL,
    SOURCES,
    card_models,
    published_score,
    published_scores,
)
from m3e.evaluation.read_results import read_results
from m3e.evaluation.report import card_table, footnotes, kind_tables, report_json
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


def test_the_share_seen_in_training_stands_last_where_it_is_known():
    printed = lines("ours", replace(score("STSB"), contamination=0.0213), score("LCQMC"))
    assert any("STSB" in line and line.rstrip("│ ").endswith("2.1 %") for line in printed)
    assert not any("LCQMC" in line and "%" in line for line in printed)
    assert "seen" not in "\n".join(lines("ours", score("STSB")))


def test_the_cards_figures_are_all_there():
    """102 figures of eight models; a few by hand against the card, and its averages."""
    card = [item for item in published_scores() if item.source == "M3E card"]
    assert len(card) == 8 * 12 + 3 * 2
    models = list(dict.fromkeys(item.model for item in card))
    assert models == [
        "text2vec",
        "moka-ai/m3e-small (2023)",
        "moka-ai/m3e-base (2023)",
        "moka-ai/m3e-large (2023)",
        "ada-002",
        "DMetaSoul",
        "uer",
        "erlangshen",
    ]
    by_place = {(item.model, item.task, item.metric): item.score for item in card}
    assert by_place["moka-ai/m3e-base (2023)", "T2RRetrieval-1W", "ndcg_at_10"] == 0.8004
    assert by_place["moka-ai/m3e-base (2023)", "T2RRetrieval-50W", "ndcg_at_10"] == 0.4736
    assert by_place["erlangshen", "GubaEastmoney", "accuracy"] == 0.7787
    assert by_place["uer", "T2RRetrieval-1W", "mrr_at_10"] == 0.1452
    means = [sum(by_place[model, task, "accuracy"] for task in CARD_CLASSIFICATION) / 6 for model in models]
    assert means == pytest.approx([0.5755, 0.5834, 0.6157, 0.6231, 0.5956, 0.5520, 0.5723, 0.5945], abs=1e-4)
    for row in card_models():
        assert row.classification == pytest.approx(means[models.index(row.model)], abs=1e-4)
        assert row.retrieval == by_place[row.model, CARD_RETRIEVAL, "ndcg_at_10"]


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


def printed(table, width=120):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_models_by_tasks_fit_the_terminal(tmp_path):
    for number in range(12):
        write_score(tmp_path, f"Task{number:02}", 0.5 + number / 100, model="odd[/] name", contamination=0.5)
    comparison = compare_models(read_results([tmp_path]))
    parts = [printed(table, 100) for table in kind_tables(comparison.tables[0], 100)]
    assert len(parts) > 1
    assert all(len(line) <= 100 for part in parts for line in part.splitlines())
    whole = "\n".join(parts)
    assert all(f"{0.5 + number / 100:.4f}" in whole and f"Task{number:02}" in whole for number in range(12))
    assert whole.count("average") == 1
    assert "odd[/] name" in whole
    assert ".480–.520" in whole
    assert "seen 50.0 %" in whole


def test_the_cards_table_fits_a_terminal_of_120(tmp_path):
    write_score(tmp_path, "STSB", 0.7, model="m3e-tiny")
    text = printed(card_table(compare_models(read_results([tmp_path])).card))
    assert all(len(line) <= 120 for line in text.splitlines())
    assert "…" not in text
    base = next(line for line in text.splitlines() if "m3e-base (2023)" in line)
    cells = " ".join(base.split())
    assert cells == "moka-ai/m3e-base (2023) [2] 110M 768 yes yes yes yes no research 0.6157 0.8004"


def test_sources_are_named_where_their_figures_stand(tmp_path):
    write_score(tmp_path, "STSB", 0.7, official_split=False)
    notes = "\n".join(footnotes(compare_models(read_results([tmp_path]))))
    assert "C-MTEB:" not in notes
    assert "[2] M3E card: https://" in notes  # its table of models is always there
    assert "not mteb's rows or split" in notes
    write_score(tmp_path, "LCQMC", 0.7)
    assert f"[1] C-MTEB: {SOURCES['C-MTEB']}" in footnotes(compare_models(read_results([tmp_path])))


def test_the_json_holds_what_is_printed(tmp_path):
    import json

    write_score(tmp_path, "STSB", 0.7, contamination=0.25)
    comparison = compare_models(read_results([tmp_path]))
    value = json.loads(json.dumps(report_json(comparison, None, {"x.json": "cut"}), allow_nan=False))
    assert value["models"] == ["ours"]
    assert value["problems"] == {"x.json": "cut"}
    assert value["paired"] is None
    table = value["tables"][0]
    assert (table["type"], table["averaged"]) == ("STS", ["STSB"])
    assert table["columns"][0]["data_revision"] == "d1"
    ours = table["rows"][0]
    assert (ours["source"], ours["values"], ours["average"], ours["contamination"]) == (None, [0.7], 0.7, [0.25])
    assert {row["source"] for row in table["rows"][1:]} == {"C-MTEB"}
