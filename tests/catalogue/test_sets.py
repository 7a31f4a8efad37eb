"""The cards that ship: what the M3E card says of its 29 sets, and what may be trained on."""

from __future__ import annotations

import re
import tomllib

import pytest

from m3e.catalogue.cards import CONVERSIONS, DatasetCard, columns_of
from m3e.catalogue.shelf import SETS, filter_cards, find_card, shipped_cards

M3E = {
    "cmrc2018": 14363,
    "belle_2m": 2000000,
    "firefily": 1649399,
    "alpaca_gpt4": 48818,
    "zhihu_kol": 1006218,
    "hc3_chinese": 39781,
    "amazon_reviews_multi": 210000,
    "mlqa": 85853,
    "xlsum": 93404,
    "ocnli": 17726,
    "BQ": 60000,
    "lcqmc": 149226,
    "paws-x": 23576,
    "wiki_atomic_edit": 1213780,
    "chatmed_consult": 549326,
    "webqa": 42216,
    "dureader_robust": 65937,
    "csl": 395927,
    "miracl-corpus": 4934368,
    "lawzhidao": 36368,
    "CINLID": 34746,
    "DuSQL": 25003,
    "Zhuiyi-NL2SQL": 45918,
    "Cspider": 7785,
    "news2016zh": 2507549,
    "baike2018qa": 1470142,
    "webtext2019zh": 4258310,
    "SimCLUE": 775593,
    "Chinese-SQuAD": 76449,
}
SEED_YES = [
    "paws-x",
    "dureader_robust",
    "csl",
    "miracl-corpus",
    "lawzhidao",
    "news2016zh",
    "baike2018qa",
    "webtext2019zh",
]
SEED_UNKNOWN = ["firefily", "zhihu_kol", "hc3_chinese", "mlqa", "wiki_atomic_edit", "webqa"]
WITHOUT_SCRIPT = [
    "lawzhidao",
    "CINLID",
    "DuSQL",
    "Zhuiyi-NL2SQL",
    "Cspider",
    "news2016zh",
    "baike2018qa",
    "webtext2019zh",
    "SimCLUE",
    "Chinese-SQuAD",
]
C_MTEB = [
    "T2Retrieval",
    "MMarcoRetrieval",
    "DuRetrieval",
    "CovidRetrieval",
    "CmedqaRetrieval",
    "EcomRetrieval",
    "MedicalRetrieval",
    "VideoRetrieval",
    "T2Reranking",
    "MMarcoReranking",
    "CMedQAv1-reranking",
    "CMedQAv2-reranking",
    "Ocnli",
    "Cmnli",
    "CLSClusteringS2S",
    "CLSClusteringP2P",
    "ThuNewsClusteringS2S",
    "ThuNewsClusteringP2P",
    "LCQMC",
    "PAWSX",
    "AFQMC",
    "QBQTC",
    "TNews",
    "IFlyTek",
    "Waimai",
    "OnlineShopping",
    "JDReview",
    "MultilingualSentiment",
    "ATEC",
    "BQ",
    "STSB",
]
MTEB_ZH = ["TNews", "IFlyTek", "JDIphone", "GubaEastmoney", "TYQSentiment", "StockComSentiment"]
HELD_OUT = re.compile(r"(?<![a-z])(dev|development|val|valid|validation|test|testa|trial)(?![a-z])")

TABLE = [card for card in shipped_cards() if card.seed is not None]
TRAINED = [card for card in shipped_cards() if card.trains]


def seed_rows(cards: list[DatasetCard]) -> int:
    return sum(card.seed.rows for card in cards if card.seed)


def test_every_toml_is_a_card_and_no_name_comes_twice() -> None:
    cards = shipped_cards()
    assert len(cards) == len(list(SETS.iterdir()))
    assert len({card.name for card in cards}) == len(cards)


def test_the_29_sets_of_the_m3e_table_have_its_counts() -> None:
    assert {card.name: card.seed.rows for card in TABLE if card.seed} == M3E
    assert seed_rows(TABLE) == 21_837_781


def test_the_m3e_card_allows_commercial_use_of_8_sets() -> None:
    by_flag = {
        flag: [card for card in TABLE if card.seed and card.seed.commercial == flag] for flag in ("yes", "unknown")
    }
    assert {card.name for card in by_flag["yes"]} == set(SEED_YES)
    assert seed_rows(by_flag["yes"]) == 13_692_177
    assert {card.name for card in by_flag["unknown"]} == set(SEED_UNKNOWN)


def test_ten_sets_of_the_table_had_no_script() -> None:
    assert {card.name for card in TABLE if card.seed and not card.seed.script} == set(WITHOUT_SCRIPT)


def test_the_table_says_which_sets_are_symmetric() -> None:
    symmetric = [card.name for card in TABLE if card.symmetric]
    assert set(symmetric) == {"ocnli", "BQ", "lcqmc", "paws-x", "wiki_atomic_edit", "CINLID", "SimCLUE"}


def test_what_may_be_sold_after_both_flags() -> None:
    assert {card.name for card in TABLE if card.commercial == "yes"} == {"paws-x", "csl", "miracl-corpus"}
    assert {card.name for card in TRAINED if card.commercial == "yes" and not card.seed} == {
        "aya_dataset",
        "dolly_15k",
        "CoSQA",
    }


def test_where_licence_and_table_differ_the_reason_names_both_and_the_stricter_counts() -> None:
    differing = [card for card in TABLE if card.seed and card.seed.commercial != card.licence.commercial]
    assert {card.name for card in differing} == {
        *("baike2018qa", "news2016zh", "webtext2019zh", "lawzhidao", "dureader_robust"),  # said yes, are unknown
        *("cmrc2018", "Cspider", "chatmed_consult", "DuSQL"),  # said no, though the owner is less strict
        *("mlqa", "wiki_atomic_edit"),  # said nothing, though the owner allows it
    }
    for card in differing:
        assert "the M3E card" in card.licence.reason, card.name
        assert "the stricter of the two is kept" in card.licence.reason, card.name
        assert card.commercial != "yes", card.name


@pytest.mark.parametrize("name", ["zhihu_kol", "lawzhidao", "news2016zh", "baike2018qa", "webtext2019zh", "webqa"])
def test_text_whose_rights_are_with_its_authors_is_never_a_yes(name: str) -> None:
    assert find_card(name, shipped_cards()).licence.commercial == "unknown"


def test_no_card_that_trains_reads_a_split_that_is_held_out() -> None:
    for card in TRAINED:
        for source in card.sources:
            if source.hub:
                assert source.splits == ("train",), card.name
            for name in (*source.files, source.url or "", source.path or "", source.config or ""):
                assert not HELD_OUT.search(name.lower()), (card.name, name)


@pytest.mark.parametrize(
    ("name", "caught"),
    [("a.dev.json", True), ("x_test.jsonl", True), ("BQ.valid.data", True), ("latest.json", False), ("devel", False)],
)
def test_names_of_held_out_files_are_recognised(name: str, caught: bool) -> None:
    assert bool(HELD_OUT.search(name)) is caught


def test_every_set_that_trains_can_be_read() -> None:
    for card in TRAINED:
        assert card.sources, card.name
        assert card.mapping.fields, card.name
        assert card.query_instruction, card.name


def test_where_sides_may_be_swapped_both_have_one_instruction() -> None:
    for card in TRAINED:
        assert card.passage_instruction == (card.query_instruction if card.symmetric else ""), card.name


def test_mappings_convert_only_columns_that_they_use() -> None:
    for card in shipped_cards():
        used = {
            column
            for fields in card.mapping.fields
            for template in fields.of_record.values()
            for column in columns_of(template)
        }
        assert set(card.mapping.convert) <= used, card.name
        assert set(card.mapping.convert.values()) <= set(CONVERSIONS), card.name
        assert (card.mapping.tables is not None) == ("tableqa_sql" in card.mapping.convert.values()), card.name


def test_expected_rows_are_never_above_the_tables_but_for_known_editions() -> None:
    above = {
        card.name: (card.rows, card.seed.rows) for card in TABLE if card.seed and (card.rows or 0) > card.seed.rows
    }
    assert above == {"CINLID": (34877, 34746)}


def test_the_six_tasks_of_mteb_zh_are_there() -> None:
    for name in MTEB_ZH:
        card = find_card(name, shipped_cards())
        assert (card.name, card.use, card.kind) == (name, "evaluation", "classification")
        assert len(card.parts) == 1
        assert {source.splits for source in card.sources} == {("test",) if name == "GubaEastmoney" else ("validation",)}


def test_every_task_of_c_mteb_has_a_card_pinned_to_a_revision() -> None:
    cards = [card for card in shipped_cards() if card.name.startswith("C-MTEB/")]
    assert len(C_MTEB) == 31
    assert {card.name for card in cards} == {f"C-MTEB/{task}" for task in C_MTEB}
    for card in cards:
        assert card.tasks == (card.name.removeprefix("C-MTEB/"),)
        assert card.use == "evaluation"
        for source in card.sources:
            assert re.fullmatch("[0-9a-f]{40}", source.revision or ""), card.name
            assert set(source.splits) <= {"dev", "validation", "test"}, card.name


def test_other_evaluation_sets_are_there() -> None:
    evaluated = {card.name for card in filter_cards(shipped_cards(), use="evaluation")}
    assert {"MedQQPairs", "T2RankingRetrieval", "T2RankingReranking"} <= evaluated
    assert not any(card.trains for card in shipped_cards() if card.name in evaluated)
    assert all(card.mapping.fields for card in shipped_cards() if card.name in evaluated)


def test_code_sets_are_of_the_category_of_code() -> None:
    code = filter_cards(shipped_cards(), category="s2c")
    assert {card.name for card in code} == {"DuSQL", "Zhuiyi-NL2SQL", "Cspider", "CoSQA", "CodeSearchNet"}
    assert all("code" in card.languages for card in code)


def test_english_triplets_and_instructions_are_there() -> None:
    medi = find_card("MEDI", shipped_cards())
    assert (medi.kind, medi.languages, medi.rows, medi.commercial) == ("triplet", ("en",), 1_435_000, "no")
    assert {card.name for card in TRAINED if card.domain == "instructions" and card.commercial == "yes"} == {
        "dolly_15k",
        "aya_dataset",
    }


def test_a_set_in_several_pieces_names_them_as_parts() -> None:
    pieces = {card.name: len(card.parts) for card in TRAINED if len(card.parts) > 1}
    assert pieces == {"miracl-corpus": 10, "wiki_atomic_edit": 2}
    assert [source.place for source in find_card("SimCLUE", shipped_cards()).parts[0]] == [
        "simclue_public.zip",
        "https://storage.googleapis.com/cluebenchmark/tasks/simclue_public.zip",
    ]


def test_files_read_from_the_name_to_the_mapping() -> None:
    for path in SETS.iterdir():
        keys = list(tomllib.loads(path.read_text(encoding="utf-8")))
        assert keys[0] == "name", path.name
        assert keys.index("licence") < keys.index("sources") < keys.index("mapping"), path.name
