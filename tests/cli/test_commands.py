from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

import m3e
from m3e import load
from m3e.cli.finetune import parse_columns
from m3e.errors import SettingsError
from m3e.models.names import local_models
from tests.conftest import pair_rows

TEXTS = ["今天天气很好", "退货怎么办", "", "a cat, 123"]


def test_version_and_help(cli) -> None:
    assert cli("--version").out == f"m3e {m3e.__version__}\n"
    for command in ("quickstart", "models", "env", "finetune", "eval", "encode"):
        done = cli(command, "--help")
        assert done.code == 0
        assert "--" in done.out


@pytest.mark.parametrize(
    "arguments",
    [("nonsense",), ("finetune",), ("finetune", "a", "b", "--nonsense"), ("finetune", "a", "b", "--epochs", "many")],
)
def test_wrong_usage_is_one_line_and_exit_2(cli, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert done.err.startswith("m3e: ")
    assert done.err.count("\n") == 1


def test_models(cli) -> None:
    done = cli("models", "--json", "m.json")
    assert done.code == 0
    rows = {row["name"]: row for row in json.loads(Path("m.json").read_text())}
    assert set(rows) == {"m3e-tiny", "m3e-static", "m3e-small", "e5-small"}
    fields = {"name", "parameters", "dim", "max_length", "languages", "licence", "commercial", "source", "available"}
    assert all(set(row) == fields for row in rows.values())
    assert rows["m3e-small"]["dim"] == 384


def test_models_path_writes_once_and_repairs(cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("M3E_CACHE", str(tmp_path / "cache"))
    done = cli("models", "path", "m3e-static")
    assert done.code == 0, done.err
    folder = Path(done.out.strip())
    [weights] = folder.rglob("model.safetensors")
    written = weights.stat().st_mtime_ns
    assert cli("models", "path", "m3e-static").out.strip() == str(folder)
    assert weights.stat().st_mtime_ns == written
    weights.write_bytes(b"damaged")
    cli("models", "path", "m3e-static")
    assert load(folder).encode(["今天"]).shape == (1, local_models()["m3e-static"].dim)
    assert "## Data" in (folder / "README.md").read_text("utf-8")


def test_models_path_of_an_adapter_is_the_whole_model(
    cli, mini_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from m3e.models.adapter import extract

    monkeypatch.setenv("M3E_CACHE", str(tmp_path / "cache"))
    base, tuned = load(mini_folder, device="cpu"), load(mini_folder, device="cpu")
    tuned[0].model.encoder.layer[0].output.dense.weight.data[0] += 1
    extract(tuned, base, tmp_path / "mine", base_name=str(mini_folder), texts=["今天"])
    done = cli("models", "path", str(tmp_path / "mine"))
    assert done.code == 0, done.err
    folder = Path(done.out.strip())
    assert folder.parent == tmp_path / "cache" / "models"
    assert (folder / "model.safetensors").is_file()
    assert cli("models", "path", str(folder)).out.strip() == str(folder)
    (tmp_path / "mine" / "adapter_model.safetensors").unlink()
    done = cli("models", "path", str(tmp_path / "mine"))
    assert done.code == 2
    assert "adapter_model.safetensors is missing" in done.err


def test_an_unknown_model_names_the_known(cli) -> None:
    done = cli("models", "path", "m3e-huge")
    assert done.code == 2
    assert "m3e-tiny" in done.err


def test_env(cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("M3E_DATA", str(tmp_path))
    done = cli("env", "--json", "e.json")
    assert done.code == 0
    facts = json.loads(Path("e.json").read_text())
    assert facts["m3e"] == m3e.__version__
    assert facts["hub_reachable"] is False
    assert facts["data_folder"] == str(tmp_path)
    assert facts["bf16"] in ("amx", "avx512_bf16", "none")
    assert facts["packages"]["torch"]


def test_columns_are_parsed_and_checked() -> None:
    assert parse_columns(["text=问题", "text_pos = 答=案"]) == {"text": "问题", "text_pos": "答=案"}
    for wrong in ("text", "=问题", "text="):
        with pytest.raises(SettingsError, match="FIELD=COLUMN"):
            parse_columns([wrong])


def test_finetune_with_columns_validation_and_lora(cli, mini_folder: Path, write_lines) -> None:
    rows = [{"甲": row["text"], "乙": row["text_pos"]} for row in pair_rows(30)]
    data, val = write_lines("t.jsonl", rows), write_lines("v.jsonl", rows[:6])
    options = ("--column", "text=甲", "--column", "text_pos=乙", "--val", val, "--lora", "--precision", "fp32")
    done = cli("finetune", mini_folder, data, "--out", "out", "--json", "r.json", "--epochs", "1", *options)
    assert done.code == 0, done.err
    result = json.loads(Path("r.json").read_text())
    assert (result["rows"], result["held_out"]) == (30, 6)
    assert "lora training" in done.out
    wanted = {"kind", "rows", "dropped", "cut", "loss", "metric", "before", "after", "general_before", "general_after"}
    assert wanted | {"best_step", "threshold", "model_dir"} <= set(result)


def test_a_folder_that_cannot_be_is_one_line(cli, mini_folder: Path, write_lines) -> None:
    pairs = write_lines("pairs.jsonl", pair_rows(40))
    done = cli("finetune", mini_folder, pairs, "--out", pairs / "model", "--epochs", "1")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith(f"m3e: {pairs / 'model'}")
    assert "Traceback" not in done.err


def test_a_dry_run_trains_nothing(cli, mini_folder: Path, write_lines) -> None:
    done = cli("finetune", mini_folder, write_lines("t.jsonl", pair_rows(12)), "--dry-run", "--out", "out")
    assert done.code == 0
    assert "kind pair: 12 rows" in done.out
    assert not Path("out").exists()


@pytest.mark.parametrize("ending", ["npy", "parquet", "safetensors"])
@pytest.mark.parametrize("source", ["jsonl", "csv", "txt"])
def test_encode_writes_a_vector_a_row(cli, mini_folder: Path, tmp_path: Path, ending: str, source: str) -> None:
    path = tmp_path / f"texts.{source}"
    texts = [text or "猫" for text in TEXTS]
    if source == "jsonl":
        path.write_text("".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts))
    elif source == "csv":
        path.write_text("id,text\n" + "".join(f'1,"{text}"\n' for text in texts), "utf-8")
    else:
        path.write_text("\n".join(texts), "utf-8")
    done = cli("encode", mini_folder, path, "--out", f"v.{ending}", "--prompt", "query", "--dtype", "fp32")
    assert done.code == 0, done.err
    out = Path(f"v.{ending}")
    if ending == "npy":
        vectors = np.load(out)
    elif ending == "parquet":
        vectors = np.stack(pq.read_table(out)["vector"].to_numpy())
    else:
        vectors = load_file(out)["vectors"]
    expected = load(mini_folder).encode(texts, prompt_name="query")
    assert np.abs(vectors - expected).max() < 1e-5
    assert [item.name for item in Path().iterdir() if item.name.startswith(".")] == []


def test_encode_cuts_dimensions_and_scales_again(cli, mini_folder: Path, write_lines) -> None:
    path = write_lines("t.jsonl", [{"text": "今天"}, {"text": "猫狗"}])
    assert cli("encode", mini_folder, path, "--out", "v.npy", "--dim", "8", "--dtype", "fp32").code == 0
    full = load(mini_folder).encode(["今天", "猫狗"])[:, :8]
    assert np.abs(np.load("v.npy") - full / np.linalg.norm(full, axis=1, keepdims=True)).max() < 1e-5


@pytest.mark.parametrize(
    ("rows", "options", "part"),
    [
        ([{"text": "a"}, {"text": 3}], (), "row 2"),
        ([{"n": 1}], (), "--field"),
        ([{"text": "a"}], ("--field", "body"), "body"),
        ([{"text": "a"}], ("--dim", "99"), "1..32"),
        ([{"text": "a"}], ("--prompt", "passage"), "query or document"),
        ([{"text": "a"}], ("--backend", "abacus"), "abacus"),
        ([{"text": "a"}], ("--dtype", "fp8"), "fp8"),
        ([{"text": "a"}], ("--out", "v.txt"), ".npy"),
    ],
)
def test_encode_refuses_in_one_line(cli, mini_folder: Path, write_lines, rows, options, part: str) -> None:
    done = cli("encode", mini_folder, write_lines("t.jsonl", rows), "--out", "v.npy", *options)
    assert done.code == 2
    assert part in done.err
    assert done.err.count("\n") == 1
    assert not Path("v.npy").exists()


def test_eval_of_a_local_set(cli, mini_folder: Path, tmp_path: Path) -> None:
    import pyarrow as pa

    rows = pair_rows(20)
    columns = {
        "sentence1": [row["text"] for row in rows],
        "sentence2": [row["text_pos"] for row in rows],
        "label": [float(at % 5) for at in range(20)],
    }
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "data" / "mine.test.parquet")
    done = cli("eval", mini_folder, "--suite", "local", "--data", "data", "--json", "r.json", "--out", "results")
    assert done.code == 0, done.err
    [result] = json.loads(Path("r.json").read_text())["results"]
    assert (result["task"], result["metric"], result["n"]) == ("mine.test", "cosine_spearman", 20)
    assert "mine.test" in done.out
    assert list(Path("results").rglob("*.json"))


def test_eval_says_what_is_missing(cli, mini_folder: Path, tmp_path: Path) -> None:
    done = cli("eval", mini_folder, "--task", "TNews", "--data", tmp_path, "--json", "r.json")
    assert done.code == 3
    assert "TNews" in done.err
    assert "TNews" in json.loads(Path("r.json").read_text())["missing"]
    done = cli("eval", mini_folder, "--task", "TNwes", "--data", tmp_path)
    assert done.code == 2
    assert "TNews" in done.err


def test_quickstart_on_a_miniature(cli, mini_folder: Path) -> None:
    done = cli("quickstart", "--model", mini_folder, "--json", "q.json")
    assert done.code == 0, done.err
    result = json.loads(Path("q.json").read_text())
    for side in ("before", "after"):
        assert set(result[side]) == {"recall_at_1", "mrr_at_10", "ndcg_at_10", "general"}
        assert all(0 <= value <= 1 for value in result[side].values())
    assert result["seconds"] > 0
    assert load(result["model_dir"]).encode(["问"]).shape == (1, 32)
    assert done.out.count("问 ") == 3
