from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from m3e.files import read_json
from tests.mining.mining_rows import pairs, prepared, read_jsonl, write_jsonl

Cli = Callable[..., Any]


def test_mine_a_file(cli: Cli, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "faq.jsonl", pairs(20))
    done = cli(
        "data", "mine", "faq.jsonl", "--out", "m.jsonl", "--model", "m3e-static", "--negatives", 3, "--range", "1-15",
        "--no-relative-margin", "--json", "r.json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "60 negatives mined" in done.out
    result = read_json(tmp_path / "r.json")
    assert result["negatives"] == {
        "asked": 3, "mined": 60, "given": 0, "given_positives": 0, "short": 0, "none": 0,
    }  # fmt: skip
    assert (result["rows_in"], result["rows_out"], result["models"][0]["licence"]) == (20, 20, "Apache-2.0")
    assert all(len(row["neg"]) == 3 for row in read_jsonl(tmp_path / "m.jsonl"))
    scored = cli("data", "score", "m.jsonl", "--out", "s.jsonl", "--model", "m3e-static", "--json", "s.json")
    assert scored.code == 0, scored.err
    row = read_jsonl(tmp_path / "s.jsonl")[0]
    assert (len(row["pos_scores"]), len(row["neg_scores"])) == (1, 3)
    assert row["neg_scores"] == sorted(row["neg_scores"], reverse=True)


def test_mine_a_prepared_folder_and_again(cli: Cli, tmp_path: Path) -> None:
    prepared(tmp_path / "data", faq=pairs(12), more=pairs(6, seed=4))
    command = ("data", "mine", "data", "--out", "mined", "--model", "m3e-static", "--negatives", 2, "--set", "faq")
    done = cli(*command)
    assert done.code == 0, done.err
    assert "copied as they are: more" in done.out
    kinds = {entry["dataset"]: entry["kind"] for entry in read_json(tmp_path / "mined" / "manifest.json")["datasets"]}
    assert kinds == {"faq": "ranked", "more": "pair"}
    assert "nothing to do" in cli(*command).out


def test_columns_and_a_dry_run(cli: Cli, tmp_path: Path) -> None:
    rows = [{"甲": row["text"], "乙": row["text_pos"]} for row in pairs(5)]
    write_jsonl(tmp_path / "faq.jsonl", rows)
    columns = ("--column", "text=甲", "--column", "text_pos=乙")
    done = cli(
        "data",
        "mine",
        "faq.jsonl",
        "--out",
        "m.jsonl",
        "--model",
        "m3e-static",
        "--dry-run",
        *columns,
        "--json",
        "r.json",
    )
    assert done.code == 0, done.err
    assert read_json(tmp_path / "r.json")[0]["rows"] == 5
    assert not (tmp_path / "m.jsonl").exists()
    assert cli("data", "mine", "faq.jsonl", "--out", "m.jsonl", "--model", "m3e-static", *columns).code == 0
    assert len(read_jsonl(tmp_path / "m.jsonl")) == 5


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--range", "5"), "10-210"),
        (("--negatives", "0"), "--consistency"),
        (("--sampling", "worst"), "worst"),
        (("--dtype", "fp8"), "fp8"),
        (("--set", "faq"), "manifest.json"),
        (("--corpus", "absent.txt"), "absent.txt"),
        (("--reranker", "./absent"), "no reranker folder"),
    ],
)
def test_bad_settings_are_one_line_and_exit_2(cli: Cli, tmp_path: Path, options: tuple[str, ...], named: str) -> None:
    write_jsonl(tmp_path / "faq.jsonl", pairs(3))
    done = cli("data", "mine", "faq.jsonl", "--out", "m.jsonl", "--model", "m3e-static", *options)
    assert done.code == 2
    assert named in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "m.jsonl").exists()


def test_a_missing_file_and_a_broken_row(cli: Cli, tmp_path: Path) -> None:
    done = cli("data", "mine", "absent.jsonl", "--out", "m.jsonl", "--model", "m3e-static")
    assert (done.code, "absent.jsonl" in done.err) == (2, True)
    (tmp_path / "cut.jsonl").write_text('{"text": "今天", "text_pos": "天气"}\n{"text": "今', encoding="utf-8")
    done = cli("data", "mine", "cut.jsonl", "--out", "m.jsonl", "--model", "m3e-static")
    assert done.code == 2
    assert "cut.jsonl" in done.err
    assert "2" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["cut.jsonl"]
