"""Cards and users' files as plans for the pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from m3e.catalogue.cards import DatasetCard, parse_card
from m3e.data.pipeline import PipelineOptions
from m3e.data.prepare import run_pipeline
from m3e.data.sets import facts_of_card, plan_of_card, plan_of_path, plans_of_paths
from m3e.data.streams import Account
from m3e.errors import DataError


def lines(path: Path, *rows: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def card(**values) -> DatasetCard:
    given = {
        "name": "org/faq",
        "title": "问答",
        "description": "Questions.",
        "kind": "pair",
        "category": "s2p",
        "symmetric": True,
        "languages": ["zh"],
        "domain": "shops",
        "quality": "high",
        "query_instruction": "查：",
        "licence": {"stated": "MIT", "commercial": "yes", "reason": "permits", "source": "its README"},
        "sources": [{"path": "faq.jsonl"}],
        "title_in_passage": True,
    }
    return parse_card(given | values, "test")


def read(plan) -> tuple[list, Account]:
    account = Account()
    return list(plan.read(account)), account


def test_a_card_s_plan(tmp_path: Path) -> None:
    lines(tmp_path / "faq.jsonl", {"q": "问一", "a": "答一"}, {"q": "", "a": "答二"}, {"q": "问三", "a": "答三"})
    made = card(mapping={"fields": [{"text": "q", "text_pos": "a"}]})
    plan = plan_of_card(made, raw=tmp_path, weight=2.0, max_rows=9)
    assert (plan.name, plan.folder, plan.category, plan.symmetric) == ("org/faq", "org__faq", "s2p", True)
    assert (plan.quality, plan.weight, plan.max_rows, plan.title_in_passage) == ("high", 2.0, 9, True)
    rows, account = read(plan)
    assert rows == [
        ("pair", {"query": "问一", "positives": ["答一"], "negatives": []}),
        ("pair", {"query": "问三", "positives": ["答三"], "negatives": []}),
    ]
    assert dict(account.dropped) == {"empty_text": 1}


def test_what_the_manifest_says_of_a_card() -> None:
    facts = facts_of_card(card(sources=[{"hub": "org/faq", "revision": "abc"}, {"path": "/a/private/faq.jsonl"}]))
    assert facts["licence"] == "MIT"
    assert (facts["commercial"], facts["commercial_reason"], facts["licence_source"]) == (
        "yes",
        "permits",
        "its README",
    )
    assert facts["sources"] == ["org/faq", "faq.jsonl"]  # no folder of this machine
    assert (facts["revision"], facts["query_instruction"]) == ("abc", "查：")


def test_the_inputs_of_a_card_change_with_its_file(tmp_path: Path) -> None:
    lines(tmp_path / "faq.jsonl", {"text": "问", "text_pos": "答"})
    before = plan_of_card(card(), raw=tmp_path).inputs
    assert plan_of_card(card(), raw=tmp_path).inputs == before
    lines(tmp_path / "faq.jsonl", {"text": "问", "text_pos": "对"})
    assert plan_of_card(card(), raw=tmp_path).inputs != before
    assert plan_of_card(card(quality="low"), raw=tmp_path).inputs != before


def test_a_classification_set_gives_single_texts(tmp_path: Path) -> None:
    lines(
        tmp_path / "faq.jsonl",
        {"label": "好评", "text": "很好吃"},
        {"label": "差评", "text": None, "备注": "没有写"},
        {"label": "差评", "text": "不好吃"},
    )
    rows, account = read(plan_of_card(card(kind="classification"), raw=tmp_path))
    assert [(kind, row["query"]) for kind, row in rows] == [("text", "很好吃"), ("text", "不好吃")]
    assert dict(account.dropped) == {"not_text": 1}
    assert account.rows == 2


def test_a_text_under_an_unknown_name_is_found_beside_its_label(tmp_path: Path) -> None:
    lines(tmp_path / "faq.jsonl", {"label": "好评", "评语": "很好吃"})
    rows, _ = read(plan_of_card(card(kind="classification"), raw=tmp_path))
    assert [row["query"] for _, row in rows] == ["很好吃"]


@pytest.mark.parametrize(
    ("row", "kind", "staged"),
    [
        ({"text": "问", "text_pos": "答"}, "pair", {"query": "问", "positives": ["答"], "negatives": []}),
        (
            {"sentence1": "甲", "sentence2": "乙", "label": 2},
            "scored_pair",
            {"query": "甲", "positives": ["乙"], "negatives": [], "label": 2.0},
        ),
        (
            {"text": "问", "text_pos": "答", "text_neg": ["错", "误"]},
            "triplet",
            {"query": "问", "positives": ["答"], "negatives": ["错", "误"]},
        ),
        (
            {"query": "问", "pos": ["答", "对"], "neg": [], "pos_scores": [0.9, 0.8]},
            "ranked",
            {
                "query": "问",
                "positives": ["答", "对"],
                "negatives": [],
                "positive_scores": (0.9, 0.8),
                "negative_scores": None,
            },
        ),
        ({"text": "单独一条", "label": "甲"}, "text", {"query": "单独一条", "positives": [], "negatives": []}),
        ({"content": "单独一条"}, "text", {"query": "单独一条", "positives": [], "negatives": []}),
    ],
)
def test_a_user_s_file_of_every_kind(tmp_path: Path, row: dict, kind: str, staged: dict) -> None:
    plan = plan_of_path(lines(tmp_path / "mine.train.jsonl", row, row))
    assert (plan.name, plan.facts["commercial"], plan.facts["sources"]) == ("mine", "unknown", ["mine.train.jsonl"])
    rows, account = read(plan)
    assert [found for found, _ in rows] == [kind] * 2
    assert {
        key: tuple(value) if isinstance(value, list) and key.endswith("scores") else value
        for key, value in rows[0][1].items()
    } == staged
    assert account.rows == 2


def test_named_columns(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"甲": "问", "乙": "答"})
    rows, _ = read(plan_of_path(path, columns={"text": "甲", "text_pos": "乙"}, name="别名"))
    assert rows == [("pair", {"query": "问", "positives": ["答"], "negatives": []})]
    assert plan_of_path(path, columns={"text": "甲"}).inputs != plan_of_path(path).inputs


def test_a_folder_is_one_set(tmp_path: Path) -> None:
    lines(tmp_path / "mine/a.jsonl", {"text": "问一", "text_pos": "答一"})
    lines(tmp_path / "mine/b.jsonl", {"text": "问二", "text_pos": "答二"})
    plan = plan_of_path(tmp_path / "mine")
    assert plan.name == "mine"
    assert [row["query"] for _, row in read(plan)[0]] == ["问一", "问二"]
    before = plan.inputs
    lines(tmp_path / "mine/b.jsonl", {"text": "问三", "text_pos": "答二"})
    assert plan_of_path(tmp_path / "mine").inputs != before


def test_files_of_one_name_have_names_of_their_own(tmp_path: Path) -> None:
    paths = [lines(tmp_path / place / "a.jsonl", {"text": "问", "text_pos": "答"}) for place in ("x", "y", "z")]
    assert [plan.name for plan in plans_of_paths(paths)] == ["a", "a~2", "a~3"]
    assert [plan.name for plan in plans_of_paths(paths[:1], taken=["a", "a~2"])] == ["a~3"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file or folder .*none\.csv"):
        plan_of_path(tmp_path / "none.csv")


def test_a_prepared_folder_is_its_sets_again(tmp_path: Path) -> None:
    (tmp_path / "faq.jsonl").write_text('{"text": "怎么退货", "text_pos": "在订单页申请"}\n', "utf-8")
    rows = '{"sentence1": "怎么退货", "sentence2": "如何退货", "label": 1}\n'
    (tmp_path / "likeness.jsonl").write_text(rows, "utf-8")
    first = run_pipeline(
        plans_of_paths([tmp_path / "faq.jsonl", tmp_path / "likeness.jsonl"]), tmp_path / "one", PipelineOptions()
    )
    again = run_pipeline(plans_of_paths([tmp_path / "one"]), tmp_path / "two", PipelineOptions())
    assert [(entry["dataset"], entry["kind"]) for entry in again.manifest["datasets"]] == [
        ("faq", "pair"),
        ("likeness", "scored_pair"),
    ]
    assert again.manifest["content_hash"] == first.manifest["content_hash"]
