from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import write_mini
from tests.evaluation.evaluation_sets import write_collection, write_pairs


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    write_pairs(folder / "like.test.parquet")
    write_collection(folder, "find.test")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [write_mini(folder / f"mini-{seed}", seed=seed) for seed in (0, 1)]


def test_eval_then_report(cli, sets: Path, models: list[Path]) -> None:
    for model in models:
        done = cli("eval", model, "--suite", "local", "--data", sets, "--json", f"{model.name}.json")
        assert done.code == 0, done.err
    done = cli("report", "results", "--paired", "mini-0", "mini-1", "--html", "r.html", "--json", "r.json")
    assert (done.code, done.err) == (0, "")
    for words in ("mini-0", "mini-1", "like.test", "find.test", "moka-ai/m3e-base (2023)", "points", "r.html"):
        assert words in done.out
    value = json.loads(Path("r.json").read_text(encoding="utf-8"))
    scores = {
        (row["model"], column["task"]): score
        for table in value["tables"]
        for row in table["rows"]
        if row["source"] is None
        for column, score in zip(table["columns"], row["values"], strict=True)
    }
    evaluated = {
        (model.name, row["task"]): row["score"]
        for model in models
        for row in json.loads(Path(f"{model.name}.json").read_text())["results"]
    }
    assert scores == pytest.approx(evaluated)
    tests = {test["task"]: test for test in value["paired"]["tests"]}
    assert len(tests["find.test"]["differences"]) == 4
    assert tests["find.test"]["difference"] == pytest.approx(
        scores["mini-1", "find.test"] - scores["mini-0", "find.test"]
    )
    assert Path("r.html").read_text(encoding="utf-8").startswith("<!doctype html>")

    # files of --json alone give the same table; without items they cannot be paired beyond the difference
    done = cli("report", "mini-0.json", "mini-1.json", "--paired", "mini-0", "mini-1")
    assert done.code == 0
    assert "keeps no scores of single items" in done.out

    done = cli("report", "results", "--html", "short.html", "--no-texts")
    assert done.code == 0
    assert "worst queries" in Path("r.html").read_text(encoding="utf-8")
    assert "worst queries" not in Path("short.html").read_text(encoding="utf-8")

    damaged = next(Path("results").rglob("like.test.local-*.json"))
    damaged.write_text(damaged.read_text()[:100])
    done = cli("report", "results", "--paired", "mini-0", "mini-1", "--json", "r.json")
    assert done.code == 3
    assert f"m3e: {damaged} was left out: it cannot be read as JSON" in done.err
    assert "find.test" in done.out
    assert list(json.loads(Path("r.json").read_text())["problems"]) == [str(damaged)]


def test_other_data_is_not_paired(cli, sets: Path, models: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    write_collection(other, "find.test", queries={"q1": "今天天气"}, judgements=[("q1", "d0", 1)])
    assert cli("eval", models[0], "--suite", "local", "--data", sets).code == 0
    assert cli("eval", models[1], "--suite", "local", "--data", other).code == 0
    done = cli("report", "results", "--paired", "mini-0", "mini-1")
    assert done.code == 3
    assert "find.test cannot be paired: not the same data: the data revision differs" in done.err
    assert "n=4" in done.out
    assert "n=1" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "there are no results at nowhere"),
        (("empty.json",), "no result could be read from empty.json"),
        (("one.json", "--paired", "a", "nobody"), "there are no results of 'nobody'"),
        ((), "results"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(cli, arguments: tuple[str, ...], words: str) -> None:
    Path("empty.json").write_text("{}")
    row = {"task": "T", "split": "test", "metric": "accuracy", "score": 0.5, "n": 9}
    Path("one.json").write_text(json.dumps({"model": "a", "results": [row], "missing": {}}))
    done = cli("report", *arguments)
    assert done.code == 2
    assert words in done.err
    assert done.err.startswith("m3e: ")
    assert done.err.count("\n") == 1
