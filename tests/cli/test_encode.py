"""``m3e encode``: texts that look the same have the same vector; what cannot be encoded is named in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from m3e.files import read_json

# what a reader takes for the same text: full-width forms, invisible characters, compatibility forms, spaces
ALIKE = {
    "full-width digits": ("快递123到哪了", "快递１２３到哪了", "快递123\u200b到哪了"),
    "full-width letters": ("VIP积分怎么用", "ＶＩＰ积分怎么用"),
    "ideographic space": ("座位 能换吗", "座位　能换吗", "座位\u00a0能换吗", "座位\u2009能换吗"),
    "word joiner": ("番茄叶子发黄", "番茄\u2060叶子发黄", "番茄\u200c叶子发黄"),
    "byte order mark": ("几点开门", "\ufeff几点开门", "几点\ufeff开门"),
    "marks of direction": ("几点关门", "\u202a几点关门\u202c", "几点\u200e关门"),
    "soft hyphen": ("reset my password", "re\u00adset my password"),
    "combining accent": ("café 在几楼", "cafe\u0301 在几楼"),
    "half-width katakana": ("ガスト餐厅", "ｶﾞｽﾄ餐厅"),
    "radicals": ("一人份多少钱", "⼀⼈份多少钱"),
    "compatibility ideograph": ("豈有此理", "\uf900有此理"),
    "ligature": ("office 文件", "oﬃce 文件"),
    "squared unit": ("5kg 大米", "5㎏ 大米", "５ｋｇ 大米"),
    "punctuation": ("退款(全额)可以吗?", "退款（全额）可以吗？"),
    "line end": ("发票 怎么开", "发票\n怎么开", "发票\r\n怎么开", "发票\t怎么开"),
}
ODD = ["👨‍👩‍👧 家庭套票", "👨‍👩‍👧", "\u200b", "　", "", "\x00", "\ue000"]


@pytest.mark.parametrize("model", ["m3e-tiny", "m3e-static"])
def test_11_texts_that_look_the_same_have_the_same_vector(cli, write_lines, model: str) -> None:
    texts = [text for variants in ALIKE.values() for text in variants]
    path = write_lines("t.jsonl", [{"text": text, "text_pos": "好的"} for text in [*texts, *ODD]])
    done = cli("encode", model, path, "--out", "v.npy", "--json", "r.json")
    assert done.code == 0, done.err
    vectors = np.load("v.npy")
    assert np.isfinite(vectors).all()
    start = 0
    for name, variants in ALIKE.items():
        group = vectors[start : start + len(variants)]
        assert (group[1:] @ group[0]).min() > 0.999, name
        start += len(variants)
    firsts = vectors[np.cumsum([0, *map(len, ALIKE.values())])[:-1]]
    assert np.triu(firsts @ firsts.T, 1).max() < 0.99, "texts that do not look the same"
    result = read_json("r.json")
    assert (result["rows"], result["field"], result["blank"]) == (len(texts) + len(ODD), "text", 2)
    assert "2 texts are blank" in done.out


def test_the_report_is_printed_and_written(cli, mini_folder: Path, write_lines) -> None:
    path = write_lines("t.jsonl", [{"问题": "猫" * 100}, {"问题": "狗"}])
    done = cli(
        "encode", mini_folder, path, "--out", "new/v.npy", "--dtype", "fp32", "--backend", "torch", "--json", "r.json"
    )
    assert done.code == 0, done.err
    assert "torch fp32" in done.out
    assert "2 vectors of 32 numbers from field '问题' to new/v.npy" in done.out
    assert "1 texts are longer than the model takes and were cut" in done.out
    result = read_json("r.json")
    assert {key: result[key] for key in ("rows", "dimension", "cut", "blank", "kept_rows", "field", "out")} == {
        "rows": 2,
        "dimension": 32,
        "cut": 1,
        "blank": 0,
        "kept_rows": 0,
        "field": "问题",
        "out": "new/v.npy",
    }
    assert result["settings"]["dtype"] == "fp32"


def test_the_encoding_of_a_table_is_said(cli, mini_folder: Path) -> None:
    Path("t.csv").write_bytes("编号,文本\r\n1,今天\r\n2,天气\r\n".encode("gb18030"))
    done = cli("encode", mini_folder, "t.csv", "--out", "v.npy", "--dtype", "fp32")
    assert "t.csv: read as GB18030" in done.out
    assert np.load("v.npy").shape == (2, 32)


@pytest.mark.parametrize(
    ("name", "data", "parts"),
    [
        ("t.jsonl", '{"text": "a"}\n{"text": null}\n', ("t.jsonl", "row 2", "line 2", "null")),
        ("t.jsonl", '{"text": "a"}\n\n{"body": "b"}\n', ("t.jsonl", "row 2", "line 3", "missing")),
        ("t.jsonl", '{"text": "a"}\n{"text": ["b"]}\n', ("t.jsonl", "row 2", "list")),
        ("t.jsonl", '{"text": "a"}\n{"text": "\\udc00"}\n', ("t.jsonl", "row 2", "surrogate")),
        ("t.jsonl", '{"text": "a"}\n{"text": "b\n', ("t.jsonl", "line 2", "cut off")),
        ("t.jsonl", "", ("t.jsonl", "no rows")),
        ("t.csv", "text\n", ("t.csv", "no rows")),
        ("t.csv", 'id,text\n1,a\n2,"b\n', ("t.csv", "line 3", "quotation mark")),
        ("t.csv", "id,text\n1,a\n2,b,c\n", ("t.csv", "line 3", "3 cells")),
        ("t.csv", "id,n\n1,2\n", ("t.csv", "--field", "id, n")),
        ("t.txt", "", ("t.txt", "no rows")),
        ("t.xlsx", "PK", (".xlsx", "CSV")),
        ("t.parquet", "PAR1", ("t.parquet", "parquet")),
        ("t.json", '{"train": [{"text": "a"}], "dev": [{"text": "b"}]}', ("train", "dev")),
    ],
)
def test_inputs_that_cannot_be_encoded_are_named(cli, mini_folder: Path, name: str, data: str, parts) -> None:
    Path(name).write_text(data, "utf-8")
    done = cli("encode", mini_folder, name, "--out", "v.npy", "--dtype", "fp32")
    assert done.code == 2
    assert all(part in done.err for part in parts), done.err
    assert done.err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == [name]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--out", "there"), "ending"),
        (("--out", "there.npy"), "is a folder"),
        (("--out", "t.jsonl/v.npy"), "cannot be written"),
        (("--workers", "0"), "--workers"),
        (("--batch-tokens", "0"), "at least 1"),
        (("--engine", "spark"), "spark"),
        (("--engine", "ray", "--workers", "2"), "--workers"),
        (("--backend", "abacus"), "abacus"),
        (("--prompt", "passage"), "query or document"),
    ],
)
def test_options_that_cannot_be_are_named(cli, mini_folder: Path, write_lines, options, part: str) -> None:
    path = write_lines("t.jsonl", [{"text": "猫"}])
    Path("there.npy").mkdir()
    done = cli("encode", mini_folder, path, "--out", "v.npy", "--dtype", "fp32", *options)
    assert done.code == 2
    assert part in done.err
    assert done.err.count("\n") == 1
    assert not Path("v.npy").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs limits of a process")
def test_a_file_that_cannot_grow_is_one_line(mini_folder: Path, tmp_path: Path) -> None:
    rows = "".join(json.dumps({"text": f"今天{number}"}) + "\n" for number in range(2000))
    (tmp_path / "t.jsonl").write_text(rows, "utf-8")
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from m3e.cli import main; main()"
    )
    command = ["encode", str(mini_folder), "t.jsonl", "--out", "v.npy", "--dtype", "fp32"]
    source = str(Path(__file__).parents[2] / "src")
    environment = {**os.environ, "PYTHONPATH": source, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", limited, *command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "v.npy cannot be written: File too large" in done.stderr
    assert not (tmp_path / "v.npy").exists()
