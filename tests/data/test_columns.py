import pytest

from m3e.data.columns import PART_OF_FIELD, Part, check_chosen, mapping_of, match_columns, normal_name, require_texts
from m3e.errors import DataError
from m3e.records import Kind


def match(*columns, chosen=None, **options):
    parts = match_columns(columns, chosen or {}, "f.csv", **options)
    return {part.name.lower(): ",".join(found) for part, found in parts.items()}


@pytest.mark.parametrize(
    ("columns", "query", "positive"),
    [
        (("text", "text_pos"), "text", "text_pos"),
        (("sentence1", "sentence2"), "sentence1", "sentence2"),
        (("query", "pos"), "query", "pos"),
        (("anchor", "positive"), "anchor", "positive"),
        (("sentence_A", "sentence_B"), "sentence_A", "sentence_B"),
        (("question", "answer"), "question", "answer"),
        (("query", "response"), "query", "response"),
        (("query", "document"), "query", "document"),
        (("query", "passage"), "query", "passage"),
        (("question", "context"), "question", "context"),
        (("instruction", "output"), "instruction", "output"),
        (("prompt", "chosen"), "prompt", "chosen"),
        (("premise", "hypothesis"), "premise", "hypothesis"),
        (("title", "body"), "title", "body"),
        (("问题", "答案"), "问题", "答案"),
        (("问", "答"), "问", "答"),
        (("标准问", "相似问"), "标准问", "相似问"),
        (("标题", "正文"), "标题", "正文"),
        (("标题", "内容"), "标题", "内容"),
        (("句子1", "句子2"), "句子1", "句子2"),
        (("查询", "文档"), "查询", "文档"),
        (("查询", "正例"), "查询", "正例"),
        (("TEXT", "Text_Pos"), "TEXT", "Text_Pos"),
        (("Text", "text-pos"), "Text", "text-pos"),
        (("ｔｅｘｔ", "ｔｅｘｔ＿ｐｏｓ"), "ｔｅｘｔ", "ｔｅｘｔ＿ｐｏｓ"),
        (("句子１", "句子２"), "句子１", "句子２"),
        (("Sentence 1", "sentence　2"), "Sentence 1", "sentence　2"),
    ],
)
def test_known_names_in_any_order(columns, query, positive):
    for names in (columns, columns[::-1], ("id", *columns, "page")):
        assert match(*names) == {"query": query, "positive": positive}


@pytest.mark.parametrize("name", ["label", "score", "labels", "标签", "分数", "相似度", "Score", "similarity_score"])
def test_known_label_names(name):
    assert match("sentence1", "sentence2", name)["label"] == name


@pytest.mark.parametrize("name", ["negative", "rejected_response", "rejected", "text_neg", "neg", "反例", "负例"])
def test_known_negative_names(name):
    assert match("query", "positive", name)["negative"] == name


def test_numbered_negatives_are_taken_in_the_order_of_their_numbers():
    names = ["negative_10", "negative_2", "negative_1"]
    assert match("anchor", *names, "positive")["negative"] == "negative_1,negative_2,negative_10"
    assert match("text", "text_pos", "text_neg_2", "text_neg_1")["negative"] == "text_neg_1,text_neg_2"


def test_record_fields_win_over_other_names():
    assert match("answer", "text", "title", "text_pos") == {"query": "text", "positive": "text_pos"}
    assert match("score", "sentence1", "sentence2", "label")["label"] == "label"
    assert match("Text", "text", "text_pos")["query"] == "text"


def test_fields_of_the_first_kind_that_is_complete_win():
    columns = ("query", "pos", "text", "text_pos")
    assert match(*columns) == {"query": "text", "positive": "text_pos"}
    assert match("query", "pos", "text") == {"query": "query", "positive": "pos"}
    assert match("text", "sentence1", "sentence2") == {"query": "sentence1", "positive": "sentence2"}


@pytest.mark.parametrize(
    ("columns", "claimants", "field"),
    [
        (("问题", "答案", "回复"), ("答案", "回复"), "text_pos"),
        (("question", "title", "answer"), ("question", "title"), "text"),
        (("text", "query", "answer"), ("text", "query"), "text"),
        (("Text", "TEXT", "text_pos"), ("Text", "TEXT"), "text"),
        (("sentence1", "sentence2", "score", "相似度"), ("score", "相似度"), "label"),
        (("text", "text_pos", "negative", "rejected"), ("negative", "rejected"), "text_neg"),
        (("text", "text_pos", "negative_1", "rejected_1"), ("negative_1", "rejected_1"), "text_neg"),
    ],
)
def test_two_claimants_are_refused(columns, claimants, field):
    with pytest.raises(DataError, match=f"--column {field}=NAME") as caught:
        match(*columns)
    assert all(repr(name) in str(caught.value) for name in claimants)


def test_an_empty_column_is_no_claimant():
    columns = ("instruction", "input", "output")
    assert match(*columns, is_empty=lambda column: column == "input")["query"] == "instruction"
    with pytest.raises(DataError, match="'instruction' and 'input'"):
        match(*columns)


def test_the_users_choice_wins():
    assert match("问题", "答案", "回复", chosen={"text_pos": "回复"}) == {"query": "问题", "positive": "回复"}
    assert match("text", "text_pos", chosen={"text": "text_pos", "text_pos": "text"}) == {
        "query": "text_pos",
        "positive": "text",
    }
    assert match("a1", "b1", "label", chosen={"sentence1": "a1", "sentence2": "b1"}) == {
        "query": "a1",
        "positive": "b1",
        "label": "label",
    }


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"txt": "问题"}, "there is no field 'txt'; fields: text, text_pos"),
        ({"text": "问"}, "there is no column '问'.*columns found: 问题, 答案"),
        ({"text": "问题", "query": "答案"}, "text=… and query=… name the same part"),
        ({"text": "问题", "text_pos": "问题"}, "cannot be both text and text_pos"),
    ],
)
def test_impossible_choices_are_refused(chosen, words):
    with pytest.raises(DataError, match=words):
        check_chosen(chosen, ["问题", "答案"], "f.csv")


def test_a_missing_text_names_what_was_found_and_what_would_do():
    with pytest.raises(DataError) as caught:
        require_texts({Part.QUERY: ("问题",)}, ["问题", "备注"], "f.csv")
    for words in ("f.csv", "问题, 备注", "text + text_pos", "--column text_pos=NAME"):
        assert words in str(caught.value)


def test_mapping_has_only_names_that_differ():
    parts = {Part.QUERY: ("问题",), Part.POSITIVE: ("text_pos",), Part.NEGATIVE: ("n_1", "n_2")}
    assert mapping_of(parts, Kind.TRIPLET) == {"text": "问题", "text_neg": "n_1, n_2"}


def test_every_field_names_its_own_part():
    for field, part in PART_OF_FIELD.items():
        assert match_columns([field], {}, "f") == {part: (field,)}


def test_normal_names():
    assert normal_name(" Ｔｅｘｔ＿Pos　") == "textpos"
