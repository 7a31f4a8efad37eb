"""Failures of real users, through the command line: exit codes, messages, rows, what is left behind.

The inputs are written here in the shapes that failed: Excel's GB18030, lone quotes, holes, scales, odd JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3e import load
from tests.conftest import pair_rows

QUICK = ("--epochs", "1", "--precision", "fp32")
GOODS = ["饺子", "雨伞", "口罩", "茶壶", "拖鞋", "台灯", "毛巾", "书架", "耳机", "水杯", "地毯", "闹钟"]


def questions(count: int = 12) -> list[tuple[str, str]]:
    return [(f"{GOODS[at % 12]}什么时候到货{at}", f"{GOODS[at % 12]}大约{at + 1}天到货。") for at in range(count)]


def json_result(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def tune(cli, mini_folder: Path):
    """Fine-tune the miniature model on a file; the process's end and the JSON result."""

    def run(data: Path, *options: object, out: str = "out") -> tuple[Any, dict[str, Any] | None]:
        done = cli("finetune", mini_folder, data, "--out", out, "--json", "r.json", *QUICK, *options)
        return done, json_result(Path("r.json")) if done.code == 0 else None

    return run


@pytest.mark.parametrize("encoding", ["gb18030", "utf-8", "utf-8-sig", "utf-16"])
def test_01_a_table_from_excel(tune, tmp_path: Path, encoding: str) -> None:
    rows = questions()
    rows[2] = ("𠮷祥饺子什么时候到货", rows[2][1])
    rows[4] = ("猫粮,为什么要慢慢换", rows[4][1])
    lines = ["text,text_pos", *(f'"{text}",{answer}' for text, answer in rows)]
    (tmp_path / "t.csv").write_bytes("\r\n".join(lines).encode(encoding))
    done, result = tune(tmp_path / "t.csv")
    assert done.code == 0, done.err
    assert (result["kind"], result["rows"]) == ("pair", 12)
    assert ("GB18030" in done.out) == (encoding == "gb18030")


def test_03_a_lone_quotation_mark_loses_no_row(tune, tmp_path: Path) -> None:
    rows = questions()
    rows[3] = ('"双十一"什么时候开始', rows[3][1])
    rows[6] = ('"五寸屏的手机推荐哪款', rows[6][1])
    (tmp_path / "t.tsv").write_text("text\ttext_pos\n" + "".join(f"{a}\t{b}\n" for a, b in rows), "utf-8")
    done, result = tune(tmp_path / "t.tsv")
    assert (done.code, result["rows"]) == (0, 12)


def test_03_in_a_csv_the_open_quote_is_named(tune, tmp_path: Path) -> None:
    lines = ["text,text_pos", *(f"{a},{b}" for a, b in questions())]
    lines[7] = '"' + lines[7]
    (tmp_path / "t.csv").write_text("\n".join(lines), "utf-8")
    done, _ = tune(tmp_path / "t.csv")
    assert done.code == 2
    assert "t.csv" in done.err
    assert "line 8" in done.err


def test_05_holes_are_dropped_counted_and_named(tune, tmp_path: Path) -> None:
    rows = [{"sentence1": a, "sentence2": b, "label": at % 3} for at, (a, b) in enumerate(questions(14))]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    lines[1] = lines[1].replace('"label": 1', '"label": NaN')
    lines[4] = lines[4].replace('"label": 1', '"label": null')
    lines[7] = lines[7].replace(', "label": 1', "")
    lines[9] = json.dumps({**rows[9], "sentence2": ""}, ensure_ascii=False)
    lines[11] = json.dumps({**rows[11], "sentence1": "\u200b\u3000"}, ensure_ascii=False)
    (tmp_path / "t.jsonl").write_text("\n".join(lines), "utf-8")
    done, result = tune(tmp_path / "t.jsonl")
    assert done.code == 0, done.err
    assert (result["kind"], result["rows"]) == ("scored_pair", 9)
    assert result["dropped"] == {"missing_label": 3, "empty_text": 2}
    assert "3 for a missing label" in done.out
    assert "2 for an empty text" in done.out
    assert "row 2 (line 2)" in done.out
    assert all(np.isfinite(value) for value in result["loss"].values())


def test_05_rows_without_negatives_train(tune, tmp_path: Path) -> None:
    rows = [
        {"query": a, "pos": [b, f"{b}是的"] if at == 4 else [b], "neg": [] if at < 3 else ["番茄黄"]}
        for at, (a, b) in enumerate(questions(10))
    ]
    done, result = tune(write_rows(tmp_path / "t.jsonl", rows))
    assert done.code == 0, done.err
    assert (result["kind"], result["rows"], result["dropped"]) == ("ranked", 10, {})


def test_07_scales_and_strings_of_labels_change_nothing(tune, tmp_path: Path) -> None:
    pairs = questions(12)
    five = [{"sentence1": a, "sentence2": b, "label": at % 6} for at, (a, b) in enumerate(pairs)]
    one = [{**row, "label": row["label"] / 5} for row in five]
    texts = [f"{row['label']}.0" if at % 3 else f" {chr(0xFF10 + row['label'])} " for at, row in enumerate(five)]
    write_rows(tmp_path / "five.jsonl", five)
    write_rows(tmp_path / "one.jsonl", one)
    table = [f"{a},{b},{label}" for (a, b), label in zip(pairs, texts, strict=True)]
    (tmp_path / "text.csv").write_text("sentence1,sentence2,label\n" + "\n".join(table), "utf-8")
    vectors = []
    for name, top in (("five.jsonl", "5"), ("one.jsonl", "1"), ("text.csv", "5")):
        done, result = tune(tmp_path / name, "--lr", "0.001", out=name.split(".")[0])
        assert done.code == 0, done.err
        assert (result["kind"], result["rows"]) == ("scored_pair", 12)
        assert f"labels from 0 to {top}" in done.out
        vectors.append(load(name.split(".")[0]).encode([text for pair in pairs for text in pair]))
    assert (vectors[0] * vectors[1]).sum(1).min() > 0.999
    assert (vectors[0] * vectors[2]).sum(1).min() > 0.999


def test_09_json_in_every_shape(tune, tmp_path: Path) -> None:
    rows = [{"text": a, "text_pos": b} for a, b in questions(10)]
    shapes = {
        "array.json": json.dumps(rows, ensure_ascii=False, indent=2),
        "nested.json": json.dumps({"version": "1", "data": rows}, ensure_ascii=False),
        "line.jsonl": json.dumps(rows, ensure_ascii=False),
    }
    for name, text in shapes.items():
        (tmp_path / name).write_text(text, "utf-8")
        done, result = tune(tmp_path / name, out=f"o-{name}")
        assert done.code == 0, done.err
        assert (result["kind"], result["rows"]) == ("pair", 10)
        assert ("data" in done.out.split("kind pair")[0]) == (name == "nested.json")


def test_09_two_lists_and_a_cut_line_are_refused(tune, tmp_path: Path) -> None:
    rows = [{"text": a, "text_pos": b} for a, b in questions(10)]
    (tmp_path / "two.json").write_text(json.dumps({"train": rows, "dev": rows[:3]}, ensure_ascii=False), "utf-8")
    done, _ = tune(tmp_path / "two.json")
    assert done.code == 2
    assert "train" in done.err
    assert "dev" in done.err
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "cut.jsonl").write_text(text[:-9], "utf-8")
    done, _ = tune(tmp_path / "cut.jsonl")
    assert done.code == 2
    assert "cut.jsonl" in done.err
    assert "10" in done.err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("one.jsonl", '{"text": "问", "text_pos": "答"}\n', ("1 row", "at least 2")),
        ("empty.jsonl", "", ("empty.jsonl", "no rows")),
        ("header.csv", "text,text_pos\n", ("header.csv", "no rows")),
    ],
)
def test_13_too_few_rows_are_refused(tune, tmp_path: Path, name: str, text: str, parts: tuple[str, ...]) -> None:
    (tmp_path / name).write_text(text, "utf-8")
    done, _ = tune(tmp_path / name)
    assert done.code == 2
    assert all(part in done.err for part in parts), done.err
    assert done.err.count("\n") == 1
    assert not Path("out").exists()


def test_13_three_rows_train_and_batch_size_1_does_not(tune, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "three.jsonl", pair_rows(3))
    done, result = tune(path)
    assert done.code == 0, done.err
    assert result["rows"] == 3
    assert result["loss"]["first"] > 0
    assert (result["before"], result["after"]) == (None, None)
    assert "none is held out" in done.out
    done, _ = tune(path, "--batch-size", "1", out="other")
    assert done.code == 2
    assert "batch size 1" in done.err
    assert not Path("other").exists()


def test_15_an_output_folder_with_something_in_it(tune, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.jsonl", pair_rows(12))
    for name in ("full", "empty"):
        Path(name).mkdir()
    Path("full/notes.txt").write_text("keep\n")
    done, _ = tune(path, out="full")
    assert done.code == 2
    assert "full" in done.err
    assert "--overwrite" in done.err
    assert [item.name for item in Path("full").iterdir()] == ["notes.txt"]
    assert tune(path, out="empty")[0].code == 0
    assert tune(path, "--overwrite", out="full")[0].code == 0
    assert Path("full/notes.txt").read_text() == "keep\n"
    assert load("full").encode(["问"]).shape == (1, 32)


def test_17_a_learning_rate_that_destroys_the_model(cli, mini_folder: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.jsonl", [{"text": a, "text_pos": b} for a, b in questions(12)])
    done = cli("finetune", mini_folder, path, "--lr", "10", "--epochs", "5", "--out", "o17", "--json", "r.json")
    if done.code == 2:
        assert "learning rate" in done.err
        assert "step" in done.err
        return
    result = json_result(Path("r.json"))
    assert result["after"] >= result["before"]
    texts = [text for text, _ in questions(12)]

    def spread(folder: Path | str) -> float:
        vectors = load(folder).encode(texts)
        assert np.isfinite(vectors).all()
        return float((vectors @ vectors.T)[~np.eye(12, dtype=bool)].mean())

    assert spread("o17") <= spread(mini_folder) + 0.1


def test_37_a_folder_has_the_names_that_old_readers_know(tune, tmp_path: Path) -> None:
    done, _ = tune(write_rows(tmp_path / "t.jsonl", pair_rows(12)))
    assert done.code == 0
    modules = json.loads(Path("out/modules.json").read_text())
    assert [module["type"].rsplit(".", 2)[-2:] for module in modules] == [
        ["models", name] for name in ("Transformer", "Pooling", "Normalize")
    ]
    assert json.loads(Path("out/tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
