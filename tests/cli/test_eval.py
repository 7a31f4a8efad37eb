"""``m3e eval``: its listing and its prompts."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def write_pairs(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"text": ["今天天气很好", "公园在哪", "怎么退货"], "text_pos": ["weather", "park", "order"]}
    pq.write_table(pa.table(table), path)
    return path


def test_a_dry_run_lists_without_a_model(cli, tmp_path: Path) -> None:
    write_pairs(tmp_path / "data" / "tldr_zh_en.test.parquet")
    done = cli("eval", "no-such-model", "--dry-run", "--data", "data")
    assert done.code == 3, done.err
    assert "Tldr-zh-en" in done.out
    assert "2 tasks would run, 88 are missing" in done.out
    assert len(done.err.splitlines()) == 3  # a reason each, for all that it holds for
    assert "XQuAD-en-zh are missing: not in data, and on no hub" in done.err
    done = cli("eval", "no-such-model", "--dry-run", "--task", "Tldr-zh-en", "--data", "data")
    assert (done.code, done.err) == (0, "")
    done = cli("eval", "no-such-model", "--dry-run", "--suite", "cross", "--data", "data")
    assert done.code == 3
    assert "InsuranceQA-zh-en, InsuranceQA-en-zh are missing: insuranceqa_zh_en.test" in done.err


def test_prompts_both_prints_what_they_bring(cli, mini_folder: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "data" / "mine.test.parquet")
    done = cli("eval", mini_folder, "--suite", "local", "--data", "data", "--prompts", "both", "--json", "r.json")
    assert done.code == 0, done.err
    assert "what its prompts bring" in done.out
    rows = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["results"]
    assert [row["prompts"] for row in rows] == [True, False]
    done = cli("eval", mini_folder, "--suite", "local", "--data", "data", "--prompts", "never")
    assert done.code == 2
    assert "choose on, off, both" in done.err


def test_a_second_run_takes_the_results_of_the_first(cli, mini_folder: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path / "data" / "mine.test.parquet")
    command = ("eval", mini_folder, "--suite", "local", "--data", "data", "--resume", "--json", "r.json")
    first = cli(*command)
    assert first.code == 0, first.err
    rows = (tmp_path / "r.json").read_bytes()
    second = cli(*command)
    assert second.code == 0, second.err
    assert "1 of 1 results were in results already" not in first.out + first.err
    assert "1 of 1 results were in results already" in second.out + second.err
    assert (tmp_path / "r.json").read_bytes() == rows
