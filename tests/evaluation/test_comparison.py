import pytest
from stored_results import write_score

from m3e.evaluation.comparison import compare_models
from m3e.evaluation.published import CARD_CLASSIFICATION, published_score
from m3e.evaluation.read_results import read_results

ACCURACY = {"metric": "accuracy", "type": "Classification"}
RANKED = {"metric": "ndcg_at_10", "type": "Retrieval", "category": "s2p"}


def compared(*paths):
    return compare_models(read_results(list(paths)))


def rows(table):
    return {(row.model, row.source): row for row in table.rows}


def test_models_stand_beside_each_other_and_beside_what_was_published(tmp_path):
    write_score(tmp_path, "STSB", 0.70, model="a")
    write_score(tmp_path, "LCQMC", 0.60, model="a")
    write_score(tmp_path, "STSB", 0.75, model="b")
    (table,) = compared(tmp_path).tables
    assert [column.label for column in table.columns] == ["LCQMC", "STSB"]
    found = rows(table)
    assert found["a", ""].values == (0.60, 0.70)
    assert found["b", ""].values == (None, 0.75)
    published = found["multilingual-e5-small", "C-MTEB"]
    assert published.values == (
        published_score("multilingual-e5-small", "LCQMC").score,
        published_score("multilingual-e5-small", "STSB").score,
    )
    # only STSB is common to both, and so it alone makes the averages
    assert table.averaged == ("STSB",)
    assert (found["a", ""].average, found["b", ""].average) == (0.70, 0.75)
    assert published.average == published.values[1]


def test_published_figures_stand_beside_official_splits_only(tmp_path):
    write_score(tmp_path, "STSB", 0.7, official_split=False)
    (table,) = compared(tmp_path).tables
    assert [row.source for row in table.rows] == [""]
    assert table.columns[0].label == "STSB*"


def test_the_cards_eight_columns_and_c_mteb_where_both_have_the_task(tmp_path):
    write_score(tmp_path, "TNews", 0.45, **ACCURACY)
    (table,) = compared(tmp_path).tables
    card = {row.model: row.values[0] for row in table.rows if row.source == "M3E card"}
    assert len(card) == 8
    assert card["moka-ai/m3e-small (2023)"] == 0.4443
    assert rows(table)["moka-ai/m3e-base (2023)", "C-MTEB"].values == (0.4828,)
    assert table.sources() == ["M3E card", "C-MTEB"]


def test_a_published_metric_that_is_not_the_main_one_gets_its_own_column(tmp_path):
    path = write_score(tmp_path, "Ocnli", 0.6, metric="max_accuracy", type="PairClassification")
    path.write_text(path.read_text().replace('"main_score"', '"max_ap": 0.65, "main_score"'))
    (table,) = compared(tmp_path).tables
    assert [(column.label, column.metric, column.main) for column in table.columns] == [
        ("Ocnli", "max_accuracy", True),
        ("Ocnli max_ap", "max_ap", False),
    ]
    assert rows(table)["ours", ""].values == (0.6, 0.65)
    assert rows(table)["bge-large-zh", "C-MTEB"].values == (
        None,
        pytest.approx(published_score("bge-large-zh", "Ocnli").score),
    )
    assert table.averaged == ("Ocnli",)


@pytest.mark.parametrize(
    ("facts", "labels"),
    [
        ({"data_revision": "local-0123456789"}, {"STSB d1", "STSB 01234567"}),
        ({"n": 50}, {"STSB n=100", "STSB n=50"}),
        ({"split": "dev", "official_split": False}, {"STSB test", "STSB dev*"}),
    ],
)
def test_results_of_other_data_are_never_merged(tmp_path, facts, labels):
    write_score(tmp_path / "1", "STSB", 0.7)
    write_score(tmp_path / "2", "STSB", 0.8, **facts)
    (table,) = compared(tmp_path).tables
    assert {column.label for column in table.columns} == labels
    assert sorted(rows(table)["ours", ""].values) == [0.7, 0.8]


def test_a_model_of_another_revision_is_another_model(tmp_path):
    write_score(tmp_path, "STSB", 0.7, revision="aaaa")
    write_score(tmp_path, "STSB", 0.8, revision="bbbb")
    comparison = compared(tmp_path)
    assert set(comparison.models) == {"ours@aaaa", "ours@bbbb"}
    assert {row.values for row in comparison.tables[0].rows if not row.source} == {(0.7,), (0.8,)}


def test_a_model_without_the_kind_leaves_no_gap_in_its_averages(tmp_path):
    write_score(tmp_path, "Mine", 0.5, model="a", **RANKED)
    write_score(tmp_path, "Mine", 0.4, model="bm25", **RANKED)
    write_score(tmp_path, "STSB", 0.7, model="a")
    by_type = {table.type: table for table in compared(tmp_path).tables}
    assert list(by_type) == ["STS", "Retrieval"]
    assert ("bm25", "") not in rows(by_type["STS"])
    assert rows(by_type["STS"])["a", ""].average == 0.7


def test_the_cards_table_of_models(tmp_path):
    for number, task in enumerate(CARD_CLASSIFICATION):
        write_score(tmp_path, task, 0.5 + number / 100, model="whole", parameters=24_000_000, dim=512, **ACCURACY)
    write_score(tmp_path, "T2RRetrieval-1W", 0.71, model="whole", parameters=24_000_000, dim=512, **RANKED)
    write_score(tmp_path, "TNews", 0.4, model="m3e-tiny", **ACCURACY)
    card = {row.model: row for row in compared(tmp_path).card}
    assert list(card)[:2] == ["m3e-tiny", "whole"]
    whole, tiny = card["whole"], card["m3e-tiny"]
    assert (whole.parameters, whole.dim, whole.licence, whole.chinese) == ("24M", "512", "–", "–")
    assert (whole.classification, whole.retrieval) == ("0.5250", "0.7100")
    assert (tiny.dim, tiny.licence, tiny.chinese, tiny.english) == ("384", "Apache-2.0", "yes", "yes")
    assert (tiny.classification, tiny.retrieval) == ("–", "–")  # one of six tasks is no average
    assert (whole.s2s, tiny.s2s) == ("0.500 (1)", "0.400 (1)")  # over TNews, which both have
    assert (whole.s2p, tiny.s2p, whole.s2c) == ("0.710 (1)", "–", "–")
    assert card["moka-ai/m3e-large (2023)"].parameters == "340M"
    assert card["ada-002"].s2c == "yes"


def test_the_cards_averages_want_official_splits(tmp_path):
    for task in CARD_CLASSIFICATION:
        write_score(tmp_path, task, 0.5, official_split=task != "TNews", **ACCURACY)
    assert compared(tmp_path).card[0].classification == "–"


def test_the_cards_figures_stand_beside_uniems_recipe_where_there_is_one(tmp_path):
    write_score(tmp_path / "1", "TNews", 0.45, **ACCURACY)
    write_score(tmp_path / "2", "TNews", 0.47, recipe="uniem", **ACCURACY)
    comparison = compared(tmp_path)
    (table,) = comparison.tables
    assert [column.label for column in table.columns] == ["TNews", "TNews@uniem"]
    found = rows(table)
    assert found["ours", ""].values == (0.45, 0.47)
    assert found["moka-ai/m3e-small (2023)", "M3E card"].values == (None, 0.4443)
    assert found["moka-ai/m3e-base (2023)", "C-MTEB"].values == (0.4828, None)


def test_the_cards_average_takes_uniems_recipe(tmp_path):
    for task in CARD_CLASSIFICATION:
        write_score(tmp_path / "1", task, 0.5, **ACCURACY)
    for task in ("TNews", "IFlyTek"):
        write_score(tmp_path / "2", task, 0.8, recipe="uniem", **ACCURACY)
    assert compared(tmp_path).card[0].classification == "0.6000"


def test_prompts_switched_off_are_a_row_and_no_gap(tmp_path):
    write_score(tmp_path / "1", "STSB", 0.7)
    write_score(tmp_path / "1", "LCQMC", 0.6)
    write_score(tmp_path / "2", "STSB", 0.65, prompts=False)
    comparison = compared(tmp_path)
    (table,) = comparison.tables
    assert comparison.models == ("ours", "ours without prompts")
    assert table.averaged == ("LCQMC", "STSB")
    assert rows(table)["ours", ""].average == pytest.approx(0.65)
    assert rows(table)["ours without prompts", ""].values == (None, 0.65)
    assert rows(table)["ours without prompts", ""].average is None
