import pytest

from m3e.data.kinds import find_layout
from m3e.data.tables import Table, table_of_rows
from m3e.errors import DataError
from m3e.records import Kind


def layout(*rows, chosen=None):
    lines = list(range(1, len(rows) + 1))
    return find_layout(table_of_rows(list(rows), "f.jsonl", lines=lines), chosen or {})


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({"text": "a", "text_pos": "b"}, Kind.PAIR),
        ({"sentence1": "a", "sentence2": "b"}, Kind.PAIR),
        ({"query": "a", "response": "b"}, Kind.PAIR),
        ({"query": "a", "pos": "b"}, Kind.PAIR),
        ({"text": "a", "text_pos": "b", "label": "news"}, Kind.PAIR),
        ({"text": "a", "text_pos": "b", "text_neg": "c"}, Kind.TRIPLET),
        ({"query": "a", "pos": "b", "neg": "c"}, Kind.TRIPLET),
        ({"query": "a", "pos": "b", "neg": ["c", "d"]}, Kind.TRIPLET),
        ({"query": "a", "response": "b", "rejected_response": "c"}, Kind.TRIPLET),
        ({"query": "a", "response": "b", "rejected_response": ["c"]}, Kind.TRIPLET),
        ({"anchor": "a", "positive": "b", "negative_1": "c", "negative_2": "d"}, Kind.TRIPLET),
        ({"text": "a", "text_pos": "b", "text_neg": "c", "label": 1}, Kind.TRIPLET),
        ({"sentence1": "a", "sentence2": "b", "label": 1}, Kind.SCORED_PAIR),
        ({"sentence1": "a", "sentence2": "b", "score": "0.5"}, Kind.SCORED_PAIR),
        ({"句子1": "a", "句子2": "b", "相似度": "４"}, Kind.SCORED_PAIR),
        ({"text": "a", "text_pos": "b", "label": 0}, Kind.SCORED_PAIR),
        ({"query": "a", "pos": ["b"]}, Kind.RANKED),
        ({"query": "a", "pos": ["b"], "neg": []}, Kind.RANKED),
        ({"query": "a", "pos": ["b"], "neg": ["c"], "score": 3}, Kind.RANKED),
        ({"query": "a", "pos": "b", "neg": ["c"], "neg_scores": [0.1]}, Kind.RANKED),
        ({"query": "a", "positive": ["b", "c"]}, Kind.RANKED),
    ],
)
def test_kind_of_a_row(row, kind):
    assert layout(row).kind is kind


def test_empty_lists_of_negatives_make_rows_ranked():
    rows = [{"query": "a", "response": "b", "rejected_response": found} for found in (["c"], [])]
    assert layout(*rows).kind is Kind.RANKED


def test_one_list_among_strings_does_not_change_the_kind():
    rows = [{"text": "a", "text_pos": found} for found in ("b", ["c"], "d")]
    assert layout(*rows).kind is Kind.PAIR


def test_numbers_beside_pairs_make_scored_pairs_and_are_noted():
    found = layout({"question": "a", "answer": "b", "score": 0.5})
    assert found.kind is Kind.SCORED_PAIR
    assert (
        found.notes[0] == "f.jsonl: read as scored pairs, as the column score holds numbers; without it they are pairs"
    )


def test_notes_name_the_columns_taken_and_those_not_used():
    found = layout({"id": 1, "问题": "a", "答案": "b", "page": "c"})
    assert found.mapping == {"text": "问题", "text_pos": "答案"}
    assert found.notes == ("columns: text <- 问题, text_pos <- 答案", "columns not used: id, page")


def test_many_unused_columns_are_cut():
    row = {"text": "a", "text_pos": "b"} | {f"c{number}": 0 for number in range(15)}
    (note,) = layout(row).notes
    assert note.endswith("c11 and 3 more")


def test_rows_without_a_label_do_not_change_a_scored_file():
    full = {"sentence1": "a", "sentence2": "b", "label": 1}
    hole = {"sentence1": "c", "sentence2": "d"}
    assert layout(hole, full).kind is Kind.SCORED_PAIR
    assert layout(full, hole).kind is Kind.SCORED_PAIR


PAIR = {"text": "a", "text_pos": "b"}
TRIPLET = PAIR | {"text_neg": "c"}
SCORED = {"sentence1": "a", "sentence2": "b", "label": 1}
RANKED = {"query": "a", "pos": ["b"], "neg": ["c"]}


@pytest.mark.parametrize(
    ("rows", "place", "kinds"),
    [
        ((PAIR, PAIR, TRIPLET), 3, ("triplet", "pair")),
        ((TRIPLET, PAIR), 2, ("pair", "triplet")),
        ((PAIR, SCORED), 2, ("scored pair", "pair")),
        ((SCORED, SCORED, SCORED, PAIR), 4, ("pair", "scored pair")),
        ((PAIR, RANKED), 2, ("ranked", "pair")),
        ((RANKED, TRIPLET), 2, ("triplet", "ranked")),
        ((PAIR, PAIR | {"label": 1}), 2, ("scored pair", "pair")),
    ],
)
def test_mixed_kinds_name_the_first_row_that_disagrees(rows, place, kinds):
    with pytest.raises(DataError, match=rf"f\.jsonl, row {place} \(line {place}\) is a {kinds[0]}, .* is a {kinds[1]}"):
        layout(*rows)


def test_one_kind_under_two_pairs_of_names_is_refused():
    with pytest.raises(DataError, match=r"row 2 .*query and response, but row 1 in text and text_pos"):
        layout(PAIR, {"query": "a", "response": "b"})


def test_the_texts_in_different_rows_are_refused():
    with pytest.raises(DataError, match="no row has both texts"):
        layout({"text": "a"}, {"text_pos": "b"})


def test_ranked_rows_may_lack_negatives():
    assert layout(RANKED, {"query": "a", "pos": ["b"]}).kind is Kind.RANKED


def test_numbered_negatives_of_all_rows_are_taken():
    rows = [{"anchor": "a", "positive": "b", f"negative_{number}": "c"} for number in (1, 2)]
    assert layout(*rows).mapping["text_neg"] == "negative_1, negative_2"


@pytest.mark.parametrize("labels", [("entailment", "neutral"), ("矛盾", "蕴含")])
@pytest.mark.parametrize("names", [("sentence1", "sentence2"), ("premise", "hypothesis"), ("text", "text_pos")])
def test_entailment_classes_are_refused(labels, names):
    rows = [{names[0]: "a", names[1]: "b", "label": label} for label in labels]
    with pytest.raises(DataError, match=rf"labels must be numbers.*{labels[0]}.*triplets"):
        layout(*rows)


def test_scored_pairs_without_any_number_are_refused():
    with pytest.raises(DataError, match=r"labels must be numbers.*'similar'"):
        layout({"sentence1": "a", "sentence2": "b", "label": "similar"})


def test_a_blank_label_column_leaves_pairs():
    assert layout({"text": "a", "text_pos": "b", "label": ""}).kind is Kind.PAIR


def test_a_uniform_table_is_told_by_its_columns():
    table = Table("t", ("text", "text_pos"), [{"text": "a", "text_pos": "b"}], is_uniform=True)
    assert find_layout(table, {}).kind is Kind.PAIR
